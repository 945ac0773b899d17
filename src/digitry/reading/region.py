"""A part of a picture: what is read instead of the whole of it.

`120,80,400,60` is left, top, width and height in pixels of the upright image, as the boxes of a reading
are; with a percent sign, a number is a share of the image's width or height: `10%,20%,50%,30%`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from digitry.errors import UsageError
from digitry.reading.image import Page
from digitry.reading.result import Box, Digit, Line, Mark, Reading, Word

P = TypeVar("P", Line, Word, Digit, Mark)

REMEDY = (
    "give left,top,width,height in pixels, such as 120,80,400,60, or in percent: 10%,20%,50%,30%"
)

_NUMBER = re.compile(r"[0-9]{1,9}(?:(?:\.[0-9]{1,9})?%)?")


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a picture; checked when built.

    Attributes:
        text: four numbers, separated by commas, each in whole pixels or in percent.

    Raises:
        UsageError: it is not four numbers, or the region has no width or height.
    """

    text: str

    def __post_init__(self) -> None:
        parts = [part.strip() for part in self.text.split(",")]
        if len(parts) != 4 or not all(map(_NUMBER.fullmatch, parts)):
            raise UsageError(
                "is not four whole numbers or percentages",
                where=f"region {self.text[:60]!r}",
                remedy=REMEDY,
            )
        if any(float(part.rstrip("%")) == 0 for part in parts[2:]):
            raise UsageError("is empty", where=f"region {self.text!r}", remedy=REMEDY)

    def on(self, page: Page) -> Box:
        """Return its box on a page, in pixels of the upright image.

        Raises:
            UsageError: it does not lie on the page.
        """
        sides = (page.width, page.height) * 2
        x, y, w, h = (
            float(part.strip().rstrip("%")) * (side / 100 if "%" in part else 1)
            for part, side in zip(self.text.split(","), sides, strict=True)
        )
        left, top = round(x), round(y)
        box = Box(left, top, max(round(x + w) - left, 1), max(round(y + h) - top, 1))
        if box.right > page.width or box.bottom > page.height:
            raise UsageError(
                f"the region {self.text} reaches outside the picture of {page.width} x {page.height} "
                "pixels",
                where=page.source,
                remedy=REMEDY,
            )
        return box


RegionLike = Region | Box | str | Sequence[int]
"""A region, its text, or left, top, width and height in pixels."""


def region_of(given: RegionLike) -> Region:
    """Return a region from its text, or from four whole numbers of pixels, such as a `Box` has.

    Raises:
        UsageError: it makes no sense.
    """
    if isinstance(given, Region):
        return given
    if isinstance(given, Box):
        given = given.to_list()
    if isinstance(given, (list, tuple)):
        given = ",".join(str(part) for part in given)
    return Region(str(given))


def cut(page: Page, box: Box) -> Page:
    """Return a part of a page as a page of its own.

    Args:
        page: the whole page.
        box: the part, in pixels of the upright image.
    """
    rows, columns = page.gray.shape
    across, down = columns / page.width, rows / page.height
    left, top = min(int(box.x * across), columns - 1), min(int(box.y * down), rows - 1)
    right = max(round(box.right * across), left + 1)
    bottom = max(round(box.bottom * down), top + 1)
    part = np.ascontiguousarray(page.gray[top:bottom, left:right])
    return Page(part, box.w, box.h, page.source)


def on_whole(reading: Reading, box: Box, page: Page) -> Reading:
    """Return the reading of a part of a page, with its size and boxes those of the whole page.

    Args:
        reading: of the page of `cut`.
        box: the part, in pixels of the upright image.
        page: the whole page.
    """
    right, bottom = page.width - box.right, page.height - box.bottom
    # Where the part's left upper corner lies on the whole page, turned as the part was.
    x, y = {0: (box.x, box.y), 90: (box.y, right), 180: (right, bottom), 270: (bottom, box.x)}[
        reading.turned
    ]

    def moved(parts: tuple[P, ...]) -> tuple[P, ...]:
        return tuple(
            replace(one, box=replace(one.box, x=one.box.x + x, y=one.box.y + y)) for one in parts
        )

    size = (page.width, page.height) if reading.turned % 180 == 0 else (page.height, page.width)
    return replace(
        reading,
        width=size[0],
        height=size[1],
        lines=moved(reading.lines),
        words=moved(reading.words),
        digits=moved(reading.digits),
        marks=moved(reading.marks),
    )
