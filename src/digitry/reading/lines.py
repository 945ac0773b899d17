"""Turns a line of writing into scores for each column: cut out level, as ink only, through the network.

The network knows digits 9 to 31 pixels high on strips 32 pixels high; a line is shown at several heights.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading.decode import Strip
from digitry.reading.find import Bytes, Place
from digitry.reading.network import Session
from digitry.reading.percentile import percentile

HEIGHT = 32
"""Of a strip, pixels."""

TALL = (20, 24)
TALL_MORE = (17, 27)
"""Heights of the digits on the strips of a line; and on further strips if the first do not agree."""

CUT = 64
"""Rows of a line that is cut out; its digits are half as high."""

ASIDE = 0.65
"""Width that is cut out on either side of a line, in heights of its digits."""

LONGEST = 120.0
"""Largest length of a line, in heights of its digits; the rest is not read."""

GROWN, MOVED = 0.1, 0.08
"""A line is cut out again if the logarithm of the ratio of its writing's height to the expected one is
larger than the first, or if its writing is higher or lower by the second, a share of its height."""

COLUMNS = 2048
"""Columns of all strips in one batch."""

ROUNDED = 16
"""A strip is padded to a multiple of this many columns, whatever else is in its batch: the network sees
the padding, and the result of a line must not depend on other lines."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A line that was cut out of a page, level.

    Attributes:
        ink: (64, w) uint8, 255 = the darkest ink, 0 = paper; its digits are 32 pixels high.
        to_page: (2, 3), from its pixels to those of the page.
    """

    ink: Bytes = field(repr=False)
    to_page: npt.NDArray[np.float64] = field(repr=False)


def cut(gray: Bytes, place: Place) -> Cut:
    """Return a line cut out of a page.

    Args:
        gray: (h, w) uint8, ink darker than the paper.
        place: where the line is.
    """
    scale = place.height / (CUT / 2)
    length = min(place.length, LONGEST * place.height)
    wide = max(16, round((length + 2 * ASIDE * place.height) / scale))
    cos, sin = math.cos(place.slope), math.sin(place.slope)
    # The left upper corner of the cut: back along the line, and up from it.
    along, up = -ASIDE * place.height, -CUT / 2 * scale
    x = place.start[0] + along * cos - up * sin
    y = place.start[1] + along * sin + up * cos
    to_page = np.array([[scale * cos, -scale * sin, x], [scale * sin, scale * cos, y]])
    return Cut(lifted(_warped(gray, to_page, wide, scale)), to_page)


def nearer(place: Place, line: Cut) -> Place | None:
    """Return a place moved to the rows of its writing; None if it is there already.

    Args:
        place: as the finder found it.
        line: as it was cut out there.
    """
    top, bottom = rows_of_writing(line.ink)
    scale = place.height / (CUT / 2)
    height, down = (bottom - top) * scale, ((top + bottom) / 2 - CUT / 2) * scale
    if abs(math.log(height / place.height)) < GROWN and abs(down) < MOVED * place.height:
        return None
    across, down = -down * math.sin(place.slope), down * math.cos(place.slope)
    (x0, y0), (x1, y1) = place.start, place.end
    return Place((x0 + across, y0 + down), (x1 + across, y1 + down), height, place.score)


def columns(place: Place) -> float:
    """Return the width of the cut of a place, in pixels."""
    return CUT / 2 * (min(place.length / place.height, LONGEST) + 2 * ASIDE)


def _warped(gray: Bytes, to_page: npt.NDArray[np.float64], wide: int, scale: float) -> Bytes:
    """Return the part of a page that a cut shows; outside the page, its edge is continued."""
    corners = to_page @ np.array([[0, wide, 0, wide], [0, 0, CUT, CUT], [1, 1, 1, 1]], float)
    low = np.floor(corners.min(axis=1)).astype(int) - 2
    high = np.ceil(corners.max(axis=1)).astype(int) + 3
    x0, y0 = int(np.clip(low[0], 0, gray.shape[1] - 1)), int(np.clip(low[1], 0, gray.shape[0] - 1))
    x1, y1 = (
        int(np.clip(high[0], x0 + 1, gray.shape[1])),
        int(np.clip(high[1], y0 + 1, gray.shape[0])),
    )
    part = gray[y0:y1, x0:x1]
    matrix = to_page.copy()
    # The centre of a pixel is half a pixel from its corner.
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - (0.5 + x0, 0.5 + y0)
    if scale > 1.4:
        # Average first: a warp alone would skip pixels.
        size = (max(1, round(part.shape[1] / scale)), max(1, round(part.shape[0] / scale)))
        by = np.array([size[0] / part.shape[1], size[1] / part.shape[0]])
        part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = matrix * by[:, None]
        matrix[:, 2] += 0.5 * by - 0.5
    return np.asarray(
        cv2.warpAffine(
            part,
            matrix,
            (wide, CUT),
            flags=(cv2.INTER_LINEAR if scale > 0.5 else cv2.INTER_CUBIC) | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.uint8,
    )


def lifted(gray: Bytes) -> Bytes:
    """Return the ink of a line, without removing any ruling.

    Args:
        gray: (h, w) uint8, dark on light.

    Returns:
        (h, w) uint8, 255 = the darkest ink, 0 = paper.
    """
    side = max(9, gray.shape[0] // 2) | 1
    edge = cv2.copyMakeBorder(gray, side, side, side, side, cv2.BORDER_REPLICATE)
    ground = cv2.morphologyEx(edge, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8))
    ground = cv2.blur(ground, (side, side))[side:-side, side:-side]
    ink = np.clip(ground.astype(np.float32) - gray, 0, None)
    ink = np.clip(ink - np.float32(percentile(ink, 50)), 0, None)
    top = max(percentile(ink, 98.5), 12.0)
    return np.asarray(np.clip(ink / top, 0, 1) * 255, np.uint8)


def whole(gray: Bytes) -> Place | None:
    """Return a picture as the place of one line; None if it is too small for one.

    Args:
        gray: (h, w) uint8, ink darker than the paper, closely around one line.
    """
    height, width = gray.shape
    if min(height, width) < 8:
        return None
    size = (max(8, round(width * CUT / height)), CUT)
    small = cv2.resize(
        gray, size, interpolation=cv2.INTER_AREA if height > CUT else cv2.INTER_CUBIC
    )
    top, bottom = rows_of_writing(lifted(np.asarray(small, np.uint8)))
    scale = height / CUT
    tall, middle = (bottom - top) * scale, (top + bottom) / 2 * scale
    edge = min(ASIDE * tall, 0.25 * width)
    return Place((edge, middle), (width - edge, middle), tall, 0.0)


def rows_of_writing(ink: Bytes) -> tuple[int, int]:
    """Return the rows of the writing of a strip, without rulings and neighbouring lines."""
    height, width = ink.shape
    # There may be faint digits beside a dark border: the level is between the paper and the faint ink.
    level, _ = cv2.threshold(ink, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    level = min(110.0, max(level, 45.0))
    _, _, stats, centres = cv2.connectedComponentsWithStats((ink > level).astype(np.uint8))
    rows = []
    for (_, y, w, h, area), (_, middle) in zip(stats[1:], centres[1:], strict=True):
        ruling = (w > 0.6 * width and h < 0.2 * height) or h > 0.95 * height
        # Ink from above or below: the lower end of another line, a border.
        cut = (y == 0 or y + h >= height) and (h < 0.35 * height or w < 0.15 * height)
        small = h < 0.2 * height or area < 12
        if not (ruling or cut or small) and 0.1 < middle / height < 0.9:
            rows.append((int(y), int(y + h)))
    if not rows:
        return round(0.25 * height), round(0.75 * height)
    tops, bottoms = zip(*rows, strict=True)
    tallest = max(b - t for t, b in rows)
    # A short stroke beside tall ones is a mark or a part of a digit.
    rows = [(t, b) for t, b in rows if b - t > 0.5 * tallest]
    tops, bottoms = zip(*rows, strict=True)
    top, bottom = int(np.median(tops)), int(np.median(bottoms))
    if bottom - top < 0.22 * height:
        return round(0.25 * height), round(0.75 * height)
    return top, bottom


def strip(line: Cut, tall: int) -> npt.NDArray[np.float32]:
    """Return a line as a strip with digits of this height, (32, w) float32, w a multiple of 4."""
    scale = tall / (CUT / 2)
    wide = max(16, math.ceil(line.ink.shape[1] * scale))
    small = cv2.resize(line.ink, (wide, 2 * tall), interpolation=cv2.INTER_AREA)
    middle = small[tall - HEIGHT // 2 : tall + HEIGHT // 2]
    result = np.zeros((HEIGHT, -(-wide // 4) * 4), np.float32)
    result[:, :wide] = middle / np.float32(255)
    return result


def seen(cuts: Sequence[Cut], network: Session, tall: Sequence[int] = TALL) -> list[list[Strip]]:
    """Return the strips of each line, with the network's scores.

    Args:
        cuts: the lines.
        network: the line network.
        tall: heights of digits at which each line is shown.
    """
    made = [
        (index, height, strip(line, height)) for index, line in enumerate(cuts) for height in tall
    ]
    alike: dict[int, list[int]] = {}
    for i, (_, _, ink) in enumerate(made):
        alike.setdefault(-(-ink.shape[1] // ROUNDED) * ROUNDED, []).append(i)
    found: list[list[Strip]] = [[] for _ in cuts]
    scores: dict[int, npt.NDArray[np.float32]] = {}
    for wide, members in sorted(alike.items()):
        most = max(1, COLUMNS // wide)
        for start in range(0, len(members), most):
            batch = members[start : start + most]
            scores.update(_scores([made[k][2] for k in batch], batch, wide, network))
    for i, (index, height, ink) in enumerate(made):
        found[index].append(Strip(scores[i], ink, float(height)))
    return found


def _scores(
    strips: Sequence[npt.NDArray[np.float32]], names: Sequence[int], wide: int, network: Session
) -> dict[int, npt.NDArray[np.float32]]:
    together = np.zeros((len(strips), 1, HEIGHT, wide), np.float32)
    for row, one in zip(together, strips, strict=True):
        row[0, :, : one.shape[1]] = one
    result = network.run(together)
    return {
        name: row[: one.shape[1] // 2] for name, row, one in zip(names, result, strips, strict=True)
    }
