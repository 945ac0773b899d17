"""A phone's HEIC, a scanner's PDF and its TIFF of several pages are read, page by page."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digitry.errors import ImageError
from digitry.reading import documents, image
from digitry.reading.reader import Reader

from .. import documents as made

SHAPES = [(180, 120), (120, 180), (90, 90)]


def pages() -> list[Image.Image]:
    """Return pages of different sizes, so that their order shows."""
    return [Image.new("L", size, 255 - index) for index, size in enumerate(SHAPES)]


def test_a_heic_is_read_like_a_jpeg() -> None:
    drawn = made.drawn((3,))
    for mode in ("L", "RGB", "RGBA"):
        page = image.load(made.heic(drawn.convert(mode)), name="IMG_0001.HEIC")
        assert (page.width, page.height) == drawn.size
        assert np.abs(page.gray.astype(int) - np.asarray(drawn)).mean() < 6


def test_a_heic_of_48_megapixels_says_what_to_do_on_the_phone() -> None:
    large = made.of_size(made.heic(made.drawn()), 8064, 6048)
    with pytest.raises(ImageError, match=r"\(8064 x 6048 pixels\).*share it as a JPEG"):
        image.load(large)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_phones_heic_is_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    drawn = Image.new("RGB", (160, 90), (240, 240, 240))
    drawn.paste((20, 20, 20), (10, 10, 60, 30))
    jpeg = io.BytesIO()
    drawn.save(jpeg, "JPEG", quality=95, exif=exif)
    wanted = image.load(jpeg.getvalue())
    page = image.load(made.heic(drawn, exif=exif.tobytes()))
    assert (page.width, page.height) == (wanted.width, wanted.height)
    assert np.abs(page.gray.astype(int) - wanted.gray).mean() < 6


def test_an_avif_is_read() -> None:
    drawn = made.drawn((3,)).convert("RGB")
    page = image.load(made.avif(drawn))
    assert np.abs(page.gray.astype(int) - np.asarray(drawn.convert("L"))).mean() < 6


@pytest.mark.parametrize("form", ["pdf", "tiff"])
def test_the_pages_of_a_document_are_read_in_order(form: str, tmp_path: Path) -> None:
    content = made.tiff(pages()) if form == "tiff" else made.scanned(pages(), 200)
    path = tmp_path / f"scan.{form}"
    path.write_bytes(content)
    for source in (path, str(path), content, io.BytesIO(content)):
        found = [image.load(page) for page in image.pages_of([source])]
        assert [(page.width, page.height) for page in found] == SHAPES
    names = [image.load(page).source for page in image.pages_of([path])]
    assert names == [f"{path}#page={number}" for number in (1, 2, 3)]
    # That name is a path to the page.
    assert image.load(names[1]).height == 180


def test_a_reading_for_each_page(tmp_path: Path) -> None:
    path = tmp_path / "scan.pdf"
    path.write_bytes(made.scanned([made.drawn((2, 2)), Image.new("L", (90, 90), 255)]))
    first, second = Reader().read_many([path])
    assert not isinstance(first, ImageError) and not isinstance(second, ImageError)
    assert (first.source, len(first.digits) > 0) == (f"{path}#page=1", True)
    assert (second.source, second.reason) == (f"{path}#page=2", "blank")


@pytest.mark.parametrize("form", ["pdf", "tiff"])
def test_one_reading_of_several_pages_is_refused_and_says_how(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"scan.{form}"
    path.write_bytes(made.tiff(pages()) if form == "tiff" else made.scanned(pages()))
    with pytest.raises(ImageError, match=r"has 3 pages; read_many reads them all; .*#page=1"):
        image.load(path)
    with pytest.raises(ImageError, match=r"has no page 4; it has 3 pages"):
        image.load(f"{path}#page=4")


def test_a_document_of_one_page_is_an_image_like_others(tmp_path: Path) -> None:
    for name, content in (("a.pdf", made.scanned(pages()[:1])), ("a.tif", made.tiff(pages()[:1]))):
        (tmp_path / name).write_bytes(content)
        assert image.load(tmp_path / name).source == str(tmp_path / name)


def test_previews_and_masks_in_a_tiff_are_no_pages() -> None:
    first, second = pages()[:2]
    out = io.BytesIO()
    with Image.new("L", (1, 1)) as _:
        from PIL import TiffImagePlugin

        with TiffImagePlugin.AppendingTiffWriter(out, new=True) as writer:
            for picture, kind in ((first, 0), (first.resize((30, 20)), 1), (second, 2), (first, 4)):
                facts = TiffImagePlugin.ImageFileDirectory_v2()
                facts.tagtype[254], facts[254] = 4, kind
                picture.save(writer, "TIFF", tiffinfo=facts)
                writer.newFrame()
    content = out.getvalue()
    assert image.count_pages(content) == 2
    assert [image.load(page).width for page in image.pages_of([content])] == [180, 120]


def test_a_page_is_drawn_at_200_dots_per_inch_and_no_larger_than_the_reader_works() -> None:
    small = image.load(made.pdf([made.PLAIN], box="0 0 144 72"))
    assert (small.width, small.height) == (400, 200)
    # Phone apps write one point for each pixel.
    large = image.load(made.pdf([made.PLAIN], box="0 0 4000 3000"))
    assert large.gray.size <= 3_210_000
    assert large.width / large.height == pytest.approx(4 / 3, abs=0.01)


def test_a_damaged_page_is_an_error_in_its_place_and_the_others_are_read() -> None:
    content = made.pdf([made.PLAIN] * 2, kids="3 0 R 99 0 R 5 0 R", count=3)
    found = []
    for page in image.pages_of([content]):
        try:
            found.append(image.load(page).source)
        except ImageError as error:
            found.append(error.what)
    assert found[0] == "<bytes>#page=1" and found[2] == "<bytes>#page=3"
    assert "page 2 cannot be opened" in found[1]


def locked() -> bytes:
    """Return a PDF that says it is encrypted."""
    content = made.pdf([made.PLAIN])
    lock = b"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >> /ID [<00> <00>] " % (
        b"00" * 32, b"11" * 32,
    )  # fmt: skip
    return content.replace(b"/Root 1 0 R", lock + b"/Root 1 0 R")


def test_a_locked_pdf_says_so() -> None:
    with pytest.raises(ImageError, match="is a PDF with a password; save it without"):
        image.load(locked())


def test_too_many_pages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_PAGES", 2)
    for content in (made.scanned(pages()), made.tiff(pages())):
        with pytest.raises(ImageError, match="has 3 pages, more than 2; split"):
            image.count_pages(content)
        (only,) = image.pages_of([content])
        with pytest.raises(ImageError, match="has 3 pages, more than 2"):
            image.load(only)


@pytest.mark.parametrize(
    ("content", "package"),
    [(made.pdf([made.PLAIN]), "pypdfium2"), (made.heic(made.drawn()), "pillow-heif")],
)
def test_a_missing_package_is_named_with_its_extra(
    content: bytes, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "find_spec", lambda name: None)
    with pytest.raises(ImageError, match=package) as caught:
        image.load(content)
    assert caught.value.remedy == "pip install 'digitry[files]'"


# --- other sources ---------------------------------------------------------------------------------


def test_open_files_and_data_urls_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    made.drawn().save(path)
    content = path.read_bytes()
    wanted = image.load(path).gray
    with path.open("rb") as stream:
        page = image.load(stream)
    assert page.source == str(path) and np.array_equal(page.gray, wanted)
    assert image.load(io.BytesIO(content)).source == "<file>"
    for head in ("data:image/png;base64,", "DATA:;BASE64,", "data:application/pdf;x=1;base64,"):
        page = image.load(head + base64.b64encode(content).decode())
        assert page.source == "<data URL>" and np.array_equal(page.gray, wanted)
    # As it stands in a style sheet or a URL.
    quoted = base64.urlsafe_b64encode(content).decode().rstrip("=").replace("_", "%5F")
    assert np.array_equal(image.load(f"data:image/png;base64,{quoted}").gray, wanted)


def test_a_file_read_to_its_end_or_open_as_text_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    made.drawn().save(path)
    with path.open("rb") as stream:
        stream.read()
        with pytest.raises(ImageError, match=r"read to its end; .*seek\(0\)"):
            image.load(stream)
    with pytest.raises(ImageError, match=r'open as text; open it with mode "rb"'):
        image.load(io.StringIO("not bytes"))


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ("https://example.org/a/b.png?x=1", "https://example.org/a/b.png?x=1"),
        (Path("https://example.org/a.png"), "https://example.org/a.png"),
        ("s3://bucket/key.png", "s3://bucket/key.png"),
    ],
)
def test_a_url_is_refused_as_it_was_written(source: object, where: str) -> None:
    with pytest.raises(ImageError, match="is a URL") as caught:
        image.load(source)
    assert caught.value.where == where


def test_long_texts_are_not_repeated_in_errors() -> None:
    text = base64.b64encode(bytes(range(256)) * 100).decode()
    for source in (text, f"data:image/png,{text}", "data:" + text, f"data:image/png;base64,{text}"):
        with pytest.raises(ImageError) as caught:
            image.load(source)
        assert len(str(caught.value)) < 400, str(caught.value)
    with pytest.raises(ImageError, match="may be base64; write data:image/png;base64, before it"):
        image.load(text)


def test_a_pil_image_is_read_at_its_frame() -> None:
    with Image.open(io.BytesIO(made.tiff(pages()))) as opened:
        opened.seek(2)
        assert image.load(opened).width == 90


def test_a_damaged_pil_image_is_an_image_error() -> None:
    out = io.BytesIO()
    made.drawn().save(out, "PNG")
    with Image.open(io.BytesIO(out.getvalue()[:-60])) as opened, pytest.raises(ImageError):
        image.load(opened)
