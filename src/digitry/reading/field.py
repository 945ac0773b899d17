"""Cuts the fields of a form out of a page, and removes what is printed on the blank form.

The frame of a box is not a 1, and a printed label is not a digit. The ink that is left shows whether
somebody wrote into the field.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading.align import Aligner, Alignment, Matrix, corners_of
from digitry.reading.ink import lift
from digitry.reading.template import Field

Gray = npt.NDArray[np.uint8]

MARGIN = 0.3
"""Margin around a box, as a share of its height, that is cut out with it: people write across frames."""

SHEET = (0.004, 0.004, 0.992, 0.992)
"""Left, top, width, height of the part of a sheet that shows nothing of the table under it."""

ASIDE = 1.0
"""The same on the left and right, if the blank form is known: people write past the end of a box."""

LARGE = 0.22
"""A piece of ink of at least this share of a box's height is a character, or a part of one."""

MIXED = 0.2
"""A piece of ink with at least this share of its pixels in the boxes of other fields belongs to them."""

RIM = 4
"""Pixels of paper around a cut when its ink is lifted."""

LARGEST_CUT = 1_600
"""Longer side of a field that is cut out, at most, in pixels."""

STRAY = 0.018
"""How far a field is looked for beside its place, as a share of the page's longer side: paper bends."""

PRINT_FOUND = 0.6
"""Least share of the print around a field that must be found; with less, its place is not sure."""

ENOUGH_PRINT = 150
"""With fewer pixels of print around it, a field is taken to be at its place."""

SPECK = 0.12
"""Ink that is smaller than this share of a box's height, in both directions, is dirt."""

DOT = 0.03
"""Height of a decimal point by a fine pen, as a share of a box's height."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A field, cut out of the page.

    Attributes:
        what: the field.
        gray: (h, w) uint8, dark on light: the box with a margin, without the print.
        to_page: (3, 3) float64, from pixels of `gray` to those of the working page.
        written: whether there is ink in the box that is not printed.
        doubt: why the field cannot be read, or None.
    """

    what: Field
    gray: Gray = field(repr=False)
    to_page: Matrix = field(repr=False)
    written: bool
    doubt: str | None = None


def cut_out(
    gray: Gray, alignment: Alignment, one: Field, fields: Sequence[Field], aligner: Aligner | None
) -> Cut:
    """Return a field, cut out of a page, without the print.

    Args:
        gray: (h, w) uint8, dark on light: the page.
        alignment: how the form lies on it.
        one: the field.
        fields: all of the form.
        aligner: knows the blank form; None = the print is not known.
    """
    frame = _Frame.around(one, fields, alignment)
    if not _inside(corners_of(alignment.to_page, one.box), gray.shape):
        return Cut(one, gray[:1, :1], np.eye(3), False, "outside the picture")
    seen = frame.seen(gray, frame.to_page)
    if aligner is None:
        ink = _ink(seen)[0]
        own, _ = _own(ink & ~_lines(ink), frame)
        return Cut(one, seen, frame.to_page, _is_written(own, frame))
    rows, columns = aligner.shape
    to_blank = np.diag([float(columns), float(rows), 1.0]) @ frame.to_share
    blank = _ink(_warped(aligner.gray, to_blank, frame.shape))[0]
    moved, found = _settled(blank, _ink(seen)[1], frame.stray)
    if found is not None and found < PRINT_FOUND:
        return Cut(one, seen, frame.to_page, True, f"its place is not sure ({found:.0%})")
    to_page = frame.to_page @ np.array([[1, 0, moved[0]], [0, 1, moved[1]], [0, 0, 1.0]])
    seen = frame.seen(gray, to_page)
    cleaned, own, doubt = _without_print(seen, blank, frame)
    return Cut(one, cleaned, to_page, _is_written(own, frame), doubt)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where a field is cut out.

    Attributes:
        shape: rows and columns of the cut.
        box: the field's box on the cut, without its margin: left, top, right, bottom.
        to_share: (3, 3) float64, from pixels of the cut to shares of the form.
        to_page: (3, 3) float64, to pixels of the working page.
        taken: (h, w) uint8, 1 in the boxes of other fields, and beside the sheet.
        beside: (h, w) uint8, 1 beside the sheet.
        stray: pixels that the field may lie beside its place.
    """

    shape: tuple[int, int]
    box: tuple[int, int, int, int]
    to_share: Matrix
    to_page: Matrix
    taken: Gray
    beside: Gray
    stray: int

    @classmethod
    def around(cls, one: Field, fields: Sequence[Field], alignment: Alignment) -> "_Frame":
        """Return the frame of a field, with about a pixel for each pixel of the page.

        Args:
            one: the field.
            fields: all of the form.
            alignment: how the form lies on the page.
        """
        corners = corners_of(alignment.to_page, one.box)
        lengths = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
        wide, high = float(max(lengths[0], lengths[2])), float(max(lengths[1], lengths[3]))
        scale = min(1.0, LARGEST_CUT / max(wide, high, 1.0))
        width, height = max(8, round(wide * scale)), max(8, round(high * scale))
        # Print beside a box can be told from writing only if the blank form is known.
        down = max(4, round(MARGIN * height))
        aside = down if alignment.agreement is None else max(4, round(ASIDE * height))
        x, y, w, h = one.box
        across, along = w / width, h / height
        to_share = np.array(
            [[across, 0, x - aside * across], [0, along, y - down * along], [0, 0, 1.0]]
        )
        shape = (height + 2 * down, width + 2 * aside)
        taken = np.zeros(shape, np.uint8)
        for other in fields:
            if other is not one:
                box = corners_of(np.linalg.inv(to_share), other.box)
                (x0, y0), (x1, y1) = np.clip(np.rint(box[[0, 2]]), 0, shape[::-1]).astype(int)
                taken[y0:y1, x0:x1] = 1
        # Beside the sheet lies a table.
        sheet = np.clip(np.rint(corners_of(np.linalg.inv(to_share), SHEET)[[0, 2]]), 0, shape[::-1])
        (x0, y0), (x1, y1) = sheet.astype(int)
        beside = np.ones(shape, np.uint8)
        beside[y0:y1, x0:x1] = 0
        own = (aside, down, aside + width, down + height)
        taken[own[1] : own[3], own[0] : own[2]] = 0
        # The edge of the paper is not writing.
        taken |= _grown(beside, max(3, round(0.08 * height)))
        stray = min(round(STRAY * max(1 / across, 1 / along)), 60)
        return cls(shape, own, to_share, alignment.to_page @ to_share, taken, beside, stray)

    def seen(self, gray: Gray, to_page: Matrix) -> Gray:
        """Return the field as it is on a page, with paper beside the sheet, (h, w) uint8."""
        cut = _warped(gray, to_page, self.shape)
        sheet = cut[self.beside == 0]
        cut[self.beside > 0] = np.percentile(sheet, 75) if sheet.size else 255
        return cut

    @property
    def height(self) -> int:
        """Height of the box on the cut, in pixels."""
        return self.box[3] - self.box[1]


def _inside(corners: Matrix, shape: tuple[int, ...]) -> bool:
    """Return whether a box lies on the page; it may reach a few pixels beyond."""
    size = np.array([shape[1], shape[0]], np.float64)
    slack = 0.01 * size.max()
    return bool((corners >= -slack).all() and (corners <= size + slack).all())


def _warped(gray: Gray, to_gray: Matrix, shape: tuple[int, int]) -> Gray:
    return np.asarray(
        cv2.warpPerspective(
            gray,
            to_gray,
            shape[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.uint8,
    )


def _ink(cut: Gray) -> tuple[Gray, Gray]:
    """Return where a cut has ink, and where it may have some, (h, w) uint8, also along its border."""
    # `lift` takes ink at the border for a table, so a rim of paper is added around the cut.
    size = max(3, round(0.3 * min(cut.shape))) | 1
    paper = cv2.morphologyEx(cut, cv2.MORPH_CLOSE, np.ones((size, size), np.uint8))
    framed = cv2.copyMakeBorder(paper, *(RIM,) * 4, cv2.BORDER_REPLICATE)
    framed[RIM:-RIM, RIM:-RIM] = cut
    ink = lift(framed)
    whole = (slice(RIM, -RIM), slice(RIM, -RIM))
    return np.ascontiguousarray(ink.mask[whole]), np.ascontiguousarray(ink.faint[whole])


def _grown(mask: Gray, by: int) -> Gray:
    return np.asarray(cv2.dilate(mask, np.ones((2 * by + 1, 2 * by + 1), np.uint8)), np.uint8)


def _settled(blank: Gray, ink: Gray, stray: int) -> tuple[tuple[int, int], float | None]:
    """Return how far a field lies beside its place, and how much of its print is found there.

    Args:
        blank: (h, w) uint8, 1 = printed.
        ink: (h, w) uint8, 1 = ink on the picture.
        stray: pixels that it may lie beside its place.

    Returns:
        Pixels to the right and down, and the share; None where there is too little print to tell.
    """
    if int(blank.sum()) < ENOUGH_PRINT:
        return (0, 0), None
    # Blur: strokes are thin, and a match that is one pixel off must still count.
    wanted = cv2.GaussianBlur(blank.astype(np.float32), (0, 0), 1.5)
    seen = cv2.copyMakeBorder(
        cv2.GaussianBlur(ink.astype(np.float32), (0, 0), 1.5), *(stray,) * 4, cv2.BORDER_CONSTANT
    )
    near = cv2.matchTemplate(seen, wanted, cv2.TM_CCORR)
    # Prefer the nearest of equally good places, such as those along a line.
    rows, columns = np.mgrid[-stray : stray + 1, -stray : stray + 1]
    near = near / max(float(near.max()), 1e-6) - 0.02 * np.hypot(rows, columns) / max(stray, 1)
    at = int(near.argmax())
    down, right = int(rows.flat[at]), int(columns.flat[at])
    thick = _grown(ink, 2)
    shifted = np.zeros_like(thick)
    height, width = thick.shape
    shifted[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)] = thick[
        max(0, down) : height - max(0, -down), max(0, right) : width - max(0, -right)
    ]
    return (right, down), float(shifted[blank > 0].mean())


def _without_print(seen: Gray, blank: Gray, frame: _Frame) -> tuple[Gray, Gray, str | None]:
    """Return a field without print and without the ink of other fields, its own ink, and any doubt.

    Args:
        seen: (h, w) uint8, the field.
        blank: (h, w) uint8, 1 = printed.
        frame: where the field lies.
    """
    # Print in grey is faint beside a pen's ink.
    ink, faint = _ink(seen)
    print_ = _grown(blank, max(2, round(0.03 * frame.height)))
    own, doubt = _own(ink & ~print_, frame)
    # Keep the print that writing crosses: a gap in the writing would be worse.
    kept = _grown(own, max(3, round(0.04 * frame.height)))
    away = _grown(ink | (faint & print_), 1) & ~kept
    return _wiped(seen, away, ink | away), own, doubt


def _own(ink: Gray, frame: _Frame) -> tuple[Gray, str | None]:
    """Return the ink that belongs to a field, without specks, and why this may not be all of it, or None.

    A piece belongs to the field if its middle lies in the box. If a character stands at the same height
    beside the box, and not in another field, that writing belongs to it, too. Ink above or below the box
    may or may not belong to it.
    """
    left, top, right, bottom = frame.box
    # Removing print can cut a stroke in two: pieces that lie close together are one.
    reach = max(3, round(0.05 * frame.height))
    _, near = cv2.connectedComponents(_grown(ink, reach), connectivity=8)
    labels = near * ink
    count = int(near.max()) + 1
    rows, columns = np.nonzero(labels)
    of = labels[rows, columns]
    area = np.maximum(np.bincount(of, minlength=count), 1)
    x, y = (np.bincount(of, at, count) / area for at in (columns, rows))
    first, last = np.full((2, count), 10**6), np.full((2, count), -(10**6))
    for low_high, at in ((0, columns), (1, rows)):
        np.minimum.at(first[low_high], of, at)
        np.maximum.at(last[low_high], of, at)
    sizes = (last - first).max(axis=0) / frame.height
    level = (y >= top) & (y < bottom)
    inside = level & (x >= left) & (x < right)
    others = np.bincount(of, frame.taken[rows, columns], count) / area
    free = ~inside & (others < MIXED)
    own = inside & (sizes >= DOT)
    if (free & level & (sizes >= LARGE)).any():
        own |= free & level & (sizes >= DOT)
    ends = (first[0] <= 1) | (last[0] >= ink.shape[1] - 2)
    doubt = None
    if (
        (free & ~level & (sizes >= LARGE)).any()
        or (own & ends & (sizes >= LARGE)).any()
        # A piece that lies in this field and in another one may belong to either.
        or (own & (others >= MIXED)).any()
    ):
        doubt = "written beside its box"
    return np.asarray(own[labels] & (ink > 0), np.uint8), doubt


def _is_written(own: Gray, frame: _Frame) -> bool:
    """Return whether the ink of a field has a piece that is larger than dirt."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(own, connectivity=8)
    sizes = np.maximum(stats[1:, cv2.CC_STAT_WIDTH], stats[1:, cv2.CC_STAT_HEIGHT])
    return bool(sizes.max(initial=0) >= max(3, SPECK * frame.height))


def _lines(ink: Gray) -> Gray:
    """Return the pieces of ink that are frames or rulings: nearly as wide or high as the cut."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    long = (stats[:, cv2.CC_STAT_WIDTH] >= 0.6 * ink.shape[1]) | (
        stats[:, cv2.CC_STAT_HEIGHT] >= 0.9 * ink.shape[0]
    )
    area = stats[:, cv2.CC_STAT_WIDTH] * stats[:, cv2.CC_STAT_HEIGHT]
    hollow = stats[:, cv2.CC_STAT_AREA] < 0.15 * area
    thin = np.minimum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]) < 0.1 * min(
        ink.shape
    )
    lines = long & (hollow | thin)
    lines[0] = False
    return np.asarray(lines[labels], np.uint8)


def _wiped(gray: Gray, away: Gray, ink: Gray) -> Gray:
    """Return a picture with `away` painted over, as bright as the paper around it."""
    paper = (ink == 0).astype(np.float32)
    size = max(3.0, 0.15 * min(gray.shape))
    weight = cv2.GaussianBlur(paper, (0, 0), size)
    light = cv2.GaussianBlur(gray * paper, (0, 0), size) / np.maximum(weight, 1e-3)
    light = np.where(weight > 0.01, light, float(np.percentile(gray, 90)))
    return np.where(away > 0, np.clip(light, 0, 255), gray).astype(np.uint8)
