"""Dataclasses go to plain JSON and come back; what is not of their form is refused by name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from digitry.plain import Plain


@dataclass(frozen=True, slots=True)
class Point(Plain):
    plain_as_list: ClassVar[bool] = True

    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Shape(Plain):
    name: str
    kind: Literal["line", "ring"]
    points: tuple[Point, ...]
    size: tuple[float, float]
    closed: bool
    parent: str | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    extra: Any = None


SHAPE = Shape("a", "ring", (Point(1, 2), Point(3, 4)), (0.5, 2.0), True, None, {"pen": 1.0})
FORM = {
    "name": "a",
    "kind": "ring",
    "points": [[1, 2], [3, 4]],
    "size": [0.5, 2.0],
    "closed": True,
    "parent": None,
    "weights": {"pen": 1.0},
    "extra": None,
}


def test_a_dataclass_comes_back_equal_through_json() -> None:
    assert SHAPE.to_dict() == FORM
    assert Shape.from_dict(json.loads(json.dumps(SHAPE.to_dict()))) == SHAPE


def test_defaults_stand_in_for_what_older_files_lack_and_unknown_names_are_passed_over() -> None:
    older = {name: value for name, value in FORM.items() if name not in ("parent", "weights")}
    found = Shape.from_dict({**older, "colour": "blue"})
    assert (found.parent, found.weights) == (None, {})


def test_a_whole_number_is_a_number_and_becomes_a_float() -> None:
    found = Shape.from_dict({**FORM, "size": [1, 2]})
    assert found.size == (1.0, 2.0)
    assert all(type(side) is float for side in found.size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 5}, "name is not a text"),
        ({"kind": "cube"}, "kind is not one of line, ring"),
        ({"points": [[1]]}, r"points\[0\] is not a list of 2"),
        ({"points": [[1, "2"]]}, r"points\[0\].y is not a whole number"),
        ({"points": 3}, "points is not a list"),
        ({"points": [[True, 2]]}, r"points\[0\].x is not a whole number"),
        ({"size": [1.0]}, "size has 1 parts, not 2"),
        ({"size": ["warm", 1]}, r"size\[0\] is not a number"),
        ({"size": [10**400, 1]}, r"size\[0\] is too large"),
        ({"closed": 1}, "closed is not true or false"),
        ({"parent": 1}, "parent is not a text"),
        ({"weights": [1]}, "weights is not an object"),
        ({"weights": {"pen": None}}, "weights.pen is not a number"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_place(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Shape.from_dict({**FORM, **change})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ValueError, match="closed is missing"):
        Shape.from_dict({name: value for name, value in FORM.items() if name != "closed"})
    with pytest.raises(ValueError, match="is not an object"):
        Shape.from_dict([1])  # type: ignore[arg-type]
