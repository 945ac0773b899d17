"""Frozen dataclasses as plain JSON values, and back, checked by their annotations."""

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints


class Plain:
    """Base of dataclasses that are written as JSON and read back.

    A field may be a number, a text, a bool, None, another dataclass, a tuple, a mapping with text for
    keys, or a union of these.
    """

    __slots__ = ()

    plain_as_list: ClassVar[bool] = False
    """Whether the fields are written as a list in their order, without names."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values, by name."""
        found: dict[str, Any] = plain(self)
        return found

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild the dataclass from its plain form; unknown names are passed over.

        Raises:
            ValueError: a field is missing, or its value is not of the annotated type.
        """
        found: Self = _built(cls, data, "")
        return found


def plain(value: Any) -> Any:
    """Return a value as plain JSON: dataclasses as dicts, tuples as lists, mappings as dicts."""
    if isinstance(value, Plain) or is_dataclass(value):
        kind: Any = type(value)
        names = _names(kind)
        if getattr(value, "plain_as_list", False):
            return [plain(getattr(value, name)) for name in names]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, (tuple, list)):
        return [plain(part) for part in value]
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    return value


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _built(kind: Any, data: Any, where: str) -> Any:
    """Build a dataclass of a mapping, or of a list where it is written as one."""
    if getattr(kind, "plain_as_list", False):
        names = _names(kind)
        if not isinstance(data, (list, tuple)) or len(data) != len(names):
            raise ValueError(f"{where or kind.__name__} is not a list of {len(names)}")
        data = dict(zip(names, data, strict=True))
    if not isinstance(data, Mapping):
        raise ValueError(f"{where or kind.__name__} is not an object")
    hints = _hints(kind)
    values = {}
    for field in fields(kind):
        place = f"{where}.{field.name}" if where else field.name
        if field.name in data:
            values[field.name] = _typed(hints[field.name], data[field.name], place)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{place} is missing")
    return kind(**values)


def _typed(hint: Any, value: Any, where: str) -> Any:
    """Return a plain value in the annotated type.

    Raises:
        ValueError: it is of another type.
    """
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _one_of(get_args(hint), value, where)
    if origin is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{where} is not one of {', '.join(map(str, get_args(hint)))}")
        return value
    if origin is tuple:
        return _tuple(get_args(hint), value, where)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise ValueError(f"{where} is not an object")
        part = get_args(hint)[1]
        return {key: _typed(part, held, f"{where}.{key}") for key, held in value.items()}
    if is_dataclass(hint):
        return _built(hint, value, where)
    if hint is float and type(value) is int:
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError(f"{where} is too large") from error
    # A bool is an int to Python, not to whoever reads the file.
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{where} is not {_WORDS.get(hint, hint.__name__)}")
    return value


_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "null",
}


def _one_of(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    problem = ValueError(where)
    for hint in hints:
        try:
            return _typed(hint, value, where)
        except ValueError as error:
            # Of `X | None` the first says more.
            problem = error if hint is hints[0] else problem
    raise problem


def _tuple(hints: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{where} is not a list")
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(hints) != len(value):
        raise ValueError(f"{where} has {len(value)} parts, not {len(hints)}")
    return tuple(
        _typed(hint, part, f"{where}[{at}]")
        for at, (hint, part) in enumerate(zip(hints, value, strict=True))
    )
