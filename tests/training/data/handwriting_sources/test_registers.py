"""Small transcribed pages, drawn and written here, become strings and windows of text."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digitry.errors import DataError
from digitry.training.data.handwriting_sources import registers

ALTO = """<?xml version="1.0" encoding="UTF-8"?>
<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#">
  <Description><MeasurementUnit>pixel</MeasurementUnit>
    <sourceImageInformation><fileName>{picture}</fileName></sourceImageInformation></Description>
  <Tags><OtherTag ID="LT1" LABEL="printed" DESCRIPTION="line type"/></Tags>
  <Layout><Page WIDTH="400" HEIGHT="300"><PrintSpace><TextBlock>{lines}</TextBlock></PrintSpace></Page>
  </Layout>
</alto>"""

PAGE = """<?xml version="1.0" encoding="UTF-8"?>
<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15">
  <Page imageFilename="{picture}" imageWidth="400" imageHeight="300"><TextRegion>{lines}</TextRegion>
  </Page></PcGts>"""


def alto_line(text: str, box: tuple[int, int, int, int], tags: str = "") -> str:
    left, top, right, bottom = box
    return (
        f'<TextLine {tags} BASELINE="{left} {bottom - 5} {right} {bottom - 5}" HPOS="{left}" '
        f'VPOS="{top}" WIDTH="{right - left}" HEIGHT="{bottom - top}"><Shape><Polygon '
        f'POINTS="{left} {bottom} {left} {top} {right} {top} {right} {bottom}"/></Shape>'
        f'<String CONTENT="{text}"></String></TextLine>'
    )


def page_line(text: str, box: tuple[int, int, int, int], custom: str = "") -> str:
    left, top, right, bottom = box
    return (
        f'<TextLine custom="{custom}"><Coords points="{left},{top} {right},{top} {right},{bottom}"/>'
        f'<Baseline points="{left},{bottom - 5} {right},{bottom - 5}"/>'
        f"<Word><TextEquiv><Unicode>word</Unicode></TextEquiv></Word>"
        f"<TextEquiv><Unicode>{text}</Unicode></TextEquiv></TextLine>"
    )


LINES = (
    ("2.20", (20, 20, 120, 60)),
    ("17", (200, 20, 240, 60)),
    ("Procuration", (20, 100, 380, 130)),
    ("le 4 mai", (20, 150, 120, 180)),
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A page of light paper with a dark box for each line."""
    folder = tmp_path / "data" / "register-1"
    folder.mkdir(parents=True)
    scan = np.full((300, 400), 210, np.uint8)
    for _, (left, top, right, bottom) in LINES:
        scan[top + 5 : bottom - 5, left + 5 : right - 5] = 21
    Image.fromarray(scan).save(folder / "p1.png")
    lines = "".join(alto_line(text, box) for text, box in LINES)
    lines += alto_line("1847", (300, 20, 380, 60), tags='TAGREFS="LT1"')
    (folder / "p1.xml").write_text(ALTO.format(picture="p1.png", lines=lines))
    return tmp_path


def pictures(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    offsets = arrays["offsets"]
    return [
        arrays["pixels"][a:b].reshape(height, width)
        for a, b, height, width in zip(
            offsets[:-1], offsets[1:], arrays["heights"], arrays["widths"], strict=True
        )
    ]


def test_strings_are_the_lines_of_digits_that_are_not_printed(clone: Path) -> None:
    arrays, damaged = registers.lectaurep_strings(clone)
    assert arrays["labels"].tolist() == ["2.20", "17"]
    assert arrays["digits"].tolist() == ["220", "17"]
    assert arrays["pages"].tolist() == ["p1.xml", "p1.xml"]
    assert arrays["documents"].tolist() == ["register-1", "register-1"]
    assert damaged == 0


def test_a_line_is_cut_with_a_little_paper_around_it(clone: Path) -> None:
    first, second = pictures(registers.lectaurep_strings(clone)[0])
    # 100x40 with 4 around: 108x48 at a height of 64.
    assert first.shape == (64, 144) and second.shape == (64, 64)
    assert first[0].min() > 190 and first[32, 72] < 40
    assert (first % 4 == 0).all()


def test_peraire_keeps_all_grey_values_and_names_no_document(clone: Path) -> None:
    arrays, _ = registers.peraire_strings(clone)
    assert "documents" not in arrays
    assert (pictures(arrays)[0] % 4 != 0).any()


def test_text_is_a_window_of_a_line_without_digits(clone: Path) -> None:
    arrays, _ = registers.lectaurep_text(clone)
    assert arrays["line_text"].tolist() == ["Procuration"]
    (window,) = pictures(arrays)
    assert window.shape == (48, registers.WINDOW)
    assert window[24].max() < 40
    again = registers.lectaurep_text(clone)[0]
    np.testing.assert_array_equal(again["pixels"], arrays["pixels"])


def test_lines_of_text_are_capped_by_page(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "".join(
        alto_line(f"Acte {name}", (20, 20, 300, 60)) for name in ("un", "deux", "trois")
    )
    path = clone / "data" / "register-1" / "p1.xml"
    path.write_text(ALTO.format(picture="p1.png", lines=lines))
    monkeypatch.setattr(registers, "LINES_A_PAGE", 2)
    assert len(registers.lectaurep_text(clone)[0]["line_text"]) == 2


def test_page_xml_is_read_like_alto(clone: Path) -> None:
    path = clone / "data" / "register-1" / "p1.xml"
    expected = registers.lectaurep_strings(clone)[0]
    lines = "".join(page_line(text, box) for text, box in LINES)
    lines += page_line("1847", (300, 20, 380, 60), custom="structure {type:printed;}")
    path.write_text(PAGE.format(picture="p1.png", lines=lines))
    found = registers.lectaurep_strings(clone)[0]
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)


def test_baselines_are_read_in_both_forms(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    for form, line in ((ALTO, alto_line), (PAGE, page_line)):
        path.write_text(form.format(picture="a.jpg", lines=line("7", (1, 2, 30, 40))))
        name, (read,) = registers.read(path)
        assert name == "a.jpg"
        assert read.box == (1, 2, 30, 40)
        assert read.baseline == ((1, 35), (30, 35))


def test_a_line_without_an_outline_has_its_box(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    line = '<TextLine HPOS="1" VPOS="2.6" WIDTH="9" HEIGHT="8"><String CONTENT="5"/></TextLine>'
    empty = '<TextLine><String CONTENT="6"/></TextLine><TextLine HPOS="x"/>'
    path.write_text(ALTO.format(picture="", lines=line + empty))
    _, lines = registers.read(path)
    assert [(line.text, line.box) for line in lines] == [("5", (1, 3, 10, 11))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<alto", "no XML"),
        ("<mets/>", "neither ALTO nor PAGE"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><alto/>', "entities"),
    ],
)
def test_other_xml_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        registers.read(path)


def test_pages_without_a_scan_are_counted_as_damaged(clone: Path) -> None:
    folder = clone / "data" / "register-1"
    (folder / "METS.xml").write_text("<mets/>")
    (folder / "p2.xml").write_text(ALTO.format(picture="p2.png", lines=""))
    (folder / "p3.xml").write_text(
        ALTO.format(picture="p3.png", lines=alto_line("3", (0, 0, 9, 9)))
    )
    (folder / "p3.png").write_bytes(b"no picture")
    arrays, damaged = registers.lectaurep_strings(clone)
    assert len(arrays["labels"]) == 2
    assert damaged == 3


def test_the_scan_is_found_beside_the_page_and_nowhere_else(clone: Path) -> None:
    folder = clone / "data" / "register-1"
    scan = (folder / "p1.png").read_bytes()
    lines = alto_line("3", (20, 20, 120, 60))
    (folder / "p1.png").unlink()
    (folder.parent / "outside.png").write_bytes(scan)
    for name in ("../outside.png", str(folder.parent / "outside.png"), "..", "/", ""):
        (folder / "p1.xml").write_text(ALTO.format(picture=name, lines=lines))
        assert registers.lectaurep_strings(clone)[1] == 1
    # Another name in the file, but the page's own beside it.
    (folder / "p1.JPG").write_bytes(scan)
    assert registers.lectaurep_strings(clone)[0]["labels"].tolist() == ["3"]


@pytest.mark.parametrize("name", ["lectaurep_strings", "lectaurep_text", "peraire_strings"])
def test_what_is_built_has_the_published_form(
    clone: Path, name: str, check_form: Callable[..., None]
) -> None:
    arrays, _ = getattr(registers, name)(clone)
    check_form(name, arrays)


def test_lines_off_the_scan_are_counted_as_damaged(clone: Path) -> None:
    path = clone / "data" / "register-1" / "p1.xml"
    lines = alto_line("3", (500, 20, 600, 60)) + alto_line("4", (20, 20, 21, 21))
    path.write_text(ALTO.format(picture="p1.png", lines=lines))
    arrays, damaged = registers.lectaurep_strings(clone)
    assert len(arrays["labels"]) == 0 and damaged == 2
