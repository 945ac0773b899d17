"""Archives are read in order and never trusted: errors are reported, and nothing is written."""

import bz2
import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitry.bulk import archives
from digitry.bulk.archives import Member

T = TypeVar("T")
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


def with_peak(act: Callable[[], T]) -> tuple[T, int]:
    """Return the result of `act`, and its peak memory in bytes."""
    tracemalloc.start()
    try:
        return act(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


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
def test_images_are_read_from_tars_of_every_format(
    members: list[tuple[str, bytes]], format: int
) -> None:
    if members is LONG and format == tarfile.USTAR_FORMAT:
        members = [("d" * 90 + "/" + name[-30:], content) for name, content in LONG]
    found = in_tar(tar(*members, format=format))
    assert [(member.name, member.content) for member in found] == members


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_images_are_read_from_zips(method: int) -> None:
    found = in_zip(packed(*IMAGES, ("read.me", b"no image"), method=method))
    assert [(member.name, member.content) for member in found] == IMAGES


def test_reading_can_start_at_any_member() -> None:
    for content, members in ((tar(*LONG, *IMAGES), in_tar), (packed(*LONG, *IMAGES), in_zip)):
        whole = members(content)
        for index, member in enumerate(whole):
            stream = io.BytesIO(content)
            read = archives.tar_members if members is in_tar else archives.zip_members
            assert list(read(stream, member.offset)) == whole[index:]


def test_other_files_are_skipped() -> None:
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
    "sparse": (link(b"S"), "type"),
    "cut in a header": (tar(("a.png", PNG))[:300], "truncated"),
    "cut in a member": (tar(("a.png", PNG * 90))[:600], "truncated"),
    "wrong sum": (b"\1" + tar(("a.png", PNG))[1:], "checksum"),
    "no tar": (b"hello" * 200, "damaged"),
}


@pytest.mark.parametrize("name", HOSTILE_TARS)
def test_hostile_tars_are_reported(name: str) -> None:
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
def test_wrong_sizes_cost_no_memory(size: bytes) -> None:
    assert all(member.error for member in in_tar(resized(size)))


@pytest.mark.parametrize("payload", [b"1" * 65_000, b"2 " * 32_000 + b"="], ids=["digits", "keys"])
def test_hostile_extended_headers_cost_no_memory_or_time(payload: bytes) -> None:
    # TarFile takes seconds for the first and a gigabyte for the second, in CPython 3.11.7.
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(payload)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        made.addfile(header, io.BytesIO(payload))
        made.addfile(tarfile.TarInfo("a.png"))
    members, peak = with_peak(lambda: in_tar(stream.getvalue()))
    assert "extended header" in (members[0].error or "")
    assert peak < 1 << 20


def test_a_damaged_header_is_reported_at_its_offset() -> None:
    content = bytearray(tar(*IMAGES))
    content[3 * 1024] ^= 1
    found = in_tar(bytes(content))
    assert [(member.name, member.content) for member in found[:-1]] == IMAGES[:3]
    assert found[-1].offset == 3 * 1024
    assert "damaged" in (found[-1].error or "")


@pytest.mark.parametrize("packing", ["gz", "bz2"])
def test_a_truncated_compressed_tar_gives_its_first_members(packing: str) -> None:
    random = np.random.default_rng(0)
    members = [(f"{index}.png", random.bytes(300_000)) for index in range(4)]
    whole = (gzip if packing == "gz" else bz2).compress(tar(*members))
    found = list(archives.tar_members(io.BytesIO(whole), packing=packing))
    assert [(member.name, member.content) for member in found] == members
    found = list(archives.tar_members(io.BytesIO(whole[: len(whole) // 2]), packing=packing))
    assert [(member.name, member.content) for member in found[:-1]] == members[: len(found) - 1]
    assert found[-1].error


def test_global_and_sparse_pax_headers_change_no_other_member() -> None:
    stream = io.BytesIO()
    with tarfile.open(
        fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "z.png"}
    ) as made:
        for name, facts in (("a.png", {}), ("b.png", {"GNU.sparse.major": "1"}), ("c.png", {})):
            header = tarfile.TarInfo(name)
            header.pax_headers = facts
            made.addfile(header)
    found = in_tar(stream.getvalue())
    assert [member.name for member in found] == ["a.png", "b.png", "c.png"]
    assert [member.error for member in found] == [None, "is a member of an unsupported type", None]


@pytest.mark.parametrize("form", [tar, packed])
def test_the_memory_does_not_grow_with_the_members(form: Callable[..., bytes]) -> None:
    content = form(*[(f"{index}.png", b"x") for index in range(1_000)])
    stream = io.BytesIO(content)

    def walk() -> int:
        if form is tar:
            return sum(1 for _ in archives.tar_members(stream))
        start, refused = archives.zip_start(stream)
        assert refused is None
        return sum(1 for _ in archives.zip_members(stream, start))

    found, peak = with_peak(walk)
    assert found == 1_000
    assert peak < 300_000


def test_an_endless_chain_of_extended_headers_ends() -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = b"x", 0
    assert "too many extended headers" in (in_tar(tar_of(header)[:512] * 40)[0].error or "")


def test_a_bomb_is_stopped_by_its_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "RATIO_FROM", 1 << 20)
    content = gzip.compress(tar(*[(f"{index}.png", bytes(1 << 20)) for index in range(8)]))
    found = list(archives.tar_members(io.BytesIO(content), packing="gz"))
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


def directory_of(content: bytes | bytearray) -> int:
    return content.index(b"PK\1\2")


def elsewhere(content: bytearray) -> None:
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
    "two names": (edited(lambda c: c.__setitem__(30, ord("z"))), "name"),
    "the place of another": (edited(elsewhere), "name"),
    "no local header": (edited(lambda c: c.__setitem__(0, 0)), "header"),
    "wrong count": (edited(end_lie(10, "<H", 60000)), "split"),
    "both counts wrong": (
        edited(lambda c: (end_lie(8, "<H", 60000)(c), end_lie(10, "<H", 60000)(c))),  # type: ignore[arg-type]
        "truncated",
    ),
    "directory elsewhere": (edited(end_lie(16, "<I", 5)), "directory"),
    "directory beyond": (edited(end_lie(16, "<I", 1 << 30)), "directory"),
    "zip64 without its record": (edited(end_lie(16, "<I", 0xFFFFFFFF)), "not found"),
    "one of several disks": (edited(end_lie(4, "<H", 3)), "split"),
    "cut": (packed(*IMAGES)[:-30], "truncated"),
    "no zip": (b"hello" * 100, "truncated"),
    "empty": (b"", "truncated"),
}


@pytest.mark.parametrize("name", HOSTILE_ZIPS)
def test_hostile_zips_are_reported(name: str) -> None:
    content, reason = HOSTILE_ZIPS[name]
    errors = [member.error for member in in_zip(content) if member.error]
    assert errors
    assert reason in errors[0]


def test_a_zip_bomb_costs_no_memory() -> None:
    # 512 MiB of zeros in half a megabyte, recognised by its directory alone.
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made, made.open("a.png", "w") as out:
        for _ in range(512):
            out.write(bytes(1 << 20))
    assert "larger" in (in_zip(stream.getvalue())[0].error or "")


def test_a_member_larger_than_its_stated_size_costs_no_memory() -> None:
    content = bytearray(packed(("a.png", bytes(64 << 20))))
    struct.pack_into("<I", content, directory_of(content) + 24, 1000)
    members, peak = with_peak(lambda: in_zip(bytes(content)))
    assert "sum" in (members[0].error or "")
    assert peak < 4 << 20


def test_members_that_share_their_bytes_are_refused() -> None:
    # Fifty entries for one member: each is valid, but together they decompress it fifty times.
    content = packed(("a.png", PNG * 5000))
    begin, end = directory_of(content), content.rindex(b"PK\5\6")
    directory = content[begin:end] * 50
    last = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 50, 50, len(directory), begin, 0)
    assert "overlap" in (in_zip(content[:begin] + directory + last)[0].error or "")


def test_zips_written_to_a_pipe_and_zips_of_more_than_65535_members_are_read(
    tmp_path: Path,
) -> None:
    class Pipe(io.RawIOBase):
        """A stream without seek and tell: the sizes follow the members."""

        def __init__(self) -> None:
            self.content = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, content: Any) -> int:
            self.content += content
            return len(content)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in IMAGES:
            made.writestr(name, content)
    assert [(member.name, member.content) for member in in_zip(bytes(pipe.content))] == IMAGES

    many = packed(*IMAGES)
    begin, end = directory_of(many), many.rindex(b"PK\5\6")
    most = 0xFFFFFFFF
    many = many[:end] + b"".join(
        (
            struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 5, 5, end - begin, begin),
            struct.pack("<4sIQI", b"PK\6\7", 0, end, 1),
            struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, most, most, 0),
        )
    )
    assert [(member.name, member.content) for member in in_zip(many)] == IMAGES


def test_an_invalid_entry_is_reported_and_the_others_are_read() -> None:
    content = bytearray(packed(*IMAGES))
    struct.pack_into("<H", content, directory_of(content) + 6, 99)  # the version that it needs
    found = in_zip(bytes(content))
    assert found[0].name == IMAGES[0][0]
    assert found[0].error
    assert [(member.name, member.content) for member in found[1:]] == IMAGES[1:]


def test_too_many_members_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    assert "more than" in (in_tar(tar(*IMAGES))[-1].error or "")
    assert "more than" in (in_zip(packed(*IMAGES))[-1].error or "")


def test_nothing_is_written_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for content, _ in [*HOSTILE_TARS.values(), *HOSTILE_ZIPS.values()]:
        in_tar(content)
        in_zip(content)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_archives_give_members_or_errors(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from([tar(*LONG, *IMAGES), packed(*LONG, *IMAGES)])))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    for members in (in_tar, in_zip):
        check_members(bytes(content), members)


def test_truncated_archives_give_members_or_errors() -> None:
    for content, members in ((tar(*IMAGES), in_tar), (packed(*IMAGES), in_zip)):
        for length in range(0, len(content), 37):
            check_members(content[:length], members)


def check_members(content: bytes, members: Callable[[bytes], list[Member]]) -> None:
    """Check that each member is content or an error, and that every way of reading gives the same."""
    whole = members(content)
    assert all((member.content is None) == (member.error is not None) for member in whole)
    stream = io.BytesIO(content)
    read: Callable[..., Iterator[Member]] = archives.tar_members
    start = 0
    if members is in_zip:
        read = archives.zip_members
        start, refused = archives.zip_start(stream)
        if refused is not None:
            return
    planned = [member.offset for member in read(stream, start, contents=False)]
    assert planned == [member.offset for member in whole]
    for index, offset in enumerate(planned):
        assert list(read(stream, offset)) == whole[index:]
