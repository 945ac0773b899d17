"""The state of a training run in one file, so that a killed run can be resumed exactly.

A checkpoint is a NumPy .npz without pickle: arrays, and one JSON text. It is replaced atomically
after each epoch, and the zip format stores a checksum of every array.
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from digitry import files
from digitry.errors import DataError, ModelError, UsageError
from digitry.training.data.dataset import Split
from digitry.training.recipes import Recipe

FORMAT_VERSION = 2

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a run needs to continue after a complete epoch.

    Attributes:
        recipe: of the run.
        data_sha256: of its images and labels, see `fingerprint`.
        arrays: weights, optimizer, averages, moving statistics, random generators.
        facts: everything that is not an array, as JSON: epoch, step, history, early stopping.
    """

    recipe: Recipe
    data_sha256: str
    arrays: Mapping[str, Array]
    facts: Mapping[str, Any]


def fingerprint(split: Split) -> str:
    """Return the sha256 of the images and labels of a split, with their types and shapes.

    It differs from `digitry.fingerprint`, which leaves out the types, because existing checkpoints hold it.
    """
    digest = hashlib.sha256()
    for array in (split.images, split.labels):
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; if the process is killed, `path` still holds the old or the new one whole."""
    facts = {
        "format": FORMAT_VERSION,
        "recipe": checkpoint.recipe.to_dict(),
        "data_sha256": checkpoint.data_sha256,
        "facts": checkpoint.facts,
    }
    arrays: dict[str, Any] = {f"array_{name}": v for name, v in checkpoint.arrays.items()}
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    with files.replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        UsageError: the file does not exist.
        ModelError: it is damaged, or has another format version.
    """
    if not path.is_file():
        raise UsageError(
            "there is no checkpoint to resume from",
            where=path,
            remedy="name the folder of an interrupted run, or start without resuming",
        )
    try:
        # Our own handle: NumPy does not close its own when the content is not a zip.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            content = {name: archive[name] for name in archive.files}
        facts = json.loads(content.pop("facts").tobytes())
        version = facts["format"]
        if version == FORMAT_VERSION:
            return Checkpoint(
                recipe=Recipe.from_dict(facts["recipe"]),
                data_sha256=facts["data_sha256"],
                arrays={name.removeprefix("array_"): content[name] for name in content},
                facts=facts["facts"],
            )
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        NotImplementedError,
        RecursionError,
        UsageError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        # What a cut or altered zip, array or JSON text raises.
        raise damaged(path, type(error).__name__) from error
    raise ModelError(
        f"has checkpoint format {version!r}; this digitry reads format {FORMAT_VERSION}",
        where=path,
        remedy="resume with the version of digitry that wrote it",
    )


def load_for(path: Path, recipe: Recipe, data_sha256: str) -> Checkpoint:
    """Read a checkpoint and check that it belongs to this run; only `epochs` may differ.

    Raises:
        UsageError: the file does not exist, or its recipe is another one.
        DataError: it was trained on other data.
        ModelError: it is damaged.
    """
    found = load(path)
    old, new = found.recipe.to_dict(), recipe.to_dict()
    other = [name for name in new if name != "epochs" and old[name] != new[name]]
    if other:
        changes = ", ".join(f"{name} {old[name]!r} -> {new[name]!r}" for name in other)
        raise UsageError(
            f"the recipe differs from that of the interrupted run ({changes})",
            where=path,
            remedy="resume with the old settings (only epochs may differ), or start a new run",
        )
    if found.data_sha256 != data_sha256:
        raise DataError(
            "the training data differs from that of the interrupted run",
            where=path,
            remedy="resume with the same data, or start a new run",
        )
    return found


def damaged(path: Path, why: str) -> ModelError:
    """Return the error for a checkpoint that cannot be used."""
    return ModelError(
        f"is damaged or not a checkpoint ({why})",
        where=path,
        remedy="start the training again",
    )
