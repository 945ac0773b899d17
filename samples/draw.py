"""Draw the sample pictures and write `truth.csv`, in the folder of this file.

Each picture starts as a page of reflectances, (h, w, 3) float32 in [0, 1]. Digits are written on it, and
a simulated camera or scanner turns it into an image. `make samples` runs this; it always draws the same.
"""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from digitry.files import write_bytes
from digitry.training.writing.pen import strokes_of, trace, wobble

Page = NDArray[np.float32]
Colour = tuple[float, float, float]
Line = tuple[str, float, float]
"""A text, and the left edge and base line of its first digit, in pixels."""

BLUE_PEN, BLACK_PEN, PENCIL = (0.10, 0.16, 0.48), (0.09, 0.09, 0.10), (0.33, 0.33, 0.35)
RED_PEN, GREEN_PEN, CHALK = (0.74, 0.10, 0.13), (0.05, 0.42, 0.25), (0.93, 0.93, 0.90)

# Each writer draws a digit in one way: the ways of two writers, for the digits 0 to 9.
PLAIN = (0, 1, 0, 0, 0, 0, 0, 0, 0, 0)
CONTINENTAL = (3, 4, 3, 3, 3, 1, 2, 4, 1, 1)


def paper(shape: tuple[int, int], colour: Colour, rng: np.random.Generator, rough: float) -> Page:
    """Return an empty page of one colour with fibres, flecks and clouds; `rough` 1 = writing paper."""
    texture = np.zeros(shape, np.float32)
    for sigma, depth in ((0.8, 0.010), (2.5, 0.009), (9.0, 0.006), (60.0, 0.012)):
        noise = cv2.GaussianBlur(rng.standard_normal(shape, dtype=np.float32), (0, 0), sigma)
        texture += depth * noise / max(float(noise.std()), 1e-6)
    return np.clip(np.array(colour, np.float32) * (1 + rough * texture[..., None]), 0, 1)


def ruled(page: Page, spacing: float, first: float, colour: Colour, squares: bool = False) -> Page:
    """Return the page with ruling lines, or squares, `spacing` pixels apart, from `first` on."""
    height, width = page.shape[:2]
    lines = [np.array([[-9.0, y], [width + 9.0, y]]) for y in np.arange(first, height, spacing)]
    if squares:
        columns = np.arange(first, width, spacing)
        lines += [np.array([[x, -9.0], [x, height + 9.0]]) for x in columns]
    still = np.random.default_rng(0)
    printed = trace(
        lines, (height, width), max(1.4, spacing / 70), still, pressure=0, taper=0, grain=0
    )
    return inked(page, printed, colour, 0.85)


def inked(page: Page, ink: NDArray[np.float32], colour: Colour, strength: float = 0.96) -> Page:
    """Return the page with ink on it; `ink` is (h, w) in [0, 1]. Chalk covers as ink does."""
    cover = (strength * ink)[..., None]
    return page * (1 - cover) + np.array(colour, np.float32) * cover


def writing(
    lines: list[Line],
    shape: tuple[int, int],
    height: float,
    pen: float,
    rng: np.random.Generator,
    *,
    hands: tuple[int, ...] = PLAIN,
    amount: float = 0.55,
    slant: float = 0.08,
    grain: float = 0.12,
    gap: float = 0.22,
) -> NDArray[np.float32]:
    """Return lines of digits in one handwriting: (h, w) float32 in [0, 1], ink = 1.

    Args:
        lines: the texts and their places; a space is a wide gap.
        shape: rows and columns of the page, in pixels.
        height: height of a digit, in pixels.
        pen: width of the pen, in pixels.
        rng: source of all randomness.
        hands: the way in which each digit is drawn, 0 to 9.
        amount: how unsteady the hand is, as for `pen.wobble`.
        slant: how far digits lean to the right, in heights.
        grain: as for `pen.trace`.
        gap: between digits, in heights.
    """
    strokes = []
    for text, left, base in lines:
        x, y = left, base
        for symbol in text:
            if symbol == " ":
                x += 0.55 * height
                continue
            digit = wobble(strokes_of(symbol, hands[int(symbol)]), rng, amount)
            digit = tuple(s + np.array([slant, 0.0]) * (0.5 - s[:, 1:]) for s in digit)
            size = height * np.exp(rng.normal(0, 0.04))
            first = min(float(s[:, 0].min()) for s in digit)
            last = max(float(s[:, 0].max()) for s in digit)
            y += rng.normal(0, 0.012) * height
            corner = [x - first * size, y - size + rng.normal(0, 0.015) * height]
            strokes += [s * size + corner for s in digit]
            x += (last - first) * size + height * gap * np.exp(rng.normal(0, 0.2))
    return trace(strokes, shape, pen, rng, pressure=0.2, taper=0.35, grain=grain)


def shadow(shape: tuple[int, int], angle: float, at: float, depth: float, soft: float) -> Page:
    """Return light with a shadow behind a straight edge: 1 in the light, 1 - depth in the shadow.

    Args:
        shape: rows and columns.
        angle: direction in which it gets darker, in degrees from the right, downwards.
        at: position of the edge, as a share of the way across.
        depth: share of the light that is lost.
        soft: width of the soft edge, as a share of the way across.
    """
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    turn = np.deg2rad(angle)
    along = np.cos(turn) * columns / shape[1] + np.sin(turn) * rows / shape[0]
    along = (along - along.min()) / (along.max() - along.min())
    return np.asarray(1 - depth / (1 + np.exp(-(along - at) / soft)))[..., None].astype(np.float32)


def photographed(
    page: Page,
    rng: np.random.Generator,
    light: Page | float = 1.0,
    *,
    tilt: float = 0.02,
    turn: float = 0.0,
    blur: float = 0.8,
    noise: float = 0.012,
    warmth: float = 0.02,
) -> NDArray[np.uint8]:
    """Return a phone's photo of a page: tilted, unevenly lit, a little blurred, noisy.

    Args:
        page: the page, (h, w, 3).
        rng: source of all randomness.
        light: (h, w, 1), as `shadow` returns it.
        tilt: how far the corners move, as a share of the picture's size.
        turn: rotation in degrees, clockwise.
        blur: sigma of the blur, in pixels.
        noise: noise of the sensor at full light, as a share of it.
        warmth: how much more red than blue the lamp gives.
    """
    height, width = page.shape[:2]
    # The frame stays within the page even if the corners move.
    inset = tilt + 0.012 * abs(turn) + 0.005
    frame = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    seen = np.clip(frame, inset, 1 - inset) + rng.uniform(-tilt, tilt, (4, 2))
    spin = np.deg2rad(turn)
    matrix = np.array([[np.cos(spin), np.sin(spin)], [-np.sin(spin), np.cos(spin)]])
    seen = ((seen - 0.5) * [width, height]) @ matrix.T / [width, height] + 0.5
    size = np.array([width, height], np.float32)
    warp = cv2.getPerspectiveTransform(
        (seen * size).astype(np.float32), (frame * size).astype("f4")
    )
    view = cv2.warpPerspective(
        page, warp, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    vignette = (1 - 0.10 * (rows**2 + columns**2))[..., None]
    lamp = np.array([1 + warmth, 1.0, 1 - 1.6 * warmth])
    view = cv2.GaussianBlur((view * light * vignette * lamp).astype(np.float32), (0, 0), blur)
    # Shot noise grows with the root of the light; a phone's filter smooths it into blotches.
    grains = rng.standard_normal(view.shape, dtype=np.float32)
    grains = 0.6 * grains + 1.6 * cv2.GaussianBlur(grains, (0, 0), 1.2)
    view += noise * np.sqrt(np.clip(view, 0.02, 1)) * grains
    return as_bytes(view * 255)


def scanned(page: Page, rng: np.random.Generator, turn: float = 0.0) -> NDArray[np.uint8]:
    """Return a flat-bed scan of a page: grey, even, with white paper clipped to white."""
    height, width = page.shape[:2]
    spin = cv2.getRotationMatrix2D((width / 2, height / 2), turn, 1.0)
    grey = cv2.cvtColor(page, cv2.COLOR_RGB2GRAY)
    grey = cv2.warpAffine(grey, spin, (width, height), borderMode=cv2.BORDER_REPLICATE)
    grey = cv2.GaussianBlur(grey, (0, 0), 0.7)
    grey += 0.008 * rng.standard_normal(grey.shape, dtype=np.float32)
    return as_bytes((grey - 0.04) * 255 * 1.12)


def as_bytes(levels: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return grey levels as uint8, rounded and clipped to 0 to 255."""
    return np.asarray(np.clip(np.rint(levels), 0, 255), np.uint8)


def digit_0() -> NDArray[np.uint8]:
    """Draw green marker on a whiteboard, with a lamp's reflection."""
    rng, shape = np.random.default_rng(100), (420, 360)
    board = paper(shape, (0.86, 0.87, 0.88), rng, 0.4)
    ink = writing([("0", 105, 325)], shape, 220, 19, rng, grain=0.25)
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    glare = np.exp(-(((rows - 60) / 90) ** 2) - ((columns - 300) / 70) ** 2)
    light = (0.82 + 0.3 * glare)[..., None].astype(np.float32)
    return photographed(inked(board, ink, GREEN_PEN, 0.9), rng, light, noise=0.02)


def digit_1() -> NDArray[np.uint8]:
    """Draw a single pencil stroke on a yellow note."""
    rng, shape = np.random.default_rng(101), (360, 320)
    ink = writing([("1", 150, 265)], shape, 165, 6.5, rng, hands=(0,) * 10, grain=0.35)
    page = inked(paper(shape, (0.95, 0.87, 0.50), rng, 1.2), ink, PENCIL, 0.85)
    return photographed(page, rng, shadow(shape, 30, 0.75, 0.25, 0.12), turn=2)


def digit_2() -> NDArray[np.uint8]:
    """Draw black finger strokes on a transparent background."""
    rng, shape = np.random.default_rng(102), (320, 320)
    ink = writing([("2", 90, 258)], shape, 190, 20, rng, hands=(1,) * 10, grain=0)
    alpha = as_bytes(ink * 255)
    return np.dstack([np.zeros((*shape, 3), np.uint8), alpha])


def digit_3() -> NDArray[np.uint8]:
    """Draw blue ballpoint, from a flat-bed scanner."""
    rng, shape = np.random.default_rng(103), (260, 220)
    ink = writing([("3", 62, 195)], shape, 130, 6, rng, grain=0.3)
    page = inked(paper(shape, (0.93, 0.93, 0.92), rng, 0.8), ink, BLUE_PEN, 0.92)
    return scanned(page, rng, 1.0)


def digit_4() -> NDArray[np.uint8]:
    """Draw black marker in the shadow of the phone that takes the photo."""
    rng, shape = np.random.default_rng(104), (560, 480)
    ink = writing([("4", 140, 400)], shape, 240, 20, rng, grain=0.05)
    page = inked(paper(shape, (0.90, 0.89, 0.86), rng, 1.5), ink, BLACK_PEN)
    light = shadow(shape, 60, 0.48, 0.5, 0.035) * shadow(shape, 200, 0.4, 0.25, 0.3)
    return photographed(page, rng, light, tilt=0.05, turn=-5, noise=0.02, warmth=0.05)


def digit_5() -> NDArray[np.uint8]:
    """Draw white on black, 28x28, as a drawing program saves it."""
    rng = np.random.default_rng(105)
    ink = writing([("5", 8, 24)], (28, 28), 19, 2.4, rng, hands=(1,) * 10, grain=0, amount=0.4)
    return as_bytes(ink * 255)


def digit_6() -> NDArray[np.uint8]:
    """Draw a fountain pen on rough brown paper."""
    rng, shape = np.random.default_rng(106), (380, 340)
    ink = writing([("6", 118, 275)], shape, 170, 9, rng, hands=(2,) * 10, grain=0.12)
    page = inked(paper(shape, (0.70, 0.57, 0.42), rng, 3.0), ink, BLACK_PEN, 0.92)
    return photographed(page, rng, shadow(shape, 135, 0.6, 0.3, 0.2), turn=3)


def digit_7() -> NDArray[np.uint8]:
    """Draw chalk on a badly wiped blackboard."""
    rng, shape = np.random.default_rng(107), (440, 400)
    board = paper(shape, (0.13, 0.16, 0.15), rng, 5.0)
    smear = cv2.GaussianBlur(rng.standard_normal(shape, dtype=np.float32), (0, 0), 40, sigmaY=6)
    board = np.clip(board + 0.05 * (smear / smear.std())[..., None].clip(-0.5, 2), 0, 1)
    ink = writing([("7", 115, 330)], shape, 215, 15, rng, hands=CONTINENTAL, grain=0.55)
    return photographed(inked(board, ink, CHALK, 0.9), rng, noise=0.02, turn=-2)


def digit_8() -> NDArray[np.uint8]:
    """Draw a red felt pen on squared paper."""
    rng, shape = np.random.default_rng(108), (400, 400)
    page = ruled(paper(shape, (0.93, 0.93, 0.91), rng, 1), 46, 19, (0.66, 0.76, 0.86), squares=True)
    ink = writing([("8", 140, 300)], shape, 190, 14, rng, grain=0.05)
    return photographed(inked(page, ink, RED_PEN), rng, shadow(shape, 250, 0.55, 0.3, 0.15), turn=2)


def digit_9() -> NDArray[np.uint8]:
    """Draw blue ballpoint, small in a large dim photo."""
    rng, shape = np.random.default_rng(109), (480, 560)
    ink = writing([("9", 250, 300)], shape, 96, 5, rng, hands=CONTINENTAL, grain=0.25)
    page = inked(paper(shape, (0.90, 0.90, 0.88), rng, 1), ink, BLUE_PEN)
    light = 0.62 * shadow(shape, 10, 0.55, 0.45, 0.2)
    return photographed(page, rng, light, noise=0.025, warmth=0.06)


def phone_number() -> NDArray[np.uint8]:
    """Draw a phone number in blue ballpoint on a yellow note with a curled lower edge."""
    rng, shape = np.random.default_rng(110), (460, 900)
    page = paper(shape, (0.96, 0.89, 0.52), rng, 1.0)
    ink = writing(
        [("030 901820", 85, 255)], shape, 92, 5.5, rng, hands=PLAIN, slant=0.14, grain=0.15
    )
    light = shadow(shape, 90, 0.88, 0.3, 0.06) * shadow(shape, 20, 0.5, 0.22, 0.2)
    page = inked(page, ink, BLUE_PEN, 0.92)
    return photographed(page, rng, light, tilt=0.02, turn=2.2, blur=0.9, warmth=0.03)


def sheet() -> NDArray[np.uint8]:
    """Draw a page of an exercise book: blue lines, six rows of numbers, a soft shadow."""
    rng, shape = np.random.default_rng(111), (900, 1200)
    first, spacing = 96.0, 66.0
    page = ruled(paper(shape, (0.94, 0.94, 0.92), rng, 1), spacing, first, (0.56, 0.68, 0.86))
    rows = ["1984 37 20", "7", "27 1 60 44", "5 3 1 8", "1", "406 719 25"]
    left = [150.0, 168.0, 140.0, 160.0, 158.0, 146.0]
    lines = [
        (row, x, first + spacing * (2 * i + 1) - 4)
        for i, (row, x) in enumerate(zip(rows, left, strict=True))
    ]
    ink = writing(lines, shape, 70, 5.2, rng, hands=CONTINENTAL, grain=0.2, gap=0.3)
    light = shadow(shape, 35, 0.55, 0.38, 0.05) * shadow(shape, 160, 0.5, 0.15, 0.25)
    page = inked(page, ink, BLUE_PEN, 0.93)
    return photographed(page, rng, light, tilt=0.015, turn=-0.8, blur=0.8, warmth=0.03)


FORM = ("47110815", "20260317", "6053942")


def form() -> NDArray[np.uint8]:
    """Draw a scanned form: three rows of printed boxes with one digit in each."""
    rng, shape = np.random.default_rng(112), (420, 820)
    cell, high = 84, 94
    boxes, ink = [], np.zeros(shape, np.float32)
    for row, text in enumerate(FORM):
        top, left = 42.0 + row * 122, 58.0
        right = left + cell * len(text)
        boxes += [np.array([[left, y], [right, y]]) for y in (top, top + high)]
        edges = [left + cell * i for i in range(len(text) + 1)]
        boxes += [np.array([[x, top], [x, top + high]]) for x in edges]
        for i, digit in enumerate(text):
            x = left + i * cell + rng.uniform(20, 26) + (8 if digit == "1" else 0)
            line = (digit, x, top + 76 + rng.normal(0, 2))
            written = writing([line], shape, 58, 4.2, rng, hands=PLAIN, slant=0.1, grain=0.2)
            ink = np.maximum(ink, written)
    page = paper(shape, (0.95, 0.95, 0.94), rng, 0.5)
    printed = trace(boxes, shape, 2.0, np.random.default_rng(0), pressure=0, taper=0, grain=0)
    page = inked(page, printed, (0.25, 0.25, 0.27), 0.9)
    return scanned(inked(page, ink, BLUE_PEN, 0.95), rng, 0.35)


SAMPLES: dict[str, tuple[Callable[[], NDArray[np.uint8]], str, str]] = {
    "digit-0.jpg": (digit_0, "0", "single"),
    "digit-1.jpg": (digit_1, "1", "single"),
    "digit-2.png": (digit_2, "2", "single"),
    "digit-3.png": (digit_3, "3", "single"),
    "digit-4.jpg": (digit_4, "4", "single"),
    "digit-5.png": (digit_5, "5", "single"),
    "digit-6.jpg": (digit_6, "6", "single"),
    "digit-7.jpg": (digit_7, "7", "single"),
    "digit-8.jpg": (digit_8, "8", "single"),
    "digit-9.jpg": (digit_9, "9", "single"),
    "phone-number.jpg": (phone_number, "030901820", "line"),
    "sheet.jpg": (sheet, "19843720|7|2716044|5318|1|40671925", "page"),
    "form.png": (form, "|".join(FORM), "page"),
}
"""File name -> the function that draws it, its text (lines joined by `|`), and its layout."""


def main() -> None:
    """Write every sample and `truth.csv` to this folder."""
    folder = Path(__file__).parent
    for name, (picture, _, _) in SAMPLES.items():
        content = io.BytesIO()
        kind = "JPEG" if name.endswith(".jpg") else "PNG"
        Image.fromarray(picture()).save(content, kind, quality=84, optimize=True)
        write_bytes(folder / name, content.getvalue())
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("file", "label", "layout"))
    rows.writerows((name, label, layout) for name, (_, label, layout) in SAMPLES.items())
    write_bytes(folder / "truth.csv", table.getvalue().encode())


if __name__ == "__main__":
    main()
