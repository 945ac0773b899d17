"""The data set that the recipe `glyph` learns from: composed in parts, which the user's cache keeps."""

import hashlib
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from digitry import files, processors
from digitry.errors import UsageError
from digitry.model.artifact import GLYPH_VERSION
from digitry.places import cache_dir
from digitry.progress import Display
from digitry.training.data.dataset import Dataset, Split, dataset_of
from digitry.training.data.packs import PACKS
from digitry.training.writing import sources
from digitry.training.writing.composers import composed
from digitry.training.writing.glyphs import GlyphPools
from digitry.training.writing.strips import Sources

if TYPE_CHECKING:
    from rich.console import Console

VERSION = 10
"""Raised whenever other glyphs are composed, so that no cache gives the old ones."""

NAME = "glyphs"
COUNT = 600_000
"""Glyphs to learn from and held out, if the data set's name does not say how many."""

FEWEST, TEST_COUNT = 1000, 10_000

POOL = 2000
"""Glyphs that are composed, and kept, at once."""

HELD_OUT = 1 / 12
"""Of the glyphs, at their end, and of MNIST's digits: they are of hands that the others are not of."""


def count_of(name: str) -> int:
    """Return how many glyphs a data set's name says: `glyphs`, or for example `glyphs-60000`.

    Raises:
        UsageError: too few to hold some out.
    """
    _, dash, count = name.partition("-")
    if dash and int(count) < FEWEST:
        raise UsageError(f"{count} glyphs are too few", remedy=f"name {FEWEST} or more")
    return int(count) if dash else COUNT


def load(
    mnist: Dataset, data_dir: Path | None, name: str = NAME, *, console: "Console | None" = None
) -> Dataset:
    """Return glyphs composed of MNIST and the packs of handwriting.

    The last twelfth of the training part is of hands held out; the test part is of MNIST's test digits.

    Args:
        mnist: the data set.
        data_dir: the folder of the packs.
        name: with the number of glyphs, as in `glyphs-60000`.
        console: shows progress.

    Raises:
        UnavailableError: a pack is not there.
        DataError: a pack is not what it must be.
    """
    count = count_of(name)
    images, labels = mnist.train.images, np.asarray(mnist.train.labels, np.uint8)
    first = len(images) - round(HELD_OUT * len(images))
    held = round(HELD_OUT * count)
    key = hashlib.sha256(mnist.sha256.encode())
    for pack in sorted(PACKS):
        key.update(PACKS[pack].sha256.encode())
    made = key.hexdigest()[:12]

    def characters(part: bool) -> Callable[[], Sources]:
        return lambda: sources.load_characters(images, labels, data_dir, first=first, held=part)

    train = Split.joined(
        (
            compose(characters(False), count - held, f"{made}-train", 0, console),
            compose(characters(True), held, f"{made}-held", 1, console),
        )
    )
    test = compose(
        lambda: sources.of_digits(mnist.test.images, np.asarray(mnist.test.labels, np.uint8)),
        min(TEST_COUNT, count // 6), f"{mnist.sha256[:12]}-test", 2, console,
    )  # fmt: skip
    source = f"composed of {mnist.name} and the packs of handwriting ({made}), version {VERSION}"
    return dataset_of(name, train, test, mnist.licence, source)


def compose(
    characters: Callable[[], Sources],
    count: int,
    key: str,
    seed: int = 0,
    console: "Console | None" = None,
) -> Split:
    """Return glyphs, from the cache as far as they have been composed before.

    Args:
        characters: loads what they are composed of; called if any has to be composed.
        count: how many.
        key: names what they are composed of.
        seed: of what is composed.
        console: shows progress.
    """
    pools = GlyphPools(seed=seed, glyphs=min(POOL, count))
    cache = cache_dir()
    name = f"glyphs-{VERSION}-{GLYPH_VERSION}-{key}-{seed}-{pools.glyphs}"
    folder = None if cache is None else cache / name
    wanted = -(-count // pools.glyphs)
    parts = [] if folder is None else _kept(folder, wanted)
    if len(parts) < wanted:
        processes = min(processors.available(), wanted - len(parts))
        batches = composed(pools, characters(), len(parts), processes)
        with closing(batches), Display(console, wanted, text="composing glyphs") as display:
            while len(parts) < wanted:
                display.at(len(parts), f"composing glyphs, {100 * len(parts) // wanted}%")
                part, _ = next(batches)
                if folder is not None:
                    with files.replacing(_path(folder, len(parts))) as beside:
                        np.savez_compressed(beside, images=part.images, labels=part.labels)
                parts.append(part)
    return Split.joined(parts).take(np.arange(count))


def _path(folder: Path, part: int) -> Path:
    return folder / f"{part:05d}.npz"


def _kept(folder: Path, wanted: int) -> list[Split]:
    """Return the first parts, as many as there are and are wanted, one after the other."""
    found: list[Split] = []
    while len(found) < wanted:
        path = _path(folder, len(found))
        try:
            with np.load(path, allow_pickle=False) as kept:
                found.append(Split(kept["images"], kept["labels"]))
        except FileNotFoundError:
            break
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            # A cut or foreign file in a cache is no loss: it is made again.
            path.unlink(missing_ok=True)
            break
    return found
