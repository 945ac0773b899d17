"""The user's own versions of the shipped models: which there are, and which one is read with.

A version is a folder, `<models>/<name>/<number>`, with the model file and a small JSON that says where
it came from. It is written once; its number is never given again. Which version is read with by the
plain name stands in one more file, `<models>/<name>/default.json`: that one is replaced whole, so at any
moment exactly one model is the default. Where there is none, it is the shipped model.

    reader             the default: the version that was promoted last, else the shipped model
    reader@shipped     the model that came with the package
    reader@3           the user's third version

Nothing here looks into a model file; that is `digitry.model.artifact`'s business.
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
from digitry.places import user_models

SHIPPED = "shipped"
"""What the model of the package is called where a version is asked for."""

CANDIDATE, DEFAULT, BEFORE, ROLLED_BACK = "candidate", "default", "promoted before", "rolled back"
STATES = (CANDIDATE, DEFAULT, BEFORE, ROLLED_BACK)

MODEL, FACTS, POINTER, LOCK = "model.onnx", "version.json", "default.json", ".lock"
LOCK_SECONDS = 30.0
"""How long to wait for another process that promotes or rolls back; each takes milliseconds."""
FORMAT = 1
MAX_FACTS = 1 << 20
MAX_MODEL = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a model.

    Attributes:
        name: of the model that it is a version of.
        number: from 1.
        state: one of `STATES`.
        reason: why it is in this state, in a line.
        passed: whether the gate let it through; see `digitry.improve.gate`.
        scores: name -> number.
        gate: the gate's whole verdict, as JSON; may be empty.
        created: ISO 8601 UTC.
        sha256: of the model file.
        parent_sha256: of the model file that it was trained from; may be empty.
        file: where the model file lies.
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
        """By what name it is read with: `reader@3`."""
        return f"{self.name}@{self.number}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, as it is kept."""
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
    """Return the number of the version that is read with by the plain name; None = the shipped model.

    Raises:
        ModelError: the file that says so is damaged.
    """
    pointer = _pointer(name)
    return pointer[-1] or None


def find(name: str, number: int) -> Version:
    """Return one version.

    Raises:
        ModelError: there is none of that number, or what is said about it is damaged.
    """
    folder = _home(name) / str(number)
    facts = folder / FACTS
    if number < 1 or not facts.exists():
        raise ModelError(
            "there is no such version",
            where=f"{name}@{number}",
            remedy=f"`digitry models list` shows which there are; {name}@{SHIPPED} always is",
        )
    version = _version(name, number, _json(facts, f"{name}@{number}"))
    return replace(version, state=_state(version, _pointer_or_shipped(name)))


def file_of(name: str, number: int) -> Path:
    """Return where the model file of a version lies."""
    return _home(name) / str(number) / MODEL


def content(version: Version) -> bytes:
    """Read a version's model file.

    Raises:
        ModelError: it is gone, or holds other bytes than were put there.
    """
    try:
        found = files.read_bytes(version.file, MAX_MODEL)
    except OSError as error:
        raise _damaged(version.reference, f"cannot be read ({error.strerror})") from error
    if hashlib.sha256(found).hexdigest() != version.sha256:
        raise _damaged(version.reference, "is damaged: its bytes do not match its sha256")
    return found


def versions(name: str) -> tuple[list[Version], list[ModelError]]:
    """Return all versions of a model by number, and an error for each that is damaged."""
    found: list[Version] = []
    broken: list[ModelError] = []
    for number in _numbers(name):
        # A folder without the facts is not finished: they are written last.
        if not (_home(name) / str(number) / FACTS).exists():
            continue
        try:
            version = find(name, number)
            content(version)
            found.append(version)
        except ModelError as error:
            broken.append(error)
    return found, broken


def stamp(name: str) -> object:
    """Return something that changes when the default of a name does; costs one look at the disk."""
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
    """Put a new version on the shelf, as a candidate; safe beside other processes that do the same.

    Args:
        name: of a shipped model.
        model: the bytes of a model file.
        created, reason, passed, scores, gate, parent_sha256: see `Version`.

    Raises:
        UnavailableError: this user has no folder for it.
        DigitryError: the folder cannot be written.
    """
    home = _home(name)
    number = max([0, *_numbers(name), *_pointer_or_shipped(name)]) + 1
    try:
        home.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                # Making the folder takes the number: of two that try, one is told that it is there.
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
    """Make a version the default, whichever is it now.

    Args:
        name: of the model.
        number: of the version; None = the shipped model.
        reason: why.

    Raises:
        ModelError: there is no such version, or it is damaged; the default stays.
    """
    with _alone(name):
        # This mends a damaged pointer, too.
        _promote(name, number, _pointer_or_shipped(name), reason)


def succeed(name: str, number: int, *, over: int | None, reason: str) -> bool:
    """Make a version the default, if the one that it was compared with still is it.

    Args:
        name, number, reason: as for `promote`.
        over: the number of the version that it was compared with; None = the shipped model.

    Returns:
        Whether it is the default now.

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
    # Written first, and whole: from here on it is the default, whatever becomes of the notes.
    _point(name, [*history, number or 0] if number != now else history)
    if number != now:
        _note(name, now, BEFORE, f"{_called(name, number)} took its place")
    _note(name, number, DEFAULT, reason)


def roll_back(name: str, *, reason: str) -> int | None:
    """Make the version the default that was it before this one, passing over what is gone or damaged.

    Returns:
        Its number; None = the shipped model.

    Raises:
        UsageError: the shipped model is the default.
    """
    with _alone(name):
        *history, now = _pointer(name)
        if not now:
            raise UsageError(
                "the shipped model is the default already",
                where=name,
                remedy="there is nothing to go back to",
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
            name, history[-1] or None, DEFAULT, f"back, since {_called(name, now)} was rolled back"
        )
        return history[-1] or None


# --- what lies on the disk -------------------------------------------------------------------------


def _home(name: str) -> Path:
    folder = user_models()
    if folder is None:
        raise UnavailableError(
            "this user has no home to keep models in", remedy="name a folder: DIGITRY_MODELS"
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
    """Return the numbers of the defaults so far, the present one last; 0 = the shipped model."""
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
    """Return what state a version is in: what the pointer says goes before what the version says.

    Between the two writes of a promotion its own file may be behind.
    """
    if version.number == history[-1]:
        return DEFAULT
    if version.state == DEFAULT:
        return BEFORE
    return version.state


def _note(name: str, number: int | None, state: str, reason: str) -> None:
    """Write a version's new state into its own file, if that can be read."""
    if number is None:
        return
    with suppress(ModelError):
        version = replace(find(name, number), state=state, reason=reason)
        files.write_json(version.file.with_name(FACTS), version.to_dict())


def _version(name: str, number: int, facts: dict[str, Any]) -> Version:
    where = f"{name}@{number}"
    texts = ("state", "reason", "created", "sha256", "parent_sha256")
    sound = (
        facts.get("format") == FORMAT
        and all(isinstance(facts.get(key), str) and facts[key].isprintable() for key in texts)
        and facts["state"] in STATES
        and isinstance(facts.get("passed"), bool)
        and isinstance(facts.get("gate"), dict)
        and isinstance(facts.get("scores"), dict)
        and all(type(score) in (int, float) for score in facts["scores"].values())
    )
    if not sound:
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
        remedy=f"read with {name}@{SHIPPED}, or go back with `digitry models rollback {name}`",
    )


def _damaged_pointer(path: Path) -> ModelError:
    return ModelError(
        "does not say which version is the default",
        where=path,
        remedy="promote one again with `digitry models promote`, or take the file away",
    )


def _called(name: str, number: int | None) -> str:
    return f"{name}@{number or SHIPPED}"


def _unwritable(folder: Path, error: OSError) -> DigitryError:
    return DigitryError(
        f"cannot be written ({error.strerror or error})",
        where=folder,
        remedy="free space, or name another folder: DIGITRY_MODELS",
    )


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Let one process at a time change which version is the default; others wait."""
    home = _home(name)
    with ExitStack() as stack:
        try:
            home.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.alone(home / LOCK, seconds=LOCK_SECONDS))
        except OSError as error:
            raise _unwritable(home, error) from error
        yield
