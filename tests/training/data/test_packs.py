"""A pack is read only if its bytes are known, and never as more than plain arrays of bounded size."""

import hashlib
import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digitry.errors import DataError, UnavailableError
from digitry.training.data import packs
from digitry.training.data.packs import PACKS, SOURCES

ROOT = Path(__file__).parents[3]

WritePack = Callable[..., Path]


def digits() -> dict[str, Any]:
    return {"images": np.zeros((2, 28, 28), np.uint8), "labels": np.array([3, 4], np.uint8)}


def note(path: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "packs.json").write_text(json.dumps({path.name: {"sha256": digest}}))


def test_a_built_pack_is_read(write_pack: WritePack) -> None:
    folder = write_pack("bhmsds_digits", **digits())
    assert packs.read("bhmsds_digits", folder)["labels"].tolist() == [3, 4]


def test_a_published_pack_needs_no_manifest(
    write_pack: WritePack, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_pack("bhmsds_digits", **digits())
    path = folder / "handwriting" / "bhmsds_digits.npz"
    (path.parent / "packs.json").unlink()
    known = PACKS["bhmsds_digits"]
    published = packs.Pack(
        known.name, known.kind, known.source, 2, hashlib.sha256(path.read_bytes()).hexdigest(), ""
    )
    monkeypatch.setitem(PACKS, known.name, published)
    assert len(packs.read("bhmsds_digits", folder)["labels"]) == 2


def test_other_bytes_are_refused_in_one_line(write_pack: WritePack) -> None:
    folder = write_pack("bhmsds_digits", **digits())
    path = folder / "handwriting" / "bhmsds_digits.npz"
    noted = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(DataError) as raised:
        packs.read("bhmsds_digits", folder)
    line = str(raised.value)
    assert "\n" not in line
    assert str(path) in line
    assert hashlib.sha256(path.read_bytes()).hexdigest() in line
    assert PACKS["bhmsds_digits"].sha256 in line and noted in line
    assert "build the packs anew" in line


def test_a_pack_that_nobody_noted_is_refused(write_pack: WritePack) -> None:
    folder = write_pack("bhmsds_digits", **digits())
    (folder / "handwriting" / "packs.json").write_text("{}")
    with pytest.raises(DataError, match=r"expected [0-9a-f]{64};"):
        packs.read("bhmsds_digits", folder)


def test_a_manifest_speaks_for_its_own_files_alone(write_pack: WritePack) -> None:
    folder = write_pack("bhmsds_digits", **digits())
    handwriting = folder / "handwriting"
    (handwriting / "bhmsds_digits.npz").rename(handwriting / "bhmsds_symbols.npz")
    with pytest.raises(DataError, match="sha256"):
        packs.read("bhmsds_symbols", folder)


@pytest.mark.parametrize("content", ["[", "[]", '{"a.npz": 1}', '{"a.npz": {}}', "\xff"])
def test_a_spoilt_manifest_is_refused(write_pack: WritePack, content: str) -> None:
    folder = write_pack("bhmsds_digits", **digits())
    (folder / "handwriting" / "packs.json").write_text(content, encoding="latin-1")
    path = folder / "handwriting" / "bhmsds_digits.npz"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(DataError, match=r"packs\.json"):
        packs.read("bhmsds_digits", folder)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (tmp_path.joinpath("sprung").touch, ())

    stream = io.BytesIO()
    np.savez_compressed(stream, labels=np.array([Trap(), None], object))
    path = tmp_path / "bhmsds_digits.npz"
    path.write_bytes(stream.getvalue())
    note(path)
    with pytest.raises(DataError, match="object"):
        packs.read("bhmsds_digits", tmp_path)
    assert not (tmp_path / "sprung").exists()
    assert pickle.dumps(0)  # the trap itself would work


def npy(shape: str, descr: str = "|u1", body: bytes = b"\0") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


@pytest.mark.parametrize(
    "content",
    [
        npy("(9000000000000,)"),
        npy("(2,)"),
        npy("(1,)", body=b"\0\0"),
        npy("(1,)", descr="|V1"),
        npy("(-1,)"),
        b"\x93NUMPY\x02\x00",
        b"",
        b"no array",
    ],
)
def test_an_array_that_lies_about_itself_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bhmsds_digits.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("labels.npy", content)
    note(path)
    with pytest.raises(DataError, match=r"no readable \.npz"):
        packs.read("bhmsds_digits", tmp_path)


def test_an_archive_that_grows_without_bound_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "MAX_BYTES", 1000)
    path = tmp_path / "bhmsds_digits.npz"
    np.savez_compressed(path, labels=np.zeros(2000, np.uint8))
    note(path)
    with pytest.raises(DataError, match="1,000 are the limit"):
        packs.read("bhmsds_digits", tmp_path)


def test_a_file_that_is_too_large_is_not_read_whole(
    write_pack: WritePack, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_pack("bhmsds_digits", **digits())
    monkeypatch.setattr(packs, "MAX_FILE", 100)
    with pytest.raises(DataError, match="larger than"):
        packs.read("bhmsds_digits", folder)


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bhmsds_digits.npz"
    path.write_bytes(b"PK but no zip")
    note(path)
    with pytest.raises(DataError, match=r"no readable \.npz"):
        packs.read("bhmsds_digits", tmp_path)


def test_packs_are_found_where_mnist_would_be(
    write_pack: WritePack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = write_pack("bhmsds_digits", **digits())
    inner = folder / "handwriting"
    assert packs.folder(folder) == packs.folder(inner) == inner
    monkeypatch.setenv("DIGITRY_DATA", str(folder))
    assert packs.folder() == inner
    assert packs.home() == inner
    assert packs.home(tmp_path / "other") == tmp_path / "other" / "handwriting"
    monkeypatch.delenv("DIGITRY_DATA")
    cache = packs.home()
    cache.parent.mkdir(parents=True)
    inner.rename(cache)
    assert packs.folder() == packs.folder(tmp_path) == cache


def test_no_packs_is_a_clear_error(tmp_path: Path, write_pack: WritePack) -> None:
    for place in (None, tmp_path):
        with pytest.raises(UnavailableError, match=r"no handwriting data.*DIGITRY_DATA"):
            packs.read("bhmsds_digits", place)
    folder = write_pack("bhmsds_digits", **digits())
    with pytest.raises(UnavailableError, match=r"mfeat_pixel\.npz: is not there"):
        packs.read("mfeat_pixel", folder)


def test_the_table_names_source_licence_and_commit_of_each_pack() -> None:
    assert len(PACKS) == 13
    assert len({pack.sha256 for pack in PACKS.values()}) == 13
    for pack in PACKS.values():
        assert re.fullmatch("[0-9a-f]{64}", pack.sha256)
        assert pack.count > 0
    for source in SOURCES.values():
        assert source.commit is None or re.fullmatch("[0-9a-f]{40}", source.commit)
        assert source.licence in ("CC-BY-4.0", "MIT", "BSD-3-Clause")
        assert all((source.title, source.authors, source.licence_url, source.url, source.changes))
        assert any(pack.source is source for pack in PACKS.values())


@pytest.mark.data
@pytest.mark.parametrize("name", list(PACKS))
def test_a_real_pack_is_the_published_one_and_has_its_form(
    name: str, test_data: Path, check_form: Callable[..., None]
) -> None:
    if not (test_data / "handwriting").is_dir():
        pytest.skip("the folder of real data has no handwriting")
    arrays = packs.read(name, test_data)
    check_form(name, arrays)
    labels = next(arrays[key] for key in ("labels", "line_text", "writers") if key in arrays)
    assert len(labels) == PACKS[name].count


def test_the_notice_names_each_source() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for source in SOURCES.values():
        assert f"https://github.com/{source.repository}" in notice
        assert source.title.partition(" (")[0].partition(",")[0] in notice


def test_a_user_without_a_home_names_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(packs, "cache_dir", lambda: None)
    for place in (packs.folder, packs.home):
        with pytest.raises(UnavailableError, match=r"no home.*--data-dir"):
            place()
    assert packs.home(tmp_path) == tmp_path / "handwriting"
