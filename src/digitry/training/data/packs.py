"""The packs of openly licensed handwriting: their sources, licences and sha256; and how one is read.

A pack is one `.npz` file of plain arrays. It is read only if its sha256 is the published one
below, or the one that the builder wrote into `packs.json` beside it (`handwriting_sources.build`).
"""

import hashlib
import io
import json
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from digitry.errors import DataError, UnavailableError
from digitry.files import read_bytes
from digitry.places import cache_dir, data_folder

Array = npt.NDArray[Any]
Kind = Literal["digits", "strings", "other", "writers"]

MANIFEST = "packs.json"
"""What the builder writes beside the packs: {file: {"sha256": …}}."""

MAX_FILE = 64 << 20
"""Bytes of one pack as it lies on the disk."""
MAX_BYTES = 512 << 20
"""Bytes of all its arrays, decompressed."""

_REMEDY = (
    "build the packs with `digitry data build handwriting`, and name their folder by --data-dir or "
    "DIGITRY_DATA"
)


@dataclass(frozen=True)
class Source:
    """A public collection that packs are made from.

    Attributes:
        name: short, as folders of sources are named.
        title: what the collection calls itself.
        authors: who is to be credited.
        repository: `owner/name` on GitHub.
        commit: the commit that was read; None = a release file whose bytes are checked otherwise.
        licence: its SPDX identifier.
        licence_url: the text of the licence.
        stated: where the licence is stated.
        changes: what was done to the data, as CC BY asks to say.
    """

    name: str
    title: str
    authors: str
    repository: str
    commit: str | None
    licence: str
    licence_url: str
    stated: str
    changes: str

    @property
    def url(self) -> str:
        """The address of the repository at its commit."""
        address = f"https://github.com/{self.repository}"
        return address if self.commit is None else f"{address}/tree/{self.commit}"


@dataclass(frozen=True)
class Pack:
    """One file of the handwriting data.

    Attributes:
        name: of the pack; its file is `<name>.npz`.
        kind: which loader takes it.
        source: the collection that it is made from.
        count: samples in the published pack.
        sha256: of the published file.
        what: what it holds, in a few words.
    """

    name: str
    kind: Kind
    source: Source
    count: int
    sha256: str
    what: str

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}.npz"


_CC_BY_4 = "https://creativecommons.org/licenses/by/4.0/"
_MIT = "https://opensource.org/license/mit"

SOURCES = {
    source.name: source
    for source in (
        Source(
            name="unipen",
            title="UNIPEN train_r01_v07 (doi:10.5281/zenodo.1195803)",
            authors="International Unipen Foundation",
            repository="GreenCappuccino/train_r01_v07",
            commit="552a4d440bc94bb34710650c0826be7deb986f7c",
            licence="CC-BY-4.0",
            licence_url=_CC_BY_4,
            stated="LICENSE and README.md of the repository; the Zenodo record",
            changes="segments selected, scaled and, but for digits and strings, drawn as images",
        ),
        Source(
            name="lectaurep",
            title="LECTAUREP-Repertoires",
            authors="A. Rostaing, M. Durand, A. Chagué; Archives nationales (France) and Inria",
            repository="HTR-United/lectaurep-repertoires",
            commit="3d1c86cf5389265a1ce8b620301d36b4709eb435",
            licence="CC-BY-4.0",
            licence_url=_CC_BY_4,
            stated="LICENSE and README.md of the repository",
            changes="lines cut out of the pages, scaled, in 64 grey values",
        ),
        Source(
            name="peraire",
            title="Peraire Ground Truth (doi:10.5281/zenodo.7185907)",
            authors="A. Chagué; originals held at the Bibliothèque Sébert, Espéranto-France, Paris",
            repository="alix-tz/peraire-ground-truth",
            commit="61b321ed05fc1d40e6c6e4351fd2162fd5bff478",
            licence="CC-BY-4.0",
            licence_url=_CC_BY_4,
            stated="LICENSE and README.md of the repository",
            changes="lines cut out of the pages and scaled",
        ),
        Source(
            name="bhmsds",
            title="BHMSDS, basic handwritten math symbols data set",
            authors="wblachowski, 2019",
            repository="wblachowski/bhmsds",
            commit="07d208e41923b061e338c241e59daacdd2752d53",
            licence="MIT",
            licence_url=_MIT,
            stated="LICENSE and README.md of the repository",
            changes="ink made high on a ground of 0",
        ),
        Source(
            name="mfeat",
            title="Multiple Features (doi:10.24432/C5HC70)",
            authors="R. Duin; UCI Machine Learning Repository, 1998",
            repository="datasets/openml-datasets",
            commit="33fdb1a80bb44d92180fba7af46ef0622d54e52b",
            licence="CC-BY-4.0",
            licence_url=_CC_BY_4,
            stated="the UCI Machine Learning Repository",
            changes="pixels 0 to 6 scaled to 0 to 255",
        ),
        Source(
            name="omniglot",
            title="Omniglot",
            authors="B. Lake, R. Salakhutdinov, J. Tenenbaum, 2015",
            repository="brendenlake/omniglot",
            commit="057f034baf2ecb8530bc5710e5a23584d2a519cc",
            licence="MIT",
            licence_url=_MIT,
            stated="LICENSE of the repository",
            changes="eight alphabets, scaled to 64x64, ink made high on a ground of 0",
        ),
        Source(
            name="quickdraw",
            title="Quick, Draw!",
            authors="Google, Inc.",
            repository="CodingTrain/Toy-Neural-Network-JS",
            commit="8c48c834b025f5943dce343376fa9490329e1e3e",
            licence="CC-BY-4.0",
            licence_url=_CC_BY_4,
            stated="https://github.com/googlecreativelab/quickdraw-dataset",
            changes="three categories, a thousand drawings each",
        ),
        Source(
            name="qmnist",
            title="QMNIST",
            authors="C. Yadav, L. Bottou; Facebook, Inc.",
            repository="facebookresearch/qmnist",
            commit=None,
            licence="BSD-3-Clause",
            licence_url="https://opensource.org/license/bsd-3-clause",
            stated="LICENSE of the repository",
            changes="the writers' column alone",
        ),
    )
}
"""The collections, by name."""


def _pack(name: str, kind: Kind, source: str, count: int, sha256: str, what: str) -> Pack:
    return Pack(name, kind, SOURCES[source], count, sha256, what)


PACKS = {
    pack.name: pack
    for pack in (
        _pack(
            "unipen_digits", "digits", "unipen", 15_949,
            "d8632633f7d4ff3a7447f502b9ca0f5e5839ae9f9035247095c4f661fc702a58",
            "isolated digits as pen strokes",
        ),
        _pack(
            "bhmsds_digits", "digits", "bhmsds", 15_000,
            "c9d8664d18aa4d11a1e3ac868abad0cf7e913808e086c9356c5d4c287ba3268a",
            "digits on paper, photographed, 28x28",
        ),
        _pack(
            "mfeat_pixel", "digits", "mfeat", 2_000,
            "796dda84b80e12598987014cbe082afdc185a971556c35daa378da9680593ad3",
            "digits of Dutch maps, 16x15, stretched to their box",
        ),
        _pack(
            "unipen_strings", "strings", "unipen", 2_195,
            "b6756afff54aa1d9a45f72008139e8e61208283dc9d4fc2643788347a26998fe",
            "phone numbers, dates, times and amounts as pen strokes",
        ),
        _pack(
            "lectaurep_strings", "strings", "lectaurep", 5_796,
            "880d27e40907bdf661db4d001b90e126007ed23614ae344a8e25ac0b7d98e029",
            "numbers and amounts in registers of 1830 to 1939, grey, height 64",
        ),
        _pack(
            "peraire_strings", "strings", "peraire", 167,
            "1d9a2c94aaa294a26acbfdafe7b8d209ae75379e55ce700cde07f38ef57d20d5",
            "days and dates of a diary on grid paper, grey, height 64",
        ),
        _pack(
            "unipen_letters", "other", "unipen", 33_299,
            "c48391a37e3b42c87886c91a93c95e5183b50efd1bb818094f0b3fecb25316e0",
            "letters and symbols, 64x64",
        ),
        _pack(
            "bhmsds_symbols", "other", "bhmsds", 12_000,
            "053d637dc045b45bb7a39554c7d7423d7392c22d0f4b7df6f22197b34ba3b0b1",
            "dot, minus, plus, slash, w, x, y, z on paper, photographed, 28x28",
        ),
        _pack(
            "omniglot", "other", "omniglot", 4_840,
            "b291cbfb96109144fe7d4cdc9b493a426635599745474d2072b6e40daffa5073",
            "characters of eight alphabets, 64x64",
        ),
        _pack(
            "unipen_words", "other", "unipen", 5_246,
            "b92f2c52053ebfc029a639f84c5d0e5c855bd45d78486335300180a7809c69c9",
            "words without digits, height 48",
        ),
        _pack(
            "lectaurep_text", "other", "lectaurep", 1_893,
            "dbb92682203ff2b190c8614763703d4a19cdc21381e1b6a0978d90ce9d3b1dc0",
            "windows of text lines without digits, grey, height 48",
        ),
        _pack(
            "quickdraw", "other", "quickdraw", 3_000,
            "cc552af92c6a99c2be62b437c95c0f79b1670fc1e44efe91d11e79ba07a5e810",
            "drawings of cats, rainbows and trains, 28x28",
        ),
        _pack(
            "mnist_writers", "writers", "qmnist", 60_000,
            "fd95807002ae02138047f791e551c7d3547cf51b9905e2bf2bd46c1ea9288b64",
            "the writer of each of MNIST's training images",
        ),
    )
}  # fmt: skip
"""The packs, by name."""


def folder(data_dir: Path | None = None) -> Path:
    """Return the folder that holds packs.

    Looked at are `<dir>/handwriting` and `<dir>` itself, then the user's cache; `<dir>` is `data_dir`,
    else the folder named by `DIGITRY_DATA`.

    Raises:
        UnavailableError: none of them holds a pack.
    """
    named, cache = data_folder(data_dir), cache_dir()
    places = [] if named is None else [named / "handwriting", named]
    if cache is not None:
        places.append(cache / "handwriting")
    for place in places:
        if any((place / pack.file).is_file() for pack in PACKS.values()):
            return place
    if not places:
        raise _homeless()
    raise UnavailableError("holds no handwriting data", where=named or places[-1], remedy=_REMEDY)


def home(data_dir: Path | None = None) -> Path:
    """Return the folder to build packs in: where `folder` looks first.

    Raises:
        UnavailableError: none is named, and this user has no home.
    """
    base = data_folder(data_dir) or cache_dir()
    if base is None:
        raise _homeless()
    return base / "handwriting"


def _homeless() -> UnavailableError:
    return UnavailableError(
        "this user has no home to keep data in",
        remedy="name a folder by --data-dir or DIGITRY_DATA, or a cache by XDG_CACHE_HOME",
    )


def read(name: str, data_dir: Path | None = None) -> dict[str, Array]:
    """Return the arrays of a pack, after its sha256 is checked.

    Raises:
        UnavailableError: the pack is not there.
        DataError: it holds other bytes than it must, or is no archive of plain arrays.
    """
    pack = PACKS[name]
    place = folder(data_dir)
    path = place / pack.file
    try:
        content = read_bytes(path, MAX_FILE)
    except FileNotFoundError:
        raise UnavailableError("is not there", where=path, remedy=_REMEDY) from None
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror or error})", where=path, remedy="check the path"
        ) from error
    if len(content) > MAX_FILE:
        raise DataError(
            f"is larger than {MAX_FILE >> 20} MiB", where=path, remedy="replace it; it is no pack"
        )
    digest = hashlib.sha256(content).hexdigest()
    if digest != pack.sha256:
        _check_built(digest, pack, path)
    return _arrays(content, path)


def _check_built(digest: str, pack: Pack, path: Path) -> None:
    """Raise unless the builder wrote a file of this sha256."""
    entry = manifest(path.parent / MANIFEST).get(pack.file)
    built = None if entry is None else str(entry["sha256"])
    if digest != built:
        wanted = pack.sha256 if built is None else f"{pack.sha256} or, as built here, {built}"
        raise DataError(
            f"has the sha256 {digest}, expected {wanted}",
            where=path,
            remedy="the file is damaged or was changed; copy it again, or build the packs anew",
        )


def manifest(path: Path) -> dict[str, dict[str, Any]]:
    """Return what a `packs.json` says of each file, its `sha256` at least; nothing if there is none.

    Raises:
        DataError: it is no such list.
    """
    try:
        content = read_bytes(path, 1 << 20)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", where=path) from error
    try:
        return {
            str(file): {**entry, "sha256": str(entry["sha256"])}
            for file, entry in json.loads(content).items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            "is no list of packs with their sha256",
            where=path,
            remedy="delete it, and build the packs anew",
        ) from error


def _arrays(content: bytes, where: Path) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            claimed = sum(info.file_size for info in archive.infolist())
            if claimed > MAX_BYTES:
                raise DataError(
                    f"claims {claimed:,} bytes, decompressed",
                    where=where,
                    remedy=f"{MAX_BYTES:,} are the limit",
                )
            arrays = {}
            for info in archive.infolist():
                with archive.open(info) as stream:
                    array = _array(stream.read(info.file_size + 1))
                arrays[info.filename.removesuffix(".npy")] = array
            return arrays
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError,
            ValueError, OverflowError, OSError) as error:  # fmt: skip
        # What zipfile and numpy raise for damaged archives; there is no common class.
        raise DataError(
            f"is no readable .npz ({error})", where=where, remedy="build the packs anew"
        ) from error


def _array(content: bytes) -> Array:
    """Read one `.npy`; a header that claims more than follows is refused before memory is asked for."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"version {version} of the .npy format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.kind not in "biufU" or dtype.itemsize == 0:
        raise ValueError(f"an array of {dtype}")
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"the shape {shape} does not fit its {len(content):,} bytes")
    stream.seek(0)
    array: Array = np.load(stream, allow_pickle=False)
    return array
