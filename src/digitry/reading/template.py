"""The fields of a form: read from a TOML file, checked, and written back.

    name = "slip"
    reference = "slip.png"            # the blank form; without it boxes are shares of each picture

    [[fields]]
    name = "account"
    box = [0.10, 0.20, 0.55, 0.08]    # left, top, width, height, in shares of the page
    pattern = '\\d{8}'
    empty = true                      # the field may be empty

A template may come from anybody: it is checked as a whole before any picture is looked at, and nothing in
it names a file but `reference`, which only `load` opens.
"""

import base64
import binascii
import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

from digitry import files
from digitry.errors import UsageError
from digitry.reading.pattern import READABLE, Pattern
from digitry.reading.pattern import compile as compile_pattern
from digitry.reading.result import FORM_COLUMNS

FieldLayout = Literal["single", "line", "page", "auto"]
FIELD_LAYOUTS: tuple[FieldLayout, ...] = ("single", "line", "page", "auto")

MOST_FIELDS = 200
MOST_TEXT = 128 << 10
"""Bytes of a template's TOML, at most."""

MOST_REFERENCE = 16 << 20
"""Bytes of a reference picture, at most."""

MOST_PATTERN = 200
"""Characters of one pattern, at most: a template may have many patterns."""

MOST_STATES = 20_000
"""States of all patterns of a template together, at most."""

LEAST_SIDE = 0.002
"""The least width and height of a box, as a share of the page: a pixel or two of a photo."""

_NAME = re.compile(r"[^\W_][\w .-]{0,63}")
_KEYS = ("name", "reference", "fields")
_FIELD_KEYS = ("name", "box", "pattern", "layout", "empty")
_REMEDY_BOX = "give [left, top, width, height] in shares of the page, from 0 to 1"


@dataclass(frozen=True)
class Field:
    """One field of a form; checked when built.

    Attributes:
        name: letters, digits, spaces, `_`, `-` and `.`; it is the column in a table.
        box: left, top, width and height, in shares of the page's width and height.
        pattern: what its text must look like, or None; see `digitry.reading.pattern`.
        layout: `single` (one digit), `line`, `page` or `auto`.
        empty: whether it may be empty.

    Raises:
        UsageError: one of them makes no sense.
    """

    name: str
    box: tuple[float, float, float, float]
    pattern: str | None = None
    layout: FieldLayout = "line"
    empty: bool = False
    compiled: Pattern | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        where = f"field {self.name!r}" if isinstance(self.name, str) else "a field"
        _check_name(self.name, where)
        object.__setattr__(self, "box", _box(self.box, where))
        if self.layout not in FIELD_LAYOUTS:
            raise UsageError(
                f"no layout is called {self.layout!r}",
                where=where,
                remedy=f"choose: {', '.join(FIELD_LAYOUTS)}",
            )
        if not isinstance(self.empty, bool):
            raise UsageError("`empty` is not true or false", where=where, remedy="write true")
        if self.pattern is not None:
            object.__setattr__(self, "compiled", _compiled(self.pattern, where))


@dataclass(frozen=True)
class Template:
    """The fields of a form, and what the blank form looks like; checked when built.

    Attributes:
        fields: from 1 to 200, with different names.
        name: what readings call it.
        reference: the picture of the blank form: the bytes of an image file. Photos are laid over it, and
            boxes are shares of it. None = boxes are shares of each picture as it is.

    Raises:
        UsageError: one of them makes no sense.
    """

    fields: tuple[Field, ...]
    name: str = "form"
    reference: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(self.fields))
        _check_name(self.name, "template")
        if not 1 <= len(self.fields) <= MOST_FIELDS:
            raise UsageError(
                f"has {len(self.fields)} fields",
                where=f"template {self.name}",
                remedy=f"give 1 to {MOST_FIELDS}",
            )
        seen: set[str] = set()
        for one in self.fields:
            # Spreadsheets and databases ignore capitals in the names of columns.
            if one.name.casefold() in seen:
                raise UsageError(
                    "this name is given twice",
                    where=f"field {one.name!r}",
                    remedy="give each field a name of its own; capitals make no difference",
                )
            seen.add(one.name.casefold())
        if sum(len(one.compiled.steps) for one in self.fields if one.compiled) > MOST_STATES:
            raise UsageError(
                "its patterns are too large together",
                where=f"template {self.name}",
                remedy="give shorter patterns",
            )
        if self.reference is not None and len(self.reference) > MOST_REFERENCE:
            raise UsageError(
                f"the reference picture is larger than {MOST_REFERENCE >> 20} MB",
                where=f"template {self.name}",
                remedy="reduce it; 1,600 pixels are enough",
            )

    def to_toml(self, reference: str = "") -> str:
        """Return the TOML text of the template.

        Args:
            reference: the file name of the reference picture; empty = the text names none.
        """
        lines = [f"name = {_quoted(self.name)}"]
        if reference:
            lines.append(f"reference = {_quoted(reference)}")
        for one in self.fields:
            shares = ", ".join(f"{share!r}" for share in one.box)
            lines += ["", "[[fields]]", f"name = {_quoted(one.name)}", f"box = [{shares}]"]
            if one.pattern is not None:
                # In single quotes TOML keeps backslashes as they are.
                plain = one.pattern.isprintable() and "'" not in one.pattern
                quoted = f"'{one.pattern}'" if plain else _quoted(one.pattern)
                lines.append(f"pattern = {quoted}")
            if one.layout != "line":
                lines.append(f"layout = {_quoted(one.layout)}")
            if one.empty:
                lines.append("empty = true")
        return "\n".join(lines) + "\n"

    @property
    def fingerprint(self) -> str:
        """A digest of the fields and the reference picture."""
        return hashlib.sha256(self.to_toml().encode() + b"\0" + (self.reference or b"")).hexdigest()

    def packed(self) -> dict[str, Any]:
        """Return the template as plain JSON values, for another process; `unpacked` is the way back."""
        held = None if self.reference is None else base64.b64encode(self.reference).decode()
        return {"toml": self.to_toml(), "reference": held}


def load(path: str | Path) -> Template:
    """Return the template of a TOML file, with the reference picture that it names.

    Args:
        path: of the TOML file; the name of the reference picture is relative to its folder.

    Raises:
        UsageError: a file is missing or too large, or the template makes no sense.
    """
    path = Path(path)
    content = _file(path, MOST_TEXT, "a template is a small TOML file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError("is not UTF-8 text", where=path, remedy="save it as UTF-8") from error
    with _within(path):
        data = _parsed(text)
        named = _reference(data)
    picture = None
    if named is not None:
        picture = _file(
            path.parent / named, MOST_REFERENCE, f"{path} names it as the reference picture"
        )
    with _within(path):
        return _template(data, picture, _stem(path))


def parse(text: str, reference: bytes | None = None, *, name: str = "form") -> Template:
    """Return the template of a TOML text; no file is opened.

    Args:
        text: the TOML.
        reference: the picture that the text names, if it does: the bytes of an image file.
        name: of the template, if the text gives none.

    Raises:
        UsageError: the template makes no sense, or names a reference picture that is not given.
    """
    if len(text.encode(errors="replace")) > MOST_TEXT:
        raise UsageError(
            f"is larger than {MOST_TEXT >> 10} kB", where="template", remedy="use fewer fields"
        )
    with _within("template"):
        data = _parsed(text)
        named = _reference(data)
        if named is not None and reference is None:
            raise UsageError(
                f"names the reference picture {named!r}, which is not given",
                remedy="give the picture with the template",
            )
        return _template(data, reference, name)


def unpacked(data: Mapping[str, Any]) -> Template:
    """Return the template that `Template.packed` wrote.

    Raises:
        UsageError: it makes no sense.
    """
    toml, held = data.get("toml"), data.get("reference")
    if not isinstance(toml, str) or not (held is None or isinstance(held, str)):
        raise UsageError("is not a packed template", where="template", remedy="pack it again")
    try:
        picture = None if held is None else base64.b64decode(held, validate=True)
    except binascii.Error as error:
        raise UsageError("is not base64", where="reference", remedy="pack it again") from error
    return parse(toml, picture)


class _within:  # noqa: N801 (used like a function)
    """Add the file, and the field in it, to errors raised in the block."""

    def __init__(self, where: object) -> None:
        self.where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, UsageError):
            inner = "" if error.where is None else f": {error.where}"
            raise UsageError(
                error.what, where=f"{self.where}{inner}", remedy=error.remedy
            ) from error


def _file(path: Path, limit: int, remedy: str) -> bytes:
    """Return the content of a file.

    Raises:
        UsageError: it cannot be opened, or is larger than the limit.
    """
    try:
        content = files.read_bytes(path, limit)
    except OSError as error:
        raise UsageError(
            f"cannot be opened ({error.strerror})", where=path, remedy=remedy
        ) from error
    except ValueError as error:
        raise UsageError("is not a path", where=repr(str(path)), remedy=remedy) from error
    if len(content) > limit:
        raise UsageError(f"is larger than {limit >> 10} kB", where=path, remedy=remedy)
    return content


def _stem(path: Path) -> str:
    """Return the default name of a template: the file's name, or `form` if that is not valid."""
    return path.stem if _NAME.fullmatch(path.stem) else "form"


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Deep nesting raises RecursionError.
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(
            f"is not TOML ({what[:100]})", remedy=r"write patterns between single quotes: '\d{4}'"
        ) from error


def _reference(data: Mapping[str, Any]) -> str | None:
    named = data.get("reference")
    if named is not None and not (isinstance(named, str) and named.strip()):
        raise UsageError("`reference` is not a file name", remedy='write reference = "blank.png"')
    return named


def _template(data: Mapping[str, Any], reference: bytes | None, name: str) -> Template:
    _check_keys(data, _KEYS)
    tables = data.get("fields")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError("has no fields", remedy="write a part [[fields]] for each of them")
    if len(tables) > MOST_FIELDS:
        raise UsageError(f"has {len(tables)} fields", remedy=f"give 1 to {MOST_FIELDS}")
    fields = []
    for number, table in enumerate(tables, 1):
        given = table.get("name")
        where = f"field {given!r}" if isinstance(given, str) and given else f"field {number}"
        with _within(where):
            _check_keys(table, _FIELD_KEYS)
            for key in ("name", "box"):
                if key not in table:
                    raise UsageError(f"has no `{key}`", remedy=f"add {key} = …")
        fields.append(
            Field(
                name=table["name"],
                box=table["box"],
                pattern=table.get("pattern"),
                layout=cast("FieldLayout", table.get("layout", "line")),
                empty=table.get("empty", False),
            )
        )
    return Template(tuple(fields), data.get("name", name), reference)


def _check_keys(data: Mapping[str, Any], known: Collection[str]) -> None:
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            raise UsageError(
                f"the key {key[:40]!r} is not known",
                remedy=f"write {near[0]}" if near else f"known are: {', '.join(known)}",
            )


def _check_name(name: object, where: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name != name.strip():
        raise UsageError(
            f"{str(name)[:64]!r} is not a name",
            where=where if isinstance(name, str) and len(name) <= 64 else None,
            remedy="use up to 64 letters, digits, spaces, _, - and .; a letter or digit first",
        )
    if name.casefold() in FORM_COLUMNS:
        raise UsageError(
            "the table has a column of this name already",
            where=where,
            remedy=f"choose another name than {', '.join(FORM_COLUMNS)}",
        )


def _box(box: object, where: str) -> tuple[float, float, float, float]:
    """Return a box as four floats.

    Raises:
        UsageError: it is no box, or reaches outside the page.
    """
    if not (
        isinstance(box, (list, tuple))
        and len(box) == 4
        and all(isinstance(s, (int, float)) and not isinstance(s, bool) for s in box)
        # Also false for what is not a number, and for integers that no float can hold.
        and all(-1e9 < s < 1e9 for s in box)
    ):
        raise UsageError("its box is not four numbers", where=where, remedy=_REMEDY_BOX)
    x, y, w, h = (float(share) for share in box)
    if max(x, y, w, h) > 1:
        raise UsageError("its box is not in shares", where=where, remedy=_REMEDY_BOX)
    if min(x, y) < 0 or max(x + w, y + h) > 1 + 1e-6:
        raise UsageError("its box reaches outside the page", where=where, remedy=_REMEDY_BOX)
    if min(w, h) < LEAST_SIDE:
        raise UsageError(
            "its box is too small",
            where=where,
            remedy=f"make it at least {LEAST_SIDE:g} wide, high",
        )
    return x, y, w, h


def _compiled(pattern: object, where: str) -> Pattern:
    if not isinstance(pattern, str) or not 0 < len(pattern) <= MOST_PATTERN:
        raise UsageError(
            f"its pattern is not a text of 1 to {MOST_PATTERN} characters",
            where=where,
            remedy=r"give something like '\d{4}'",
        )
    with _within(where):
        return _pattern(pattern)


@lru_cache(MOST_FIELDS)
def _pattern(text: str) -> Pattern:
    # Cached: the fields of an exam sheet often share one pattern.
    return compile_pattern(text, READABLE)


def _quoted(text: str) -> str:
    # JSON's strings are TOML's basic strings, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
