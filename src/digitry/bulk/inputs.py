"""The input as a stream of shards: files, folders, archives, tables, lists, object stores.

A shard is a run of images: a start and a count within one container, or the names of some files. It is
small, can be read on any machine, and depends only on the input, not on the engine or the number of
workers. The whole input is never listed in memory; of a folder, one directory at a time is.
"""

import fnmatch
import glob
import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from digitry import files
from digitry.bulk import archives
from digitry.bulk.archives import MAX_MEMBER_BYTES, Member
from digitry.errors import DigitryError, UnavailableError, UsageError
from digitry.reading.endings import SUFFIXES, ending_of, is_image

TAR, ZIP, TABLE, LIST = (".tar",), (".zip",), (".parquet",), (".txt", ".lst")
PACKED_TAR = {".tar.gz": "gz", ".tgz": "gz", ".tar.bz2": "bz2", ".tbz2": "bz2"}
CONTAINERS = (*TAR, *ZIP, *TABLE, *PACKED_TAR)

INLINE_BYTES = 32 << 20
"""Size of a shard of a compressed tar. It holds the images themselves, because reading cannot start in
the middle of compressed data."""
FETCHED = 64
"""Objects that are fetched from an object store at once."""
IMAGE_COLUMNS = ("image", "img", "bytes", "content", "image_bytes", "data", "png", "jpeg", "jpg")


@dataclass(frozen=True, slots=True)
class Entry:
    """One image to be read, or an error in its place.

    Attributes:
        name: the source in its row: a path, `archive::member`, or `table::row`.
        offset: offset of the member's header in the archive, in bytes, or the row; None for a file.
        content: the bytes of an image file, or None.
        error: why there is no content, or None.
    """

    name: str
    offset: int | None = None
    content: bytes | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Shard:
    """A run of images that one worker reads and one file of rows holds.

    Attributes:
        number: its index among all shards, from 0.
        kind: `files`, `tar`, `zip`, `table` or `inline`.
        container: path or URL of the archive or table; empty for files.
        start: position of the first entry: offset in bytes, or the row.
        count: number of entries.
        names: paths or URLs, for `files`.
        entries: the images themselves, for `inline`.
        column: the column with the images, for `table`.
        done: share of the input up to the end of this shard, in [0, 1]; None if not known.
    """

    number: int
    kind: str
    container: str
    start: int
    count: int
    names: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    column: str = ""
    done: float | None = None

    @property
    def digest(self) -> str:
        """The sha256 of everything that decides what this shard reads."""
        facts = asdict(self)
        del facts["done"]
        for entry in facts["entries"]:
            entry["content"] = hashlib.sha256(entry["content"] or b"").hexdigest()
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def check(inputs: Sequence[str]) -> None:
    """Check that each input exists and holds at least one image, archive or table.

    Raises:
        UsageError: an input does not exist or holds none.
        UnavailableError: a package is missing that this kind of input needs.
    """
    for given in inputs:
        if next(_expanded(given), None) is None:
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
        for path in _expanded(given, skipped):
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
                yield shard if not single else _at(shard, share)
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
        yield from _table_rows(shard)
    else:
        members = archives.tar_members if shard.kind == "tar" else archives.zip_members
        found = 0
        try:
            with _opened(shard.container) as stream:
                for member in islice(members(stream, shard.start), shard.count):
                    found += 1
                    yield _entry(shard.container, member)
        except OSError as error:
            yield Entry(printable(shard.container), shard.start, error=_line(error))
            found += 1
        for _ in range(found, shard.count):
            # The archive is shorter than when it was planned; the number of rows stays the same.
            yield Entry(
                printable(shard.container), shard.start, error="was changed while it was read"
            )


def printable(path: str) -> str:
    """Return a path as valid Unicode text; bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


# --- from arguments to paths -----------------------------------------------------------------------


def _expanded(given: str, skipped: Counter[str] | None = None) -> Iterator[str]:
    """Yield every file, archive and table that one argument names; count the others in `skipped`."""
    if is_url(given):
        yield from _expanded_url(given, skipped)
        return
    if Path(given).is_dir():
        yield from _walked(given, skipped)
    elif glob.has_magic(given) and not Path(given).exists():
        found = False
        for path in _globbed(given):
            found = True
            yield path
        if not found:
            raise UsageError("no file matches", where=given, remedy="check the pattern")
    elif given.lower().endswith(LIST) and Path(given).is_file():
        yield from _listed(given)
    elif not Path(given).exists():
        raise UsageError("does not exist", where=given, remedy="check the path")
    else:
        yield given


def _walked(folder: str, skipped: Counter[str] | None) -> Iterator[str]:
    """Yield the images, archives and tables below a folder; links to folders are not followed."""
    below: list[str] = []
    names: list[str] = []
    with os.scandir(folder) as found:
        for item in found:
            if item.is_dir(follow_symlinks=False):
                below.append(item.path)
            elif item.is_file() and _is_wanted(item.name, skipped):
                names.append(item.path)
    yield from sorted(names)
    for inner in sorted(below):
        yield from _walked(inner, skipped)


def _globbed(pattern: str) -> Iterator[str]:
    # A simple pattern lists one directory; `glob` must collect all matches to sort them.
    root = pattern
    while glob.has_magic(root):
        root = str(Path(root).parent)
    if "**" not in pattern and Path(pattern).parent == Path(root):
        with os.scandir(root) as found:
            names = [
                str(Path(root) / item.name)
                for item in found
                if fnmatch.fnmatchcase(item.name, Path(pattern).name) and item.is_file()
            ]
        yield from sorted(names)
        return
    yield from (
        path
        for path in sorted(glob.iglob(pattern, recursive=True))  # noqa: PTH207 (absolute patterns)
        if Path(path).is_file()
    )


def _listed(path: str) -> Iterator[str]:
    with Path(path).open(encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            name = line.rstrip("\r\n")
            if name.strip():
                yield name


def _is_wanted(name: str, skipped: Counter[str] | None) -> bool:
    """Return whether a file of a folder is read; if not, count it."""
    if is_image(name) or (name.lower().endswith(CONTAINERS) and not name.startswith("._")):
        return True
    ending = ending_of(name)
    if skipped is not None and ending is not None:
        skipped[ending] += 1
    return False


# --- object stores ---------------------------------------------------------------------------------


def is_url(path: str) -> bool:
    """Return whether a path is a URL."""
    return "://" in path


def _store(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path within it."""
    try:
        import fsspec
    except ImportError as error:
        raise UnavailableError(
            "reading from an object store needs the extra `cluster`",
            where=url,
            remedy="pip install 'digitry[cluster]'",
        ) from error
    try:
        return cast(tuple[Any, str], fsspec.core.url_to_fs(url))
    except (ImportError, ValueError) as error:
        raise UnavailableError(
            f"cannot be reached ({_line(error)})",
            where=url,
            remedy="install s3fs for s3://, gcsfs for gs://",
        ) from error


def _expanded_url(given: str, skipped: Counter[str] | None) -> Iterator[str]:
    store, path = _store(given)
    try:
        if glob.has_magic(path):
            names = sorted(store.glob(path))
        elif given.lower().endswith(LIST):
            with store.open(path, "rb") as stream:
                for line in stream:
                    name = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
                    if name.strip():
                        yield name
            return
        elif store.isdir(path):
            for _, _, inside in store.walk(path, detail=True):
                for name in sorted(inside):
                    if _is_wanted(name, skipped):
                        yield store.unstrip_protocol(inside[name]["name"])
            return
        elif store.exists(path):
            names = [path]
        else:
            names = []
    except DigitryError:
        raise
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UsageError(
            f"cannot be listed ({_line(error)})", where=given, remedy="check the URL"
        ) from error
    except Exception as error:
        # Each store raises its own errors: no credentials, no access, no network.
        raise UnavailableError(
            f"cannot be listed ({_line(error)})",
            where=given,
            remedy="check the credentials and the network; aws configure sets those of s3://",
        ) from error
    if not names:
        raise UsageError("does not exist", where=given, remedy="check the URL")
    yield from (store.unstrip_protocol(name) for name in names)


def _opened(path: str) -> BinaryIO:
    if not is_url(path):
        # A large buffer: most members of a tar are then skipped without a system call.
        return Path(path).open("rb", buffering=1 << 18)
    store, inner = _store(path)
    return cast(BinaryIO, store.open(inner, "rb", block_size=4 << 20))


def _files(names: Sequence[str]) -> Iterator[Entry]:
    remote = [name for name in names if is_url(name)]
    fetched: dict[str, bytes | str] = {}
    for name in names:
        if not is_url(name):
            yield _file(name)
            continue
        if name not in fetched:
            at = remote.index(name)
            fetched = _fetched(remote[at : at + FETCHED])
        content = fetched[name]
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


def _fetched(urls: list[str]) -> dict[str, bytes | str]:
    """Return the contents of objects, fetched together to save latency; errors as text."""
    store, _ = _store(urls[0])
    paths = [store._strip_protocol(url) for url in urls]
    limit = MAX_MEMBER_BYTES + 1
    contents = store.cat_ranges(paths, [0] * len(paths), [limit] * len(paths), on_error="return")
    return {
        url: content if isinstance(content, bytes) else f"cannot be fetched ({_kind(content)})"
        for url, content in zip(urls, contents, strict=True)
    }


# --- from containers to shards ---------------------------------------------------------------------


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
            yield from _table_shards(path, rows, column, numbers)
        elif lower.endswith(tuple(PACKED_TAR)):
            method = next(PACKED_TAR[ending] for ending in PACKED_TAR if lower.endswith(ending))
            yield from _inline_shards(path, method, rows, numbers, skipped)
        else:
            yield from _archive_shards(path, rows, numbers, skipped)
    except OSError as error:
        yield _refused(path, 0, f"cannot be opened ({error.strerror or _kind(error)})", numbers)


def _archive_shards(
    path: str, rows: int, numbers: Iterator[int], skipped: Counter[str] | None
) -> Iterator[Shard]:
    with _opened(path) as stream:
        length = max(stream.seek(0, os.SEEK_END), 1)
        begin, kind = 0, "tar"
        members: Callable[..., Iterator[Member]] = archives.tar_members
        if path.lower().endswith(ZIP):
            begin, refused = archives.zip_start(stream)
            kind, members = "zip", archives.zip_members
            if refused is not None:
                yield _refused(path, begin, refused, numbers)
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
    with _opened(path) as raw:
        length = max(raw.seek(0, os.SEEK_END), 1)
        for member in archives.tar_members(raw, packing=method, skipped=skipped):
            group.append(_entry(path, member))
            size += member.size
            if len(group) == rows or size >= INLINE_BYTES:
                yield _inline(path, group, raw.tell() / length, numbers)
                group, size = [], 0
    if group:
        yield _inline(path, group, 1.0, numbers)


def _inline(path: str, group: list[Entry], done: float, numbers: Iterator[int]) -> Shard:
    start = group[0].offset or 0
    return Shard(next(numbers), "inline", path, start, len(group), entries=tuple(group), done=done)


def _refused(path: str, offset: int, reason: str, numbers: Iterator[int]) -> Shard:
    return _inline(path, [Entry(printable(path), offset, error=reason)], 1.0, numbers)


def _entry(container: str, member: Member) -> Entry:
    path = printable(container)
    name = f"{path}::{member.name}" if member.name else path
    return Entry(name, member.offset, member.content, member.error)


def _at(shard: Shard, done: float | None) -> Shard:
    return replace(shard, done=done)


# --- tables ----------------------------------------------------------------------------------------


@contextmanager
def _table(path: str) -> Iterator[Any]:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UnavailableError(
            "reading Parquet needs the extra `cluster`",
            where=path,
            remedy="pip install 'digitry[cluster]'",
        ) from error
    # Without `buffer_size` whole row groups are read, and one may be the whole file.
    with _opened(path) as stream:
        yield pq.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20)


def _image_column(schema: Any, wanted: str | None) -> str | None:
    """Return the column with the images: binary, or a struct with `bytes` as in Hugging Face data."""
    import pyarrow as pa

    def holds(field: Any) -> bool:
        kind = field.type
        if pa.types.is_struct(kind):
            place = kind.get_field_index("bytes")
            kind = kind.field(place).type if place >= 0 else pa.null()
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    fitting = [field.name for field in schema if holds(field)]
    if wanted is not None:
        return wanted if wanted in fitting else None
    named = [name for name in IMAGE_COLUMNS if name in fitting]
    return named[0] if named else fitting[0] if len(fitting) == 1 else None


def _table_shards(
    path: str, rows: int, column: str | None, numbers: Iterator[int]
) -> Iterator[Shard]:
    try:
        with _table(path) as table:
            facts = table.metadata
            found = _image_column(table.schema_arrow, column)
            total = max(int(facts.num_rows), 1)
            sizes = [facts.row_group(index).num_rows for index in range(facts.num_row_groups)]
    except UnavailableError:
        raise
    except Exception as error:  # noqa: BLE001
        # For a damaged file Arrow raises its own errors, OSError, and others from its C++ code.
        yield _refused(path, 0, f"is not a readable table ({_kind(error)})", numbers)
        return
    if found is None:
        yield _refused(
            path, 0, "has no clear column of image bytes; name it with --column", numbers
        )
        return
    first = 0
    for size in sizes:
        for start in range(first, first + size, rows):
            count = min(rows, first + size - start)
            yield Shard(
                next(numbers), "table", path, start, count, column=found,
                done=(start + count) / total,
            )  # fmt: skip
        first += size


def _table_rows(shard: Shard) -> Iterator[Entry]:
    name, row = printable(shard.container), shard.start
    end = shard.start + shard.count
    error = "was changed while it was read"
    try:
        for content in _table_contents(shard):
            where = f"{name}::{row}"
            if content is None:
                yield Entry(where, row, error="has no image in this row")
            elif len(content) > MAX_MEMBER_BYTES:
                yield Entry(where, row, error=f"is larger than {MAX_MEMBER_BYTES >> 20} MiB")
            else:
                yield Entry(where, row, content)
            row += 1
    except UnavailableError:
        raise
    except Exception as raised:  # noqa: BLE001
        # As above: a damaged file.
        error = f"the rest cannot be read ({_kind(raised)})"
    while row < end:
        yield Entry(f"{name}::{row}", row, error=error)
        row += 1


def _table_contents(shard: Shard) -> Iterator[bytes | None]:
    end = shard.start + shard.count
    with _table(shard.container) as table:
        group, first = 0, 0
        while first + table.metadata.row_group(group).num_rows <= shard.start:
            first += table.metadata.row_group(group).num_rows
            group += 1
        for batch in table.iter_batches(256, row_groups=[group], columns=[shard.column]):
            begin, first = first, first + len(batch)
            if first <= shard.start:
                continue
            from_, to = max(shard.start - begin, 0), min(end - begin, len(batch))
            for value in batch.column(0).slice(from_, to - from_):
                content = value.as_py()
                yield content["bytes"] if isinstance(content, dict) else content
            if first >= end:
                return


def _kind(error: object) -> str:
    if isinstance(error, FileNotFoundError):
        return "No such file or directory"
    return type(error).__name__


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__
