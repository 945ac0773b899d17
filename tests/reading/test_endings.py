"""Files of a folder are read by their endings, and the others are counted."""

from digitry.reading import endings


def test_images_and_documents_are_read_whatever_the_case() -> None:
    for name in (
        "a.png",
        "IMG_1.HEIC",
        "scan.PDF",
        "x/photo.jfif",
        "b.avif",
        "c.tif",
        "d.jp2",
        "e.PGM",
        "f.pnm",
    ):
        assert endings.is_image(name), name
    for name in ("a.txt", "png", "._a.png", "x/._a.jpg", "a.png.zip"):
        assert not endings.is_image(name), name


def test_hidden_files_are_not_counted() -> None:
    assert endings.ending_of(".DS_Store") is None
    assert endings.ending_of("d/._a.png") is None
    assert endings.ending_of("Makefile") == "without an ending"
    assert endings.ending_of("a.DOCX") == ".docx"


def test_the_commonest_ending_comes_first_and_the_line_stays_short() -> None:
    assert endings.not_read({".mov": 1, ".docx": 1200}) == "not read: 1,200 .docx, 1 .mov"
    many = {f".x{index:02d}": 1 for index in range(50)}
    assert endings.not_read(many).endswith(", 42 others")
