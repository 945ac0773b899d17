"""The input as a stream of shards, and a shard as a stream of images.

The whole input is never listed in memory; of a folder, one directory at a time is.
"""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from digitry import files
from digitry.bulk import archives, tables
from digitry.bulk.archives import MAX_MEMBER_BYTES, Member
from digitry.bulk.entry import Entry, Shard, inline, kind_of, line_of, printable, refused
from digitry.bulk.sources import (
    CONTAINERS,
    PACKED_TAR,
    TABLE,
    ZIP,
    expanded,
    fetched,
    is_url,
    opened,
)
from digitry.errors import UsageError
from digitry.reading.endings import SUFFIXES

INLINE_BYTES = 32 << 20
"""Size of a shard of a compressed tar. It holds the images themselves, because reading cannot start in
the middle of compressed data."""
FETCHED = 64
"""Objects that are fetched from an object store at once."""


def check(inputs: Sequence[str]) -> None:
    """Check that each input exists and holds at least one image, archive or table.

    Raises:
        UsageError: an input does not exist or holds none.
        UnavailableError: a package is missing that this kind of input needs.
    """
    for given in inputs:
        if next(expanded(given), None) is None:
            raise UsageError(
                "holds no image, archive or table",
                where=given,
                remedy=f"name one with files of {' '.join(sorted([*SUFFIXES, *CONTAINERS]))}",
            )


def plan(
    inputs: Sequence[str],
    rows: int,
    column: str | None = None,
    skipped: Counter[str] | None = None,
) -> Iterator[Shard]:
    """Yield the shards of the input, in an order that depends only on the input.

    Args:
        inputs: files, folders, globs, archives (.tar, .tar.gz, .tar.bz2, .zip), tables (.parquet),
            lists of paths (.txt), or URLs of them.
        rows: images in one shard, at most.
        column: column of tables with the images; None = found by its name and type.
        skipped: counts the files in folders and archives that are not read, by ending.

    Raises:
        UsageError: an input does not exist.
        UnavailableError: a package is missing that this kind of input needs.
    """
    numbers = iter(range(1 << 62))
    for index, given in enumerate(inputs):
        loose: list[str] = []
        for path in expanded(given, skipped):
            if not path.lower().endswith(CONTAINERS):
                loose.append(path)
                if len(loose) == rows:
                    yield Shard(next(numbers), "files", "", 0, len(loose), tuple(loose))
                    loose = []
                continue
            if loose:
                yield Shard(next(numbers), "files", "", 0, len(loose), tuple(loose))
                loose = []
            single = path == given
            for shard in _contained(path, rows, column, numbers, skipped):
                share = None if shard.done is None else (index + shard.done) / len(inputs)
                yield replace(shard, done=share) if single else shard
        if loose:
            yield Shard(
                next(numbers),
                "files",
                "",
                0,
                len(loose),
                tuple(loose),
                done=(index + 1) / len(inputs),
            )


def entries(shard: Shard) -> Iterator[Entry]:
    """Yield the images of a shard, exactly `shard.count`, with errors in their places."""
    if shard.kind == "inline":
        yield from shard.entries
    elif shard.kind == "files":
        yield from _files(shard.names)
    elif shard.kind == "table":
        yield from tables.rows_of(shard)
    else:
        members = archives.tar_members if shard.kind == "tar" else archives.zip_members
        found = 0
        try:
            with opened(shard.container) as stream:
                for member in islice(members(stream, shard.start), shard.count):
                    found += 1
                    yield _entry(shard.container, member)
        except OSError as error:
            yield Entry(printable(shard.container), shard.start, error=line_of(error))
            found += 1
        for _ in range(found, shard.count):
            # The archive is shorter than when it was planned; the number of rows stays the same.
            yield Entry(
                printable(shard.container), shard.start, error="was changed while it was read"
            )


def _files(names: Sequence[str]) -> Iterator[Entry]:
    remote = [name for name in names if is_url(name)]
    contents: dict[str, bytes | str] = {}
    for name in names:
        if not is_url(name):
            yield _file(name)
            continue
        if name not in contents:
            at = remote.index(name)
            contents = fetched(remote[at : at + FETCHED])
        content = contents[name]
        if isinstance(content, bytes):
            yield _limited(name, content)
        else:
            yield Entry(printable(name), error=content)


def _file(name: str) -> Entry:
    try:
        if not stat.S_ISREG(Path(name).stat().st_mode):
            return Entry(printable(name), error="is not a regular file")
        return _limited(name, files.read_bytes(Path(name), MAX_MEMBER_BYTES))
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else "not a valid path"
        return Entry(printable(name), error=f"cannot be opened ({what})")


def _limited(name: str, content: bytes) -> Entry:
    if len(content) > MAX_MEMBER_BYTES:
        return Entry(printable(name), error=f"is larger than {MAX_MEMBER_BYTES >> 20} MiB")
    return Entry(printable(name), content=content)


def _contained(
    path: str,
    rows: int,
    column: str | None,
    numbers: Iterator[int],
    skipped: Counter[str] | None,
) -> Iterator[Shard]:
    lower = path.lower()
    try:
        if lower.endswith(TABLE):
            yield from tables.shards(path, rows, column, numbers)
        elif lower.endswith(tuple(PACKED_TAR)):
            method = next(PACKED_TAR[ending] for ending in PACKED_TAR if lower.endswith(ending))
            yield from _inline_shards(path, method, rows, numbers, skipped)
        else:
            yield from _archive_shards(path, rows, numbers, skipped)
    except OSError as error:
        yield refused(path, 0, f"cannot be opened ({error.strerror or kind_of(error)})", numbers)


def _archive_shards(
    path: str, rows: int, numbers: Iterator[int], skipped: Counter[str] | None
) -> Iterator[Shard]:
    with opened(path) as stream:
        length = max(stream.seek(0, os.SEEK_END), 1)
        begin, kind = 0, "tar"
        members: Callable[..., Iterator[Member]] = archives.tar_members
        if path.lower().endswith(ZIP):
            begin, reason = archives.zip_start(stream)
            kind, members = "zip", archives.zip_members
            if reason is not None:
                yield refused(path, begin, reason, numbers)
                return
        found = members(stream, begin, contents=False, skipped=skipped)
        while group := [member.offset for member in islice(found, rows)]:
            done = (group[-1] - begin) / max(length - begin, 1)
            yield Shard(next(numbers), kind, path, group[0], len(group), done=done)


def _inline_shards(
    path: str, method: str, rows: int, numbers: Iterator[int], skipped: Counter[str] | None
) -> Iterator[Shard]:
    group: list[Entry] = []
    size = 0
    with opened(path) as raw:
        length = max(raw.seek(0, os.SEEK_END), 1)
        for member in archives.tar_members(raw, packing=method, skipped=skipped):
            group.append(_entry(path, member))
            size += member.size
            if len(group) == rows or size >= INLINE_BYTES:
                yield inline(path, group, raw.tell() / length, numbers)
                group, size = [], 0
    if group:
        yield inline(path, group, 1.0, numbers)


def _entry(container: str, member: Member) -> Entry:
    path = printable(container)
    name = f"{path}::{member.name}" if member.name else path
    return Entry(name, member.offset, member.content, member.error)
