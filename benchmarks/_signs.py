"""Draw signs that are not digits, in strokes that training does not contain.

A sign is text: strokes separated by `/`, points in percent. A stroke that begins with `~` is a curve
through its points, any other one is straight from point to point. The pens are this file's own, too, and
not those of `digitry.training.writing`.

These signs are left out, because in some handwriting they are a digit and no reader could tell:
    Latin     B D G I J O Q S U Y Z a b g i j l o q r s t y z, as in training; they look like
              8 0 6 1 5 0 0 5 0 4 2 9 6 9 1 1 1 0 9 7 5 7 4 2
    Greek     beta, delta, zeta, theta, phi, sigma, omicron, gamma, tau, iota (8 6 3 0 0 6 0 8 7 1)
    Cyrillic  Be, Ze, O, Che, Tse, Ef, E oborotnoye, Yeru (6 3 0 4 4 0 3 61)
    Chinese   the characters for sun and eye (8 of straight lines), kana of single strokes (1)
    signs     slash, bar, dagger, parentheses, comma, dot, quotes, integral, section (1 and 5, 8)
    shapes    circle, oval, cloud, polygon of five sides or more (0); infinity, a pair of glasses (00);
              strokes side by side as in a tally (111); an arc (1)
"""

# One line for each group of signs, however long.
# ruff: noqa: E501

import cv2
import numpy as np

LATIN = {
    "A": "4,100 50,0 96,100 / 20,66 80,66", "C": "~90,14 60,0 22,16 8,50 22,86 62,100 92,84 / 90,2 90,22",
    "E": "84,0 10,0 10,100 88,100 / 10,48 66,48 / 66,38 66,58", "F": "88,0 12,0 12,100 / 12,46 64,46 / 0,100 26,100",
    "H": "10,0 10,100 / 90,0 90,100 / 10,52 90,52 / 0,0 22,0 / 78,0 100,0",
    "K": "12,0 12,100 / 90,0 14,58 / 34,46 94,100", "L": "20,0 20,100 86,100 86,82",
    "M": "4,100 14,0 50,72 86,0 96,100", "N": "10,100 10,0 90,100 90,0",
    "P": "14,100 14,0 60,0 86,12 86,42 60,54 14,54 / 0,100 32,100",
    "R": "14,100 14,0 62,0 84,12 84,38 62,50 14,50 / 48,50 92,100",
    "T": "0,14 0,0 100,0 100,14 / 50,0 50,100 / 34,100 66,100", "V": "0,0 50,100 100,0 / 0,0 12,0 / 88,0 100,0",
    "W": "0,0 24,100 50,20 76,100 100,0", "X": "4,0 96,100 / 96,0 4,100 / 0,0 18,0 / 80,100 100,100",
    "d": "~78,60 60,44 30,48 14,72 30,96 60,96 78,76 / 78,0 78,100 92,100",
    "e": "~14,70 84,66 76,44 46,36 18,52 14,82 40,100 84,88", "f": "~80,6 58,0 44,16 42,60 42,100 / 18,42 72,42",
    "h": "16,0 16,100 / ~16,64 36,42 66,42 78,60 78,100", "k": "18,0 18,100 / 74,40 20,74 / 40,62 80,100",
    "m": "4,40 4,100 / ~4,60 20,40 40,44 48,64 48,100 / ~48,62 66,40 86,44 94,64 94,100",
    "n": "14,40 14,100 / ~14,62 34,40 64,40 80,60 80,100", "w": "0,42 24,100 50,52 76,100 100,42",
    "x": "12,42 88,100 / 88,42 12,100", "p": "16,36 16,100 / ~16,44 44,34 74,42 80,58 66,76 38,80 16,70",
}  # fmt: skip
GREEK = {
    "alpha": "~90,34 70,66 44,92 18,84 10,60 24,38 50,36 72,64 92,98", "epsilon": "~82,14 54,0 24,12 28,38 54,46 24,54 16,82 48,100 86,86",
    "eta": "~8,46 22,36 28,60 28,84 / ~28,60 48,36 70,40 72,64 72,110",
    "kappa": "22,36 22,100 / 76,36 24,72 / 40,64 80,100", "lambda": "~8,4 28,2 46,40 66,80 92,100 / 48,44 6,100",
    "mu": "20,36 20,128 / ~20,80 38,98 64,88 74,60 / ~74,36 74,80 84,98 94,92", "nu": "10,38 44,100 84,38 / 0,38 18,38",
    "xi": "~72,2 34,6 40,22 66,26 34,32 24,48 66,52 26,60 18,82 60,92 70,104 54,110", "pi": "~6,48 20,36 50,38 96,36 / ~36,38 34,70 22,100 / ~70,38 68,76 76,98 90,92",
    "rho": "~20,110 20,70 34,42 62,36 82,56 72,86 44,94 22,80", "chi": "~8,40 24,40 70,106 92,106 / 88,38 12,110",
    "psi": "~6,40 16,64 30,86 50,88 72,84 86,62 90,38 / 50,24 50,116", "omega": "~22,38 8,66 22,98 44,92 50,62 58,92 80,98 94,66 80,38",
    "Gamma": "10,100 10,0 86,0 86,18 / 0,100 26,100", "Delta": "50,0 4,100 96,100 50,0", "Lambda": "2,100 50,0 98,100 / 0,100 16,100 / 84,100 100,100",
    "Xi": "4,14 4,2 96,2 96,14 / 22,50 78,50 / 22,42 22,58 / 78,42 78,58 / 2,86 2,98 98,98 98,86", "Pi": "0,2 100,2 / 20,2 20,100 / 80,2 80,100 / 8,100 32,100 / 68,100 92,100",
    "Sigma": "92,18 92,0 6,0 50,48 6,100 94,100 94,82", "Psi": "50,0 50,100 / ~6,4 12,42 34,60 50,62 66,60 88,42 94,4 / 34,100 66,100",
    "Omega": "~0,100 28,100 30,86 8,54 20,16 50,2 80,16 92,54 70,86 72,100 100,100",
}  # fmt: skip
CYRILLIC = {
    "De": "0,118 0,92 100,92 100,118 / 16,92 34,2 80,2 80,92", "Zhe": "50,0 50,100 / 2,0 46,50 0,100 / 98,0 54,50 100,100",
    "I": "10,0 10,100 90,0 90,100", "Short": "12,14 12,104 88,14 88,104 / ~32,-6 50,4 68,-6", "El": "~0,98 14,92 24,50 28,2 / 28,2 88,2 88,100",
    "Sha": "4,0 4,98 96,98 96,0 / 50,0 50,98", "Shcha": "2,0 2,90 82,90 / 42,0 42,90 / 82,0 82,90 98,90 98,112",
    "Yu": "6,0 6,100 / 6,50 38,50 / ~66,2 40,24 38,76 66,98 92,76 92,24 66,2", "Ya": "86,100 86,0 / ~86,2 40,0 18,24 36,48 86,50 / 46,50 8,100",
    "Ka": "14,0 14,100 / ~14,52 42,50 54,14 86,2 / ~42,50 60,60 90,100", "En": "10,0 10,100 / 88,0 88,100 / 10,48 88,48",
}  # fmt: skip
CHARACTERS = {
    "person": "~52,0 46,50 4,98 / ~48,40 66,74 98,98", "big": "6,34 94,32 / ~50,0 46,52 6,100 / ~50,40 68,76 98,98", "tree": "4,30 96,30 / 50,0 50,100 / ~50,32 34,58 4,80 / ~50,32 68,60 96,80",
    "mountain": "50,0 50,92 / 8,34 8,92 92,92 92,34", "field": "6,4 94,4 94,98 6,98 6,4 / 50,4 50,98 / 6,50 94,50", "middle": "8,26 92,26 92,66 8,66 8,26 / 50,0 50,100",
    "writing": "46,0 52,12 / 2,24 98,24 / ~72,24 54,66 4,98 / ~26,26 48,66 98,98", "fire": "~50,0 48,50 8,100 / ~50,50 66,78 94,100 / 16,30 24,52 / 86,28 74,50", "water": "50,0 50,96 38,88 / ~4,32 38,32 8,84 / 88,20 58,42 / ~56,40 70,68 96,88",
    "king": "8,6 92,6 / 14,48 86,48 / 2,94 98,94 / 50,6 50,94", "earth": "16,34 84,34 / 2,94 98,94 / 50,0 50,94",
    "rain": "2,4 98,4 / 10,26 10,100 / 10,26 90,26 90,100 / 50,4 50,98 / 26,46 38,52 / 26,70 38,76 / 64,46 76,52 / 64,70 76,76", "gate": "8,100 8,2 40,2 40,36 8,36 / 92,100 92,2 60,2 60,36 92,36", "heart": "6,50 14,84 / ~30,34 34,88 60,98 84,92 88,72 / 46,20 58,40 / 78,26 92,52",
    "ka": "~2,32 60,28 58,80 40,96 / ~36,2 30,50 6,98 / 78,20 94,52", "origin": "6,28 94,26 / 50,0 50,100 / 22,56 78,56 / 4,84 96,84", "lid": "12,22 80,12 / 8,46 88,36 / 36,0 70,70 / ~18,66 24,92 50,100 84,92",
}  # fmt: skip
SIGNS = {
    "plus-minus": "50,6 50,70 / 16,38 84,38 / 16,94 84,94", "divide": "8,50 92,50 / 47,16 53,16 53,22 47,22 47,16 / 47,78 53,78 53,84 47,84 47,78", "not-equal": "10,36 90,36 / 10,66 90,66 / 74,4 26,98",
    "almost": "~6,40 28,26 50,38 72,48 94,34 / ~6,72 28,58 50,70 72,80 94,66", "root": "0,62 16,52 38,100 66,4 100,4",
    "sum": "90,16 84,2 8,2 48,50 8,98 86,98 92,82", "hat": "10,70 50,16 90,70", "less": "90,6 10,50 90,94", "more-equal": "10,4 88,38 10,70 / 10,96 90,96", "times": "14,14 86,86 / 86,14 14,86",
    "pound": "~86,18 66,2 42,10 38,40 36,78 12,96 40,90 70,98 92,86 / 14,52 66,52", "yen": "8,0 50,48 92,0 / 50,48 50,100 / 20,54 80,54 / 20,74 80,74", "pilcrow": "~58,50 20,46 10,24 24,4 58,2 / 58,2 58,100 / 78,2 78,100 / 46,2 96,2",
    "guillemets": "44,10 10,50 44,90 / 84,10 50,50 84,90", "tick": "2,56 30,96 98,4", "cross-out": "0,20 100,80 / 0,80 100,20 / 0,50 100,50", "hash": "34,0 20,100 / 78,0 64,100 / 4,34 98,34 / 0,68 94,68",
    "asterism": "50,4 50,96 / 10,26 90,74 / 90,26 10,74", "therefore": "47,8 53,8 53,14 47,14 47,8 / 10,84 16,84 16,90 10,90 10,84 / 84,84 90,84 90,90 84,90 84,84", "copyright": "~50,0 16,14 0,50 16,86 50,100 84,86 100,50 84,14 50,0 / ~70,34 48,24 28,50 48,76 70,66",
    "per-cent": "~22,8 8,22 22,38 36,22 22,8 / 88,0 12,100 / ~78,62 64,78 78,94 92,78 78,62", "sharp": "36,12 36,100 / 66,0 66,88 / 14,46 88,26 / 14,78 88,58",
    "clef": "~56,110 38,100 50,88 62,96 52,60 46,14 58,0 66,18 28,56 26,78 52,88 74,74 62,56 42,68", "braces": "~40,0 24,8 28,40 8,50 28,60 24,92 40,100 / ~60,0 76,8 72,40 92,50 72,60 76,92 60,100", "at": "~68,36 44,30 30,56 46,72 64,58 68,34 72,68 92,60 92,22 56,2 16,18 2,56 20,92 60,100 84,90",
}  # fmt: skip
SHAPES = {
    "house": "2,46 50,0 98,46 / 14,36 14,100 86,100 86,36 / 40,100 40,66 60,66 60,100 / 22,48 36,48 36,60 22,60 22,48", "heart": "~50,28 30,2 6,10 4,38 26,70 50,100 / ~50,100 74,70 96,38 94,10 70,2 50,28", "moon": "~70,0 26,10 8,50 26,90 70,100 / ~70,100 46,76 40,50 46,24 70,0",
    "bolt": "58,0 18,54 46,54 34,100 84,38 54,38 70,0 58,0", "fish": "~0,50 24,22 56,24 80,50 56,76 24,78 0,50 / 78,50 100,22 96,78 78,50 / 18,42 22,46",
    "fir": "50,0 24,34 38,34 12,66 34,66 4,90 96,90 66,66 88,66 62,34 76,34 50,0 / 44,90 44,100 56,100 56,90", "crown": "4,90 0,24 26,54 50,10 74,54 100,24 96,90 4,90", "flag": "10,0 10,100 / ~10,4 36,14 62,0 92,10 / ~10,52 36,62 62,48 92,58 / 92,10 92,58",
    "key": "~24,34 6,42 4,62 22,72 40,60 40,44 24,34 / 42,52 100,52 / 84,52 84,72 / 96,52 96,68", "umbrella": "~0,50 14,16 50,4 86,16 100,50 / ~0,50 16,42 34,50 50,42 66,50 84,42 100,50 / ~50,44 50,80 44,98 30,92", "anchor": "50,20 50,98 / 26,34 74,34 / ~8,62 20,88 50,98 80,88 92,62 / 0,70 8,58 20,68 / 80,68 92,58 100,70 / ~50,20 42,10 50,2 58,10 50,20",
    "boat": "4,66 96,66 78,98 22,98 4,66 / 48,66 48,0 90,56 10,56 48,10", "figure": "~50,0 38,8 38,22 50,30 62,22 62,8 50,0 / 50,30 50,66 24,100 / 50,66 76,100 / 18,44 82,44", "mug": "10,20 10,96 66,96 66,20 10,20 / ~66,36 92,38 92,74 66,78 / ~26,12 20,4 28,-4 / ~48,12 42,4 50,-4",
    "envelope": "0,16 100,16 100,86 0,86 0,16 / 0,16 50,58 100,16", "face": "~50,0 14,14 0,50 14,86 50,100 86,86 100,50 86,14 50,0 / 32,30 34,42 / 66,30 68,42 / ~24,62 50,82 76,62 / 50,46 46,58 54,58", "apple": "~50,26 26,16 4,36 14,78 36,100 50,94 / ~50,94 66,100 88,78 96,36 74,16 50,26 / ~50,26 52,10 62,0 / ~56,12 74,0 86,8 66,18 56,12",
    "cat": "8,4 24,34 76,34 92,4 96,62 50,98 4,62 8,4 / 30,52 34,56 / 66,52 70,56 / 44,70 56,70 50,78 44,70 / 20,70 0,66 / 20,76 0,82 / 80,70 100,66", "arrow": "0,50 96,50 / 68,20 98,50 68,80", "block-arrow": "0,34 58,34 58,8 100,50 58,92 58,66 0,66 0,34", "turn-arrow": "~10,98 10,40 40,20 90,20 / 66,0 94,20 66,42",
    "cube": "0,30 66,30 66,100 0,100 0,30 / 0,30 32,0 100,0 100,68 66,100 / 66,30 100,0", "pyramid": "46,0 0,84 60,100 100,74 46,0 60,100", "hourglass": "6,0 94,0 6,100 94,100 6,0", "butterfly": "~50,50 20,6 2,20 12,50 50,50 / ~50,50 14,60 20,96 44,88 50,50 / ~50,50 80,6 98,20 88,50 50,50 / ~50,50 86,60 80,96 56,88 50,50 / 50,20 50,92",
    "diamond": "24,6 76,6 100,34 50,98 0,34 24,6 / 0,34 100,34 / 24,6 38,34 50,98 62,34 76,6",
    "note": "~36,84 16,80 8,94 26,102 40,90 / 40,88 40,4 92,0 92,78 / ~88,74 68,70 60,84 78,92 92,80 / 40,18 92,14", "kite": "50,0 90,40 50,86 10,40 50,0 / 50,0 50,86 / 10,40 90,40 / ~50,86 40,94 56,100 46,110", "bulb": "~36,72 14,50 10,24 34,2 66,2 90,24 86,50 64,72 / 36,72 64,72 / 36,82 64,82 / 40,92 60,92", "cactus": "36,100 36,8 60,8 60,100 / 36,60 8,60 8,30 22,30 22,46 36,46 / 60,70 92,70 92,24 78,24 78,56 60,56",
}  # fmt: skip

WORDS = (
    "HAWK",
    "CAKE",
    "MARK",
    "PEACH",
    "TEA",
    "WAX",
    "hex",
    "men",
    "PEARL",
    "hemp",
    "FARM",
    "KAFKA",
    "VAT",
    "week",
)
PRINTED = "ACEFHKLMNPRTVWXcdefhkmnpuvwx&@#%$?±©«»+=<>*^~{}"

Ink = np.ndarray
"""(h, w) float32 in [0, 1], ink = 1."""


def star(rng: np.random.Generator) -> list[np.ndarray]:
    """Return a star of five to nine points, as one closed stroke."""
    points = int(rng.integers(5, 10))
    angles = np.linspace(0, 2 * np.pi, 2 * points + 1) - np.pi / 2
    radius = np.where(np.arange(2 * points + 1) % 2 == 0, 0.5, rng.uniform(0.15, 0.32))
    return [0.5 + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)]


def spiral(rng: np.random.Generator) -> list[np.ndarray]:
    """Return a spiral of two to five turns, round or square."""
    turns = rng.uniform(2, 5)
    angle = np.linspace(0, turns * 2 * np.pi, 40 if rng.random() < 0.6 else int(turns * 4) + 1)
    radius = 0.5 * angle / angle[-1]
    return [0.5 + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)]


def strokes_of(text: str) -> list[np.ndarray]:
    """Return the strokes of a sign: (k, 2) points each, x and y in heights of the sign."""
    strokes = []
    for part in text.split(" / "):
        curved, words = part.startswith("~"), part.lstrip("~").split()
        points = np.array([[float(number) / 100 for number in word.split(",")] for word in words])
        strokes.append(_smooth(points) if curved and len(points) > 2 else points)
    return strokes


def _smooth(points: np.ndarray, steps: int = 12) -> np.ndarray:
    """Return a cardinal spline of tension a half through the points."""
    padded = np.concatenate([points[:1], points, points[-1:]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    parts = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        parts.append(
            b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * b - a - 3 * c + d)))
        )
    return np.concatenate([*parts, points[-1:]])


def ink_of(strokes: list[np.ndarray], height: float, rng: np.random.Generator) -> Ink:
    """Draw strokes with one of several pens: fibre tip, fineliner, brush, chalk, outline, fill."""
    angle, shear = rng.uniform(-0.16, 0.16), rng.uniform(-0.25, 0.25)
    stretch = rng.uniform(0.75, 1.3)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = matrix @ np.array([[stretch, shear], [0, 1]])
    # An unsteady hand: each stroke and each point is off by a little.
    lines = [
        (stroke + rng.uniform(-0.018, 0.018, stroke[:1].shape) + rng.normal(0, 0.006, stroke.shape))
        @ matrix.T
        * height
        for stroke in strokes
    ]
    width = max(1.0, height * float(np.exp(rng.uniform(np.log(0.025), np.log(0.16)))))
    low = np.min([line.min(0) for line in lines], 0) - 2 * width - 2
    shape = np.ceil(np.max([line.max(0) for line in lines], 0) + 2 * width + 2 - low).astype(int)
    scale = 4
    sheet = np.zeros((shape[1] * scale, shape[0] * scale), np.uint8)
    pen = rng.choice(
        ["fibre", "brush", "chalk", "outline", "filled"], p=[0.5, 0.2, 0.14, 0.1, 0.06]
    )
    for line in lines:
        points = np.rint((line - low) * scale).astype(np.int32)
        thick = max(1, round(width * scale))
        if pen == "filled" and len(points) > 3:
            cv2.fillPoly(sheet, [points], 255)
        if pen == "brush":
            # A flat brush: wide in one direction, thin in the other.
            nib = rng.uniform(0, np.pi)
            for shift in np.linspace(-0.6, 0.6, 9) * thick:
                offset = np.rint([shift * np.cos(nib), shift * np.sin(nib)]).astype(np.int32)
                cv2.polylines(sheet, [points + offset], False, 255, max(1, thick // 3), cv2.LINE_AA)
        else:
            cv2.polylines(sheet, [points], False, 255, thick, cv2.LINE_AA)
        if pen == "outline" and width > 3:
            cv2.polylines(sheet, [points], False, 0, max(1, thick // 2), cv2.LINE_AA)
    ink = cv2.resize(sheet, (int(shape[0]), int(shape[1])), interpolation=cv2.INTER_AREA) / 255
    if pen == "chalk":
        ink = ink * (cv2.GaussianBlur(rng.random(ink.shape), (0, 0), 0.8) > 0.46)
    return ink.astype(np.float32)


def word(text: str, rng: np.random.Generator) -> Ink:
    """Draw a word with letters of one height, separate or joined."""
    height = float(np.exp(rng.uniform(np.log(20), np.log(70))))
    inks = [ink_of(strokes_of(LATIN[letter]), height, rng) for letter in text]
    gap = round(height * rng.uniform(-0.15, 0.2))
    rows = max(ink.shape[0] for ink in inks)
    page = np.zeros((rows, sum(ink.shape[1] + max(gap, 0) for ink in inks) + rows), np.float32)
    x = 0
    for ink in inks:
        place = page[: ink.shape[0], x : x + ink.shape[1]]
        np.maximum(place, ink, out=place)
        x += ink.shape[1] + gap
    return page


def doodle(rng: np.random.Generator) -> list[np.ndarray]:
    """Return the strokes of a doodle: a signature, a coil, a zigzag, or a grid."""
    kind = int(rng.integers(4))
    along = np.linspace(0, 1, 90)[:, None]
    if kind == 0:
        waves = sum(
            rng.normal(0, 0.12) * np.sin(2 * np.pi * k * along + rng.uniform(0, 6))
            for k in (3, 5, 8, 11)
        )
        return [np.concatenate([2.4 * along + 0.1 * np.sin(31 * along), 0.5 + waves], 1)]
    if kind == 1:
        turns = rng.integers(4, 9)
        angle = 2 * np.pi * turns * along
        return [np.concatenate([1.6 * along + 0.2 * np.cos(angle), 0.5 + 0.4 * np.sin(angle)], 1)]
    if kind == 2:
        rows = int(rng.integers(4, 9))
        return [
            np.array([[(i % 2) * 1.0, i / rows] for i in range(rows + 1)])
            + rng.normal(0, 0.05, (rows + 1, 2))
        ]
    count = int(rng.integers(4, 8))
    lines = [np.array([[i / count, 0.0], [i / count + 0.15, 1.0]]) for i in range(count)]
    lines += [np.array([[0.0, i / count], [1.0, i / count]]) for i in range(count)]
    return [line + rng.normal(0, 0.02, line.shape) for line in lines]
