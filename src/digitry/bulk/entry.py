"""What a job reads: one image as an entry, a run of images as a shard.

A shard is a start and a count within one container, or the names of some files. It is small, can be
read on any machine, and depends only on the input, not on the engine or the number of workers.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TypeVar

T = TypeVar("T")


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


def printable(path: str) -> str:
    """Return a path as valid Unicode text; bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def inline(path: str, group: list[Entry], done: float, numbers: Iterator[int]) -> Shard:
    """Return a shard that holds its images itself."""
    start = group[0].offset or 0
    return Shard(next(numbers), "inline", path, start, len(group), entries=tuple(group), done=done)


def refused(path: str, offset: int, reason: str, numbers: Iterator[int]) -> Shard:
    """Return a shard with one error in the place of a container that cannot be read."""
    return inline(path, [Entry(printable(path), offset, error=reason)], 1.0, numbers)


def kind_of(error: object) -> str:
    """Return what kind of error it is, in a few words."""
    if isinstance(error, FileNotFoundError):
        return "No such file or directory"
    return type(error).__name__


def line_of(error: Exception) -> str:
    """Return the text of an error as one short line."""
    return " ".join(str(error).split())[:100] or type(error).__name__


def grouped(
    values: Iterable[T], size_of: Callable[[T], int], *, most: int, size: int
) -> Iterator[list[T]]:
    """Yield values in groups of at most `most`; a group also ends where its sizes come to `size`."""
    group: list[T] = []
    held = 0
    for value in values:
        group.append(value)
        held += size_of(value)
        if len(group) == most or held >= size:
            yield group
            group, held = [], 0
    if group:
        yield group
