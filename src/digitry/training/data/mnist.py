"""MNIST's four files: what they must be, and how they come from a mirror into the user's cache.

What is verified is the content after decompression, since mirrors pack the same files differently.
A file has its name in the cache only once it is verified; until then it is a `.part`, which a cut
download continues.
"""

import contextlib
import hashlib
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitry import __version__, files
from digitry.errors import DataError, DigitryError, UnavailableError
from digitry.places import cache_dir
from digitry.training.data.dataset import LICENCES, Dataset, Split, dataset_of
from digitry.training.data.formats import open_stream, parse_idx, read_at_most

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 20.0
"""A mirror that sends nothing for so long is given up."""
SLOWEST = 1024
"""Bytes a second; a mirror that has been slower than this for `SILENCE_SECONDS` is given up."""
LOCK_SECONDS = 600.0
"""How long to wait for another process that fetches; what it brings need not be fetched again."""
WAITS = (0.5, 2.0)
"""Seconds before the second and the third try of one mirror, after a fault that may pass."""


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
    """Find a file in a folder under any of its usual names, gzipped or plain, if it is there."""
    dotted = file.name.replace("-idx", ".idx")
    # As `tar`, torchvision and we ourselves lay them.
    for place in (folder, folder / "mnist", folder / "MNIST" / "raw"):
        for name in (file.name, f"{file.name}.gz", dotted, f"{dotted}.gz"):
            if (place / name).is_file():
                return place / name
    return None


def verified(path: Path, file: MnistFile) -> bytearray:
    """Read a file, gzipped or plain, and check its content.

    Raises:
        DataError: it is cut, too long, or holds other bytes.
    """
    with open_stream(path) as stream:
        content = read_at_most(stream, file.size + 1)
    if len(content) != file.size:
        more = "more than" if len(content) > file.size else f"{len(content):,} bytes, not"
        raise DataError(
            f"holds {more} the {file.size:,} bytes of {file.name}",
            where=path,
            remedy="delete it, and fetch it again with `digitry data fetch mnist`",
        )
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise DataError(
            f"holds other bytes than {file.name} (sha256 {digest[:12]}…, not {file.sha256[:12]}…)",
            where=path,
            remedy="delete it, and fetch it again with `digitry data fetch mnist`",
        )
    return content


def fetch(folder: Path, *, console: "Console | None" = None) -> None:
    """Bring the files that a folder lacks, or holds damaged, from the mirrors.

    Args:
        folder: where to; made if it is not there.
        console: shows a bar on a terminal, else a line for each file.

    Raises:
        UnavailableError: no mirror gave a file; each is named with its reason.
        DigitryError: the folder cannot be written.
    """
    try:
        import pooch
    except ImportError as error:
        raise UnavailableError(
            "downloads need the extra `train`", remedy="pip install 'digitry[train]'"
        ) from error

    mirrors = list(MIRRORS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            files.alone(folder / ".lock", seconds=LOCK_SECONDS),
            _quiet(pooch.get_logger()),
            _progress(console) as bar,
        ):
            for file in MNIST:
                target = folder / f"{file.name}.gz"
                found = locate(folder, file)
                if found is not None:
                    try:
                        verified(found, file)
                        continue
                    except DataError:
                        found.unlink()
                if console is not None and not console.is_terminal:
                    console.print(f"fetching {target.name}", highlight=False)
                reasons = []
                for mirror in tuple(mirrors):
                    reason = _bring(f"{mirror}/{target.name}", file, target, bar)
                    if reason is None:
                        # The mirror that works is asked first for the files that follow.
                        mirrors.remove(mirror)
                        mirrors.insert(0, mirror)
                        break
                    reasons.append(f"{mirror} ({reason})")
                else:
                    raise UnavailableError(
                        f"MNIST cannot be downloaded: {', '.join(reasons)}",
                        where=target.name,
                        remedy=f"without a network, put {', '.join(f'{f.name}.gz' for f in MNIST)} "
                        "into a folder and name it by --data-dir or DIGITRY_DATA; or use the set "
                        "`uci`, which is always there",
                    )
    except OSError as error:
        raise DigitryError(
            f"cannot be written ({error.strerror or error})",
            where=folder,
            remedy="free space, or name another cache by XDG_CACHE_HOME",
        ) from error


def _bring(url: str, file: MnistFile, target: Path, bar: "Progress") -> str | None:
    """Try one mirror; give None when the file is there, else why it is not."""
    import pooch
    import requests

    reason = "no answer"
    for wait in (*WAITS, None):
        transfer = _Transfer(file, target.with_name(f"{file.name}.part"), bar)
        try:
            pooch.retrieve(
                url, known_hash=None, fname=target.name, path=target.parent, downloader=transfer
            )
            return None
        except DataError as error:
            reason = error.what
            # A part that another mirror or another day began may not fit what this one sends:
            # then the whole file is worth a try. Wrong bytes from one piece are final.
            if not transfer.resumed:
                return reason
            continue
        except requests.RequestException as error:
            reason, passing = _reason(error)
        except ValueError as error:
            # A header that is no number, an address that is none.
            reason, passing = f"its answer makes no sense ({error})", False
        if not passing or wait is None:
            return reason
        time.sleep(wait)
    return reason


class _Transfer:
    """One try at one file: a pooch downloader that continues a `.part` and verifies what it gets.

    It is also the file that pooch's `HTTPDownloader` writes to, so that it sees each piece arrive.
    """

    def __init__(self, file: MnistFile, part: Path, bar: "Progress") -> None:
        self.file, self.part, self.bar = file, part, bar
        self.resumed = False
        self._responses: list[Any] = []

    def __call__(self, url: str, output_file: str, pooch: object, check_only: bool = False) -> None:
        """Leave the verified file at `output_file`; pooch moves it to its name."""
        from pooch import HTTPDownloader

        with self.part.open("ab") as self._handle:
            start = self._handle.tell()
            if not self._complete(start):
                headers = {"Accept-Encoding": "identity", "User-Agent": f"digitry/{__version__}"}
                if start:
                    headers["Range"] = f"bytes={start}-"
                self._start, self._began = start, time.monotonic()
                self._task: TaskID = self.bar.add_task(self.file.name, completed=start, total=None)
                # Small pieces: a mirror that drips is noticed when a piece is full.
                download = HTTPDownloader(
                    chunk_size=256,
                    headers=headers,
                    timeout=(CONNECT_SECONDS, SILENCE_SECONDS),
                    hooks={"response": self._answered},
                )
                try:
                    download(url, self, None)
                finally:
                    self.bar.remove_task(self._task)
                    for response in self._responses:
                        response.close()
        try:
            self._verify()
        except DataError:
            self.part.unlink()
            raise
        self.part.replace(output_file)

    def write(self, piece: bytes) -> None:
        self._handle.write(piece)
        size = self._handle.tell()
        # Packed, the file is smaller than its content; plain, it is as large.
        if size > self.file.size + 1024:
            self._handle.close()
            self.part.unlink()
            raise DataError("sent more than the whole file")
        self.bar.update(self._task, completed=size)
        seconds = time.monotonic() - self._began
        if seconds > SILENCE_SECONDS and size - self._start < SLOWEST * seconds:
            from requests import ReadTimeout

            raise ReadTimeout

    def flush(self) -> None:
        # pooch asks for it after each piece; the block that opened the handle does it once.
        pass

    def _answered(self, response: Any, **_: object) -> None:
        self._responses.append(response)
        if response.status_code == 206:
            span = response.headers.get("Content-Range", "")
            if not span.startswith(f"bytes {self._start}-"):
                raise ValueError(f"it sent {span or 'some part'} for bytes {self._start}-")
            self.resumed = self._start > 0
        elif response.status_code == 416:
            # The part is longer than the mirror's file: it was never a part of it.
            self._restart()
        elif response.ok and not response.is_redirect:
            self._restart()
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and response.ok and not response.is_redirect:
            self.bar.update(self._task, total=self._start + int(length))

    def _restart(self) -> None:
        self._handle.seek(0)
        self._handle.truncate()
        self._start = 0

    def _complete(self, size: int) -> bool:
        """Say whether the part is whole already: then a process died just before it moved it."""
        if size:
            with contextlib.suppress(DataError):
                verified(self.part, self.file)
                return True
        return False

    def _verify(self) -> None:
        with self.part.open("rb") as stream:
            head = stream.read(64)
        if head[:2] != b"\x1f\x8b" and head[:3] != b"\0\0\x08":
            kind = "a web page" if head.lstrip()[:1] == b"<" else "something else"
            raise DataError(f"sent {kind} instead of the file")
        verified(self.part, self.file)


def _reason(error: Exception) -> tuple[str, bool]:
    """Say in words why a request failed, and whether another try may help."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
        return f"{status} {error.response.reason}", status in (408, 416, 425, 429) or status >= 500
    if isinstance(error, requests.TooManyRedirects):
        return "it redirects without end", False
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {CONNECT_SECONDS:g} s", False
    if isinstance(error, requests.Timeout):
        return f"silent, or slower than {SLOWEST} bytes a second, for {SILENCE_SECONDS:g} s", False
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut", True
    if isinstance(error, requests.ConnectionError):
        silent = "timed out" in str(error).lower()
        return ("silent for too long" if silent else "no connection"), not silent
    return type(error).__name__, False


@contextmanager
def _quiet(logger: Any) -> Iterator[None]:
    """Keep pooch from printing hashes of packed files, which nobody should copy."""
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _progress(console: "Console | None") -> "Iterator[Progress]":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
        # Elsewhere than on a terminal a transient bar would leave an empty line.
        disable=console is None or not console.is_terminal,
        transient=True,
    ) as bar:
        yield bar


def places(data_dir: Path | None) -> list[Path]:
    """Return the folders in which MNIST is looked for, in order: the named one, and the cache."""
    return [folder for folder in (_named(data_dir), _cache()) if folder is not None]


def _named(data_dir: Path | None) -> Path | None:
    named = data_dir or os.environ.get("DIGITRY_DATA")
    return Path(named).expanduser() if named else None


def _cache() -> Path | None:
    cache = cache_dir()
    return None if cache is None else cache / "mnist"


def load(data_dir: Path | None, offline: bool, console: "Console | None") -> Dataset:
    """Return MNIST from a named folder, the cache or the network, in this order.

    Raises:
        DataError: a file is damaged.
        UnavailableError: it is not here and cannot be fetched.
    """
    named, cache = _named(data_dir), _cache()
    if named is not None:
        paths = [locate(named, file) for file in MNIST]
        if all(paths):
            return _from_files([path for path in paths if path], named)
        if console is not None:
            missing = ", ".join(
                f.name for f, path in zip(MNIST, paths, strict=True) if path is None
            )
            console.print(f"{named} lacks {missing}; looking further", highlight=False)
    with _gentle(named):
        if cache is None:
            raise UnavailableError(
                "this user has no home to keep data in",
                remedy="name a folder with the files by --data-dir, or a cache by XDG_CACHE_HOME",
            )
        cached = [locate(cache, file) for file in MNIST]
        if all(cached):
            try:
                return _from_files([path for path in cached if path], cache)
            except DataError:
                # The cache is ours to repair; a folder of the user's is not.
                if offline:
                    raise
        if offline:
            raise UnavailableError(
                f"MNIST is not in {cache}, and offline nothing is downloaded",
                remedy="put its four files into a folder "
                f"({', '.join(f'{file.name}.gz' for file in MNIST)}) and name it by --data-dir or "
                "DIGITRY_DATA; or use the set `uci`, which is always there",
            )
        fetch(cache, console=console)
        return _from_files([_there(cache, file) for file in MNIST], cache)


@contextmanager
def _gentle(named: Path | None) -> Iterator[None]:
    """Say in the final error that the folder the user named was looked into, too."""
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
        raise DataError("has gone again", where=folder / file.name, remedy="fetch it once more")
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
