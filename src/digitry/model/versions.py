"""The user's versions of the shipped models, and which version is the default.

A version is a folder, `<models>/<name>/<number>`, with the model file and a small JSON file about its
origin. The model file is written once; numbers are never reused. The file `<models>/<name>/default.json`
names the default version. It is replaced in one step, so there is always exactly one default; without
the file it is the shipped model.

    reader             the default: the version that was promoted last, else the shipped model
    reader@shipped     the model of the package
    reader@3           the user's third version

This module never parses a model file; `digitry.model.artifact` does.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from digitry import files
from digitry.errors import DigitryError, ModelError, UnavailableError, UsageError
from digitry.model.artifact import MODEL_FILE
from digitry.places import user_models

SHIPPED_VERSION = "shipped"
"""The version name of the package's own model."""

CANDIDATE, DEFAULT, BEFORE, ROLLED_BACK = "candidate", "default", "promoted before", "rolled back"
STATES = (CANDIDATE, DEFAULT, BEFORE, ROLLED_BACK)

FACTS, POINTER, LOCK = "version.json", "default.json", ".lock"
LOCK_SECONDS = 30.0
"""Seconds to wait for another process that promotes or rolls back; each takes milliseconds."""
FORMAT = 1
MAX_FACTS = 1 << 20
MAX_MODEL = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a model.

    Attributes:
        name: name of the shipped model.
        number: from 1.
        state: one of `STATES`.
        reason: why it is in this state, in one line.
        passed: whether it passed the gate; see `digitry.improve.gate`.
        scores: name -> number.
        gate: the gate's full result, as JSON; may be empty.
        created: ISO 8601 UTC.
        sha256: of the model file.
        parent_sha256: of the model file that training started from; may be empty.
        file: path of the model file.
    """

    name: str
    number: int
    state: str
    reason: str
    passed: bool
    scores: Mapping[str, float]
    gate: Mapping[str, Any] = field(repr=False)
    created: str
    sha256: str
    parent_sha256: str
    file: Path

    @property
    def reference(self) -> str:
        """The name to load it by: `reader@3`."""
        return f"{self.name}@{self.number}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of `version.json`."""
        return {
            "format": FORMAT,
            "state": self.state,
            "reason": self.reason,
            "passed": self.passed,
            "scores": dict(self.scores),
            "gate": dict(self.gate),
            "created": self.created,
            "sha256": self.sha256,
            "parent_sha256": self.parent_sha256,
        }


# --- reading ---------------------------------------------------------------------------------------


def default_number(name: str) -> int | None:
    """Return the number of the default version; None = the shipped model.

    Raises:
        ModelError: default.json is damaged.
    """
    pointer = _pointer(name)
    return pointer[-1] or None


def find(name: str, number: int) -> Version:
    """Return one version.

    Raises:
        ModelError: there is no such version, or its version.json is damaged.
    """
    folder = _home(name) / str(number)
    facts = folder / FACTS
    if number < 1 or not facts.exists():
        raise ModelError(
            "no such version",
            where=f"{name}@{number}",
            remedy=f"choose one from `digitry models list`, or {name}@{SHIPPED_VERSION}",
        )
    version = _version(name, number, _json(facts, f"{name}@{number}"))
    return replace(version, state=_state(version, _pointer_or_shipped(name)))


def file_of(name: str, number: int) -> Path:
    """Return the path of a version's model file."""
    return _home(name) / str(number) / MODEL_FILE


def content(version: Version) -> bytes:
    """Read a version's model file.

    Raises:
        ModelError: it is missing, or its bytes have changed.
    """
    try:
        found = files.read_bytes(version.file, MAX_MODEL)
    except OSError as error:
        raise _damaged(version.reference, f"cannot be read ({error.strerror})") from error
    if hashlib.sha256(found).hexdigest() != version.sha256:
        raise _damaged(version.reference, "is damaged: its bytes do not match its sha256")
    return found


def versions(name: str) -> tuple[list[Version], list[ModelError]]:
    """Return all intact versions of a model by number, and an error for each damaged one."""
    found: list[Version] = []
    broken: list[ModelError] = []
    for number in _numbers(name):
        # version.json is written last: a folder without it is unfinished.
        if not (_home(name) / str(number) / FACTS).exists():
            continue
        try:
            version = find(name, number)
            content(version)
            found.append(version)
        except ModelError as error:
            broken.append(error)
    return found, broken


def numbered(name: str, version: str) -> int | None:
    """Return the number in `reader@3`; None = the shipped model, `reader@shipped`.

    Raises:
        ModelError: it is neither a number nor `shipped`.
    """
    if version == SHIPPED_VERSION:
        return None
    if not (version.isascii() and version.isdecimal() and len(version) <= 9):
        raise ModelError(
            f"{version!r} is not a version",
            where=f"{name}@{version}",
            remedy=f"write {name}@{SHIPPED_VERSION}, or a number from `digitry models list`",
        )
    return int(version)


def stamp(name: str) -> object:
    """Return a value that changes when the default of a name changes; costs one `stat`."""
    folder = user_models()
    if folder is None:
        return None
    try:
        facts = (folder / name / POINTER).stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


# --- changing --------------------------------------------------------------------------------------


def add(
    name: str,
    model: bytes,
    *,
    created: str,
    reason: str,
    passed: bool,
    scores: Mapping[str, float],
    gate: Mapping[str, Any],
    parent_sha256: str,
) -> Version:
    """Write a new version, as a candidate; several processes may do so at once.

    Args:
        name: of a shipped model.
        model: the bytes of a model file.
        created, reason, passed, scores, gate, parent_sha256: see `Version`.

    Raises:
        UnavailableError: this user has no folder for models.
        DigitryError: the folder cannot be written.
    """
    home = _home(name)
    number = max([0, *_numbers(name), *_pointer_or_shipped(name)]) + 1
    try:
        home.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                # Creating the folder reserves the number: only one of two processes succeeds.
                (home / str(number)).mkdir()
                break
            except FileExistsError:
                number += 1
    except OSError as error:
        raise _unwritable(home, error) from error
    version = Version(
        name=name,
        number=number,
        state=CANDIDATE,
        reason=reason,
        passed=passed,
        scores=scores,
        gate=gate,
        created=created,
        sha256=hashlib.sha256(model).hexdigest(),
        parent_sha256=parent_sha256,
        file=file_of(name, number),
    )
    files.write_bytes(version.file, model)
    files.write_json(version.file.with_name(FACTS), version.to_dict())
    return version


def promote(name: str, number: int | None, *, reason: str) -> None:
    """Make a version the default.

    Args:
        name: name of the model.
        number: number of the version; None = the shipped model.
        reason: why, in one line.

    Raises:
        ModelError: there is no such version, or it is damaged; the default does not change.
    """
    with _alone(name):
        # A damaged default.json is replaced, too.
        _promote(name, number, _pointer_or_shipped(name), reason)


def succeed(name: str, number: int, *, over: int | None, reason: str) -> bool:
    """Make a version the default only if `over` is still the default.

    Args:
        name, number, reason: as for `promote`.
        over: number of the version that it was compared with; None = the shipped model.

    Returns:
        Whether it was promoted.

    Raises:
        ModelError: as for `promote`.
    """
    with _alone(name):
        history = _pointer(name)
        if (history[-1] or None) != over:
            return False
        _promote(name, number, history, reason)
        return True


def _promote(name: str, number: int | None, history: list[int], reason: str) -> None:
    if number is not None:
        content(find(name, number))
    now = history[-1] or None
    # default.json comes first: it alone decides, even if the process dies before the notes.
    _point(name, [*history, number or 0] if number != now else history)
    if number != now:
        _note(name, now, BEFORE, f"{_called(name, number)} took its place")
    _note(name, number, DEFAULT, reason)


def roll_back(name: str, *, reason: str) -> int | None:
    """Make the previous default the default again, skipping missing and damaged versions.

    Returns:
        The number of the new default; None = the shipped model.

    Raises:
        UsageError: the shipped model is the default, so there is no earlier one.
    """
    with _alone(name):
        *history, now = _pointer(name)
        if not now:
            raise UsageError(
                "the shipped model is already the default",
                where=name,
                remedy="to use another version, run `digitry models promote`",
            )
        while history and history[-1]:
            try:
                content(find(name, history[-1]))
                break
            except ModelError:
                history.pop()
        history = history or [0]
        _point(name, history)
        _note(name, now, ROLLED_BACK, reason)
        _note(
            name, history[-1] or None, DEFAULT, f"default again: {_called(name, now)} rolled back"
        )
        return history[-1] or None


# --- files -----------------------------------------------------------------------------------------


def _home(name: str) -> Path:
    folder = user_models()
    if folder is None:
        raise UnavailableError(
            "this user has no home folder for models", remedy="set DIGITRY_MODELS to a folder"
        )
    return folder / name


def _numbers(name: str) -> list[int]:
    folder = user_models()
    try:
        entries = [] if folder is None else [entry.name for entry in (folder / name).iterdir()]
    except OSError:
        return []
    return sorted(int(entry) for entry in entries if re.fullmatch(r"[1-9][0-9]{0,8}", entry))


def _pointer(name: str) -> list[int]:
    """Return the numbers of all defaults so far, the current one last; 0 = the shipped model."""
    folder = user_models()
    path = None if folder is None else folder / name / POINTER
    if path is None or not os.path.lexists(path):
        return [0]
    history = _json(path, name).get("history")
    if not isinstance(history, list) or not history or not all(type(n) is int for n in history):
        raise _damaged_pointer(path)
    return history


def _pointer_or_shipped(name: str) -> list[int]:
    try:
        return _pointer(name)
    except ModelError:
        return [0]


def _point(name: str, history: list[int]) -> None:
    files.write_json(_home(name) / POINTER, {"format": FORMAT, "history": history})


def _state(version: Version, history: list[int]) -> str:
    """Return a version's state; default.json overrides the state in its version.json.

    Between the two writes of a promotion version.json may be out of date.
    """
    if version.number == history[-1]:
        return DEFAULT
    if version.state == DEFAULT:
        return BEFORE
    return version.state


def _note(name: str, number: int | None, state: str, reason: str) -> None:
    """Write a version's new state into its version.json, if that can be read."""
    if number is None:
        return
    with suppress(ModelError):
        version = replace(find(name, number), state=state, reason=reason)
        files.write_json(version.file.with_name(FACTS), version.to_dict())


def _version(name: str, number: int, facts: dict[str, Any]) -> Version:
    where = f"{name}@{number}"
    texts = ("state", "reason", "created", "sha256", "parent_sha256")
    valid = (
        facts.get("format") == FORMAT
        and all(isinstance(facts.get(key), str) and facts[key].isprintable() for key in texts)
        and facts["state"] in STATES
        and isinstance(facts.get("passed"), bool)
        and isinstance(facts.get("gate"), dict)
        and isinstance(facts.get("scores"), dict)
        and all(type(score) in (int, float) for score in facts["scores"].values())
    )
    if not valid:
        raise _damaged(where, f"has a damaged {FACTS}")
    return Version(
        name=name,
        number=number,
        **{key: facts[key] for key in (*texts, "passed", "scores", "gate")},
        file=file_of(name, number),
    )


def _json(path: Path, where: str) -> dict[str, Any]:
    try:
        found = json.loads(files.read_bytes(path, MAX_FACTS)[:MAX_FACTS])
    except OSError as error:
        raise _damaged(
            where, f"has a {path.name} that cannot be read ({error.strerror})"
        ) from error
    except (ValueError, RecursionError) as error:
        if path.name == POINTER:
            raise _damaged_pointer(path) from error
        raise _damaged(where, f"has a damaged {path.name}") from error
    if not isinstance(found, dict):
        raise (
            _damaged_pointer(path)
            if path.name == POINTER
            else _damaged(where, f"has a damaged {path.name}")
        )
    return found


def _damaged(where: str, what: str) -> ModelError:
    name = where.partition("@")[0]
    return ModelError(
        what,
        where=where,
        remedy=f"use {name}@{SHIPPED_VERSION}, or run `digitry models rollback {name}`",
    )


def _damaged_pointer(path: Path) -> ModelError:
    return ModelError(
        "does not name the default version",
        where=path,
        remedy="run `digitry models promote`, or delete the file to use the shipped model",
    )


def _called(name: str, number: int | None) -> str:
    return f"{name}@{number or SHIPPED_VERSION}"


def _unwritable(folder: Path, error: OSError) -> DigitryError:
    return DigitryError(
        f"cannot be written ({error.strerror or error})",
        where=folder,
        remedy="free disk space, or set DIGITRY_MODELS to another folder",
    )


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Let one process at a time change the default; others wait."""
    home = _home(name)
    with ExitStack() as stack:
        try:
            home.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.alone(home / LOCK, seconds=LOCK_SECONDS))
        except OSError as error:
            raise _unwritable(home, error) from error
        yield
