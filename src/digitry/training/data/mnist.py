"""MNIST's four files: finding, checking and downloading them into the user's cache.

The sha256 of the decompressed content is checked, because mirrors compress the same files differently.
A file gets its final name in the cache only after this check.
"""

import hashlib
import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from digitry import __version__, extras, files
from digitry.errors import DataError, DigitryError, UnavailableError
from digitry.places import cache_dir, data_folder
from digitry.progress import Display
from digitry.training.data.dataset import LICENCES, Dataset, Split, dataset_of
from digitry.training.data.formats import open_stream, parse_idx, read_at_most

if TYPE_CHECKING:
    from rich.console import Console


MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 20.0
"""A download that receives nothing for this long is aborted."""
SLOWEST = 1024
"""Bytes per second; a download slower than this for `SILENCE_SECONDS` is aborted."""
LOCK_SECONDS = 600.0
"""Seconds to wait for another process that downloads the same files."""


@dataclass(frozen=True)
class MnistFile:
    """One of the four files.

    Attributes:
        name: without `.gz`.
        size: of the decompressed content, in bytes.
        sha256: of the decompressed content.
    """

    name: str
    size: int
    sha256: str


MNIST = (
    MnistFile(
        "train-images-idx3-ubyte",
        47_040_016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    MnistFile(
        "train-labels-idx1-ubyte",
        60_008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    MnistFile(
        "t10k-images-idx3-ubyte",
        7_840_016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    MnistFile(
        "t10k-labels-idx1-ubyte",
        10_008,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)


def locate(folder: Path, file: MnistFile) -> Path | None:
    """Return the path of a file in a folder under any of its usual names, or None."""
    dotted = file.name.replace("-idx", ".idx")
    # The places that unpacked archives, torchvision and digitry use.
    for place in (folder, folder / "mnist", folder / "MNIST" / "raw"):
        for name in (file.name, f"{file.name}.gz", dotted, f"{dotted}.gz"):
            if (place / name).is_file():
                return place / name
    return None


def verified(path: Path, file: MnistFile) -> bytearray:
    """Read a file, gzipped or plain, and check its content.

    Raises:
        DataError: it is truncated, too long, or has other content.
    """
    with open_stream(path) as stream:
        content = read_at_most(stream, file.size + 1)
    if len(content) != file.size:
        more = "more than" if len(content) > file.size else f"{len(content):,} bytes, not"
        raise DataError(
            f"has {more} the {file.size:,} bytes of {file.name}",
            where=path,
            remedy="delete it and run `digitry data fetch mnist`",
        )
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise DataError(
            f"is not {file.name}: its sha256 is {digest[:12]}…, not {file.sha256[:12]}…",
            where=path,
            remedy="delete it and run `digitry data fetch mnist`",
        )
    return content


def fetch(folder: Path, *, console: "Console | None" = None) -> None:
    """Download the files that are missing or damaged in a folder.

    Args:
        folder: target folder; created if needed.
        console: where to show progress; None = nowhere.

    Raises:
        UnavailableError: a file could not be downloaded from any mirror; the text gives the reasons.
        DigitryError: the folder cannot be written, or another process downloads for too long.
    """
    extras.require("train", "downloads need", "pooch")
    mirrors = list(MIRRORS)
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with files.alone(folder / ".lock", seconds=LOCK_SECONDS):
            for left in (*folder.glob(".*-ubyte-*.gz"), *folder.glob("*.part")):
                # Left by a killed process, or by an old version that resumed downloads.
                left.unlink()
            for file in MNIST:
                found = locate(folder, file)
                if found is not None:
                    try:
                        verified(found, file)
                        continue
                    except DataError:
                        found.unlink()
                mirror = _download(file, folder / f"{file.name}.gz", mirrors, console)
                # Try the mirror that worked first for the next files.
                mirrors.remove(mirror)
                mirrors.insert(0, mirror)
    except (UnavailableError, KeyboardInterrupt):
        _remove_empty(created)
        raise
    except OSError as error:
        raise DigitryError(
            f"cannot be written ({error.strerror or error})",
            where=folder,
            remedy="free disk space, or set XDG_CACHE_HOME to another folder",
        ) from error


def _remove_empty(created: Sequence[Path]) -> None:
    """Remove the folders that a failed download created and put nothing into.

    Args:
        created: the innermost first.
    """
    with suppress(OSError):
        for index, folder in enumerate(created):
            if index == 0 and [path.name for path in folder.iterdir()] == [".lock"]:
                (folder / ".lock").unlink()
            folder.rmdir()


class _MirrorError(Exception):
    """A file could not be downloaded from a mirror; the text says why."""


def _download(
    file: MnistFile, target: Path, mirrors: Sequence[str], console: "Console | None"
) -> str:
    """Download a file from the first mirror that has it; return that mirror."""
    reasons = []
    for mirror in mirrors:
        try:
            # A failed or interrupted download leaves no file.
            with files.replacing(target) as temporary:
                _receive(f"{mirror}/{target.name}", temporary, file, console)
            return mirror
        except _MirrorError as error:
            reasons.append(f"{mirror} ({error})")
    raise UnavailableError(
        f"MNIST cannot be downloaded: {', '.join(reasons)}",
        where=target.name,
        remedy=f"without a network, put {', '.join(f'{f.name}.gz' for f in MNIST)} "
        "into a folder and name it with --data-dir or DIGITRY_DATA; or use the data set "
        "`uci`, which needs no download",
    )


def _receive(url: str, path: Path, file: MnistFile, console: "Console | None") -> None:
    """Download one file and check it.

    Raises:
        _MirrorError: the download fails, or the file is truncated or has other content.
    """
    import pooch
    import requests

    if console is not None and not console.is_terminal:
        console.print(f"fetching {url}", highlight=False, soft_wrap=True)
    try:
        with Display(console, text=file.name) as display:
            download = pooch.HTTPDownloader(
                progressbar=_Received(file, display),
                headers={"Accept-Encoding": "identity", "User-Agent": f"digitry/{__version__}"},
                timeout=(CONNECT_SECONDS, SILENCE_SECONDS),
            )
            download(url, str(path), None)
        _check_kind(path)
        verified(path, file)
    except DataError as error:
        raise _MirrorError(error.what) from error
    except requests.RequestException as error:
        raise _MirrorError(_reason(error)) from error
    except ValueError as error:
        # A header that is not a number, or an invalid URL.
        raise _MirrorError(f"invalid response ({error})") from error


class _Received:
    """Shows the progress of a download, and aborts one that is too large or too slow.

    It has the interface of tqdm's progress bar, which pooch expects.
    """

    def __init__(self, file: MnistFile, display: Display) -> None:
        self.file, self.display = file, display
        self.total = 0
        self.reset()

    def reset(self) -> None:
        """Reset the count; pooch also calls this at the end."""
        self._bytes, self._began = 0, time.monotonic()

    def update(self, count: int) -> None:
        """Count received bytes; pooch counts the last chunk as a full one.

        Raises:
            DataError: there are more bytes than the file can have.
            requests.ReadTimeout: the download is too slow.
        """
        self._bytes += count
        # A gzipped file is at most slightly larger than its content.
        if self._bytes > 1.01 * self.file.size + 4096:
            raise DataError("sent more than the whole file")
        seconds = time.monotonic() - self._began
        if seconds > SILENCE_SECONDS and self._bytes < SLOWEST * seconds:
            from requests import ReadTimeout

            raise ReadTimeout
        if self.display.due():
            size = f"{self._bytes / 1e6:.1f} MB"
            if self.total:
                size = f"{size} of {self.total / 1e6:.1f} MB"
            self.display.at(self._bytes, f"{self.file.name}, {size}", total=self.total or None)

    def close(self) -> None:
        """Do nothing: `_receive` closes the display."""


def _check_kind(path: Path) -> None:
    """Raise `DataError` if a download is neither gzip nor IDX, e.g. a network's login page."""
    with path.open("rb") as stream:
        head = stream.read(64)
    if head[:2] != b"\x1f\x8b" and head[:3] != b"\0\0\x08":
        kind = "a web page" if head.lstrip()[:1] == b"<" else "something else"
        raise DataError(f"sent {kind} instead of the file")


def _reason(error: Exception) -> str:
    """Return the reason of a failed request as a short text."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.TooManyRedirects):
        return "too many redirects"
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {CONNECT_SECONDS:g} s"
    # requests reports a timeout within the body as a lost connection.
    if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
        return f"slower than {SLOWEST} bytes per second for {SILENCE_SECONDS:g} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return type(error).__name__


def places(data_dir: Path | None) -> list[Path]:
    """Return the folders that are searched for MNIST, in order: the named one, then the cache."""
    return [folder for folder in (data_folder(data_dir), _cache()) if folder is not None]


def _cache() -> Path | None:
    cache = cache_dir()
    return None if cache is None else cache / "mnist"


def load(data_dir: Path | None, offline: bool, console: "Console | None") -> Dataset:
    """Return MNIST from a named folder, the cache or the network, in this order.

    Raises:
        DataError: a file is damaged.
        UnavailableError: it is in no folder and cannot be downloaded.
    """
    named, cache = data_folder(data_dir), _cache()
    if named is not None:
        paths = [locate(named, file) for file in MNIST]
        if all(paths):
            return _from_files([path for path in paths if path], named)
        if console is not None:
            missing = ", ".join(
                f.name for f, path in zip(MNIST, paths, strict=True) if path is None
            )
            console.print(f"{named} has no {missing}; trying the cache", highlight=False)
    with _naming(named):
        if cache is None:
            raise UnavailableError(
                "this user has no home folder for data",
                remedy="name a folder with the files with --data-dir, or set XDG_CACHE_HOME",
            )
        cached = [locate(cache, file) for file in MNIST]
        if all(cached):
            try:
                return _from_files([path for path in cached if path], cache)
            except DataError:
                # Damaged files in the cache are downloaded again; a user's folder is never changed.
                if offline:
                    raise
        if offline:
            raise UnavailableError(
                f"MNIST is not in {cache}, and --offline forbids downloads",
                remedy="put its four files into a folder "
                f"({', '.join(f'{file.name}.gz' for file in MNIST)}) and name it with --data-dir or "
                "DIGITRY_DATA; or use the data set `uci`, which needs no download",
            )
        fetch(cache, console=console)
        return _from_files([_there(cache, file) for file in MNIST], cache)


@contextmanager
def _naming(named: Path | None) -> Iterator[None]:
    """Add to an `UnavailableError` that the user's folder was searched, too."""
    try:
        yield
    except UnavailableError as error:
        if named is None:
            raise
        raise UnavailableError(
            f"not all four files are in {named}; {error.what}",
            where=error.where,
            remedy=error.remedy,
        ) from error


def _there(folder: Path, file: MnistFile) -> Path:
    path = locate(folder, file)
    if path is None:
        raise DataError(
            "was deleted after the download",
            where=folder / file.name,
            remedy="run `digitry data fetch mnist`",
        )
    return path


def _from_files(paths: list[Path], folder: Path) -> Dataset:
    arrays = [
        parse_idx(io.BytesIO(verified(path, file)), where=path)
        for path, file in zip(paths, MNIST, strict=True)
    ]
    return dataset_of(
        "mnist",
        Split(arrays[0], arrays[1]),
        Split(arrays[2], arrays[3]),
        LICENCES["mnist"],
        str(folder),
    )
