"""Scenes: MNIST digits and our own strokes as cameras and scanners see them; seeded.

First the ink: a digit written with some pen, a letter, a smudge, a doodle. Then the picture: paper, light,
rulings, a neighbour's ink at the rim, blur, noise, compression. `glyphs` makes 28x28 glyphs of them.
"""

import itertools
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from digitry.model.artifact import NOT_A_DIGIT_CLASS
from digitry.reading.result import Box
from digitry.training.data.dataset import Split
from digitry.training.synthetic import pen

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Random = np.random.Generator


@dataclass(frozen=True)
class Scene:
    """One synthetic crop.

    Attributes:
        gray: (h, w) uint8, as a camera would give it.
        inverted: whether its ink is lighter than its paper.
        label: 0 to 9, or `NOT_A_DIGIT_CLASS`.
        box: where the ink that is meant stands.
    """

    gray: Bytes = field(repr=False)
    inverted: bool
    label: int
    box: Box


def digit_scene(digit: Bytes, label: int, rng: Random) -> Scene:
    """Show one MNIST digit as a person's picture.

    Args:
        digit: (28, 28) uint8, ink = 255.
        label: 0 to 9.
        rng: source of all randomness.
    """
    return _photograph(written(digit, any_height(rng), rng), label, rng)


def stroke_scene(rng: Random) -> Scene:
    """Show one digit in our own strokes, in one of the hands that MNIST's writers did not have."""
    label = int(rng.integers(10))
    return _photograph(drawn(pen.DIGITS[label], rng), label, rng)


def nothing_scene(split: Split, rng: Random) -> Scene:
    """Show something that is no digit: a sign, a letter, touching digits, a half, a smudge, a doodle."""
    kind = rng.choice(6, p=[0.32, 0.2, 0.16, 0.06, 0.1, 0.16])
    if kind == 0:
        ink = drawn(str(rng.choice(pen.LETTERS)), rng)
    elif kind == 1:
        names = [name for name in pen.SYMBOLS if name not in pen.SMALL]
        ink = drawn(str(rng.choice(names)), rng)
    elif kind == 2:
        ink = _touching(split, rng)
    elif kind == 3:
        ink = _half(split, rng)
    elif kind == 4:
        ink = _smudge(rng)
    else:
        ink = doodle(rng)
    return _photograph(ink, NOT_A_DIGIT_CLASS, rng)


def mirrored_scene(split: Split, rng: Random) -> Scene | None:
    """Show a digit as in a mirror, where that makes it none: 3, 4, 7 and 9."""
    index = int(rng.integers(len(split)))
    if split.labels[index] not in (3, 4, 7, 9):
        return None
    ink = written(split.images[index], any_height(rng), rng)
    return _photograph(np.ascontiguousarray(ink[:, ::-1]), NOT_A_DIGIT_CLASS, rng)


def thing_page(rng: Random) -> Bytes:
    """Photograph anything else: bodies and textures in uneven light; (h, w) uint8."""
    side = int(rng.integers(40, 160))
    shape = (side, int(side * rng.uniform(0.7, 1.4)))
    gray = 255 * _waves(shape, rng, coarse=max(3, side // 2), low=0.2)
    for _ in range(int(rng.integers(1, 9))):
        body = np.zeros(shape, np.float32)
        centre = (int(rng.integers(shape[1])), int(rng.integers(shape[0])))
        if rng.random() < 0.5:
            axes = tuple(int(side * rng.uniform(0.04, 0.4)) + 1 for _ in range(2))
            cv2.ellipse(body, centre, axes, rng.uniform(0, 180), 0, 360, 1.0, -1, cv2.LINE_AA)
        else:
            turns = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
            rim = np.stack([np.cos(turns), np.sin(turns)], 1) * side * rng.uniform(0.05, 0.5)
            cv2.fillPoly(body, [(rim + centre).astype(np.int32)], 1.0, cv2.LINE_AA)
        colour = rng.uniform(0, 255) * _waves(shape, rng, coarse=max(3, side // 4), low=0.6)
        gray = gray * (1 - body) + colour * body
    if rng.random() < 0.5:
        fine = rng.normal(0, 1, (max(2, side // 4), max(2, side // 4))).astype(np.float32)
        texture = cv2.resize(fine, shape[::-1], interpolation=cv2.INTER_CUBIC)
        gray = gray + rng.uniform(5, 50) * texture
    gray = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), rng.uniform(0.3, 1.5))
    gray += rng.normal(0, rng.uniform(0, 6), shape)
    pixels: Bytes = np.clip(gray, 0, 255).astype(np.uint8)
    return pixels


def empty_page(rng: Random) -> Bytes:
    """Photograph a page with nothing on it: light, folds, rulings, stains; (h, w) uint8."""
    height, width = (int(side) for side in rng.integers(30, 240, 2))
    shape = (height, width)
    side = min(shape)
    paper = np.full(shape, rng.uniform(120, 250), np.float32) * _light(shape, rng)
    kind = rng.integers(4)
    if kind == 0:
        _ruling(paper, int(side * rng.uniform(0.2, 1.0)), rng)
    elif kind == 1:
        # A fold, or the edge of another sheet: an edge from border to border, with its shadow.
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        angle = rng.uniform(0, np.pi)
        away = (columns - rng.uniform(0.1, 0.9) * width) * np.cos(angle)
        away = away + (rows - rng.uniform(0.1, 0.9) * height) * np.sin(angle)
        soft = rng.uniform(0.4, 0.06 * side + 0.5)
        edge = 1 / (1 + np.exp(-np.clip(away / soft, -30, 30)))
        paper *= 1 - rng.uniform(0.05, 0.4) * edge
        if rng.random() < 0.6:
            paper *= 1 - rng.uniform(0.05, 0.5) * np.exp(-((away / soft) ** 2))
    elif kind == 2:
        for _ in range(int(rng.integers(1, 5))):
            paper *= 1 - _stain(shape, rng)
    else:
        paper *= _waves(shape, rng, coarse=max(3, int(side * rng.uniform(0.1, 0.6))), low=0.6)
    gray = cv2.GaussianBlur(paper, (0, 0), rng.uniform(0.3, 1.5))
    gray = gray + rng.normal(0, rng.uniform(0, 6), shape)
    pixels: Bytes = np.clip(gray, 0, 255).astype(np.uint8)
    return pixels


# --- ink -------------------------------------------------------------------------------------------


def any_height(rng: Random) -> float:
    """Choose the height of a digit in a picture: 14 to 150 pixels, each doubling as likely."""
    return float(np.exp(rng.uniform(np.log(14), np.log(150))))


def written(digit: Bytes, height: float, rng: Random) -> Floats:
    """Enlarge an MNIST digit to crisp ink, leaning, stretched, thinner or thicker.

    Args:
        digit: (28, 28) uint8, ink = 255.
        height: of its 20-pixel box, in pixels.
        rng: source of all randomness.

    Returns:
        (h, w) float32 in [0, 1], with some empty margin.
    """
    scale = height / 20
    angle = np.deg2rad(rng.normal(0, 7) if rng.random() < 0.8 else rng.uniform(-25, 25))
    lean, stretch = rng.normal(0, 0.13), np.exp(rng.normal(0, 0.1))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = scale * turn @ np.array([[stretch, lean], [0, 1 / stretch]])
    side = round(36 * scale * 1.2)
    offset = side / 2 - matrix @ np.array([13.5, 13.5])
    # Away from its own grid, MNIST's grey rims are course information: upscaled smoothly, then cut.
    large = cv2.warpAffine(
        digit.astype(np.float32) / 255,
        np.hstack((matrix, offset[:, None])),
        (side, side),
        flags=cv2.INTER_CUBIC,
    )
    if rng.random() < 0.5 and side >= 24:
        large = _bent(large, rng)
    level = rng.uniform(0.28, 0.62)
    # At the edge of a stroke MNIST rises by about half its range a pixel; here that is `scale` pixels.
    ink = np.clip((large - level) * max(1.0, scale) * rng.uniform(0.9, 2.0) + 0.5, 0, 1)
    change = rng.normal(0, 0.055) * height
    width = round(abs(change))
    if width >= 1:
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width + 1, width + 1))
        if change > 0:
            ink = cv2.dilate(ink, disc)
        else:
            thin = cv2.erode(ink, disc)
            # Not so thin that it falls apart.
            ink = thin if thin.sum() > 0.35 * ink.sum() else ink
    result: Floats = ink.astype(np.float32)
    return result


def _bent(ink: Floats, rng: Random) -> Floats:
    """Displace smoothly by a few hundredths of the size (Simard et al. 2003, elastic distortions)."""
    side = ink.shape[0]
    coarse = rng.normal(0, 0.022 * side, (2, 5, 5)).astype(np.float32)
    fields = [cv2.resize(part, (side, side), interpolation=cv2.INTER_CUBIC) for part in coarse]
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    result: Floats = cv2.remap(
        ink, columns + fields[0], rows + fields[1], cv2.INTER_LINEAR, borderValue=0
    )
    return result


def drawn(symbol: str, rng: Random, height: float | None = None) -> Floats:
    """Draw one of our own symbols with some pen: a hairline, a ballpoint, a marker, pixels."""
    height = any_height(rng) if height is None else height
    share = float(np.exp(rng.uniform(np.log(0.02), np.log(0.24))))
    width = max(share * height, 0.9)
    hand = pen.pick_hand(symbol, rng)
    lines = pen.wobble(pen.strokes_of(symbol, hand), rng, amount=rng.uniform(0.4, 1.5))
    ink = pen.draw(lines, height, width, rng, pressure=rng.uniform(0, 0.4))
    margin = 3
    return np.pad(ink, margin)


def _touching(split: Split, rng: Random) -> Floats:
    """Lay two or three digits so close that their ink meets."""
    height = any_height(rng)
    count = 2 if rng.random() < 0.8 else 3
    digits = [trim(written(_any(split, rng), height, rng)) for _ in range(count)]
    ink = digits[0]
    for other in digits[1:]:
        gap = round(rng.uniform(-0.22, 0.02) * height)
        rows = max(ink.shape[0], other.shape[0])
        left = max(0, ink.shape[1] + gap)
        joined = np.zeros((rows + 2, max(left + other.shape[1], ink.shape[1])), np.float32)
        for part, x in ((ink, 0), (other, left)):
            y = int(rng.integers(0, joined.shape[0] - part.shape[0] + 1))
            place = joined[y : y + part.shape[0], x : x + part.shape[1]]
            np.maximum(place, part, out=place)
        ink = joined
    return np.pad(ink, 3)


def _half(split: Split, rng: Random) -> Floats:
    """Cut a digit in two; only those digits of which no half looks like another digit."""
    for _ in range(40):
        index = int(rng.integers(len(split)))
        if split.labels[index] in (0, 2, 3, 5, 6, 8):
            break
    ink = trim(written(split.images[index], any_height(rng), rng))
    if split.labels[index] == 0 or rng.random() < 0.4:
        # Left or right. The right half of a 3 or an 8 can pass for a 3, the left one of 6 for a 1.
        column = round(ink.shape[1] * rng.uniform(0.42, 0.58))
        keep_left = split.labels[index] in (0, 2, 3, 5, 8)
        part = ink[:, :column] if keep_left else ink[:, column:]
    else:
        row = round(ink.shape[0] * rng.uniform(0.35, 0.5))
        part = ink[row:] if split.labels[index] in (2, 3, 5) else ink[:row]
    return np.pad(part, 3)


def _smudge(rng: Random) -> Floats:
    """A blot, a speck, a bit of texture or a lying dash."""
    height = int(max(10, any_height(rng)))
    kind = rng.integers(3)
    if kind == 0:
        noise = rng.normal(0, 1, (8, 8)).astype(np.float32)
        blot = cv2.resize(noise, (height, height), interpolation=cv2.INTER_CUBIC)
        return np.pad((blot > rng.uniform(0.0, 1.0)).astype(np.float32), 3)
    if kind == 1:
        length, thick = height * 2, max(2, round(height * rng.uniform(0.05, 0.4)))
        dash = np.zeros((thick + 12, length + 12), np.float32)
        slope = int(rng.normal(0, 0.08) * length)
        cv2.line(dash, (6, 6 + thick // 2), (length + 6, 6 + thick // 2 + slope), 1.0, thick)
        return dash
    fine = rng.random((max(6, height // 3), max(6, height // 3))) < rng.uniform(0.2, 0.6)
    grown = cv2.resize(fine.astype(np.float32), (height, height), interpolation=cv2.INTER_NEAREST)
    return np.pad(grown, 3)


def doodle(rng: Random, height: float | None = None) -> Floats:
    """Draw with too many corners or strokes for a digit: polygons, crossing lines, hatching."""
    height = any_height(rng) if height is None else height
    kind = rng.integers(3)
    if kind == 0:
        # A closed line of five to nine corners, each across from the one before.
        corners = int(rng.integers(5, 10))
        turns = np.arange(corners) * 2 * np.pi * (2 if corners % 2 else 3) / corners
        radius = rng.uniform(0.3, 0.5, corners)
        rim = 0.5 + np.stack([np.cos(turns), np.sin(turns)], 1) * radius[:, None]
        lines = [np.concatenate([rim, rim[:1]])]
    elif kind == 1:
        lines = [rng.uniform(0, 1, (2, 2)) for _ in range(int(rng.integers(5, 10)))]
    else:
        count, lean = int(rng.integers(3, 9)), rng.uniform(-0.5, 0.5)
        lines = [
            np.array([[x + lean / 2, 0.0], [x - lean / 2, 1.0]]) + rng.normal(0, 0.03, (2, 2))
            for x in np.linspace(0, rng.uniform(0.8, 1.6), count)
        ]
        if rng.random() < 0.6:
            lines += [np.array([[0.0, y], [1.0, y]]) for y in rng.uniform(0.1, 0.9, 3)]
    spread = [
        np.concatenate([np.linspace(a, b, 12) for a, b in itertools.pairwise(line)])
        for line in lines
    ]
    width = max(float(np.exp(rng.uniform(np.log(0.02), np.log(0.12)))) * height, 0.9)
    bent = pen.wobble(spread, rng, amount=rng.uniform(0.4, 1.5))
    return np.pad(pen.draw(bent, height, width, rng), 3)


def _any(split: Split, rng: Random) -> Bytes:
    image: Bytes = split.images[int(rng.integers(len(split)))]
    return image


def trim(ink: Floats) -> Floats:
    """Cut close to the ink."""
    rows = np.flatnonzero((ink > 0.3).any(axis=1))
    columns = np.flatnonzero((ink > 0.3).any(axis=0))
    if len(rows) == 0:
        return ink
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


# --- paper, light, camera --------------------------------------------------------------------------


def _photograph(ink: Floats, label: int, rng: Random) -> Scene:
    """Lay ink on paper, light it, photograph it and cut it out."""
    ink = trim(ink)
    height, width = ink.shape
    side = max(height, width)
    clean = rng.random() < 0.35
    # Margins: from a tight crop to a digit that is small in its picture.
    share = rng.uniform(0.0, 0.12) if rng.random() < 0.3 else rng.uniform(0.1, 0.9)
    least = 0 if label < NOT_A_DIGIT_CLASS and share < 0.05 else 1
    top, bottom, left, right = (
        round(side * share * rng.uniform(0.4, 1.4)) + least for _ in range(4)
    )
    shape = (height + top + bottom, width + left + right)
    page = np.zeros(shape, np.float32)
    page[top : top + height, left : left + width] = ink
    box = Box(left, top, width, height)
    if rng.random() < 0.22 and share > 0.1:
        _neighbour(page, box, rng)
    density = rng.uniform(0.75, 1.0) if clean else rng.uniform(0.22, 0.95)
    if not clean and rng.random() < 0.35:
        page *= _waves(shape, rng, coarse=max(3, side // 6), low=0.55)
    paper = np.full(shape, 255.0 if clean else rng.uniform(120, 250), np.float32)
    if not clean:
        paper *= _light(shape, rng)
        if rng.random() < 0.18:
            _ruling(paper, side, rng)
    gray = paper * (1 - density * page)
    if clean:
        if rng.random() < 0.5:
            gray = np.where(page > 0.5, 255 * (1 - density), 255.0).astype(np.float32)
    else:
        blur = rng.uniform(0, 0.03) * side
        if blur > 0.3:
            gray = cv2.GaussianBlur(gray, (0, 0), blur)
        gray = gray + rng.normal(0, rng.uniform(0, 5), shape).astype(np.float32)
    inverted = bool(rng.random() < 0.2)
    pixels = np.clip(255 - gray if inverted else gray, 0, 255).astype(np.uint8)
    if not clean and rng.random() < 0.5:
        quality = int(rng.integers(25, 90))
        _, packed = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE)
        pixels = pixels if decoded is None else decoded.astype(np.uint8)
    return Scene(pixels, inverted, label, box)


def _neighbour(page: Floats, box: Box, rng: Random) -> None:
    """Let the ink of a neighbour come in at the left or right rim."""
    height, width = page.shape
    room = box.x if rng.random() < 0.5 else width - box.right
    reach = round(room * rng.uniform(0.2, 0.75))
    if reach < 3:
        return
    symbol = pen.DIGITS[int(rng.integers(10))]
    lines = pen.wobble(pen.strokes_of(symbol, pen.pick_hand(symbol, rng)), rng)
    other = pen.draw(lines, box.h, max(1.0, 0.08 * box.h), rng)
    rows = min(other.shape[0], height - box.y)
    reach = min(reach, other.shape[1])
    if room == box.x:
        place = page[box.y : box.y + rows, :reach]
        np.maximum(place, other[:rows, -reach:], out=place)
    else:
        place = page[box.y : box.y + rows, width - reach :]
        np.maximum(place, other[:rows, :reach], out=place)


def _waves(shape: tuple[int, int], rng: Random, *, coarse: int, low: float) -> Floats:
    """A smooth random field in [low, 1]; `coarse` is the distance of its knots in pixels."""
    knots = rng.uniform(
        low, 1, (max(2, shape[0] // coarse + 2), max(2, shape[1] // coarse + 2))
    ).astype(np.float32)
    grown: Floats = cv2.resize(knots, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return grown


def _light(shape: tuple[int, int], rng: Random) -> Floats:
    """Light that falls off to one side, and sometimes the edge of a shadow."""
    rows, columns = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j].astype(np.float32)
    slope = rng.normal(0, 0.12, 2)
    light = 1 + slope[0] * rows + slope[1] * columns
    if rng.random() < 0.25:
        angle, soft = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.8)
        edge = (np.cos(angle) * rows + np.sin(angle) * columns - rng.uniform(-0.6, 0.6)) / soft
        light = light * (1 - rng.uniform(0.1, 0.45) / (1 + np.exp(-4 * edge)))
    result: Floats = np.clip(light, 0.25, 1.15).astype(np.float32)
    return result


def _ruling(paper: Floats, side: int, rng: Random) -> None:
    """Rule the paper, or square it, in a paler colour than most ink."""
    height, width = paper.shape
    darkness = 1 - rng.uniform(0.06, 0.35)
    thick = max(1, round(side * rng.uniform(0.008, 0.03)))
    step = max(6, round(side * rng.uniform(0.4, 1.5)))
    slope = rng.normal(0, 0.02)
    ruled = np.zeros(paper.shape, np.uint8)
    for y in range(int(rng.integers(step)), height, step):
        cv2.line(ruled, (0, y), (width, round(y + slope * width)), 1, thick)
    if rng.random() < 0.4:
        for x in range(int(rng.integers(step)), width, step):
            cv2.line(ruled, (x, 0), (round(x - slope * height), height), 1, thick)
    paper[ruled > 0] *= darkness


def _stain(shape: tuple[int, int], rng: Random) -> Floats:
    """A soft blot, a drop with a dark rim, or the ring of a cup: (h, w), what it takes of the light."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    side = min(shape)
    y, x = rng.uniform(0.1, 0.9, 2) * shape
    stretch, radius = np.exp(rng.normal(0, 0.25)), side * rng.uniform(0.08, 0.45)
    turn = np.arctan2(rows - y, columns - x)
    waves = sum(rng.normal(0, 0.08) * np.cos(k * turn + rng.uniform(0, 6.3)) for k in range(1, 5))
    away = np.hypot((rows - y) * stretch, (columns - x) / stretch) / (radius * (1 + waves))
    soft = rng.uniform(0.02, 0.4)
    body = 1 / (1 + np.exp(np.clip((away - 1) / soft, -30, 30)))
    rim = np.exp(-(((away - 1) / rng.uniform(0.05, 0.25)) ** 2))
    kind = rng.integers(3)
    share = body if kind == 0 else rim if kind == 1 else 0.5 * body + 0.5 * rim
    result: Floats = (rng.uniform(0.1, 0.7) * share).astype(np.float32)
    return result
