"""The gate before Keras: a .keras or .h5 file is checked here, and only a copy of what passed is loaded.

Keras' own safe mode is a list of what is forbidden, and has been got round again and again. This is a
list of what is allowed: the layers that digit classifiers are made of, with their own settings, each
a plain value. So no code, no path, no address and no class beyond these can be named; what a layer
would need of memory is reckoned before anything is built; and HDF5 features that reach out of the file
(external data, virtual data, soft and external links) or that stand for more than is stored are refused.

What Keras gets of a .keras file is written anew from the checked parts: it never parses the stranger's
zip or JSON, so nothing can look different to it.

HDF5 is C code that a damaged file can send round in circles, or crash. So a file is checked in a process
of its own first, which reads all of it, and may do so for a few seconds.
"""

import io
import json
import math
import os
import re
import subprocess
import sys
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py

from digitry import files
from digitry.errors import ModelError
from digitry.training.network.keras_layers import MAX_PARAMETERS, check_model, refused

MAX_BYTES = 3 * 4 * MAX_PARAMETERS + (4 << 20)
"""Four bytes a weight, with Adam's two numbers beside each, as a trained model's file has them."""

MAX_CONFIG = 1 << 20
MAX_OBJECTS = 10_000
CPU_S, WALL_S = 3, 120
"""Seconds of computing and on the clock that the check may take; it takes a fraction of one."""
CHILD_BYTES = 4 << 30
"""Address space of the process that checks."""

WEIGHT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:\-]{0,127}")


def checked_copy(path: Path, folder: Path) -> Path:
    """Check a Keras file, and write what passed beneath the same name.

    Args:
        path: a .keras or .h5 file, of anyone's.
        folder: where to; nobody else may write there.

    Returns:
        The copy, which may be given to Keras.

    Raises:
        ModelError: it is damaged, or holds what a digit classifier has no use for.
    """
    try:
        content = files.read_bytes(path, MAX_BYTES)
        if len(content) > MAX_BYTES:
            raise refused(f"is larger than {MAX_BYTES >> 20} MiB", "no digit model is")
        content = _checked_apart(content, path.suffix)
    except ModelError as error:
        raise ModelError(error.what, where=path, remedy=error.remedy) from error
    except OSError as error:
        raise ModelError(
            f"cannot be opened ({error.strerror or 'damaged'})", where=path, remedy="copy it again"
        ) from error
    copy = folder / f"model{path.suffix}"
    copy.write_bytes(content)
    return copy


def checked(content: bytes, suffix: str) -> bytes:
    """Check the bytes of a Keras file in this process, and give those that Keras may have.

    Args:
        content: of the file.
        suffix: `.keras`, or else HDF5 is taken.

    Raises:
        ModelError: it is damaged, or holds what a digit classifier has no use for.
    """
    return _checked_keras(content) if suffix == ".keras" else _checked_h5(content)


# --- the process that may hang ----------------------------------------------------------------------

_CHILD = "import sys; from digitry.training import gate; gate._check_stdin(sys.argv[1])"


def _checked_apart(content: bytes, suffix: str) -> bytes:
    """Do what `checked` does where a hang or a crash of HDF5 harms nobody."""
    command = [sys.executable, "-P", "-c", _CHILD, suffix]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    try:
        done = subprocess.run(
            command, input=content, capture_output=True, timeout=WALL_S, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise refused("takes too long to be checked", "copy it again") from error
    if done.returncode == 0:
        return done.stdout or content
    if done.returncode == ModelError.exit_code:
        told = json.loads(done.stdout)
        raise refused(told["what"], told["remedy"])
    if done.returncode < 0:
        # Ended by the system, for its time or its memory, or crashed.
        raise refused("holds a damaged HDF5 file", "copy it again")
    raise RuntimeError(done.stderr.decode(errors="replace")[-2000:])


def _without_plugins() -> None:
    """Keep HDF5 from the folders of its plugins, where it looks for help with files that it cannot open."""
    while h5py.h5pl.size():
        h5py.h5pl.remove(0)


def _check_stdin(suffix: str) -> None:
    """Check what comes on standard input: write what Keras may have, or what is wrong as JSON."""
    # Not every system knows these limits; the clock of who waits for us remains.
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        resource.setrlimit(resource.RLIMIT_AS, (CHILD_BYTES, CHILD_BYTES))
    _without_plugins()
    content = sys.stdin.buffer.read()
    try:
        found = checked(content, suffix)
    except ModelError as error:
        sys.stdout.write(json.dumps({"what": error.what, "remedy": error.remedy}))
        sys.exit(error.exit_code)
    if found != content:
        sys.stdout.buffer.write(found)


# --- the two kinds of file -------------------------------------------------------------------------


def _checked_keras(content: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = _members(archive)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise refused("is no whole .keras file", "copy it again") from error
    except (OSError, ValueError) as error:
        raise refused("is no whole .keras file", "copy it again") from error
    config = _json(parts["config.json"])
    config.pop("compile_config", None)
    check_model(config)
    _check_weights(parts["model.weights.h5"])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3", "date_saved": ""}))
        archive.writestr("config.json", json.dumps(config, allow_nan=False))
        archive.writestr("model.weights.h5", parts["model.weights.h5"])
    return stream.getvalue()


_MEMBERS = {"config.json": MAX_CONFIG, "metadata.json": 1 << 16, "model.weights.h5": MAX_BYTES}


def _members(archive: zipfile.ZipFile) -> dict[str, bytes]:
    found = archive.infolist()
    if sorted(member.filename for member in found) != sorted(_MEMBERS):
        raise refused("holds other members than a Keras file has", "save it again with Keras 3")
    parts = {}
    for member in found:
        if member.flag_bits & 0x1 or member.compress_type not in (0, 8):
            raise refused(f"has an encrypted or oddly packed {member.filename}", "save it again")
        limit = _MEMBERS[member.filename]
        if member.file_size > limit or member.file_size > 20 * member.compress_size + 4096:
            raise refused(f"has a {member.filename} that unpacks to too much", "save it again")
        with archive.open(member) as stream:
            parts[member.filename] = stream.read(limit + 1)
    return parts


def _checked_h5(content: bytes) -> bytes:
    attributes = _check_weights(content)
    text = attributes.get("model_config")
    if not isinstance(text, (str, bytes)):
        raise refused("holds weights alone, or no Keras model", "save the whole model")
    try:
        check_model(_json(text.encode() if isinstance(text, str) else text))
    except UnicodeError as error:
        raise refused("has a configuration that is not UTF-8", "save it again") from error
    return content


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _json(text: bytes) -> dict[str, Any]:
    def plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    if len(text) > MAX_CONFIG:
        raise refused("has a configuration that is too long", "no digit model needs it")
    try:
        value = json.loads(text, object_pairs_hook=plain, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise refused("has a configuration that is not plain JSON", "save it again") from error
    if not isinstance(value, dict):
        raise refused("has a configuration that is no object", "save it again")
    return value


# --- HDF5 ------------------------------------------------------------------------------------------


def _check_weights(content: bytes) -> dict[str, Any]:
    """Walk an HDF5 file that lies in memory; give the attributes of its root."""
    if content[:8] != b"\x89HDF\r\n\x1a\n":
        raise refused("holds no HDF5 file at its beginning", "save it again")
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            stored = _check_group(file, set(), 0)
            if stored > len(content):
                raise refused("claims more numbers than it holds", "copy it again")
            return _attributes(file)
    except ModelError:
        raise
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        ArithmeticError,
        RuntimeError,
        MemoryError,
    ) as e:
        # What h5py makes of the errors of its C library.
        raise refused("holds a damaged HDF5 file", "copy it again") from e


def _check_group(group: Any, seen: set[int], depth: int) -> int:
    """Give the bytes of all numbers below."""
    _once(group, seen)
    if depth > 16:
        raise refused("has groups within groups without end", "save it again")
    _attributes(group)
    total = 0
    for name in group:
        if not WEIGHT.fullmatch(name):
            raise refused(f"has a weight called {name[:40]!r}", "name layers in plain letters")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise refused(f"has a link ({name[:40]}) that leads elsewhere", "save it again")
        item = group[name]
        if isinstance(item, h5py.Group):
            total += _check_group(item, seen, depth + 1)
        elif isinstance(item, h5py.Dataset):
            _once(item, seen)
            total += _check_dataset(item)
        else:
            raise refused(f"holds a type of its own ({name[:40]})", "save it again")
    return total


def _check_dataset(dataset: Any) -> int:
    _attributes(dataset)
    if dataset.is_virtual or dataset.external:
        raise refused("takes weights from another file", "save it again as one file")
    if dataset.dtype.kind not in "fiu" or dataset.dtype.itemsize > 8:
        raise refused(f"holds weights of {dataset.dtype}", "weights are numbers")
    size = math.prod(dataset.shape) * dataset.dtype.itemsize if dataset.shape is not None else -1
    if size < 0 or dataset.compression is not None or dataset.chunks is not None:
        raise refused("holds packed or empty data sets", "save it again with Keras 3")
    if size > MAX_BYTES or (size and dataset.id.get_storage_size() != size):
        raise refused("claims more numbers than it holds", "copy it again")
    return size


def _once(item: Any, seen: set[int]) -> None:
    address = h5py.h5o.get_info(item.id).addr
    if address in seen or len(seen) >= MAX_OBJECTS:
        raise refused("has a loop of links, or too many parts", "save it again")
    seen.add(address)


def _attributes(item: Any) -> dict[str, Any]:
    if len(item.attrs) > 64:
        raise refused("has too many attributes", "save it again")
    found = {}
    for name in item.attrs:
        facts = item.attrs.get_id(name)
        kind = facts.dtype
        if math.prod(facts.shape) > 4096 or kind.itemsize > MAX_CONFIG:
            raise refused(f"has an attribute ({name[:40]}) that is too large", "save it again")
        if kind.hasobject and h5py.check_string_dtype(kind) is None:
            raise refused(f"has an attribute ({name[:40]}) of an odd type", "save it again")
        found[name] = item.attrs[name]
    return found
