"""Small files in UNIPEN's form, written here, become strokes with their labels and writers."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from digitry.errors import DataError
from digitry.training.data.handwriting_sources import unipen


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="latin-1", newline="")
    return path


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """One contributor, one writer: a 4 of two strokes, a 1, a pen lifted between, a phone number."""
    root = tmp_path / "unipen"
    put(
        root / "include/abc/abc.doc",
        ".COMMENT about the data:\n         .COORD is told below\n.COORD T X Y\n.X_DIM 100\n",
    )
    put(
        root / "include/abc/data/one.dat",
        ".INCLUDE abc/abc.doc\n.WRITER_ID Ann Lee\n\n"
        ".PEN_DOWN\n0 10 40\n1 10 20\n2 10 20\n3 30 20\n.PEN_UP\n"  # component 0
        ".PEN_DOWN\n4 20 30\n5 20 0\n"  # 1
        ".PEN_UP\n.DT 930\n.PEN_UP\n6 25 10\n7 40 30\n"  # 2: with points, so it counts
        ".PEN_DOWN\n8 50 40 9 50 0\n"  # 3
        ".PEN_DOWN\n10 70 10\n",  # 4: a dot
    )
    put(
        root / "data/1a/abc/one.dat",
        ".VERSION 1.0\n.INCLUDE abc/data/one.dat\n"
        '.SEGMENT CHARACTER 0-1 OK "4"\n'
        '.SEGMENT CHARACTER 3 BAD "1"\n'
        '.SEGMENT CHARACTER 2-3 ? "7"\n'
        '.SEGMENT CHARACTER 0 OK "x"\n'
        '.SEGMENT CHARACTER 4 OK "0"\n'
        '.SEGMENT CHARACTER 9 OK "0"\n',
    )
    put(
        root / "data/7/abc/one.dat",
        ".INCLUDE abc/data/one.dat\n"
        '.SEGMENT WORD 0-3 ? "555-12 34"\n.SEGMENT WORD 0-1 "12"\n'
        '.SEGMENT WORD 0 ? "5"\n.SEGMENT WORD 0-1 ? "5th"\n'
        '.SEGMENT WORD 0-3 ? "can\'t"\n.SEGMENT WORD 0-1 ? "a"\n',
    )
    put(
        root / "data/8/abc/two.dat",
        ".INCLUDE abc/abc.doc\n.PEN_DOWN\n0 1 1 0 9 9\n.PEN_UP\n.PEN_DOWN\n0 12 1 0 12 9\n"
        '.SEGMENT TEXT 0-1 OK "$7.\n50"\n.SEGMENT TEXT 0 OK "say \\"1\\""\n',
    )
    for category, labels in (("1b", "ABAB"), ("1c", "ollo"), ("1d", '\\"')):
        characters = [labels] if category == "1d" else labels
        segments = "".join(f'.SEGMENT CHARACTER 0-1 OK "{label}"\n' for label in characters)
        put(root / f"data/{category}/abc/one.dat", ".INCLUDE abc/data/one.dat\n" + segments)
    return root


def strokes_of(arrays: dict[str, np.ndarray], sample: int) -> list[list[list[int]]]:
    first, last = arrays["sample_offsets"][sample : sample + 2]
    bounds = arrays["stroke_offsets"][first : last + 1]
    return [arrays["points"][a:b].tolist() for a, b in pairwise(bounds)]


def test_digits_are_strokes_with_y_down_and_the_longest_side_1000(clone: Path) -> None:
    arrays, _ = unipen.digits(clone)
    assert arrays["labels"].tolist() == [4, 1, 7]
    # x 10 to 30, y 40 down to 0; the point that repeats is left out.
    assert strokes_of(arrays, 0) == [
        [[0, 0], [0, 500], [500, 500]],
        [[250, 250], [250, 1000]],
    ]
    assert arrays["points"].dtype == np.int16
    assert arrays["stroke_offsets"].dtype == arrays["sample_offsets"].dtype == np.int32


def test_what_the_pen_did_in_the_air_counts_but_is_no_ink(clone: Path) -> None:
    arrays, _ = unipen.digits(clone)
    # Components 2-3: the pen lifted, then one stroke.
    assert strokes_of(arrays, 2) == [[[0, 0], [0, 1000]]]


def test_writer_and_contributor_are_told(clone: Path) -> None:
    arrays, _ = unipen.digits(clone)
    assert set(arrays["writers"].tolist()) == {"abc/Ann Lee"}
    assert set(arrays["contributors"].tolist()) == {"abc"}


def test_a_file_that_names_no_writer_is_its_writer(clone: Path) -> None:
    arrays, _ = unipen.strings(clone)
    assert arrays["writers"].tolist()[-1] == "abc/two"


def test_doubtful_digits_are_marked(clone: Path) -> None:
    arrays, _ = unipen.digits(clone)
    # The 1 is of quality BAD; it and the 7 have two points only.
    assert arrays["suspect"].tolist() == [False, True, True]


def test_a_dot_and_a_component_that_is_not_there_count_as_damaged(clone: Path) -> None:
    _, damaged = unipen.digits(clone)
    assert damaged == 2


def test_strings_have_two_digits_and_no_letter(clone: Path) -> None:
    arrays, _ = unipen.strings(clone)
    assert arrays["labels"].tolist() == ["555-12 34", "12", "$7. 50"]
    assert arrays["digits"].tolist() == ["5551234", "12", "750"]
    assert arrays["digits_only"].tolist() == [False, True, False]


def test_letters_are_drawn_and_marked_where_they_look_like_digits(clone: Path) -> None:
    arrays, _ = unipen.letters(clone)
    assert arrays["labels"].tolist() == ["A", "A", "B", "B", "l", "l", "o", "o", '"']
    assert arrays["looks_like_digit"].tolist() == [False, False] + [True] * 6 + [False]
    assert arrays["category"].tolist() == ["1b"] * 4 + ["1c"] * 4 + ["1d"]
    image = arrays["images"][0]
    assert image.shape == (64, 64) and image.dtype == np.uint8
    assert (image % 17 == 0).all()
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert 51 <= np.ptp(rows) + 1 <= 54
    assert abs((rows[0] + rows[-1]) / 2 - 31.5) <= 1
    assert abs((columns[0] + columns[-1]) / 2 - 31.5) <= 1


def test_a_letter_is_upright(clone: Path) -> None:
    arrays, _ = unipen.letters(clone)
    # Above there is the left stem of the 4 alone, below the right one.
    image = arrays["images"][0] > 127
    assert image[8:16].nonzero()[1].max() < 26 < image[48:56].nonzero()[1].min()


def test_letters_are_capped_by_lot_the_same_way_each_time(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unipen, "LETTERS_A_CLASS", 1)
    arrays, _ = unipen.letters(clone)
    assert arrays["labels"].tolist() == ["A", "B", "l", "o", '"']
    again, _ = unipen.letters(clone)
    np.testing.assert_array_equal(arrays["images"], again["images"])


def test_words_have_no_digits_and_a_height_of_48(clone: Path) -> None:
    arrays, _ = unipen.words(clone)
    assert arrays["labels"].tolist() == ["can't"]
    assert arrays["heights"].tolist() == [48]
    picture = arrays["pixels"].reshape(48, arrays["widths"][0])
    rows = np.flatnonzero(picture.any(axis=1))
    assert 39 <= np.ptp(rows) + 1 <= 42


def test_words_are_capped_by_file(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segments = "".join(f'.SEGMENT WORD 0-3 ? "word{"abcdefghij"[i]}"\n' for i in range(10))
    put(clone / "data/7/abc/more.dat", ".INCLUDE abc/data/one.dat\n" + segments)
    monkeypatch.setattr(unipen, "WORDS_A_FILE", 3)
    arrays, _ = unipen.words(clone)
    assert len(arrays["labels"]) == 4


@pytest.mark.parametrize("name", ["digits", "strings", "letters", "words"])
def test_what_is_built_has_the_published_form(
    clone: Path, name: str, check_form: Callable[..., None]
) -> None:
    arrays, _ = getattr(unipen, name)(clone)
    check_form(f"unipen_{name}", arrays)


# --- damage ----------------------------------------------------------------------------------------


def read(tmp_path: Path, text: str) -> unipen.Recording:
    (tmp_path / "include").mkdir(exist_ok=True)
    return unipen.read(put(tmp_path / "a.dat", text), tmp_path / "include")


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    recording = read(tmp_path, '.PEN_DOWN\r\n1 2\r\n3 4\r\n.SEGMENT CHARACTER 0 OK "1"\r\n')
    assert [part.tolist() for part in recording.components if part is not None] == [
        [[1, 2], [3, 4]]
    ]
    assert recording.segments[0].label == "1"


@pytest.mark.parametrize("points", ["1 2 x 4", "1 2 nan 4", "1 2 1e300 4"])
def test_damaged_points_keep_their_number(tmp_path: Path, points: str) -> None:
    recording = read(tmp_path, f".PEN_DOWN\n{points}\n.PEN_DOWN\n1 2\n3 4\n")
    assert recording.damaged == 1
    assert recording.components[0] is None
    assert recording.components[1] is not None


@pytest.mark.parametrize(
    "segment", ["CHARACTER", 'CHARACTER 1:3-2:4 OK "1"', "CHARACTER 0 OK 1", 'CHARACTER 0 OK "1']
)
def test_a_damaged_segment_is_counted(tmp_path: Path, segment: str) -> None:
    recording = read(tmp_path, f".PEN_DOWN\n1 2\n.SEGMENT {segment}\n")
    assert (recording.segments, recording.damaged) == ([], 1)


def test_an_include_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    put(tmp_path / "secret.dat", ".WRITER_ID secret\n")
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "link.dat").symlink_to(tmp_path / "secret.dat")
    for target in ("../secret.dat", str(tmp_path / "secret.dat"), "link.dat", "missing.dat", ""):
        recording = read(tmp_path, f".INCLUDE {target}\n")
        assert (recording.writer, recording.damaged) == ("", 1)


def test_includes_without_end_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "include/loop.dat", ".INCLUDE loop.dat\n")
    with pytest.raises(DataError, match="without end"):
        read(tmp_path, ".INCLUDE loop.dat\n")


def test_a_file_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unipen, "MAX_FILE", 10)
    with pytest.raises(DataError, match="larger than"):
        read(tmp_path, ".COMMENT " + "x" * 20)


def test_a_clone_without_the_category_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape("has no folder data/1a")):
        unipen.digits(tmp_path)
