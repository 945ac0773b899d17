"""Reading with the shipped model."""

import csv
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import digitry
from digitry.errors import ImageError, ModelError, UsageError
from digitry.model.load import load_model
from digitry.reading import network, reader
from digitry.reading.reader import Reader
from digitry.reading.result import Reading
from digitry.training.writing import pen as strokes

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(scope="module")
def shipped() -> Reader:
    return Reader()


def pages(text: str, *, height: int = 56, pen: float = 5, gap: int = 20) -> np.ndarray:
    """Draw lines of digits with our own strokes, dark on light."""
    rng = np.random.default_rng(7)
    rows = []
    for line in text.split("\n"):
        inks = [
            strokes.draw(strokes.strokes_of(symbol, 1), height, pen, rng, taper=0)
            for symbol in line
        ]
        row = np.zeros((height + 50, sum(ink.shape[1] + gap for ink in inks) + 60), np.float32)
        x = 30
        for ink in inks:
            place = row[20 : 20 + ink.shape[0], x : x + ink.shape[1]]
            np.maximum(place, ink[: place.shape[0]], out=place)
            x += ink.shape[1] + gap
        rows.append(row)
    width = max(row.shape[1] for row in rows)
    page = np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]))) for row in rows])
    return (235 - 200 * page).astype(np.uint8)


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def truth() -> Iterator[tuple[Path, str, str]]:
    with (SAMPLES / "truth.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            yield SAMPLES / row["file"], row["label"], row["layout"]


@pytest.mark.parametrize(
    ("path", "label", "layout"), list(truth()), ids=lambda value: str(value)[-20:]
)
def test_our_own_samples_are_read_correctly(
    path: Path, label: str, layout: str, shipped: Reader
) -> None:
    # A space stands where people leave one between groups of digits.
    assert shipped.read(path).text.replace(" ", "") == label.replace("|", "\n")


@pytest.mark.parametrize("text", ["0", "7", "1", "2468", "13579", "12\n345\n6"])
def test_drawn_digits_are_read(text: str, shipped: Reader) -> None:
    reading = shipped.read(pages(text))
    assert reading.text == text
    assert len(reading.lines) == text.count("\n") + 1


def test_a_clear_digit_is_read_without_a_search_for_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    def searched(*_: object) -> None:
        raise AssertionError("the page was searched")

    ours = Reader()
    monkeypatch.setattr("digitry.reading.recognise.find", searched)
    clear = pages("3")[:, 10:]
    assert max(clear.shape) < 128
    assert ours.read(clear).text == "3"
    with pytest.raises(AssertionError, match="searched"):
        ours.read(pages("34"))


def test_a_clear_digit_needs_no_network_of_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []
    session = network.session

    def counted(content: bytes, *, threads: int) -> object:
        made.append(content)
        return session(content, threads=threads)

    monkeypatch.setattr(network, "session", counted)
    own = Reader()
    assert own.read(SAMPLES / "digit-5.png").text == "5"
    assert made == []
    with ThreadPoolExecutor(4) as pool:
        readings = list(pool.map(own.read, [SAMPLES / "phone-number.jpg"] * 4))
    assert len({reading.text for reading in readings}) == 1
    own.prepare()
    assert len(made) == 2


def test_a_line_from_border_to_border_is_cut_off_unless_a_digit_is_promised() -> None:
    # The bend at its head is what tells this 1 from a ruling.
    page = pages("1", height=120)
    rows, columns = np.flatnonzero((page < 200).any(axis=1)), page.shape[1]
    cut = np.pad(page[rows[0] : rows[-1] + 1], ((0, 0), (columns, columns)), constant_values=235)
    refused = digitry.read(cut)
    assert (refused.text, refused.reason) == ("?", "cut off")
    assert digitry.read(cut, layout="single").text == "1"


def test_either_polarity_gives_the_same(shipped: Reader) -> None:
    page = pages("4071")
    dark, light = shipped.read(page), shipped.read(255 - page)
    assert dark.text == light.text == "4071"
    assert (dark.inverted, light.inverted) == (False, True)
    assert [digit.box for digit in dark.digits] == [digit.box for digit in light.digits]


def test_every_kind_of_source_gives_the_same(tmp_path: Path, shipped: Reader) -> None:
    page = pages("58")
    path = tmp_path / "page.png"
    path.write_bytes(png(page))
    sources = [path, str(path), path.read_bytes(), page, Image.fromarray(page)]
    readings = [shipped.read(source) for source in sources]
    assert {reading.text for reading in readings} == {"58"}
    assert len({reading.digits for reading in readings}) == 1


def test_boxes_are_in_pixels_of_the_image_at_any_size(shipped: Reader) -> None:
    page = pages("36")
    large = np.asarray(Image.fromarray(page).resize((page.shape[1] * 16, page.shape[0] * 16)))
    small_boxes = [digit.box for digit in shipped.read(page).digits]
    large_boxes = [digit.box for digit in shipped.read(large).digits]
    for small, big in zip(small_boxes, large_boxes, strict=True):
        for one, other in zip(small.to_list(), big.to_list(), strict=True):
            assert abs(one - other / 16) <= 6


def test_read_many_gives_the_same_as_read(shipped: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "CHUNK", 6)
    different = [pages(text) for text in ("1", "23", "456", "7", "89")]
    many = shipped.read_many(different * 3)
    together = [reading for reading in many if isinstance(reading, Reading)]
    apart = [shipped.read(source) for source in different] * 3
    assert [reading.text for reading in together] == [reading.text for reading in apart]
    for one, other in zip(together, apart, strict=True):
        assert [digit.box for digit in one.digits] == [digit.box for digit in other.digits]
        # Beside a wider line a strip ends in paper instead of at its edge.
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)


def test_a_bad_image_among_many_gives_an_error_at_its_position(shipped: Reader) -> None:
    good = pages("5")
    results = list(shipped.read_many([good, b"junk", good, "no such file", good]))
    kinds = [type(result) for result in results]
    assert kinds == [Reading, ImageError, Reading, ImageError, Reading]


def test_read_many_takes_sources_as_they_are_needed(
    shipped: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "CHUNK", 6)
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield pages("3")

    next(shipped.read_many(endless()))
    assert taken <= reader.CHUNK


@pytest.mark.parametrize("level", [0, 255])
def test_a_uniform_image_is_blank(level: int, shipped: Reader) -> None:
    for layout in reader.LAYOUTS:
        reading = shipped.read(np.full((300, 200), level, np.uint8), layout=layout)
        assert (reading.text, reading.rejected, reading.reason) == ("", True, "blank")
        assert reading.confidence == 0


def test_noise_is_refused_or_empty(shipped: Reader) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (600, 600)).astype(np.uint8)
    reading = shipped.read(noise)
    assert reading.rejected
    assert not reading.text.strip("?\n")


def test_a_refused_digit_is_a_question_mark_with_a_reason(shipped: Reader) -> None:
    rng = np.random.default_rng(0)
    ink = strokes.draw(strokes.strokes_of("ampersand", 0), 60, 5, rng)
    page = np.full((100, 120), 235, np.uint8)
    page[20 : 20 + ink.shape[0], 30 : 30 + ink.shape[1]] -= (200 * ink).astype(np.uint8)
    reading = shipped.read(page, layout="single")
    assert reading.text == "?"
    assert reading.rejected
    assert reading.reason == "not a digit"
    assert reading.digits[0].value is None


def test_confidences_are_probabilities(shipped: Reader) -> None:
    reading = shipped.read(pages("2749"))
    product = 1.0
    for digit in reading.digits:
        assert 0 <= digit.confidence <= 1
        assert digit.alternatives[0] == (digit.value, digit.confidence)
        product *= digit.confidence
    # Calibrated as a whole: the digits of one line are wrong together more often than each by itself.
    assert 0.9 * product < reading.confidence <= 1


def test_a_pattern_is_part_of_the_search() -> None:
    page = pages("2749")
    assert Reader(pattern=r"\d{4}").read(page).text == "2749"
    assert Reader(pattern=r"2\d[0-4]\d").read(page).text == "2749"
    refused = Reader(pattern=r"\d{30}").read(page)
    assert refused.rejected
    assert refused.reason == r"does not fit \d{30}"
    assert refused.text == "????"


def between_1_and_7(share: float) -> np.ndarray:
    """Draw a 1 whose flag, as `share` goes from 0 to 1, becomes the bar of a 7."""
    top = np.array([0.62, 0.04])
    flag = np.array([0.42, 0.24]) * (1 - share) + np.array([0.14, 0.05]) * share
    foot = np.array([0.6, 1.0]) * (1 - share) + np.array([0.42, 1.0]) * share
    strokes_ = (np.linspace(flag, top, 20), np.linspace(top, foot, 40))
    ink = strokes.draw(strokes_, 60, 5, np.random.default_rng(0), taper=0)
    return (235 - 200 * np.pad(ink, 24)).astype(np.uint8)


def test_a_pattern_overrules_a_doubtful_digit() -> None:
    readers = {value: Reader(layout="line", pattern=str(value)) for value in (1, 7)}

    def overruled(share: float) -> bool:
        page = between_1_and_7(share)
        first = {value: reader.read(page).digits[0] for value, reader in readers.items()}
        return all(first[value].alternatives[0][0] == value for value in readers)

    # From the middle to both sides: the first that is doubtful is enough.
    shares = np.linspace(0.2, 0.7, 11)
    assert any(overruled(float(share)) for share in sorted(shares, key=lambda one: abs(one - 0.45)))


@pytest.mark.parametrize("layout", ["single", "line", "auto"])
def test_a_pattern_does_not_overrule_a_sure_digit(layout: reader.Layout) -> None:
    reading = Reader(layout=layout, pattern="[12]").read(pages("7"))
    assert reading.rejected
    assert reading.reason == "does not fit [12]"
    assert reading.digits[0].alternatives[0][0] == 7


def test_a_line_that_does_not_fit_its_pattern_is_read_freely_and_refused() -> None:
    phone = SAMPLES / "phone-number.jpg"
    free, held = Reader().read(phone), Reader(pattern=r"\d{4}").read(phone)
    assert held.rejected
    assert held.reason == r"does not fit \d{4}"
    assert not held.text.strip("? ")
    values = [digit.alternatives[0][0] for digit in held.digits]
    assert values == [digit.value for digit in free.digits]
    assert not Reader(pattern=r"\d{9}").read(phone).rejected


@pytest.mark.parametrize("text", ["21.5", "13/01/23", "52-80", "12:30"])
def test_marks_stand_in_the_text_and_digits_are_digits_alone(text: str, shipped: Reader) -> None:
    reading = shipped.read(with_marks(text), layout="line")
    assert reading.text.replace(" ", "") == text
    assert "".join(mark.text for mark in reading.marks) == "".join(
        c for c in text if not c.isdigit()
    )
    assert "".join(digit.text for digit in reading.digits) == "".join(filter(str.isdigit, text))
    for mark in reading.marks:
        assert 0.5 <= mark.confidence <= 1
        assert mark.line == 0


def with_marks(text: str) -> np.ndarray:
    """Draw digits and marks as people write them: dots on the line, dashes in the middle."""
    rng = np.random.default_rng(3)
    page = np.zeros((130, 30 + 60 * len(text) + 30), np.float32)
    x = 30
    for symbol in text:
        if symbol.isdigit():
            ink = strokes.draw(strokes.strokes_of(symbol, 1), 60, 6, rng, taper=0)
            page[35 : 35 + ink.shape[0], x : x + ink.shape[1]] = ink
            x += ink.shape[1] + 14
            continue
        width = {".": 8, "-": 26, "/": 30, ":": 8}[symbol]
        if symbol == "/":
            cv2.line(page, (x, 103), (x + width, 22), 1.0, 6, cv2.LINE_AA)
        elif symbol == "-":
            page[64:70, x : x + width] = 1
        else:
            page[86:94, x : x + width] = 1
            if symbol == ":":
                page[52:60, x : x + width] = 1
        x += width + 14
    return (235 - 200 * page[:, : x + 20]).astype(np.uint8)


def test_words_are_the_text_with_their_boxes(shipped: Reader) -> None:
    page = np.concatenate([pages("274"), np.full((106, 60), 235, np.uint8), pages("1836")], axis=1)
    reading = shipped.read(page)
    assert reading.text == "274 1836"
    assert [word.text for word in reading.words] == ["274", "1836"]
    left, right = (word.box for word in reading.words)
    assert left.right < right.x
    for word in reading.words:
        held = [digit.box for digit in reading.digits if word.box.x <= digit.box.x < word.box.right]
        assert len(held) == len(word.text)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_page_on_its_side_is_read_upright(quarters: int, shipped: Reader) -> None:
    page = pages("2745\n8364\n9052")
    reading = shipped.read(np.rot90(page, quarters))
    assert reading.text == "2745\n8364\n9052"
    assert reading.turned == 90 * (4 - quarters) % 360
    # The boxes are those of the picture as it was turned.
    assert (reading.width, reading.height) == page.shape[::-1]
    upright = shipped.read(page)
    assert upright.turned == 0
    for one, other in zip(reading.digits, upright.digits, strict=True):
        assert one.box.to_list() == pytest.approx(other.box.to_list(), abs=4)


def test_a_model_of_ones_own_decides_alone() -> None:
    model = load_model("reader")
    mine = Reader(replace(model, metadata=replace(model.metadata, name="own")))
    reading, glyphs = mine.examine(pages("2749"))
    assert reading.model == "own"
    p = mine.probabilities(glyphs)
    for digit, row in zip(reading.digits, p, strict=True):
        assert digit.alternatives[0][1] == pytest.approx(float(row[:10].max()), abs=1e-5)


def test_a_pattern_with_marks_reads_them() -> None:
    page = pages("24")
    page = np.concatenate([page, pages("12")[:, 20:]], axis=1)
    width = page.shape[1]
    page[70:76, width // 2 - 6 : width // 2] = 40
    reading = Reader(layout="line", pattern=r"\d\d\.\d\d").read(page)
    assert reading.text == "24.12"
    assert [mark.text for mark in reading.marks] == ["."]
    assert "".join(digit.text for digit in reading.digits) == "2412"


def test_a_changed_model_file_is_loaded_again(tmp_path: Path) -> None:
    import shutil

    path = tmp_path / "model.onnx"
    shutil.copy(Path(digitry.__file__).parent / "models" / "reader.onnx", path)
    assert digitry.read(pages("5"), model=path).model == "reader"
    path.write_bytes(b"no longer a model")
    with pytest.raises(ModelError):
        digitry.read(pages("5"), model=path)


def test_a_reading_goes_through_json(shipped: Reader) -> None:
    reading = shipped.read(pages("12\n3"))
    assert Reading.from_dict(json.loads(json.dumps(reading.to_dict()))) == reading


def test_recognize_digit_refuses_several_digits() -> None:
    with pytest.raises(ImageError, match=r"holds 3 digits \(305\); use digitry\.read, or crop"):
        digitry.recognize_digit(pages("305"))


def test_recognize_digit_gives_an_int() -> None:
    assert digitry.recognize_digit(pages("6")) == 6
    with pytest.raises(ImageError, match="no ink"):
        digitry.recognize_digit(np.full((28, 28), 255, np.uint8))


def test_single_glyph_is_what_the_network_sees() -> None:
    image = reader.single_glyph(pages("8"))
    assert image.shape == (28, 28)
    assert image.dtype == np.float32
    assert image.max() <= 1
    assert reader.single_glyph(np.full((9, 9), 255, np.uint8)).max() == 0


def test_invalid_arguments_are_errors() -> None:
    with pytest.raises(UsageError, match="layout"):
        Reader(layout="diagonal")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="share of errors"):
        Reader(max_error=2)
    with pytest.raises(ModelError, match="no such model"):
        Reader("nothing.onnx")


def test_a_stricter_limit_on_errors_never_accepts_more(shipped: Reader) -> None:
    curve = shipped._classifier.metadata.risk_coverage
    assert curve
    loose, strict = (
        Reader(max_error=0.05),
        Reader(max_error=max(0.002, min(e for _, e, _ in curve))),
    )
    for who in ("model", "single", "digit"):
        least = [getattr(one.trust, who) for one in (shipped, loose, strict)]
        assert least == sorted(least)


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "kind", "least"),
    [("photos", "photo", 0.93), ("photos", "28x28", 0.98), ("scans", "", 0.97)],
)
def test_real_single_digits_are_read(
    test_data: Path, folder: str, kind: str, least: float, shipped: Reader
) -> None:
    manifest = test_data / folder / ("manifest.csv" if folder == "photos" else "labels.csv")
    images = test_data / folder / ("images" if folder == "photos" else "")
    with manifest.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    if folder == "photos":
        rows = [row for row in rows if row["layout"] == "single"]
        rows = [row for row in rows if ("28x28" in row["notes"]) == (kind == "28x28")]
    else:
        # benchmarks/reading.py reads all of them.
        rows = rows[::4]
    readings = shipped.read_many([images / row["file"] for row in rows], layout="single")
    right = [
        isinstance(reading, Reading)
        and bool(reading.digits)
        and str(reading.digits[0].alternatives[0][0]) == row["label"]
        for row, reading in zip(rows, readings, strict=True)
    ]
    assert np.mean(right) >= least
