"""Handwriting comes as ink, with its text and its hand; and a hand is never on both sides."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digitry.errors import DataError, UsageError
from digitry.training.data import handwriting
from digitry.training.data.handwriting import Images, Strokes
from digitry.training.data.packs import PACKS
from digitry.training.writing.sources import LIKE_DIGITS

WritePack = Callable[..., Path]


# --- loading ---------------------------------------------------------------------------------------


def unipen(strokes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "labels": np.array([1, 4, 7], np.uint8),
        "writers": np.array(["apb/Jon_Klein", "apd/Jon_Klein", "scr/d1_ww01"]),
        "contributors": np.array(["apb", "apd", "scr"]),
        "suspect": np.array([False, False, True]),
        **strokes,
        **changes,
    }


def test_pen_strokes_are_ready_to_draw(write_pack: WritePack, strokes: dict[str, Any]) -> None:
    folder = write_pack("unipen_digits", **unipen(strokes))
    digits = handwriting.load_digits("unipen_digits", folder, suspects=True)
    assert isinstance(digits.drawings, Strokes)
    assert digits.labels.tolist() == [1, 4, 7]
    first, second = digits.drawings.strokes(1)
    np.testing.assert_allclose(first, [[0, 0.5], [1, 0.5]])
    np.testing.assert_allclose(second, [[0.5, 0], [0.5, 0.8]])
    np.testing.assert_allclose(digits.drawings.sizes, [[0.25, 1], [1, 0.8], [1, 0.1]])
    assert first.base is not None  # a view: nothing is copied


def test_suspects_are_left_out_unless_wanted(
    write_pack: WritePack, strokes: dict[str, Any]
) -> None:
    folder = write_pack("unipen_digits", **unipen(strokes))
    digits = handwriting.load_digits("unipen_digits", folder)
    assert digits.labels.tolist() == [1, 4]
    assert len(digits.drawings) == len(digits) == 2


def test_one_person_is_one_hand_for_several_contributors(
    write_pack: WritePack, strokes: dict[str, Any]
) -> None:
    folder = write_pack("unipen_digits", **unipen(strokes))
    digits = handwriting.load_digits("unipen_digits", folder, suspects=True)
    assert digits.hands.tolist() == ["unipen/jon_klein", "unipen/jon_klein", "unipen/ww01"]


def test_images_are_ink_on_nothing(write_pack: WritePack) -> None:
    images = np.zeros((2, 28, 28), np.uint8)
    images[1, 5, 6] = 255
    folder = write_pack("bhmsds_digits", images=images, labels=np.array([0, 9], np.uint8))
    digits = handwriting.load_digits("bhmsds_digits", folder)
    assert isinstance(digits.drawings, Images)
    ink = digits.drawings.ink(1)
    assert ink.dtype == np.float32 and ink.shape == (28, 28)
    assert ink[5, 6] == 1 and ink.sum() == 1
    np.testing.assert_array_equal(digits.drawings.stack(), images)
    assert set(digits.hands.tolist()) == {""}


def test_scans_are_turned_so_that_ink_is_one(write_pack: WritePack, ragged: dict[str, Any]) -> None:
    folder = write_pack(
        "lectaurep_strings",
        **ragged,
        labels=np.array(["2.20", "1 7"]),
        digits=np.array(["220", "17"]),
        pages=np.array(["a.xml", "b.xml"]),
        documents=np.array(["one", "two"]),
    )
    strings = handwriting.load_strings("lectaurep_strings", folder)
    assert isinstance(strings.drawings, Images)
    np.testing.assert_allclose(strings.drawings.ink(0)[:, 2], 1)
    np.testing.assert_allclose(strings.drawings.ink(0)[:, :2], 5 / 255)
    assert strings.drawings.raw(1).tolist() == [[200, 50], [200, 50]]
    assert strings.texts.tolist() == ["2.20", "1 7"]
    assert strings.hands.tolist() == ["lectaurep/one", "lectaurep/two"]
    assert strings.complete.all()
    assert strings.pages.tolist() == ["a.xml", "b.xml"]
    with pytest.raises(UsageError, match="several sizes"):
        strings.drawings.stack()


def test_texts_that_may_lack_a_mark_are_marked(
    write_pack: WritePack, strokes: dict[str, Any]
) -> None:
    folder = write_pack(
        "unipen_strings",
        labels=np.array(["20", "12 3", "4/7"]),
        digits=np.array(["20", "123", "47"]),
        writers=np.array(["lex/a", "apa/b", "apa/b"]),
        contributors=np.array(["lex", "apa", "apa"]),
        **strokes,
    )
    loaded = handwriting.load_strings("unipen_strings", folder)
    assert loaded.complete.tolist() == [False, True, True]
    assert loaded.pages.tolist() == ["", "", ""]


def test_other_writing_says_what_looks_like_a_digit(write_pack: WritePack) -> None:
    folder = write_pack(
        "unipen_letters",
        images=np.zeros((2, 64, 64), np.uint8),
        labels=np.array(["O", "K"]),
        looks_like_digit=np.array([True, False]),
        category=np.array(["1b", "1b"]),
        writers=np.array(["a/x", "a/y"]),
        contributors=np.array(["a", "a"]),
    )
    other = handwriting.load_other("unipen_letters", folder)
    assert other.labels.tolist() == ["O", "K"]
    assert other.looks_like_digit.tolist() == [True, False]
    assert isinstance(other.drawings, Images) and not other.drawings.dark_ink


def test_symbols_are_labelled_by_the_character(write_pack: WritePack) -> None:
    folder = write_pack(
        "bhmsds_symbols",
        images=np.zeros((4, 28, 28), np.uint8),
        labels=np.array(["dot", "slash", "z", "w"]),
    )
    other = handwriting.load_other("bhmsds_symbols", folder)
    assert other.labels.tolist() == [".", "/", "z", "w"]
    assert other.looks_like_digit.tolist() == [False, True, True, False]


def test_windows_of_text_are_dark_ink(write_pack: WritePack, ragged: dict[str, Any]) -> None:
    folder = write_pack(
        "lectaurep_text",
        **ragged,
        line_text=np.array(["Procuration", "Autre"]),
        documents=np.array(["one", "one"]),
    )
    other = handwriting.load_other("lectaurep_text", folder)
    assert other.labels.tolist() == ["Procuration", "Autre"]
    assert isinstance(other.drawings, Images) and other.drawings.dark_ink
    assert not other.looks_like_digit.any()


def test_mnist_comes_by_writer(write_pack: WritePack) -> None:
    writers = np.arange(60_000, dtype=np.int32) % 500
    folder = write_pack("mnist_writers", writers=writers)
    images = np.broadcast_to(np.zeros((28, 28), np.uint8), (60_000, 28, 28))
    labels = np.zeros(60_000, np.uint8)
    digits = handwriting.mnist_digits(images, labels, folder)
    assert digits.hands[:2].tolist() == ["nist/0", "nist/1"]
    assert len(digits.drawings) == 60_000
    with pytest.raises(DataError, match="not MNIST's 60,000"):
        handwriting.mnist_digits(images[:10], labels[:10], folder)


def test_a_pack_of_another_kind_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pack of digits; name unipen_digits, "):
        handwriting.load_digits("unipen_words", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([1, 2], np.uint8)}, "2 labels for 3 samples"),
        ({"labels": np.array([1, 2, 10], np.uint8)}, "the label 10"),
        ({"labels": np.array(["1", "2", "3"])}, "has labels of"),
        ({"points": np.full((8, 2), 1001, np.int16)}, "outside 0 to 1000"),
        ({"points": np.zeros((7, 2), np.int16)}, "do not fit"),
        ({"stroke_offsets": np.array([0, 2, 2, 6, 8], np.int32)}, "do not fit"),
        ({"sample_offsets": np.array([0, 1, 3, 5], np.int32)}, "do not fit"),
    ],
)
def test_stroke_arrays_that_do_not_fit_are_refused(
    write_pack: WritePack, strokes: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    folder = write_pack("unipen_digits", **unipen(strokes, **change))
    with pytest.raises(DataError, match=message):
        handwriting.load_digits("unipen_digits", folder)


def test_a_missing_array_is_named(write_pack: WritePack, strokes: dict[str, Any]) -> None:
    arrays = unipen(strokes)
    del arrays["writers"]
    folder = write_pack("unipen_digits", **arrays)
    with pytest.raises(DataError, match=r"unipen_digits\.npz: has no array 'writers'"):
        handwriting.load_digits("unipen_digits", folder)


@pytest.mark.parametrize(
    "change",
    [
        {"offsets": np.array([0, 5, 10], np.int64)},
        {"offsets": np.array([1, 6, 10], np.int64)},
        {"widths": np.array([3, 0], np.int32)},
        {"heights": np.array([2, 5000], np.int32)},
        {"pixels": np.zeros(11, np.uint8)},
        {"pixels": np.zeros(10, np.uint16)},
    ],
)
def test_ragged_arrays_that_do_not_fit_are_refused(
    write_pack: WritePack, ragged: dict[str, Any], change: dict[str, Any]
) -> None:
    texts = {"labels": np.array(["1", "2"]), "digits": np.array(["1", "2"])}
    pages = {"pages": np.array(["a", "b"])}
    folder = write_pack("peraire_strings", **{**ragged, **texts, **pages, **change})
    with pytest.raises(DataError, match=r"peraire_strings\.npz: has"):
        handwriting.load_strings("peraire_strings", folder)


# --- splitting -------------------------------------------------------------------------------------


def many(write_pack: WritePack, hands: int, each: int = 3) -> handwriting.Other:
    writers = np.repeat([f"x/w{i:03}" for i in range(hands)], each)
    count = len(writers)
    folder = write_pack(
        "unipen_letters",
        images=np.zeros((count, 64, 64), np.uint8),
        labels=np.array([str(i) for i in range(count)]),
        looks_like_digit=np.arange(count) % 2 == 0,
        writers=writers,
    )
    return handwriting.load_other("unipen_letters", folder)


def test_no_hand_is_on_both_sides(write_pack: WritePack) -> None:
    whole = many(write_pack, 400)
    train, held = handwriting.split(whole)
    assert set(train.hands.tolist()).isdisjoint(held.hands.tolist())
    assert sorted([*train.labels.tolist(), *held.labels.tolist()]) == sorted(whole.labels.tolist())
    assert 0.06 < len(held) / len(whole) < 0.14
    for part in (train, held):
        assert len(part.drawings) == len(part.labels) == len(part.looks_like_digit) == len(part)
        assert (part.looks_like_digit == (part.labels.astype(int) % 2 == 0)).all()


def test_the_split_goes_by_the_id_alone(write_pack: WritePack) -> None:
    few, lots = many(write_pack, 50), many(write_pack, 400)
    held_of_few = set(handwriting.split(few, 0.3)[1].hands.tolist())
    held_of_lots = set(handwriting.split(lots, 0.3)[1].hands.tolist())
    assert held_of_few and held_of_few == {
        hand for hand in held_of_lots if hand in set(few.hands.tolist())
    }
    # What a smaller share holds out, a larger one does too.
    assert set(handwriting.split(lots, 0.1)[1].hands.tolist()) <= held_of_lots
    assert len(handwriting.split(lots, 0)[1]) == 0


def test_the_split_is_the_same_everywhere() -> None:
    hands = np.array([f"unipen/w{i:02}" for i in range(40)])
    assert np.flatnonzero(handwriting.is_held_out(hands)).tolist() == [0, 1, 6, 9, 10, 14, 21, 26]


def test_an_unknown_hand_is_never_held_out() -> None:
    assert not handwriting.is_held_out(np.array(["", "", ""]), 0.99).any()


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_an_impossible_share_is_a_usage_error(share: float) -> None:
    with pytest.raises(UsageError, match="share"):
        handwriting.is_held_out(np.array(["a"]), share)


def test_a_subset_keeps_its_order_and_its_drawings(
    write_pack: WritePack, strokes: dict[str, Any]
) -> None:
    folder = write_pack("unipen_digits", **unipen(strokes))
    digits = handwriting.load_digits("unipen_digits", folder, suspects=True)
    part = handwriting.take(digits, np.array([2, 1]))
    assert part.labels.tolist() == [7, 4]
    assert isinstance(part.drawings, Strokes) and isinstance(digits.drawings, Strokes)
    assert [len(part.drawings.strokes(i)) for i in range(2)] == [1, 2]
    assert part.drawings.points is digits.drawings.points
    masked = handwriting.take(digits, digits.labels == 4)
    assert masked.labels.tolist() == [4]


# --- the real packs --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(test_data: Path) -> Path:
    if not (test_data / "handwriting").is_dir():
        pytest.skip("the folder of real data has no handwriting")
    return test_data


@pytest.mark.data
def test_the_characters_that_look_like_digits_are_names_of_the_pack(real: Path) -> None:
    names = set(handwriting.load_other("omniglot", real).labels.tolist())
    for alphabet, numbers in LIKE_DIGITS.items():
        assert {f"{alphabet}/character{number:02}" for number in numbers} <= names


@pytest.mark.data
def test_the_real_digits_are_as_many_as_published(real: Path) -> None:
    digits = handwriting.load_digits("unipen_digits", real)
    assert len(digits) == 15_693
    assert len(handwriting.load_digits("unipen_digits", real, suspects=True)) == 15_949
    assert len(set(digits.hands.tolist())) == 268
    assert isinstance(digits.drawings, Strokes)
    assert digits.drawings.sizes.max(axis=1).min() == 1
    assert len(handwriting.load_digits("bhmsds_digits", real)) == 15_000
    mfeat = handwriting.load_digits("mfeat_pixel", real)
    assert isinstance(mfeat.drawings, Images)
    assert mfeat.drawings.stack().shape == (2_000, 16, 15)
    assert np.bincount(mfeat.labels).tolist() == [200] * 10


@pytest.mark.data
def test_the_real_strings_are_as_many_as_published(real: Path) -> None:
    strings = handwriting.load_strings("unipen_strings", real)
    assert len(strings) == 2_195
    register = handwriting.load_strings("lectaurep_strings", real)
    assert len(register) == 5_796
    assert isinstance(register.drawings, Images)
    assert set(register.drawings.heights.tolist()) == {64}
    # Ink is the smaller part of a register's page, and paper is light.
    assert np.mean([np.median(register.drawings.ink(i)) for i in range(0, 5_796, 50)]) < 0.5
    assert len(handwriting.load_strings("peraire_strings", real)) == 167


@pytest.mark.data
@pytest.mark.parametrize("name", [pack.name for pack in PACKS.values() if pack.kind == "other"])
def test_the_real_other_writing_is_as_much_as_published(real: Path, name: str) -> None:
    other = handwriting.load_other(name, real)
    assert len(other) == PACKS[name].count
    if name != "omniglot":
        # Omniglot names its characters by number.
        assert not any(char.isdecimal() for char in "".join(set(other.labels.tolist())))
    if name == "unipen_letters":
        assert len(set(other.labels.tolist())) == 84


@pytest.mark.data
def test_mnist_has_539_writers(real: Path) -> None:
    assert len(set(handwriting.mnist_writers(real).tolist())) == 539


@pytest.mark.data
def test_about_a_tenth_of_the_real_hands_is_held_out(real: Path) -> None:
    writers = handwriting.mnist_writers(real)
    hands = {
        "mnist": np.strings.add("nist/", writers.astype("U")),
        "unipen_digits": handwriting.load_digits("unipen_digits", real).hands,
        "unipen_strings": handwriting.load_strings("unipen_strings", real).hands,
        "unipen_letters": handwriting.load_other("unipen_letters", real).hands,
        "unipen_words": handwriting.load_other("unipen_words", real).hands,
        "omniglot": handwriting.load_other("omniglot", real).hands,
    }
    for name, ids in hands.items():
        assert 0.09 <= handwriting.is_held_out(ids).mean() <= 0.11, name
    register = handwriting.load_strings("lectaurep_strings", real).hands
    held = set(register[handwriting.is_held_out(register)].tolist())
    assert held == {"lectaurep/lectaurep-riant-4"}
