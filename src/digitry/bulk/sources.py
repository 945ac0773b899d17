"""From arguments to paths: folders, globs, lists, object stores; and how a path is opened."""

import fnmatch
import glob
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from digitry import extras
from digitry.bulk.archives import MAX_MEMBER_BYTES
from digitry.bulk.entry import kind_of, line_of
from digitry.errors import DigitryError, UnavailableError, UsageError
from digitry.reading.endings import ending_of, is_image

ZIP, TABLE, LIST = (".zip",), (".parquet",), (".txt", ".lst")
PACKED_TAR = {".tar.gz": "gz", ".tgz": "gz", ".tar.bz2": "bz2", ".tbz2": "bz2"}
CONTAINERS = (".tar", *ZIP, *TABLE, *PACKED_TAR)


def expanded(given: str, skipped: Counter[str] | None = None) -> Iterator[str]:
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
    extras.require("cluster", "reading from an object store needs", "fsspec", where=url)
    import fsspec

    try:
        return cast(tuple[Any, str], fsspec.core.url_to_fs(url))
    except (ImportError, ValueError) as error:
        raise UnavailableError(
            f"cannot be reached ({line_of(error)})",
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
            f"cannot be listed ({line_of(error)})", where=given, remedy="check the URL"
        ) from error
    except Exception as error:
        # Each store raises its own errors: no credentials, no access, no network.
        raise UnavailableError(
            f"cannot be listed ({line_of(error)})",
            where=given,
            remedy="check the credentials and the network; aws configure sets those of s3://",
        ) from error
    if not names:
        raise UsageError("does not exist", where=given, remedy="check the URL")
    yield from (store.unstrip_protocol(name) for name in names)


def opened(path: str) -> BinaryIO:
    """Open a file or an object for reading."""
    if not is_url(path):
        # A large buffer: most members of a tar are then skipped without a system call.
        return Path(path).open("rb", buffering=1 << 18)
    store, inner = _store(path)
    return cast(BinaryIO, store.open(inner, "rb", block_size=4 << 20))


def fetched(urls: list[str]) -> dict[str, bytes | str]:
    """Return the contents of objects, fetched together to save latency; errors as text."""
    store, _ = _store(urls[0])
    paths = [store._strip_protocol(url) for url in urls]
    limit = MAX_MEMBER_BYTES + 1
    contents = store.cat_ranges(paths, [0] * len(paths), [limit] * len(paths), on_error="return")
    return {
        url: content if isinstance(content, bytes) else f"cannot be fetched ({kind_of(content)})"
        for url, content in zip(urls, contents, strict=True)
    }
