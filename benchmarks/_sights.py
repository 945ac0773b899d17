"""Draw pictures without writing: blank paper, textures, things, noise, stains, forms.

Each public function that takes only a random generator returns a picture, (h, w, 3) uint8; `paper`
returns float32. Training uses none of this.
"""

import cv2
import numpy as np

Picture = np.ndarray
Random = np.random.Generator


def side(rng: Random) -> tuple[int, int]:
    """Return a random height and width, from a thumbnail to a small photo."""
    height = float(np.exp(rng.uniform(np.log(40), np.log(480))))
    return max(28, round(height)), max(28, round(height * rng.uniform(0.7, 1.45)))


def colour(rng: Random, low: int = 0, high: int = 255) -> np.ndarray:
    """Return a random colour near grey, (3,) float32 in [0, 255]."""
    grey = rng.uniform(low, high)
    return np.clip(grey + rng.normal(0, 22, 3), 0, 255).astype(np.float32)


def clouds(shape: tuple[int, int], rng: Random, roughness: float = 1.0) -> np.ndarray:
    """Return smooth noise of many scales in [0, 1], for shadows, stains and marble."""
    total = np.zeros(shape, np.float32)
    weight, knots = 1.0, 2
    while knots < max(shape):
        coarse = rng.random((knots + 1, knots + 1)).astype(np.float32)
        total += weight * cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
        weight, knots = weight * 0.5 * roughness, knots * 2
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def paper(rng: Random, shape: tuple[int, int] | None = None) -> Picture:
    """Return paper of a random colour in random light, (h, w, 3) float32."""
    shape = shape or side(rng)
    sheet = np.empty((*shape, 3), np.float32)
    sheet[:] = colour(rng, 150, 250)
    # A lamp at one point, and a soft shadow.
    y, x = np.mgrid[0 : 1 : shape[0] * 1j, 0 : 1 : shape[1] * 1j].astype(np.float32)
    lamp = rng.uniform(-0.3, 1.3, 2)
    fall = np.hypot(y - lamp[0], x - lamp[1])
    sheet *= (1 - rng.uniform(0, 0.4) * fall**2)[..., None]
    if rng.random() < 0.4:
        shadow = cv2.GaussianBlur(
            (clouds(shape, rng, 0.5) > 0.55).astype(np.float32), (0, 0), max(shape) * 0.06
        )
        sheet *= (1 - rng.uniform(0.1, 0.4) * shadow)[..., None]
    return sheet


def photograph(picture: Picture, rng: Random) -> Picture:
    """Return the picture as a phone's photo: a little tilted, blurred, noisy, compressed as JPEG."""
    height, width = picture.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + rng.uniform(-0.03, 0.03, (4, 2)).astype(np.float32) * (width, height)
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    picture = cv2.warpPerspective(
        picture.astype(np.float32), matrix, (width, height), borderMode=cv2.BORDER_REPLICATE
    )
    if rng.random() < 0.5:
        length = max(1, round(max(height, width) * rng.uniform(0, 0.02)))
        picture = cv2.blur(picture, (length, 1) if rng.random() < 0.5 else (1, length))
    noise = rng.normal(0, rng.uniform(0, 4), (height, width, 1)).astype(np.float32)
    pixels = np.clip(picture + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        pixels = 255 - pixels
    if rng.random() < 0.6:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))]
        return cv2.imdecode(cv2.imencode(".jpg", pixels, quality)[1], cv2.IMREAD_COLOR)
    return pixels


def written(ink: np.ndarray, rng: Random) -> Picture:
    """Draw ink on paper and photograph it."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    reach = max(ink.shape)
    top, bottom, left, right = (round(reach * rng.uniform(0.08, 0.7)) + 2 for _ in range(4))
    mask = np.pad(ink, ((top, bottom), (left, right)))[..., None]
    sheet = paper(rng, mask.shape[:2])
    if rng.random() < 0.15:
        _rule(sheet, rng, max(8, round(reach * rng.uniform(0.3, 0.9))), rng.random() < 0.4)
    strength = rng.uniform(0.5, 1.0)
    pen = colour(rng, 0, 70)
    return photograph(sheet * (1 - strength * mask) + pen * strength * mask, rng)


def _rule(sheet: Picture, rng: Random, step: int, squared: bool) -> None:
    ink = colour(rng, 100, 190)
    thick = max(1, step // 24)
    for y in range(int(rng.integers(step)), sheet.shape[0], step):
        sheet[y : y + thick] = 0.5 * sheet[y : y + thick] + 0.5 * ink
    for x in range(int(rng.integers(step)), sheet.shape[1], step if squared else 1 << 30):
        sheet[:, x : x + thick] = 0.5 * sheet[:, x : x + thick] + 0.5 * ink


def blank(rng: Random) -> Picture:
    """Draw empty paper: plain, ruled, squared, dotted, folded, or with a margin."""
    sheet = paper(rng)
    height, width = sheet.shape[:2]
    step = max(8, round(min(height, width) * rng.uniform(0.08, 0.3)))
    kind = int(rng.integers(6))
    if kind in (1, 2):
        _rule(sheet, rng, step, kind == 2)
    elif kind == 3:
        for y in range(step // 2, height, step):
            for x in range(step // 2, width, step):
                cv2.circle(sheet, (x, y), max(1, step // 16), colour(rng, 120, 160).tolist(), -1)
    elif kind == 4:
        fold = int(width * rng.uniform(0.3, 0.7))
        sheet[:, fold:] *= rng.uniform(0.85, 0.97)
        sheet[:, fold : fold + max(1, width // 100)] *= rng.uniform(0.8, 1.1)
    elif kind == 5:
        _rule(sheet, rng, step, False)
        sheet[:, step : step + max(1, step // 20)] *= np.array([0.75, 0.75, 1.0], np.float32)
    return photograph(sheet, rng)


def noise(rng: Random) -> Picture:
    """Draw noise: white, coarse, salt and pepper, clouds, broken blocks, or a dark sensor."""
    shape = side(rng)
    kind = int(rng.integers(6))
    if kind == 0:
        return rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    if kind == 1:
        small = rng.integers(0, 256, (max(2, shape[0] // 9), max(2, shape[1] // 9))).astype(
            np.uint8
        )
        grey = cv2.resize(small, shape[::-1], interpolation=int(rng.integers(0, 3)))
    elif kind == 2:
        grey = np.full(shape, rng.integers(100, 240), np.uint8)
        grey[rng.random(shape) < rng.uniform(0.002, 0.2)] = 0
        grey[rng.random(shape) < rng.uniform(0.002, 0.1)] = 255
    elif kind == 3:
        grey = (255 * clouds(shape, rng, rng.uniform(0.8, 1.8))).astype(np.uint8)
    elif kind == 4:
        grey = np.full(shape, 200, np.uint8)
        for _ in range(int(rng.integers(3, 40))):
            y, x = int(rng.integers(shape[0])), int(rng.integers(shape[1]))
            grey[y : y + 8, x : x + 8 * int(rng.integers(1, 9))] = rng.integers(0, 256)
    else:
        grey = np.clip(rng.normal(18, 9, shape), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def texture(rng: Random) -> Picture:
    """Draw a pattern that fills the picture: houndstooth, checks, bricks, weave, wood, grass, ..."""
    height, width = side(rng)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    step = max(5.0, min(height, width) * rng.uniform(0.06, 0.4))
    angle = rng.choice([0.0, 0.0, rng.uniform(0, np.pi)])
    u = (x * np.cos(angle) + y * np.sin(angle)) / step
    v = (y * np.cos(angle) - x * np.sin(angle)) / step
    kind = int(rng.integers(10))
    if kind == 0:  # houndstooth: two twills of one broken check
        a, b = (u % 4).astype(int), (v % 4).astype(int)
        tooth = np.array([[1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]], np.float32)
        mask = tooth[b, a]
    elif kind == 1:
        mask = ((np.floor(u) + np.floor(v)) % 2).astype(np.float32)
    elif kind == 2:  # bricks
        row = np.floor(v * 2)
        mask = (((v * 2) % 1 < 0.12) | ((u + 0.5 * (row % 2)) % 1 < 0.07)).astype(np.float32)
    elif kind == 3:  # weave
        mask = np.where((np.floor(u) + np.floor(v)) % 2, u % 1, v % 1)
        mask = (np.abs(mask - 0.5) < 0.32).astype(np.float32)
    elif kind == 4:  # wood
        bend = u + 0.6 * clouds((height, width), rng, 0.4) + 0.15 * np.sin(v)
        mask = 0.5 + 0.5 * np.sin(2 * np.pi * bend * 2)
    elif kind == 5:  # stripes of several widths
        mask = (np.sin(2 * np.pi * u) + 0.6 * np.sin(2 * np.pi * 2.7 * u) > 0.3).astype(np.float32)
    elif kind == 6:  # spots, closely set
        mask = (np.hypot((u + 0.5 * (np.floor(v) % 2)) % 1 - 0.5, v % 1 - 0.5) < 0.34).astype(
            np.float32
        )
    elif kind == 7:  # pebbles: the nearest of many points
        seeds = rng.random((int(rng.integers(12, 60)), 2)) * (height, width)
        away = np.stack([np.hypot(y - a, x - b) for a, b in seeds])
        first, second = np.partition(away, 1, axis=0)[:2]
        mask = (second - first < step * 0.15).astype(np.float32)
    elif kind == 8:  # grass
        mask = np.zeros((height, width), np.float32)
        for _ in range(int(rng.integers(60, 260))):
            root = (int(rng.integers(width)), int(rng.integers(height)))
            tip = (root[0] + int(rng.normal(0, step)), root[1] - int(rng.uniform(0.5, 2.5) * step))
            cv2.line(mask, root, tip, rng.uniform(0.2, 1), max(1, int(step / 9)), cv2.LINE_AA)
    else:  # zigzag
        mask = ((v + np.abs(u % 1 - 0.5)) % 0.5 < 0.22).astype(np.float32)
    dark, light = colour(rng, 20, 120), colour(rng, 130, 245)
    picture = mask[..., None] * dark + (1 - mask[..., None]) * light
    shade = 1 - rng.uniform(0, 0.4) * clouds((height, width), rng, 0.5)
    return photograph(picture * shade[..., None], rng)


def stain(rng: Random) -> Picture:
    """Draw dirt on paper: blots, splashes, smears, a fingerprint, scratches, or creases."""
    sheet = paper(rng)
    height, width = sheet.shape[:2]
    reach = min(height, width)
    mask = np.zeros((height, width), np.float32)
    kind = int(rng.integers(6))
    middle = (int(width * rng.uniform(0.35, 0.65)), int(height * rng.uniform(0.35, 0.65)))
    if kind == 0:
        field = clouds((height, width), rng, 1.1)
        mask = np.clip((field - rng.uniform(0.6, 0.75)) * 12, 0, 1)
    elif kind == 1:
        for _ in range(int(rng.integers(4, 60))):
            place = (int(rng.normal(middle[0], reach / 4)), int(rng.normal(middle[1], reach / 4)))
            cv2.circle(
                mask, place, max(1, int(abs(rng.normal(0, reach / 30)))), 1.0, -1, cv2.LINE_AA
            )
    elif kind == 2:
        for _ in range(int(rng.integers(2, 6))):
            start = rng.uniform(0.1, 0.6, 2) * (width, height)
            end = start + np.array([rng.uniform(0.2, 0.5) * width, rng.normal(0, 0.04) * height])
            thick = max(3, round(reach * rng.uniform(0.04, 0.14)))
            cv2.line(mask, start.astype(int).tolist(), end.astype(int).tolist(), 0.8, thick)
        mask = cv2.GaussianBlur(mask, (0, 0), reach / 40)
        mask *= 0.4 + 0.6 * clouds((height, width), rng)
    elif kind == 3:
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        y, x = (y - middle[1]) / reach, (x - middle[0]) / reach
        rings = np.sin(90 * np.hypot(y * 0.8, x) + 6 * clouds((height, width), rng, 0.4))
        mask = (rings > 0.2) * np.clip(3 - 8 * np.hypot(y * 0.8, x), 0, 1)
    elif kind == 4:
        for _ in range(int(rng.integers(8, 30))):
            start = rng.uniform(0.1, 0.9, 2) * (width, height)
            end = start + rng.normal(0, 0.2, 2) * reach
            cv2.line(
                mask, start.astype(int).tolist(), end.astype(int).tolist(), 0.9, max(1, reach // 60)
            )
    else:
        field = clouds((height, width), rng, 1.3)
        mask = np.clip(
            np.abs(cv2.Laplacian(cv2.GaussianBlur(field, (0, 0), 3), cv2.CV_32F)) * 60, 0, 1
        )
    strength = rng.uniform(0.3, 0.95) * mask[..., None].astype(np.float32)
    return photograph(sheet * (1 - strength) + colour(rng, 10, 110) * strength, rng)


def thing(rng: Random) -> Picture:
    """Draw a photo of a thing: a clock, a leaf, a chair, a table, a window, shelves, a lamp, ..."""
    height, width = side(rng)
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = colour(rng, 120, 245)
    canvas *= (1 - rng.uniform(0, 0.35) * clouds((height, width), rng, 0.6))[..., None]
    draw = _Draw(canvas, rng)
    _THINGS[int(rng.integers(len(_THINGS)))](draw, rng)
    return photograph(canvas, rng)


class _Draw:
    """A canvas with the origin in the middle; its unit is about the shorter side."""

    def __init__(self, canvas: Picture, rng: Random) -> None:
        self.canvas = canvas
        height, width = canvas.shape[:2]
        self.unit = min(height, width) * rng.uniform(0.6, 0.95)
        self.middle = np.array([width / 2, height / 2]) + rng.normal(0, 0.03, 2) * self.unit
        self.ink = colour(rng, 0, 90)
        self.other = colour(rng, 60, 170)

    def _at(self, points: object) -> np.ndarray:
        places = np.asarray(points, float) * self.unit + self.middle
        return np.rint(places * 16).astype(np.int32)

    def line(self, *points: tuple[float, float], thick: float = 0.02, ink: object = None) -> None:
        shade = (self.ink if ink is None else np.asarray(ink)).tolist()
        pixels = max(1, round(thick * self.unit))
        cv2.polylines(self.canvas, [self._at(points)], False, shade, pixels, cv2.LINE_AA, 4)

    def area(self, *points: tuple[float, float], ink: object = None) -> None:
        shade = (self.other if ink is None else np.asarray(ink)).tolist()
        cv2.fillPoly(self.canvas, [self._at(points)], shade, cv2.LINE_AA, 4)

    def round(self, x: float, y: float, r: float, thick: float = 0, ink: object = None) -> None:
        shade = (self.ink if ink is None else np.asarray(ink)).tolist()
        pixels = max(1, round(thick * self.unit)) if thick else -1
        centre = tuple(self._at((x, y)).tolist())
        cv2.circle(self.canvas, centre, round(r * self.unit * 16), shade, pixels, cv2.LINE_AA, 4)


def _clock(draw: _Draw, rng: Random) -> None:
    draw.round(0, 0, 0.46, ink=colour(rng, 200, 255))
    draw.round(0, 0, 0.46, thick=0.04)
    for hour in range(12):
        s, c = np.sin(hour * np.pi / 6), np.cos(hour * np.pi / 6)
        draw.line((0.36 * s, 0.36 * c), (0.42 * s, 0.42 * c), thick=0.02)
    for length, thick in ((0.2, 0.035), (0.32, 0.02)):
        angle = rng.uniform(0, 2 * np.pi)
        draw.line((0, 0), (length * np.sin(angle), length * np.cos(angle)), thick=thick)


def _leaf(draw: _Draw, rng: Random) -> None:
    t = np.linspace(0, np.pi, 30)
    broad = rng.uniform(0.12, 0.3)
    rim = np.concatenate(
        [np.stack([broad * np.sin(t), -0.45 * np.cos(t)], 1),
         np.stack([-broad * np.sin(t), 0.45 * np.cos(t)], 1)]
    )  # fmt: skip
    draw.area(*rim)
    draw.line((0, -0.45), (0, 0.5), thick=0.015)
    for y in np.linspace(-0.3, 0.3, int(rng.integers(4, 8))):
        for sign in (-1, 1):
            draw.line((0, y), (sign * 0.8 * broad * np.cos(y * 2), y - 0.1), thick=0.008)


def _chair(draw: _Draw, rng: Random) -> None:
    back, seat = rng.uniform(-0.5, -0.3), rng.uniform(-0.02, 0.12)
    for x in (-0.2, 0.14):
        draw.line((x, back), (x, 0.48), thick=0.03)
        draw.line((x + 0.1, seat + 0.06), (x + 0.1, 0.42), thick=0.03)
    draw.area((-0.22, seat), (0.16, seat), (0.27, seat + 0.08), (-0.1, seat + 0.08))
    for y in np.linspace(back, seat - 0.1, 3):
        draw.line((-0.2, y), (0.14, y), thick=0.03)


def _table(draw: _Draw, rng: Random) -> None:
    draw.area((-0.48, -0.1), (0.4, -0.1), (0.5, 0.02), (-0.38, 0.02))
    for x, y in ((-0.36, 0.02), (0.48, 0.02), (-0.44, -0.04), (0.4, -0.04)):
        draw.line((x, y), (x, 0.42 + y), thick=rng.uniform(0.02, 0.05))


def _window(draw: _Draw, rng: Random) -> None:
    draw.area((-0.4, -0.48), (0.4, -0.48), (0.4, 0.48), (-0.4, 0.48), ink=colour(rng, 150, 255))
    for x in (-0.4, 0.0, 0.4):
        draw.line((x, -0.48), (x, 0.48), thick=0.03)
    for y in np.linspace(-0.48, 0.48, int(rng.integers(3, 5))):
        draw.line((-0.4, y), (0.4, y), thick=0.03)


def _shelves(draw: _Draw, rng: Random) -> None:
    for y in (-0.2, 0.14, 0.48):
        x = -0.45
        while x < 0.4:
            wide, high = rng.uniform(0.03, 0.09), rng.uniform(0.18, 0.29)
            draw.area(
                (x, y), (x + wide, y), (x + wide, y - high), (x, y - high), ink=colour(rng, 30, 210)
            )
            x += wide + 0.008
        draw.line((-0.48, y), (0.48, y), thick=0.025)


def _lamp(draw: _Draw, rng: Random) -> None:
    draw.area((-0.12, -0.45), (0.12, -0.45), (0.28, -0.1), (-0.28, -0.1), ink=colour(rng, 190, 255))
    draw.line((-0.12, -0.45), (0.12, -0.45), (0.28, -0.1), (-0.28, -0.1), (-0.12, -0.45))
    draw.line((0, -0.1), (0, 0.42), thick=0.03)
    draw.area((-0.18, 0.48), (-0.1, 0.42), (0.1, 0.42), (0.18, 0.48), ink=draw.ink)


def _stairs(draw: _Draw, rng: Random) -> None:
    count = int(rng.integers(5, 9))
    points = [(-0.5, 0.48)]
    for step in range(count):
        y = 0.48 - 0.9 * (step + 1) / count
        points += [(-0.5 + step / count, y), (-0.5 + (step + 1) / count, y)]
    draw.area(*points, (0.5, 0.48))
    draw.line(*points, thick=0.02)


def _fence(draw: _Draw, rng: Random) -> None:
    for x in np.arange(-0.48, 0.48, rng.uniform(0.1, 0.2)):
        draw.area(
            (x, 0.45),
            (x, -0.3),
            (x + 0.035, -0.38),
            (x + 0.07, -0.3),
            (x + 0.07, 0.45),
            ink=draw.ink,
        )
    for y in (-0.15, 0.25):
        draw.line((-0.5, y), (0.55, y), thick=0.04)


def _bicycle(draw: _Draw, rng: Random) -> None:
    for x in (-0.3, 0.3):
        draw.round(x, 0.15, 0.2, thick=0.02)
        for angle in np.linspace(0, np.pi, 6):
            s, c = 0.2 * np.sin(angle), 0.2 * np.cos(angle)
            draw.line((x - s, 0.15 - c), (x + s, 0.15 + c), thick=0.005)
    draw.line((-0.3, 0.15), (-0.1, -0.15), (0.2, -0.15), (-0.02, 0.15), (-0.3, 0.15), thick=0.025)
    draw.line((-0.02, 0.15), (-0.13, -0.22), thick=0.025)
    draw.line((0.3, 0.15), (0.18, -0.25), (0.26, -0.28), thick=0.025)


def _hills(draw: _Draw, rng: Random) -> None:
    for depth in range(3):
        x = np.linspace(-0.9, 0.9, 40)
        y = -0.1 + 0.18 * depth + 0.1 * np.sin(x * rng.uniform(3, 9) + rng.uniform(0, 6))
        draw.area(
            *zip(x, y, strict=True),
            (0.9, 0.9),
            (-0.9, 0.9),
            ink=colour(rng, 150 - 45 * depth, 170 - 45 * depth),
        )
    draw.round(rng.uniform(-0.3, 0.3), -0.32, 0.07, ink=colour(rng, 230, 255))


def _tree(draw: _Draw, rng: Random) -> None:
    def branch(x: float, y: float, angle: float, length: float, thick: float) -> None:
        if length < 0.04:
            return
        tip = (x + length * np.sin(angle), y - length * np.cos(angle))
        draw.line((x, y), tip, thick=thick)
        for turn in (-rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7)):
            branch(*tip, angle + turn, length * rng.uniform(0.6, 0.8), thick * 0.65)

    branch(0.0, 0.5, rng.normal(0, 0.1), 0.3, 0.05)


def _keyboard(draw: _Draw, rng: Random) -> None:
    draw.area((-0.5, -0.25), (0.5, -0.25), (0.5, 0.25), (-0.5, 0.25), ink=draw.ink)
    key = colour(rng, 120, 220)
    for row, y in enumerate(np.linspace(-0.22, 0.14, 4)):
        for x in np.linspace(-0.47 + 0.02 * (row % 2), 0.38, 10):
            draw.area((x, y), (x + 0.07, y), (x + 0.07, y + 0.08), (x, y + 0.08), ink=key)


def _barcode(draw: _Draw, rng: Random) -> None:
    x = -0.45
    while x < 0.42:
        wide = rng.choice([0.01, 0.02, 0.03])
        draw.area((x, -0.3), (x + wide, -0.3), (x + wide, 0.3), (x, 0.3), ink=draw.ink)
        x += wide + rng.choice([0.01, 0.02, 0.03])


def _tiles(draw: _Draw, rng: Random) -> None:
    cells = int(rng.integers(9, 22))
    step = 0.9 / cells
    for row, column in zip(*np.nonzero(rng.random((cells, cells)) < 0.5), strict=True):
        x, y = -0.45 + column * step, -0.45 + row * step
        draw.area((x, y), (x + step, y), (x + step, y + step), (x, y + step), ink=draw.ink)


def _fork(draw: _Draw, rng: Random) -> None:
    for x in (-0.09, -0.03, 0.03, 0.09):
        draw.line((x, -0.45), (x, -0.15), thick=0.022)
    draw.area((-0.1, -0.17), (0.1, -0.17), (0.03, 0.02), (-0.03, 0.02), ink=draw.ink)
    draw.line((0, 0), (0.02, 0.48), thick=0.05)


_THINGS = (
    _clock, _leaf, _chair, _table, _window, _shelves, _lamp, _stairs, _fence, _bicycle, _hills, _tree,
    _keyboard, _barcode, _tiles, _fork,
)  # fmt: skip


def form(rng: Random) -> Picture:
    """Draw an empty form: a row of boxes, a table, lines to write on, or a crossed box."""
    sheet = paper(rng)
    height, width = sheet.shape[:2]
    ink = colour(rng, 20, 120).tolist()
    thick = max(1, min(height, width) // 90)
    kind = int(rng.integers(4))
    left, top, right, bottom = (
        int(width * 0.12), int(height * rng.uniform(0.1, 0.3)), int(width * 0.88), int(height * 0.8),
    )  # fmt: skip
    rows, columns = (1, int(rng.integers(3, 9))) if kind == 0 else rng.integers(2, 6, 2).tolist()
    if kind < 2:
        for x in np.linspace(left, right, columns + 1).astype(int).tolist():
            cv2.line(sheet, (x, top), (x, bottom), ink, thick)
        for y in np.linspace(top, bottom, rows + 1).astype(int).tolist():
            cv2.line(sheet, (left, y), (right, y), ink, thick)
    elif kind == 2:
        for y in np.linspace(top, bottom, int(rng.integers(2, 7))).astype(int).tolist():
            cv2.line(sheet, (left, y), (right, y), ink, thick)
    else:
        size = int(min(height, width) * rng.uniform(0.2, 0.5))
        x, y = int(width * 0.3), int(height * 0.3)
        cv2.rectangle(sheet, (x, y), (x + size, y + size), ink, thick)
        pen = colour(rng, 0, 60).tolist()
        cv2.line(sheet, (x, y), (x + size, y + size), pen, 2 * thick, cv2.LINE_AA)
        cv2.line(sheet, (x + size, y), (x, y + size), pen, 2 * thick, cv2.LINE_AA)
    return photograph(sheet, rng)
