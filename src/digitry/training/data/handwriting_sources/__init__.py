"""Clones of public repositories -> the packs of handwriting, with their sha256 in `packs.json`.

    >>> from digitry.training.data import handwriting_sources
    >>> handwriting_sources.build(Path("clones"), Path("data/handwriting"))    # doctest: +SKIP

A folder holds one clone a source, each named as the source (`unipen`), as its repository
(`train_r01_v07`) or as owner and repository (`GreenCappuccino/train_r01_v07`); `packs.SOURCES` lists
them with the commits that the published packs were made from.

The same clones give the same arrays on any machine, and the same bytes with the same numpy and zlib.
`mfeat_pixel`, `quickdraw` and `mnist_writers` follow from their sources alone. The other published
packs were filtered, ordered or drawn by rules that are not written down (each module says which), so
packs built here hold the same kind of samples, but not the same bytes; hence `packs.json`.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from digitry import files
from digitry.errors import DataError, UnavailableError, UsageError
from digitry.training.data.handwriting_sources import images, registers, unipen
from digitry.training.data.packs import MANIFEST, PACKS, Array, Pack, Source, manifest

__all__ = ["Built", "build", "clone_of"]

Builder = Callable[[Path], tuple[dict[str, Array], int]]
"""A clone -> the arrays of a pack, and how many samples were left out because they are damaged."""

_BUILDERS: dict[str, Builder] = {
    "unipen_digits": unipen.digits,
    "unipen_strings": unipen.strings,
    "unipen_letters": unipen.letters,
    "unipen_words": unipen.words,
    "lectaurep_strings": registers.lectaurep_strings,
    "lectaurep_text": registers.lectaurep_text,
    "peraire_strings": registers.peraire_strings,
    "bhmsds_digits": images.bhmsds_digits,
    "bhmsds_symbols": images.bhmsds_symbols,
    "mfeat_pixel": images.mfeat_pixel,
    "omniglot": images.omniglot,
    "quickdraw": images.quickdraw,
    "mnist_writers": images.mnist_writers,
}


@dataclass(frozen=True)
class Built:
    """A pack that was built.

    Attributes:
        name: of the pack.
        path: of its file.
        samples: how many it holds.
        damaged: how many could not be read from the source, and are left out.
        sha256: of the file.
        published: whether this is the published pack, byte for byte.
        commit: of the clone; None where the clone does not say.
    """

    name: str
    path: Path
    samples: int
    damaged: int
    sha256: str
    published: bool
    commit: str | None


def build(
    sources: Path,
    out: Path,
    only: Iterable[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Built, ...]:
    """Build packs from clones, and write their sha256 into `packs.json` beside them.

    Args:
        sources: the folder of the clones.
        out: the folder of the packs; made if it is not there. A pack that is there is replaced.
        only: names of packs; None = all whose clones are there.
        progress: called with a line of text before each pack.

    Returns:
        What was built, in the order of `packs.PACKS`.

    Raises:
        UsageError: `only` names something that is no pack.
        UnavailableError: no clone is there, or the clone of a pack that `only` names is not.
        DataError: a clone does not hold what it should.
    """
    chosen = _chosen(sources, None if only is None else set(only))
    built = []
    for pack, clone in chosen:
        if progress is not None:
            progress(f"{pack.name}, from {clone}")
        arrays, damaged = _BUILDERS[pack.name](clone)
        samples = _count(arrays)
        if samples == 0:
            raise DataError(
                f"gives no sample of {pack.name}",
                where=clone,
                remedy=f"clone {pack.source.url} whole, with its data",
            )
        content = _npz(arrays)
        path = out / pack.file
        digest = hashlib.sha256(content).hexdigest()
        one = Built(
            pack.name, path, samples, damaged, digest, digest == pack.sha256, commit_of(clone)
        )
        files.write_bytes(path, content)
        # After each pack: whoever stops the build keeps what is done.
        _note(out / MANIFEST, pack, one)
        built.append(one)
    return tuple(built)


def _chosen(sources: Path, only: set[str] | None) -> list[tuple[Pack, Path]]:
    if only is not None and not only <= PACKS.keys():
        raise UsageError(
            f"{', '.join(sorted(only - PACKS.keys()))} is no pack",
            remedy=f"name {', '.join(PACKS)}",
        )
    chosen = []
    for pack in PACKS.values():
        if only is not None and pack.name not in only:
            continue
        clone = clone_of(sources, pack.source)
        if clone is not None:
            chosen.append((pack, clone))
        elif only is not None:
            raise UnavailableError(
                f"has no clone of {pack.source.repository}, which {pack.name} is made from",
                where=sources,
                remedy=f"clone {pack.source.url} into it",
            )
    if not chosen:
        raise UnavailableError(
            "has no clone of any source",
            where=sources,
            remedy="clone into it "
            + ", ".join(sorted({pack.source.repository for pack in PACKS.values()})),
        )
    return chosen


def clone_of(sources: Path, source: Source) -> Path | None:
    """Return the folder of a source's clone, if it is there."""
    for name in (source.name, source.repository.rpartition("/")[2], source.repository):
        if (sources / name).is_dir():
            return sources / name
    return None


def commit_of(clone: Path) -> str | None:
    """Return the commit that a clone is at, as far as its `.git` folder tells."""
    git = clone / ".git"
    with suppress(OSError, UnicodeDecodeError):
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head if _SHA.fullmatch(head) else None
        ref = head.removeprefix("ref: ")
        if ".." in ref:
            return None
        if (git / ref).is_file():
            commit = (git / ref).read_text().strip()
            return commit if _SHA.fullmatch(commit) else None
        for line in (git / "packed-refs").read_text().splitlines():
            commit, _, name = line.partition(" ")
            if name == ref and _SHA.fullmatch(commit):
                return commit
    return None


_SHA = re.compile(r"[0-9a-f]{40}")


def _npz(arrays: dict[str, Array]) -> bytes:
    """Return an .npz; numpy gives every member the date 1980-01-01, so equal arrays give equal bytes."""
    stream = io.BytesIO()
    # A name of an array could be that of an option; none of ours is.
    save: Any = np.savez_compressed
    save(stream, **arrays)
    return stream.getvalue()


def _count(arrays: dict[str, Array]) -> int:
    for key in ("labels", "line_text", "writers"):
        if key in arrays:
            return len(arrays[key])
    return 0


def _note(path: Path, pack: Pack, built: Built) -> None:
    entries = manifest(path)
    entries[pack.file] = {
        "sha256": built.sha256,
        "samples": built.samples,
        "source": pack.source.repository,
        "commit": built.commit,
        "licence": pack.source.licence,
    }
    files.write_text(path, json.dumps(dict(sorted(entries.items())), indent=2) + "\n")
