"""Building from clones: the loader takes what is built, the same clones give the same bytes."""

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digitry.errors import DataError, UnavailableError, UsageError
from digitry.training.data import handwriting, handwriting_sources, packs
from digitry.training.data.handwriting_sources import build, clone_of, commit_of
from digitry.training.data.packs import PACKS, SOURCES

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def clones(tmp_path: Path) -> Path:
    """Clones of two sources: BHMSDS with one digit and one symbol, and UNIPEN with one digit."""
    folder = tmp_path / "clones"
    symbols = folder / "bhmsds" / "symbols"
    symbols.mkdir(parents=True)
    picture = np.zeros((28, 28), np.uint8)
    picture[4:24, 13:15] = 255
    for name in ("1-0", "slash-0"):
        Image.fromarray(picture).save(symbols / f"{name}.png")
    unipen = folder / "train_r01_v07"
    for part in ("data/1a/abc", "include"):
        (unipen / part).mkdir(parents=True)
    (unipen / "data/1a/abc/ann.dat").write_text(
        '.PEN_DOWN\n10 40\n10 30\n10 20\n10 0\n.SEGMENT CHARACTER 0 OK "1"\n'
    )
    return folder


def test_the_loader_takes_what_is_built(clones: Path, tmp_path: Path) -> None:
    out = tmp_path / "data" / "handwriting"
    built = build(clones, out, only=["unipen_digits", "bhmsds_digits", "bhmsds_symbols"])
    assert [one.name for one in built] == ["unipen_digits", "bhmsds_digits", "bhmsds_symbols"]
    assert [one.samples for one in built] == [1, 1, 1]
    assert not any(one.published for one in built)
    digits = handwriting.load_digits("unipen_digits", tmp_path / "data")
    assert digits.labels.tolist() == [1] and digits.hands.tolist() == ["unipen/ann"]
    assert handwriting.load_digits("bhmsds_digits", tmp_path / "data").labels.tolist() == [1]
    assert handwriting.load_other("bhmsds_symbols", tmp_path / "data").labels.tolist() == ["/"]


def test_packs_json_says_where_each_pack_comes_from(clones: Path, tmp_path: Path) -> None:
    (one,) = build(clones, tmp_path / "out", only=["bhmsds_digits"])
    build(clones, tmp_path / "out", only=["bhmsds_symbols"])
    entries = json.loads((tmp_path / "out" / "packs.json").read_text())
    assert set(entries) == {"bhmsds_digits.npz", "bhmsds_symbols.npz"}
    assert entries["bhmsds_digits.npz"] == {
        "sha256": one.sha256,
        "samples": 1,
        "source": "wblachowski/bhmsds",
        "commit": None,
        "licence": "MIT",
    }
    assert hashlib.sha256(one.path.read_bytes()).hexdigest() == one.sha256


def test_a_pack_that_changes_after_it_was_built_is_refused(clones: Path, tmp_path: Path) -> None:
    (one,) = build(clones, tmp_path, only=["bhmsds_digits"])
    one.path.write_bytes(one.path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="sha256"):
        handwriting.load_digits("bhmsds_digits", tmp_path)


def test_the_same_clones_give_the_same_bytes(clones: Path, tmp_path: Path) -> None:
    names = ["unipen_digits", "bhmsds_digits"]
    first = build(clones, tmp_path / "a", only=names)
    second = build(clones, tmp_path / "b", only=names)
    assert [one.sha256 for one in first] == [one.sha256 for one in second]
    with zipfile.ZipFile(first[0].path) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_without_a_choice_the_clones_that_are_there_are_built(clones: Path, tmp_path: Path) -> None:
    (clones / "train_r01_v07").rename(tmp_path / "elsewhere")
    lines: list[str] = []
    built = build(clones, tmp_path / "out", progress=lines.append)
    assert [one.name for one in built] == ["bhmsds_digits", "bhmsds_symbols"]
    assert lines == [f"{one.name}, from {clones / 'bhmsds'}" for one in built]


def test_what_cannot_be_built_is_a_clear_error(clones: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nonsense is no pack; name unipen_digits"):
        build(clones, tmp_path, only=["nonsense"])
    with pytest.raises(UnavailableError, match="brendenlake/omniglot, which omniglot is made from"):
        build(clones, tmp_path, only=["omniglot"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnavailableError, match="no clone of any source"):
        build(tmp_path / "empty", tmp_path)
    (clones / "bhmsds" / "symbols" / "1-0.png").unlink()
    with pytest.raises(DataError, match="no sample of bhmsds_digits"):
        build(clones, tmp_path, only=["bhmsds_digits"])


def test_clones_go_by_the_names_that_people_give_them(tmp_path: Path) -> None:
    source = SOURCES["unipen"]
    assert clone_of(tmp_path, source) is None
    for name in ("GreenCappuccino/train_r01_v07", "train_r01_v07", "unipen"):
        (tmp_path / name).mkdir(parents=True)
        assert clone_of(tmp_path, source) == tmp_path / name


def test_the_commit_of_a_clone_is_told(clones: Path, tmp_path: Path) -> None:
    clone = clones / "bhmsds"
    assert commit_of(clone) is None
    git = clone / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text(f"{SHA}\n")
    assert commit_of(clone) == SHA
    (git / "HEAD").write_text("ref: refs/heads/master\n")
    assert commit_of(clone) is None
    (git / "packed-refs").write_text(f"# pack-refs\n{SHA} refs/heads/master\n")
    assert commit_of(clone) == SHA
    (git / "refs" / "heads" / "master").write_text(f"{'f' * 40}\n")
    assert commit_of(clone) == "f" * 40
    (git / "HEAD").write_text("ref: ../../../../etc/passwd\n")
    assert commit_of(clone) is None
    (git / "HEAD").write_text(f"{SOURCES['bhmsds'].commit}\n")
    (one,) = build(clones, tmp_path, only=["bhmsds_digits"])
    assert one.commit == SOURCES["bhmsds"].commit
    (git / "HEAD").write_text(f"{SHA}\n")
    (one,) = build(clones, tmp_path, only=["bhmsds_digits"])
    assert one.commit == SHA


@pytest.mark.data
@pytest.mark.parametrize("name", ["mfeat_pixel", "mnist_writers", "bhmsds_symbols"])
def test_equal_arrays_are_written_as_the_published_packs_are(
    name: str, test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = test_data / "handwriting"
    if not folder.is_dir():
        pytest.skip("the folder of real data has no handwriting")
    arrays = packs.read(name, folder)
    monkeypatch.setitem(handwriting_sources._BUILDERS, name, lambda clone: (arrays, 0))
    (tmp_path / PACKS[name].source.name).mkdir()
    (one,) = build(tmp_path, tmp_path, only=[name])
    # Compressed, they may differ: zlib has several makers. What is within may not.
    assert members(one.path) == members(folder / PACKS[name].file)


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}
