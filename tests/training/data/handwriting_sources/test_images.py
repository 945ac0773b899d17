"""Small copies of the pictures' forms, made here, become packs."""

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digitry.errors import DataError
from digitry.training.data.handwriting_sources import images


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


# --- BHMSDS ----------------------------------------------------------------------------------------


@pytest.fixture
def bhmsds(tmp_path: Path) -> Path:
    (tmp_path / "symbols").mkdir()
    dark = np.zeros((28, 28), np.uint8)
    dark[10:18, 12:16] = 250
    for name, pixels in {
        "3-2": dark, "3-10": 255 - dark, "0-7": dark, "slash-1": dark, "dot-0": dark,
    }.items():  # fmt: skip
        (tmp_path / "symbols" / f"{name}.png").write_bytes(png(pixels))
    return tmp_path


def test_bhmsds_comes_by_symbol_and_number_with_ink_high(
    bhmsds: Path, check_form: Callable[..., None]
) -> None:
    arrays, damaged = images.bhmsds_digits(bhmsds)
    check_form("bhmsds_digits", arrays)
    assert arrays["labels"].tolist() == [0, 3, 3]
    assert arrays["images"].shape == (3, 28, 28)
    # The second 3 is dark ink on white, and is turned.
    assert (arrays["images"] == arrays["images"][0]).all()
    assert arrays["images"][0, 12, 13] == 250 and arrays["images"][0, 0, 0] == 0
    assert damaged == 0


def test_bhmsds_symbols_keep_their_names(bhmsds: Path, check_form: Callable[..., None]) -> None:
    arrays, _ = images.bhmsds_symbols(bhmsds)
    check_form("bhmsds_symbols", arrays)
    assert arrays["labels"].tolist() == ["dot", "slash"]


def test_bhmsds_counts_what_is_no_picture(bhmsds: Path) -> None:
    (bhmsds / "symbols" / "4-1.png").write_bytes(b"no picture")
    (bhmsds / "symbols" / "4-2.png").write_bytes(png(np.zeros((30, 28), np.uint8)))
    (bhmsds / "symbols" / "readme.png").write_bytes(b"")
    arrays, damaged = images.bhmsds_digits(bhmsds)
    assert arrays["labels"].tolist() == [0, 3, 3]
    assert damaged == 2


def test_a_transparent_picture_lies_on_white(bhmsds: Path) -> None:
    pixels = np.zeros((28, 28, 4), np.uint8)
    pixels[10:18, 12:16, 3] = 255
    (bhmsds / "symbols" / "5-1.png").write_bytes(png(pixels))
    arrays, _ = images.bhmsds_digits(bhmsds)
    assert arrays["images"][-1, 12, 13] == 255 and arrays["images"][-1, 0, 0] == 0


# --- mfeat -----------------------------------------------------------------------------------------


def arff(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "data" / "mfeat-pixel" / "mfeat-pixel.arff"
    path.parent.mkdir(parents=True, exist_ok=True)
    head = "% about it\n@relation mfeat\n@attribute 'att1' {0,1,2}\n@attribute 'class' {1,2}\n\n"
    path.write_text(head + "@data\n" + "\n".join(rows) + "\n")
    return tmp_path


def test_mfeat_is_scaled_and_its_first_class_is_the_digit_0(
    tmp_path: Path, check_form: Callable[..., None]
) -> None:
    values = [0, 1, 2, 3, 4, 5, 6] + [0] * 233
    clone = arff(tmp_path, ",".join(map(str, [*values, 1])), ",".join(map(str, [*values, 10])))
    arrays, _ = images.mfeat_pixel(clone)
    check_form("mfeat_pixel", arrays)
    assert arrays["labels"].tolist() == [0, 9]
    assert arrays["images"].shape == (2, 16, 15)
    assert arrays["images"][0, 0, :7].tolist() == [0, 42, 85, 128, 170, 212, 255]


@pytest.mark.parametrize(
    "row",
    [
        ",".join(["0"] * 240),
        ",".join(["0"] * 240 + ["11"]),
        ",".join(["7"] * 240 + ["1"]),
        ",".join(["?"] * 240 + ["1"]),
    ],
)
def test_a_wrong_row_of_mfeat_is_refused(tmp_path: Path, row: str) -> None:
    with pytest.raises(DataError, match=r"mfeat-pixel\.arff: has"):
        images.mfeat_pixel(arff(tmp_path, row))


def test_mfeat_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no @data"):
        images.mfeat_pixel(arff(tmp_path))


# --- Omniglot --------------------------------------------------------------------------------------


def test_omniglot_takes_each_alphabet_once(tmp_path: Path, check_form: Callable[..., None]) -> None:
    drawing = np.full((105, 105), 255, np.uint8)
    drawing[20:80, 50:55] = 0
    (tmp_path / "python").mkdir()
    members = (("small1", "Greek", "Latin"), ("small2", "Greek", "Tagalog"))
    for name, *alphabets in members:
        with zipfile.ZipFile(tmp_path / f"python/images_background_{name}.zip", "w") as archive:
            archive.writestr("readme.txt", "not a drawing")
            for alphabet in alphabets:
                for drawer in ("02", "01"):
                    place = f"images_background_{name}/{alphabet}/character01/0001_{drawer}.png"
                    archive.writestr(place, png(drawing))
    arrays, _ = images.omniglot(tmp_path)
    check_form("omniglot", arrays)
    assert arrays["labels"].tolist() == [
        f"{alphabet}/character01" for alphabet in ("Greek", "Latin", "Tagalog") for _ in range(2)
    ]
    assert arrays["writers"].tolist() == ["01", "02"] * 3
    assert arrays["images"].shape == (6, 64, 64)
    assert arrays["images"][0, 30, 32] > 200 and arrays["images"][0, 0, 0] == 0


def test_a_damaged_zip_of_omniglot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"small1\.zip: cannot be read"):
        images.omniglot(tmp_path)
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "images_background_small1.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match="is no zip"):
        images.omniglot(tmp_path)


# --- Quick, Draw! ----------------------------------------------------------------------------------


def test_quickdraw_is_pictures_of_784_bytes(
    tmp_path: Path, check_form: Callable[..., None]
) -> None:
    folder = tmp_path / "examples" / "doodle_classification" / "data"
    folder.mkdir(parents=True)
    for index, name in enumerate(("cats", "rainbows", "trains")):
        (folder / f"{name}1000.bin").write_bytes(bytes([index]) * 784 * 2)
    arrays, _ = images.quickdraw(tmp_path)
    check_form("quickdraw", arrays)
    assert arrays["labels"].tolist() == ["cat", "cat", "rainbow", "rainbow", "train", "train"]
    assert arrays["images"][:, 0, 0].tolist() == [0, 0, 1, 1, 2, 2]
    (folder / "trains1000.bin").write_bytes(b"1" * 785)
    with pytest.raises(DataError, match="785 bytes"):
        images.quickdraw(tmp_path)


# --- QMNIST ----------------------------------------------------------------------------------------


def test_the_writer_is_the_third_column_of_qmnist(
    tmp_path: Path, check_form: Callable[..., None]
) -> None:
    table = np.zeros((60_000, 8), ">i4")
    table[:, 2] = np.arange(60_000) % 2_500
    head = np.array([0x0C02, 60_000, 8], ">i4").tobytes()
    path = tmp_path / "qmnist-train-labels-idx2-int.gz"
    path.write_bytes(gzip.compress(head + table.tobytes(), 1))
    arrays, _ = images.mnist_writers(tmp_path)
    check_form("mnist_writers", arrays)
    assert arrays["writers"].dtype == np.int32
    assert arrays["writers"][[0, 7, 2_507]].tolist() == [0, 7, 7]


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"short"), gzip.compress(b"")[:-4]],
    # gzip writes the time into what it packs: test processes would name these tests differently.
    ids=["empty", "no gzip", "short", "cut"],
)
def test_another_table_than_qmnist_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "qmnist-train-labels-idx2-int.gz").write_bytes(content)
    with pytest.raises(DataError, match="is no"):
        images.mnist_writers(tmp_path)
