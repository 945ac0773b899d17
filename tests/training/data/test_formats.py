"""Users' data: every form is read, and every fault gives a clear error."""

import csv
import gzip
import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from digitry.errors import DataError
from digitry.training import datasets
from digitry.training.data import dataset, folders, formats
from digitry.training.data import npz as arrays


def stroke(label: int, copy: int = 0) -> np.ndarray:
    """Return 28x28 drawings that differ by label and copy: light ink on a dark background."""
    image = np.zeros((28, 28), np.uint8)
    image[4 + label : 8 + label, 5 : 20 + copy % 4] = 255 - copy // 4
    image[6:22, 8 + label : 11 + label] = 200
    return image


def drawings(per_class: int = 6) -> tuple[np.ndarray, np.ndarray]:
    images = [stroke(label, copy) for copy in range(per_class) for label in range(10)]
    return np.stack(images), np.array(list(range(10)) * per_class, np.uint8)


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def rows_of(images: np.ndarray, labels: np.ndarray) -> str:
    return "".join(
        f"{label},{','.join(map(str, image.ravel()))}\n"
        for image, label in zip(images, labels, strict=True)
    )


def class_folders(folder: Path, per_class: int = 3, invert: set[str] | None = None) -> Path:
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
        for copy in range(per_class):
            name = f"{label}/{copy}.png"
            pixels = stroke(label, copy)
            pixels = 255 - pixels if name in (invert or ()) else pixels
            Image.fromarray(pixels).save(folder / name)
    return folder


# --- valid data -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("name", ["{}-{}-idx{}-ubyte", "{}-{}.idx{}-ubyte"])
def test_idx_pairs_are_read_under_their_usual_names(tmp_path: Path, name: str, suffix: str) -> None:
    images, labels = drawings()
    for part in ("train", "t10k"):
        for kind, rank, array in (("images", 3, images), ("labels", 1, labels)):
            content = idx(array)
            path = tmp_path / (name.format(part, kind, rank) + suffix)
            path.write_bytes(gzip.compress(content) if suffix else content)
    train, test = folders.read(tmp_path)
    assert test is not None
    assert np.array_equal(train.images, images)
    assert np.array_equal(test.labels, labels)
    assert train.names[17] == "train-images[17]"


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images,
        lambda images: images.reshape(-1, 784),
        lambda images: images[..., None],
        lambda images: images.astype(np.int64),
        lambda images: images / 255,
        lambda images: (images / 255).astype(np.float32),
        lambda images: images.astype(np.float64),
        lambda images: np.asfortranarray(images),
    ],
    ids=["bytes", "flat", "channel", "int64", "unit", "unit32", "float", "fortran"],
)
def test_npz_pixels_of_any_number_type_are_the_same_images(change: object) -> None:
    images, labels = drawings()
    content = npz(x_train=change(images), y_train=labels, x_test=images[:9], y_test=labels[:9])  # type: ignore[operator]
    train, test = arrays.parse_npz(io.BytesIO(content), where="a.npz")
    assert np.array_equal(train.images, images)
    assert test is not None
    assert len(test) == 9


def test_npz_labels_may_be_one_hot_and_a_pair_may_be_called_images_and_labels() -> None:
    images, labels = drawings()
    for form in (np.eye(10)[labels], labels[:, None], labels.astype(np.float32)):
        train, test = arrays.parse_npz(io.BytesIO(npz(images=images, labels=form)), where="a")
        assert np.array_equal(train.labels, labels)
        assert test is None


def test_binary_pixels_become_full_ink() -> None:
    images, labels = drawings()
    for form in (images > 0, (images > 0).astype(np.uint8)):
        train, _ = arrays.parse_npz(io.BytesIO(npz(images=form, labels=labels)), where="a")
        assert np.array_equal(train.images, np.where(images > 0, 255, 0))


@pytest.mark.parametrize("form", ["header", "bare", "quoted", "floats", "bom", "label last"])
def test_csv_is_read_with_and_without_a_header(form: str) -> None:
    images, labels = drawings(1)
    text = rows_of(images, labels)
    names = ",".join(f"pixel{i}" for i in range(784))
    if form == "header":
        text = f"label,{names}\n{text}"
    if form == "bom":
        text = f"\ufefflabel,{names}\r\n" + text.replace("\n", "\r\n") + "\r\n\r\n"
    if form == "quoted":
        rows = [",".join(f'"{field}"' for field in row.split(",")) for row in text.split()]
        text = "\n".join([f'"label",{names}', *rows])
    if form == "floats":
        text = text.replace(",255", ",255.0")
    if form == "label last":
        text = f"{names},label\n" + "".join(
            ",".join((*row.split(",")[1:], row.split(",")[0])) + "\n" for row in text.split()
        )
    split = formats.parse_csv(io.BytesIO(text.encode()), where="a.csv")
    assert np.array_equal(split.images, images)
    assert np.array_equal(split.labels, labels)


def test_class_folders_of_grey_28x28_images_are_unchanged(tmp_path: Path) -> None:
    train, test = folders.read(class_folders(tmp_path))
    assert test is None
    assert train.names[4] == "1/1.png"
    assert np.array_equal(train.images[4], stroke(1, 1))
    assert train.labels.tolist() == sorted([*range(10)] * 3)


def test_one_inverted_image_is_inverted_back_and_reported(tmp_path: Path) -> None:
    train, _ = folders.read(class_folders(tmp_path, invert={"4/1.png"}))
    assert [train.names[row] for row in train.turned] == ["4/1.png"]
    assert np.median(train.images[train.turned[0]]) == 0
    assert train.images[train.turned[0]].max() > 200


def test_a_whole_set_of_dark_ink_is_inverted_without_a_report() -> None:
    images, labels = drawings(2)
    train, _ = arrays.parse_npz(io.BytesIO(npz(images=255 - images, labels=labels)), where="a")
    assert train.turned == ()
    assert (train.images[:, 0, 0] == 0).all()


def test_images_of_another_size_go_through_the_readers_normalisation(tmp_path: Path) -> None:
    from digitry.reading.reader import single_glyph

    folder = class_folders(tmp_path, 2)
    large = Image.fromarray(255 - stroke(3)).resize((90, 120)).convert("RGB")
    large.save(folder / "3" / "photo.jpg", quality=90)
    train, _ = folders.read(folder)
    row = train.names.index("3/photo.jpg")
    expected = np.rint(single_glyph(folder / "3" / "photo.jpg") * 255)
    assert np.array_equal(train.images[row], expected)
    assert train.images[row].max() > 200


def test_train_and_test_folders_are_the_two_parts(tmp_path: Path) -> None:
    class_folders(tmp_path / "training", 2)
    class_folders(tmp_path / "testing", 1)
    train, test = folders.read(tmp_path)
    assert test is not None
    assert (len(train), len(test)) == (20, 10)


def table_folder(folder: Path, lines: list[str]) -> Path:
    for label in range(3):
        Image.fromarray(stroke(label)).save(folder / f"{label}.png")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_table_of_labels_is_read_in_its_order(tmp_path: Path) -> None:
    table_folder(tmp_path, ["label,file,writer", "2,2.png,ann", "0,0.png,", "", '1,"1.png",bob'])
    train, _ = folders.read(tmp_path)
    assert train.labels.tolist() == [2, 0, 1]
    assert train.names == ("2.png", "0.png", "1.png")


# --- faulty data ----------------------------------------------------------------------------------


def fault(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        datasets.load_dataset(str(path))
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "magic number of an empty file"),
        (b"\0\0\x0d\x03" + bytes(40), "magic number 00000d03"),
        (b"<!DOCTYPE html>", "magic number 3c21444f"),
        (b"\0\0\x08\x03\0\0", "truncated in its header"),
        (idx(drawings(1)[0])[:-1], "is truncated: 10x28x28 needs 7,840 bytes"),
        (idx(drawings(1)[0]) + b"x", "has more than the 7,840 bytes"),
        (
            b"\0\0\x08\x03" + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1),
            "declares the shape",
        ),
        (b"\0\0\x08\x03" + struct.pack(">3I", 60_000, 0, 28), "declares the shape"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 2_000_000, 1024, 1024), "declares 2,097,152,000,000"),
        (gzip.compress(idx(drawings(1)[0]))[:-9], "truncated or damaged"),
        (idx(drawings(1)[1]), "does not contain images"),
    ],
)
def test_a_faulty_idx_file_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(drawings(1)[1]))
    message = fault(tmp_path)
    assert "train-images-idx3-ubyte" in message
    assert words in message


def test_a_gzip_bomb_is_read_only_up_to_its_declared_size(tmp_path: Path) -> None:
    bomb = gzip.compress(idx(drawings(1)[0]) + bytes(200_000_000), 9)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(bomb)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(drawings(1)[1]))
    tracemalloc.start()
    try:
        assert "has more than the" in fault(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_counts_and_labels_that_do_not_match_are_named(tmp_path: Path) -> None:
    images, labels = drawings(1)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels[:-1]))
    assert "10 images, but 9 labels" in fault(tmp_path)
    labels[4] = 10
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    assert "label 10 for train-images[4]" in fault(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    assert "has no train-labels" in fault(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: {"x": x, "labels": y}, "no array 'images'; it has labels, x"),
        (lambda x, y: {"images": x, "labels": y[:-1]}, "10 images, but 9 labels"),
        (lambda x, y: {"images": x, "labels": y - 1.0}, "label -1.0 for images[0]"),
        (lambda x, y: {"images": x, "labels": y + 0.5}, "label 0.5 for images[0]"),
        (lambda x, y: {"images": x, "labels": np.zeros((10, 10))}, "row 0 is not one-hot"),
        (lambda x, y: {"images": x * 2.0, "labels": y}, "row 0 has a pixel of 510"),
        (lambda x, y: {"images": x * np.nan, "labels": y}, "row 0 has a pixel of nan"),
        (lambda x, y: {"images": x[0], "labels": y}, "shape (28, 28)"),
        (lambda x, y: {"images": np.array([{}] * 10), "labels": y}, "pickled objects"),
        (lambda x, y: {"images": x, "labels": y.astype(str)}, "pickled objects and text"),
        (lambda x, y: {"x_train": x, "y_train": y, "x_test": x}, "no array 'y_test'"),
    ],
)
def test_a_faulty_npz_is_named(tmp_path: Path, change: object, words: str) -> None:
    path = tmp_path / "own.npz"
    path.write_bytes(npz(**change(*drawings(1))))  # type: ignore[operator]
    message = fault(path)
    assert "own.npz" in message
    assert words in message


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("sprung"),))


def test_a_pickle_in_an_npz_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + pickle.dumps(Trap())
    with zipfile.ZipFile("own.npz", "w") as archive:
        archive.writestr("images.npy", member)
        archive.writestr("labels.npy", pickle.dumps(Trap()))
    assert "never loaded" in fault(tmp_path / "own.npz")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("shape", ["(999999999, 28, 28)", "(2000000, 28, 28)", "(5, 99999, 99999)"])
def test_an_npz_with_a_huge_shape_is_refused_before_memory_is_allocated(
    tmp_path: Path, shape: str
) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(100)
    with zipfile.ZipFile(tmp_path / "own.npz", "w") as archive:
        archive.writestr("images.npy", member)
        archive.writestr("labels.npy", member)
    tracemalloc.start()
    try:
        assert "declares" in fault(tmp_path / "own.npz")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_zip_with_false_sizes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    content = npz(images=drawings(1)[0], labels=drawings(1)[1])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = archive.getinfo("images.npy").file_size
    path.write_bytes(content.replace(struct.pack("<I", size), struct.pack("<I", 2**31 + 5)))
    assert "own.npz" in fault(path)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["1" + ",0" * 784, "12" + ",0" * 784], "line 2: has the label 12"),
        (["1" + ",0" * 784, "2" + ",0" * 783], "line 2: has 784 fields, not 785"),
        (["1" + ",0" * 784, "", "2" + ",256" + ",0" * 783], "line 3: has '256' in field 2"),
        (["1" + ",0" * 784, "2" + ",-1" + ",0" * 783], "has '-1' in field 2"),
        (["1" + ",0" * 784, "2" + ",0.5" + ",0" * 783], "has '0.5' in field 2"),
        (["1" + ",0" * 784, "2" + ",nan" + ",0" * 783], "has 'nan' in field 2"),
        (["1" + ",0" * 784, "2" + ",ink" + ",0" * 783], "has 'ink' in field 2"),
        (["1" + ",0" * 784, "," * 784], "has '' in field 1"),
        (["1" + ",0" * 784, "2" + ",1_0" * 784], "has '1_0' in field 2"),
        (["1" + ",0" * 784, "1" * 70_000], "line 2: is too long"),
        ([",".join(f"pixel{i}" for i in range(784)), "0" + ",0" * 783], "no column `label`"),
        (["0" + ",0" * 783], "no column `label`"),
        (["a;b"], "no column `label`"),
        ([], "has no training images"),
        (["label" + ",p" * 784], "has no training images"),
    ],
)
def test_a_bad_row_of_a_csv_is_named_by_its_line(
    tmp_path: Path, lines: list[str], words: str
) -> None:
    path = tmp_path / "train.csv"
    path.write_text("".join(f"{line}\n" for line in lines))
    message = fault(path)
    assert "train.csv" in message
    assert words in message


def test_kaggles_test_csv_is_refused_with_a_remedy(tmp_path: Path) -> None:
    images, labels = drawings(1)
    (tmp_path / "train.csv").write_text(rows_of(images, labels))
    (tmp_path / "test.csv").write_text(",".join(f"pixel{i}" for i in range(784)) + "\n")
    message = fault(tmp_path)
    assert "test.csv" in message
    assert "e.g. Kaggle's train.csv" in message


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["picture,digit"], "has the columns picture, digit"),
        (["file,label", "0.png,0", "1.png,11"], "line 3: has the label '11'"),
        (["file,label", "0.png,0", "1.png"], "line 3: has 1 fields, not 2"),
        (["file,label", "0.png,0", "9.png,1"], "line 3: names '9.png', which does not exist"),
        (["file,label", "0.png,0", "../1.png,1"], "outside its folder"),
        (["file,label", "0.png,0", "/etc/passwd,1"], "outside its folder"),
        (["file,label", "0.png,0", "0.png,1"], "names '0.png' again, after line 2"),
        (["file,label"], "has no images"),
    ],
)
def test_a_bad_line_of_labels_csv_is_named(tmp_path: Path, lines: list[str], words: str) -> None:
    assert words in fault(table_folder(tmp_path, lines))


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"")
    folder = tmp_path / "own"
    folder.mkdir()
    table_folder(folder, ["file,label", "0.png,0", "link.png,1"])
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    assert "outside its folder" in fault(folder)


def test_all_unreadable_images_are_named(tmp_path: Path) -> None:
    folder = class_folders(tmp_path)
    (folder / "3" / "1.png").write_bytes((folder / "3" / "1.png").read_bytes()[:60])
    (folder / "5" / "notes.txt").write_text("not a picture")
    message = fault(folder)
    assert "3/1.png" in message
    assert "5/notes.txt" in message


def test_folders_that_are_not_a_data_set_are_named(tmp_path: Path) -> None:
    assert "is an empty folder" in fault(tmp_path)
    assert "no such data set" in fault(tmp_path / "nothing")
    class_folders(tmp_path / "a")
    (tmp_path / "a" / "10").mkdir()
    assert "a/10: is not a class folder" in fault(tmp_path / "a")
    (tmp_path / "b" / "7").mkdir(parents=True)
    assert "has no images" in fault(tmp_path / "b")
    for copy in range(3):
        Image.fromarray(stroke(7, copy)).save(tmp_path / "b" / "7" / f"{copy}.png")
    assert "has only one class, 7" in fault(tmp_path / "b")
    (tmp_path / "c.zip").write_bytes(b"PK")
    assert "unpack it" in fault(tmp_path / "c.zip")
    (tmp_path / "d.txt").write_bytes(b"")
    assert "not a known kind" in fault(tmp_path / "d.txt")


# --- any bytes: a split or a DataError, never anything else -----------------------------------------

_IMAGES, _LABELS = drawings(1)
_IDX = idx(_IMAGES[:3, :, :])
_NPZ = npz(images=_IMAGES[:4], labels=_LABELS[:4])
_CSV = rows_of(_IMAGES[:2], _LABELS[:2]).encode()


@st.composite
def mutated(draw: st.DrawFn, seed: bytes) -> bytes:
    content = bytearray(seed)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.sampled_from(["flip", "cut", "insert", "head", "double"])):
            case "flip" if content:
                content[place] = draw(st.integers(0, 255))
            case "cut":
                del content[place : place + draw(st.integers(1, 400))]
            case "insert":
                content[place:place] = draw(st.binary(max_size=12))
            case "head" if content:
                content[min(place, 40) % len(content)] ^= 1 << draw(st.integers(0, 7))
            case _:
                content += content[place:]
    return bytes(content)


def holds(parse: object, content: bytes) -> None:
    try:
        result = parse(io.BytesIO(content), where="x")  # type: ignore[operator]
    except DataError as error:
        assert error.remedy
        return
    for part in result if isinstance(result, tuple) else (result,):
        if isinstance(part, dataset.Split):
            assert len(part.images) == len(part.labels)
            assert (part.labels <= 9).all()


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=200), mutated(_IDX)))
def test_any_bytes_as_idx(content: bytes) -> None:
    holds(formats.parse_idx, content)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), mutated(_NPZ)))
@example(b"PK\x05\x06" + bytes(18))
def test_any_bytes_as_npz(content: bytes) -> None:
    holds(arrays.parse_npz, content)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=200), mutated(_CSV)))
@example(b"1" + b",1e400" * 784)
@example(b"1" + b",inf" * 784)
@example(b"1_0" + b",1_0" * 784)
def test_any_bytes_as_csv(content: bytes) -> None:
    holds(formats.parse_csv, content)


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=200), mutated(b"file,label\n0.png,0\n1.png,1\n")))
def test_any_bytes_as_labels_csv(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-table"
    folder.mkdir(exist_ok=True)
    for label in range(2):
        Image.fromarray(stroke(label)).save(folder / f"{label}.png")
    (folder / "labels.csv").write_bytes(content)
    try:
        folders.read(folder)
    except DataError as error:
        assert error.remedy


def test_a_too_long_csv_field_is_a_data_error(tmp_path: Path) -> None:
    table_folder(tmp_path, ["file,label", "x" * (csv.field_size_limit() + 10) + ",1"])
    assert "not CSV in UTF-8" in fault(tmp_path)
