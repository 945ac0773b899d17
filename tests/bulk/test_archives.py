"""Archives are read in order and never trusted: what is odd is told, and nothing is written."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitry.bulk import archives
from digitry.bulk.archives import Member, Unpacked

PNG = b"\x89PNG not really"


def tar(*members: tuple[str, bytes], **options: object) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(
        fileobj=stream, mode="w", format=options.get("format", tarfile.GNU_FORMAT)
    ) as made:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            made.addfile(header, io.BytesIO(content))
    return stream.getvalue()


def tar_of(header: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        made.addfile(header)
    return stream.getvalue()


def packed(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as made:
        for name, content in members:
            made.writestr(name, content)
    return stream.getvalue()


def in_tar(content: bytes) -> list[Member]:
    return list(archives.tar_members(io.BytesIO(content)))


def in_zip(content: bytes) -> list[Member]:
    stream = io.BytesIO(content)
    start, refused = archives.zip_start(stream)
    if refused is not None:
        return [Member("", start, error=refused)]
    return list(archives.zip_members(stream, start))


IMAGES = [(f"folder/{index}.png", PNG * (index + 1)) for index in range(5)]
LONG = [("deep/" * 60 + f"{index}.png", PNG) for index in range(3)]


@pytest.mark.parametrize("members", [IMAGES, LONG], ids=["short", "long names"])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_every_format_give_their_images(
    members: list[tuple[str, bytes]], format: int
) -> None:
    if members is LONG and format == tarfile.USTAR_FORMAT:
        members = [("d" * 90 + "/" + name[-30:], content) for name, content in LONG]
    found = in_tar(tar(*members, format=format))
    assert [(member.name, member.content) for member in found] == members


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zips_give_their_images(method: int) -> None:
    found = in_zip(packed(*IMAGES, ("read.me", b"no image"), method=method))
    assert [(member.name, member.content) for member in found] == IMAGES


def test_reading_may_begin_at_any_member() -> None:
    for content, members in ((tar(*LONG, *IMAGES), in_tar), (packed(*LONG, *IMAGES), in_zip)):
        whole = members(content)
        for index, member in enumerate(whole):
            stream = io.BytesIO(content)
            read = archives.tar_members if members is in_tar else archives.zip_members
            assert list(read(stream, member.offset)) == whole[index:]


def test_what_is_no_image_is_passed_over() -> None:
    assert in_tar(tar(("a.txt", b"x"), ("__MACOSX/._a.png", b"x"), ("b.cls", b"7"))) == []


def link(kind: bytes) -> bytes:
    header = tarfile.TarInfo("a.png")
    header.type, header.linkname = kind, "/etc/passwd"
    return tar_of(header)


HOSTILE_TARS: dict[str, tuple[bytes, str]] = {
    "traversal": (tar(("../a.png", PNG)), "leads out"),
    "inner traversal": (tar(("x/../../a.png", PNG)), "leads out"),
    "absolute": (tar(("/a.png", PNG)), "leads out"),
    "windows": (tar(("C:\\a.png", PNG)), "leads out"),
    "backslashes": (tar(("..\\a.png", PNG)), "leads out"),
    "traversal of another kind of file": (tar(("../../.bashrc", PNG)), "leads out"),
    "symbolic link": (link(tarfile.SYMTYPE), "link"),
    "hard link": (link(tarfile.LNKTYPE), "link"),
    "character device": (link(tarfile.CHRTYPE), "device"),
    "block device": (link(tarfile.BLKTYPE), "device"),
    "pipe": (link(tarfile.FIFOTYPE), "device"),
    "sparse": (link(b"S"), "kind"),
    "cut in a header": (tar(("a.png", PNG))[:300], "cut"),
    "cut in a member": (tar(("a.png", PNG * 90))[:600], "cut"),
    "wrong sum": (b"\1" + tar(("a.png", PNG))[1:], "sum"),
    "no tar": (b"hello" * 200, "damaged"),
}


@pytest.mark.parametrize("name", HOSTILE_TARS)
def test_hostile_tars_are_told(name: str) -> None:
    content, reason = HOSTILE_TARS[name]
    found = in_tar(content)
    assert len(found) == 1
    assert found[0].content is None
    assert reason in (found[0].error or "")


def resized(size: bytes) -> bytes:
    header = bytearray(tar(("a.png", PNG)))
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header)


@pytest.mark.parametrize(
    "size",
    [b"77777777777\0", b"\x80" + b"\0" * 3 + b"\xff" * 8, b"\xff" * 12, b"0x10\0\0\0\0\0\0\0\0"],
    ids=["8 GiB", "huge", "negative", "no number"],
)
def test_lies_about_sizes_cost_nothing(size: bytes) -> None:
    assert all(member.error for member in in_tar(resized(size)))


def test_an_endless_chain_of_extended_headers_ends() -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = b"x", 0
    assert "absurd" in (in_tar(tar_of(header)[:512] * 40)[0].error or "")


def test_a_bomb_is_stopped_by_its_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "RATIO_FROM", 1 << 20)
    content = gzip.compress(tar(*[(f"{index}.png", bytes(1 << 20)) for index in range(8)]))
    found = list(archives.tar_members(Unpacked(io.BytesIO(content), "gz")))  # type: ignore[arg-type]
    assert "100 times" in (found[-1].error or "")
    assert len(found) < 8


def zip_link() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        info = zipfile.ZipInfo("a.png")
        info.external_attr = 0o120777 << 16
        made.writestr(info, "/etc/passwd")
    return stream.getvalue()


def edited(change: Callable[[bytearray], None]) -> bytes:
    content = bytearray(packed(("a.png", PNG * 50), ("b.png", PNG * 50)))
    change(content)
    return bytes(content)


def directory_of(content: bytes) -> int:
    return content.index(b"PK\1\2")


def overlap(content: bytearray) -> None:
    second = content.index(b"PK\1\2", directory_of(content) + 4)
    struct.pack_into("<I", content, second + 42, 0)


def lie(place: int, kind: str, value: int) -> Callable[[bytearray], None]:
    return lambda content: struct.pack_into(kind, content, directory_of(content) + place, value)


def end_lie(place: int, kind: str, value: int) -> Callable[[bytearray], None]:
    return lambda content: struct.pack_into(kind, content, content.rindex(b"PK\5\6") + place, value)


HOSTILE_ZIPS: dict[str, tuple[bytes, str]] = {
    "traversal": (packed(("../a.png", PNG)), "leads out"),
    "absolute": (packed(("/a.png", PNG)), "leads out"),
    "link": (zip_link(), "link"),
    "encrypted": (edited(lie(8, "<H", 1)), "encrypted"),
    "odd method": (edited(lie(10, "<H", 99)), "method"),
    "wrong sum": (edited(lie(16, "<I", 1)), "sum"),
    "size too small": (edited(lie(24, "<I", 3)), "sum"),
    "size too large": (edited(lie(24, "<I", 3 << 30)), "larger"),
    "packed size too large": (edited(lie(20, "<I", 1 << 20)), "overlap"),
    "two names": (edited(lambda c: c.__setitem__(30, ord("z"))), "two names"),
    "overlap": (edited(overlap), "overlap"),
    "no local header": (edited(lambda c: c.__setitem__(0, 0)), "header"),
    "absurd count": (edited(end_lie(10, "<H", 60000)), "several"),
    "both counts absurd": (
        edited(lambda c: (end_lie(8, "<H", 60000)(c), end_lie(10, "<H", 60000)(c))),  # type: ignore[func-returns-value]
        "cut",
    ),
    "directory elsewhere": (edited(end_lie(16, "<I", 5)), "directory"),
    "directory beyond": (edited(end_lie(16, "<I", 1 << 30)), "directory"),
    "zip64 without its record": (edited(end_lie(16, "<I", 0xFFFFFFFF)), "nowhere"),
    "one of several disks": (edited(end_lie(4, "<H", 3)), "several"),
    "cut": (packed(*IMAGES)[:-30], "cut"),
    "no zip": (b"hello" * 100, "cut"),
    "empty": (b"", "cut"),
}


@pytest.mark.parametrize("name", HOSTILE_ZIPS)
def test_hostile_zips_are_told(name: str) -> None:
    content, reason = HOSTILE_ZIPS[name]
    errors = [member.error for member in in_zip(content) if member.error]
    assert errors
    assert reason in errors[0]


def test_a_zip_bomb_costs_no_memory() -> None:
    # 512 MiB of zeros in half a megabyte: told by its directory alone.
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made, made.open("a.png", "w") as out:
        for _ in range(512):
            out.write(bytes(1 << 20))
    assert "larger" in (in_zip(stream.getvalue())[0].error or "")


def test_more_members_than_anyone_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    assert "more than" in (in_tar(tar(*IMAGES))[-1].error or "")
    assert "more than" in (in_zip(packed(*IMAGES))[-1].error or "")


def test_nothing_is_ever_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for content, _ in [*HOSTILE_TARS.values(), *HOSTILE_ZIPS.values()]:
        in_tar(content)
        in_zip(content)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_archives_give_members_or_reasons(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from([tar(*LONG, *IMAGES), packed(*LONG, *IMAGES)])))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    for member in [*in_tar(bytes(content)), *in_zip(bytes(content))]:
        assert (member.content is None) == (member.error is not None)
