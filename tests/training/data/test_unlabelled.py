"""Images without labels are read from every form that a competition or a notebook gives them in."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digitry.errors import DataError
from digitry.training.data import unlabelled


def digits() -> np.ndarray:
    """Return three 28x28 images, light ink on dark ground."""
    images = np.zeros((3, 28, 28), np.uint8)
    for index in range(3):
        images[index, 4:24, 10 + index : 13 + index] = 200 + index
    return images


def csv(*, header: str | None = None, first: list[str] | None = None) -> str:
    rows = []
    for index, image in enumerate(digits()):
        lead = [first[index]] if first else []
        rows.append(",".join([*lead, *map(str, image.ravel())]))
    return "\n".join([*([header] if header else []), *rows]) + "\n"


PIXELS = ",".join(f"pixel{index}" for index in range(784))


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (csv(header=PIXELS), ("1", "2", "3")),
        (csv(), ("1", "2", "3")),
        (csv(header=f"label,{PIXELS}", first=["7", "8", "9"]), ("1", "2", "3")),
        (csv(first=["7", "8", "9"]), ("1", "2", "3")),
        (csv(header=f"ImageId,{PIXELS}", first=["a", "b", "c"]), ("a", "b", "c")),
        ("\ufeff" + csv(header=PIXELS).replace("\n", "\r\n"), ("1", "2", "3")),
    ],
    ids=["kaggle", "bare", "labels", "bare labels", "ids", "windows"],
)
def test_a_csv_with_or_without_header_labels_and_ids(
    text: str, ids: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "test.csv").write_bytes(text.encode())
    found = unlabelled.read(tmp_path / "test.csv")
    assert found.ids == ids
    assert np.array_equal(found.images, digits())


def idx(images: np.ndarray) -> bytes:
    return struct.pack(">4I", 0x803, *images.shape) + images.tobytes()


def test_arrays_and_idx_files(tmp_path: Path) -> None:
    images = digits()
    np.save(tmp_path / "a.npy", images)
    np.save(tmp_path / "flat.npy", images.reshape(3, 784) / 255)
    np.save(tmp_path / "channel.npy", images[..., None])
    np.savez(tmp_path / "a.npz", x_test=images, y_test=np.arange(3))
    np.savez_compressed(tmp_path / "only.npz", whatever=images)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    for path in sorted(tmp_path.iterdir()):
        found = unlabelled.read(path)
        assert found.ids == ("1", "2", "3"), path.name
        assert np.array_equal(found.images, images), path.name


def test_a_folder_gives_the_names_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name, image in zip(("a.png", "b/c.png", "b/d.png"), digits(), strict=True):
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    found = unlabelled.read(tmp_path)
    assert found.ids == ("a.png", "b/c.png", "b/d.png")
    assert np.array_equal(found.images, digits())


def test_dark_ink_on_light_ground_is_normalised(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", 255 - digits())
    found = unlabelled.read(tmp_path / "a.npy")
    assert found.images[:, 0, 0].max() == 0
    assert found.images.max() > 200


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.csv", b"1,2,3\n", "line 1: has 3 fields, not 784"),
        ("a.csv", b"", "has no images"),
        ("a.csv", csv().replace("200", "300").encode(), "has '300' in field"),
        ("a.npy", b"\x93NUMPY\x01\x00", "is not an array"),
        ("a.npy", b"", "is not an array"),
        ("a.npz", b"no zip", "cannot be read as .npz"),
        ("labels-idx1-ubyte", struct.pack(">2I", 0x801, 3) + b"\1\2\3", "holds labels"),
        ("a.txt", b"", "is not a known kind"),
        ("none.csv", None, "no such file"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    name: str, content: bytes | None, line: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=line):
        unlabelled.read(tmp_path / name)


def test_an_npz_without_a_known_name_says_what_it_has(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=digits(), two=digits())
    with pytest.raises(DataError, match=r"it has one, two; name the images x_test or images"):
        unlabelled.read(tmp_path / "a.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no images"):
        unlabelled.read(tmp_path / "empty")
