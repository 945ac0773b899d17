"""Handwriting drawn by code: digits, letters and signs as pen strokes, of our own hand.

A symbol is written in several hands: the forms in which people are taught it, or end up writing it.
A hand is data, below: control points in percent of the symbol's height, `*` where the pen turns a
corner, `/` where it is lifted. Curves run through the points as centripetal Catmull-Rom splines
(Catmull and Rom 1974; Yuksel et al. 2011), which neither overshoot nor form loops of their own.

    strokes = wobble(strokes_of("7", 2), rng, 1.0)
    ink = draw(strokes, height_px=40, pen_px=3, rng=rng)

What is drawn here may be given away: no person's handwriting is in it.
"""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from digitry.errors import UsageError

Stroke = NDArray[np.float64]
"""One line of the pen without lifting it: (k, 2) float64, x to the right and y down."""

_DIGITS: dict[str, tuple[str, ...]] = {
    "0": (
        "56,2 36,8 21,32 19,62 31,91 52,99 72,86 81,56 77,24 62,5 50,3",
        "64,5 42,2 22,20 15,50 24,84 48,99 74,88 86,54 80,22 64,7 52,6",
        "60,2 43,14 33,46 32,78 42,98 56,92 66,62 68,28 62,7 55,2",
        "44,5 28,26 22,56 29,87 48,99 69,87 79,57 74,24 58,6 44,9 35,17",
        "50,15 42,5 26,22 18,54 28,90 50,99 74,84 81,48 70,14 50,1 38,6",
        "56,2 34,10 20,36 20,66 34,94 54,98 74,82 81,52 75,20 60,3 52,4 / 84,4 52,50 17,97",
        "24,4 76,5* 75,96* 25,95* 25,6",
    ),
    "1": (
        "53,0 51,34 50,68 48,100",
        "31,27 44,16 56,1* 54,36 52,70 51,100",
        "64,0 56,34 47,68 38,100",
        "31,23 54,1* 52,50 51,98 / 28,98 50,97 76,98",
        "19,47 38,26 59,1* 57,50 54,100",
        "41,13 54,2* 54,40 51,72 50,100",
        "57,0 51,28 48,62 49,90 56,99",
        "50,0 50,50 51,98 / 30,99 50,98 72,99",
        "14,56 36,30 60,1* 56,50 50,100",
        "8,64 34,34 62,0* 56,50 46,100",
        "20,44 54,2* 46,50 36,98 / 12,99 36,97 62,95",
        "6,80 34,42 66,0* 60,50 50,100",
        "14,72 62,1* 52,50 38,100",
        "4,66 22,52 68,0* 54,48 34,100",
        "32,13 42,12 50,8 56,2* 56,50 55,100",
        "36,18 52,3* 52,50 53,100",
    ),
    "2": (
        "20,24 30,6 50,0 70,8 76,26 66,48 44,74 18,98* 46,96 82,97",
        "22,22 34,4 54,1 72,12 74,32 62,56 42,80 24,94 14,88 22,79 42,86 62,96 86,88",
        "24,14 40,2 60,2 72,14 70,32 52,58 20,99* 50,97 80,99",
        "18,32 22,12 42,1 64,5 74,22 68,46 46,74 20,95* 36,88 54,93 70,99 86,92",
        "22,20 40,2 64,6 72,26 58,54 34,78 24,91 32,97 56,96 82,94",
        "26,10 44,0 66,4 76,22 70,44 48,68 22,88 26,97 34,90 32,82 44,84 64,95 84,96",
        "24,5 75,5* 74,49* 26,52* 25,96* 77,95",
    ),
    "3": (
        "22,12 40,1 62,3 74,18 66,36 44,46* 66,50 80,66 76,86 54,99 32,97 16,84",
        "20,3 46,3 76,2* 62,20 44,40* 64,42 80,58 80,80 62,97 38,99 18,88",
        "22,14 42,1 66,6 72,22 60,40 42,48 35,44 43,41 66,49 80,68 70,92 46,99 18,88",
        "26,8 48,0 68,8 70,28 54,43 41,47* 60,46 78,60 78,82 58,98 36,98 20,90",
        "32,10 50,2 65,9 64,25 47,39* 70,43 84,62 76,88 48,100 20,90",
        "12,22 32,8 76,1* 38,42* 60,48 66,66 46,99",
        "18,10 46,7 78,2* 44,38* 68,46 72,66 56,88 28,99",
        "24,5 75,5* 74,95* 23,96 / 34,50 74,50",
    ),
    "4": (
        "27,4 23,30 18,55* 44,56 84,53 / 66,2 64,50 62,100",
        "62,100 63,50 64,1* 40,31 12,66* 48,66 88,64",
        "60,0 36,34 12,66* 50,67 88,65 / 64,38 63,70 61,100",
        "24,6 20,32 25,51 42,54 65,46 / 70,4 66,50 62,100",
        "36,0 26,30 14,58* 50,56 86,52 / 62,28 58,66 53,100",
        "30,6 20,38 26,54 44,51 62,28 70,4* 66,50 60,100",
        "46,0 28,28 10,54* 46,47 86,34 / 82,10 66,50 46,100",
    ),
    "5": (
        "32,3 28,22 24,45* 44,36 66,40 80,58 76,84 54,99 32,97 16,86 / 32,3 56,4 82,1",
        "80,3 56,4 32,4* 28,24 24,46* 42,38 66,42 78,62 72,88 48,99 18,88",
        "77,4 52,2 35,9 29,28 37,41 58,48 74,62 72,86 52,99 28,98 16,90",
        "76,0 36,2* 31,40* 54,36 76,52 74,80 52,98 18,96",
        "35,7 30,45* 52,37 76,52 74,82 50,99 20,90 / 39,3 60,3 84,0",
        "76,5 26,5* 25,50* 74,51* 74,95* 23,95",
    ),
    "6": (
        "66,2 44,18 26,46 20,74 30,95 50,99 70,90 76,72 64,56 44,56 28,66 21,78",
        "62,0 42,26 24,60 22,84 38,99 60,97 76,82 72,62 54,54 34,62 24,78",
        "72,12 58,2 40,10 24,38 18,68 28,94 50,100 72,88 74,66 56,54 34,60 22,74",
        "56,0 41,26 31,58 30,86 43,99 60,93 67,77 57,65 42,68 32,80",
        "60,2 38,30 24,62 28,92 52,100 76,84 74,58 50,48 30,58 19,72",
        "78,15 70,3 54,6 36,28 23,58 24,88 48,99 70,87 70,65 50,56 30,70 23,82",
        "72,18 68,4 52,2 36,22 24,52 21,82 37,99 60,92 70,74 56,60 36,66 22,80",
        "82,12 72,1 54,12 36,40 24,70 32,95 52,98 62,80 50,64 30,68 14,82",
        "75,6 29,5* 25,50 25,95* 75,95* 75,54* 26,53",
    ),
    "7": (
        "16,6 48,5 84,3* 66,40 44,100",
        "18,8 50,4 82,4* 60,34 46,66 42,100",
        "16,6 50,5 84,3* 64,44 46,100 / 36,52 56,50 80,48",
        "16,21 18,6* 50,7 84,2* 62,46 44,100",
        "14,18 17,5* 50,7 84,3* 64,42 52,100 / 38,54 58,51 82,51",
        "14,13 28,4 50,9 70,8 86,1* 60,44 46,100",
        "14,13 28,3 50,9 70,8 86,1* 62,44 42,100 / 32,56 52,51 76,52",
        "10,24 20,4 34,16 52,14 80,0* 62,46 46,100 / 26,58 50,56 84,52",
        "6,30 18,5 30,18 50,22 76,2* 60,50 48,100 / 28,64 54,62 90,60",
        "20,18 22,4* 52,8 82,4* 58,54 38,100 / 30,56 56,54 88,46",
        "10,20 22,6 30,30 46,34 62,22 78,4* 56,56 36,100 / 26,66 56,64 94,68",
        "12,34 20,14 30,27 44,31 80,2* 60,48 42,100 / 34,62 60,60 90,60",
        "20,10 50,6 84,3* 66,40 46,99* 22,62* 50,58 94,54",
        "16,14 24,3 48,8 80,4* 64,44 48,98* 28,72 24,60* 56,57 92,60",
        "22,16 40,3 66,4 74,14 62,48 44,100 / 28,56 54,54 86,50",
    ),
    "8": (
        "72,14 54,1 34,7 29,25 46,43 69,59 76,80 60,98 38,98 23,84 29,64 50,46 69,29 71,10",
        "52,2 35,8 30,25 41,41 58,41 70,26 66,8 49,1 "
        "/ 51,43 29,55 20,77 34,97 56,99 78,83 73,57 48,42",
        "50,46 31,32 30,12 50,0 70,10 69,30 48,47 26,64 22,86 42,100 66,96 78,78 68,58 46,43",
        "66,6 49,0 37,14 44,36 59,57 66,80 54,98 39,94 35,77 46,54 61,30 67,10",
        "78,6 56,0 35,6 29,24 44,42 68,58 78,78 62,98 38,99 23,84 31,62 54,43 73,24 82,12",
        "25,4 75,5* 75,96* 25,95* 25,5 / 26,50 74,50",
    ),
    "9": (
        "72,16 56,1 34,6 24,28 36,46 57,42 72,13* 72,50 70,100",
        "72,20 56,2 34,8 26,28 38,46 58,42 72,17 74,46 70,80 54,98 34,96 24,86",
        "70,12 50,0 30,14 26,36 42,48 60,36 71,8* 62,54 48,100",
        "67,24 54,4 35,8 26,28 38,46 58,42 68,22 / 70,3 68,50 66,100",
        "74,22 54,2 32,10 24,32 40,48 62,40 74,13 72,50 59,84 42,100",
        "66,8 48,2 32,18 36,36 52,38 65,22 68,6* 67,54 66,100",
        "74,50 26,49* 26,5* 75,5* 75,95* 27,96",
    ),
}

# Left out, since in some hand they are a digit: B D G I J O Q S U Y Z a b g i j l o q r s t y z.
_LETTERS: dict[str, tuple[str, ...]] = {
    "A": (
        "12,100 30,50 50,0* 68,50 86,100 / 22,66 50,64 78,66",
        "14,98 36,40 54,2* 62,44 76,100 / 26,64 72,62",
    ),
    "C": (
        "80,20 62,3 38,6 20,32 18,64 32,92 58,99 82,86",
        "78,14 52,0 26,16 16,50 26,86 54,100 80,90",
    ),
    "E": (
        "24,2 23,50 22,98 / 24,3 76,1 / 23,49 66,47 / 22,98 78,97",
        "76,8 50,2 32,14 36,36 60,46* 30,54 20,78 38,98 80,92",
    ),
    "F": (
        "28,2 27,50 25,100 / 27,3 82,1 / 26,48 68,46",
        "82,4 50,6 24,2* 26,50 22,100 / 26,52 66,48",
    ),
    "H": (
        "20,2 19,50 18,100 / 80,0 80,50 81,98 / 19,52 80,49",
        "24,4 20,98 / 76,2 72,100 / 22,54 50,48 74,50",
    ),
    "K": (
        "24,2 23,50 22,100 / 78,2 52,30 24,54* 52,74 82,100",
        "22,0 24,98 / 72,8 24,58 / 38,48 78,98",
    ),
    "L": ("28,0 26,50 24,97* 50,98 80,96", "30,2 24,50 26,96* 78,98"),
    "M": (
        "10,100 16,50 20,2* 36,36 50,70* 64,36 80,2* 85,50 90,100",
        "8,98 22,4* 48,60* 76,2* 92,100",
    ),
    "N": ("20,100 21,50 22,2* 50,50 78,98* 79,50 80,0", "16,98 24,4* 70,96* 80,2"),
    "P": (
        "26,2 25,50 24,100 / 24,4 52,0 76,12 76,36 54,50 26,52",
        "28,100 28,4* 60,2 76,22 62,46 28,50",
    ),
    "R": (
        "26,2 25,50 24,100 / 24,4 52,0 74,12 72,34 52,46 26,50* 50,70 78,100",
        "24,98 28,4* 62,2 72,22 56,44 28,50* 78,98",
    ),
    "T": ("12,4 50,3 90,1 / 51,3 50,50 49,100", "10,6 88,2 / 46,4 50,98"),
    "V": ("14,2 32,52 50,99* 68,50 86,0", "10,6 30,40 46,98* 60,40 90,2"),
    "W": (
        "6,2 16,50 28,98* 40,60 50,30* 60,62 72,98* 84,50 94,0",
        "4,6 20,90 34,92 48,40 60,92 78,90 94,4",
    ),
    "X": ("18,2 50,50 82,98 / 82,0 50,50 16,100", "14,6 40,40 86,96 / 76,0 52,48 20,98"),
    "c": ("76,44 56,33 34,44 24,68 36,94 60,99 80,86",),
    "d": ("72,52 52,38 30,48 22,72 34,96 56,94 73,72 / 76,0 74,50 73,90 82,98",),
    "e": (
        "24,68 50,66 76,58 70,40 50,33 30,46 23,72 36,96 60,98 82,84",
        "20,76 56,62 68,44 50,34 30,50 28,80 50,98 80,84",
    ),
    "f": ("76,10 60,0 46,12 44,50 42,100 / 22,40 70,37",),
    "h": ("26,0 25,50 24,100* 28,68 46,48 62,52 68,70 70,99",),
    "k": ("28,0 27,50 26,100 / 68,40 28,70* 46,80 72,100",),
    "m": ("10,44 12,70 11,99* 16,66 30,44 42,52 45,99* 50,64 64,44 78,52 82,80 84,99",),
    "n": ("22,42 24,70 23,99* 30,62 50,42 68,50 74,76 76,99",),
    "p": ("26,24 26,60 24,100 / 26,36 46,20 68,28 72,46 56,62 28,60",),
    "u": (
        "22,40 20,74 32,96 52,94 70,74 74,40* 74,76 82,98",
        "18,42 22,86 44,98 64,82 72,42* 72,90 86,96",
    ),
    "v": ("20,40 48,99* 80,38",),
    "w": ("10,42 24,90 36,96 48,58 58,94 74,92 90,40", "8,42 28,98* 48,50* 66,98* 92,40"),
    "x": ("24,42 78,98 / 78,40 22,100", "20,48 34,40 52,68 68,98 84,90 / 82,42 50,70 20,98"),
}

_SYMBOLS: dict[str, tuple[str, ...]] = {
    "ampersand": ("82,98 54,66 32,30 38,8 54,2 64,16 50,38 26,60 20,82 40,99 64,88 80,62",),
    "arrow": ("4,52 50,50 94,50 / 70,30 95,50* 72,72", "10,84 50,46 86,14 / 60,12 87,12* 86,42"),
    "asterisk": ("50,14 50,86 / 18,32 82,70 / 82,30 18,72",),
    "at": (
        "64,40 50,32 36,46 38,64 54,66 65,46 66,36* 66,60 "
        "76,68 88,50 80,22 54,6 26,14 8,42 14,78 42,98 76,90",
    ),
    "brace": ("66,0 50,8 52,36 34,50* 52,64 50,92 66,100",),
    "bracket": ("66,2 38,3* 37,98* 64,99",),
    "check": ("14,54 34,86* 60,40 92,6", "20,62 36,82* 84,18"),
    "comma": ("52,80 54,90 44,102", "56,77 46,102"),
    "cross": ("16,16 50,50 84,86 / 84,14 50,52 14,84",),
    "dash": ("18,52 50,50 82,50", "24,50 50,54 78,48"),
    "dollar": ("76,22 56,8 32,16 30,36 54,48 74,62 70,84 44,92 22,78 / 56,0 46,100",),
    "dot": ("50,93 51,95 50,96",),
    "ellipsis": ("14,94 16,95 / 49,95 51,94 / 84,95 86,95",),
    "equals": ("18,38 50,37 82,37 / 18,62 50,62 82,60",),
    "euro": ("84,14 60,3 38,14 28,50 40,88 62,98 84,88 / 12,40 68,38 / 12,58 62,57",),
    "exclamation": ("52,0 51,40 50,72 / 49,94 50,97",),
    "flower": (
        "50,40 38,26 44,8 56,8 60,24 50,40 68,30 88,36 84,50 66,52 50,42 62,58 "
        "58,74 44,74 38,58 48,42 32,54 12,48 14,32 34,30 50,40 / 50,74 48,100",
    ),
    "hash": (
        "40,6 28,96 / 72,4 60,94 / 10,36 92,32 / 6,68 88,64",
        "36,2 34,98 / 66,4 64,98 / 12,36 88,34 / 12,66 88,64",
    ),
    "heart": ("50,34 40,14 20,12 8,34 20,60 50,96* 80,60 92,34 80,12 60,14 50,34",),
    "house": ("10,46 50,6* 90,48 / 20,44 19,96* 80,97* 80,46 / 42,96 43,68* 58,68* 58,96",),
    "line": ("0,50 50,51 100,50", "0,48 100,52"),
    "line-crossing": ("0,50 100,51 / 50,0 51,100", "0,34 100,33 / 30,0 31,100"),
    "line-corner": ("8,96 9,8* 96,8", "4,96 96,95* 95,4"),
    "line-double": ("0,34 100,35 / 0,68 100,67",),
    "line-tee": ("0,50 100,50 / 52,50 51,100", "50,0 50,100 / 50,48 100,47"),
    "loops": (
        "2,72 18,40 28,26 32,50 22,74 36,66 50,28 56,44 46,74 62,66 74,28 80,46 70,74 86,68 98,50",
    ),
    "music": ("40,80 28,74 16,84 24,96 38,92 41,80* 44,6* 60,22 76,26",),
    "parenthesis": ("62,0 42,24 38,52 44,78 64,100", "40,0 58,22 62,50 56,80 38,100"),
    "percent": (
        "26,10 12,20 16,38 32,36 36,18 24,10 / 82,4 "
        "50,50 16,98 / 76,62 62,74 68,92 84,88 88,70 74,62",
    ),
    "plus": ("50,14 50,50 50,88 / 12,51 50,50 90,50",),
    "question": ("22,22 34,4 58,0 76,14 72,34 54,46 48,58 48,74 / 48,93 49,97",),
    "quotes": ("38,4 34,26 / 64,4 60,28",),
    "scribble": (),
    "slash": ("92,2 50,50 8,98",),
    "smiley": (
        "50,2 22,12 4,40 8,74 34,97 66,97 92,74 96,38 76,10 48,2 "
        "/ 34,34 35,44 / 66,33 66,44 / 26,64 38,78 56,80 74,64",
    ),
    "spiral": (
        "50,50 56,44 60,54 48,62 36,50 44,32 66,32 76,54 62,78 34,78 18,52 30,20 62,10 92,34 94,66",
    ),
    "square": (
        "12,10 11,50 10,90* 50,91 90,90* 89,50 90,9* 50,10 11,11",
        "10,12 90,10* 91,90* 9,91* 9,14",
    ),
    "star": ("50,2 36,50 20,96* 56,68 94,36* 50,37 6,36* 44,66 82,96* 66,50 50,3",),
    "strike": (
        "4,40 30,34 60,44 98,36 / 2,58 40,66 70,54 96,62 / 8,70 30,26 44,74 62,28 76,72 92,30",
    ),
    "triangle": ("50,8 28,50 8,92* 50,93 94,91* 72,50 49,7",),
    "wave": ("2,54 14,36 28,42 38,58 50,62 62,42 74,38 86,54 98,58",),
    "zigzag": ("2,62 18,30* 32,70* 46,30* 60,70* 74,30* 88,70* 98,40",),
}

DIGITS: tuple[str, ...] = tuple(_DIGITS)
"""The digits, "0" to "9"."""

LETTERS: tuple[str, ...] = tuple(_LETTERS)
"""Letters that nobody's hand makes a digit of."""

SYMBOLS: tuple[str, ...] = tuple(_SYMBOLS)
"""Signs, doodles and bits of ruling, by name; `scribble` is another one for each hand."""

SMALL: frozenset[str] = frozenset(["comma", "dot", "exclamation", "parenthesis", "quotes", "slash"])
"""Symbols that only their size, place or lean tells from a 1; no examples of shapes to refuse."""

# Hands that few people write, with their weight against 1 for the others.
_RARE = {
    ("0", 5): 0.12, ("1", 7): 0.3, ("2", 5): 0.5, ("9", 5): 0.5,
    # Squared, as drawn with a mouse or into the boxes of a form.
    ("0", 6): 0.4, ("2", 6): 0.4, ("3", 7): 0.4, ("5", 5): 0.4, ("6", 8): 0.4, ("8", 5): 0.4, ("9", 6): 0.4,
}  # fmt: skip
_HANDS = {**_DIGITS, **_LETTERS, **_SYMBOLS}
_SCRIBBLES = 64

_STEP = 0.02
"""Distance of points along a stroke, in heights of the symbol."""


def hands_of(symbol: str) -> int:
    """Return the number of hands in which `symbol` can be written.

    Raises:
        UsageError: it is no name in `DIGITS`, `LETTERS` or `SYMBOLS`.
    """
    if symbol not in _HANDS:
        raise UsageError(
            f"no strokes are known for {symbol!r}", remedy="see DIGITS, LETTERS and SYMBOLS"
        )
    return len(_HANDS[symbol]) or _SCRIBBLES


def pick_hand(symbol: str, rng: np.random.Generator) -> int:
    """Choose a hand for `symbol` at random, the rare ones rarely.

    Raises:
        UsageError: the symbol is unknown.
    """
    weights = np.array([_RARE.get((symbol, hand), 1.0) for hand in range(hands_of(symbol))])
    return int(rng.choice(len(weights), p=weights / weights.sum()))


@cache
def strokes_of(symbol: str, hand: int) -> tuple[Stroke, ...]:
    """Return the strokes of a symbol in one hand, as it stands in the copybook.

    Args:
        symbol: a name in `DIGITS`, `LETTERS` or `SYMBOLS`.
        hand: which of its `hands_of(symbol)` forms, from 0; it wraps around.

    Returns:
        (k, 2) float64 each, points about 0.02 apart, x to the right and y down; the symbol's line
        of writing is y in [0, 1], and x lies in [0, 1] about 0.5. The arrays are read-only.

    Raises:
        UsageError: the symbol is unknown.
    """
    hand %= hands_of(symbol)
    if symbol == "scribble":
        return (_scribble(hand),)
    return tuple(_parse(stroke) for stroke in _HANDS[symbol][hand].split(" / "))


def wobble(
    strokes: Sequence[Stroke], rng: np.random.Generator, amount: float = 1.0
) -> tuple[Stroke, ...]:
    """Write the strokes as a person would this time: leaning, stretched, bent and a little shaky.

    The whole is sheared, turned, stretched and bent by one smooth field, so that strokes which meet
    still meet; then each is displaced and shaken by itself, so that they meet as badly as people's.

    Args:
        strokes: (k, 2) each, as `strokes_of` gives them.
        rng: source of all randomness.
        amount: 0 = none, 1 = a natural hand, 2 = a bad one.

    Returns:
        as many strokes of as many points; they may leave the unit box a little.
    """
    # Cut at two deviations: beyond them a 1 becomes a slash, and a 0 a dash.
    lean, tilt, breadth = np.clip(rng.standard_normal(3), -2, 2) * amount
    slant, angle, wide = 0.06 * amount + 0.14 * lean, 0.06 * tilt, np.exp(0.14 * breadth)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine = turn @ np.array([[wide, -slant], [0.0, 1.0]])
    # A field of two slow waves: half a wave to a wave over the symbol.
    waves = rng.uniform(0.5, 1.1, (2, 2)) * 2 * np.pi * rng.choice([-1, 1], (2, 2))
    phases = rng.uniform(0, 2 * np.pi, 2)
    reach = rng.normal(0, 0.022, (2, 2)) * amount
    result = []
    for stroke in strokes:
        centred = (np.asarray(stroke, float) - 0.5) @ affine.T + 0.5
        bent = centred + np.sin(centred @ waves.T + phases) @ reach
        length = max(_length(bent), 1e-3)
        # The hand's drift has about one knot for each 0.3 heights; a short stroke drifts less.
        knots = max(3, int(length / 0.3) + 2)
        drift = _smooth(rng.normal(0, 0.012, (knots, 2)), len(bent)) * min(1.0, length / 0.4)
        shift = rng.normal(0, 0.012, 2)
        result.append(bent + (drift + shift) * amount)
    return tuple(result)


def draw(
    strokes: Sequence[Stroke],
    height_px: float,
    pen_px: float,
    rng: np.random.Generator,
    *,
    pressure: float = 0.25,
    taper: float = 0.35,
    grain: float = 0.0,
) -> NDArray[np.float32]:
    """Draw strokes as ink, cut close to it.

    Args:
        strokes: (k, 2) each, in heights of the symbol, as `strokes_of` and `wobble` give them.
        height_px: height of the unit box, in pixels.
        pen_px: mean width of the pen, in pixels.
        rng: source of all randomness.
        pressure: how much the width varies along a stroke, as a share of it.
        taper: how much thinner the ends of a stroke are, in [0, 1).
        grain: how much of the paper's grain shows in the ink, in [0, 1]: 0 for a marker, 0.2 for a
            ballpoint, 0.6 for a pencil.

    Returns:
        (h, w) float32 in [0, 1], ink = 1, antialiased, with an empty border of one pixel or more.
    """
    pixels = [np.asarray(stroke, float) * height_px for stroke in strokes]
    margin = pen_px * (0.5 + pressure) + 2
    low = np.min([stroke.min(0) for stroke in pixels], axis=0) - margin
    high = np.max([stroke.max(0) for stroke in pixels], axis=0) + margin
    width, height = np.ceil(high - low).astype(int)
    return trace(
        [stroke - low for stroke in pixels],
        (int(height), int(width)),
        pen_px,
        rng,
        pressure=pressure,
        taper=taper,
        grain=grain,
    )


def trace(
    strokes: Sequence[Stroke],
    shape: tuple[int, int],
    pen_px: float,
    rng: np.random.Generator,
    *,
    pressure: float,
    taper: float,
    grain: float,
) -> NDArray[np.float32]:
    """Draw strokes whose points are pixels onto an empty sheet.

    Args:
        strokes: (k, 2) each, x and y in pixels; (0, 0) is the corner of the first pixel.
        shape: rows and columns of the sheet, in pixels.
        pen_px, rng, pressure, taper, grain: as for `draw`.

    Returns:
        `shape` float32 in [0, 1], ink = 1.
    """
    # Drawn large and averaged: OpenCV's lines have whole widths and coarse antialiasing.
    scale = int(np.clip(np.ceil(24 / max(pen_px, 0.5)), 2, 10))
    sheet = np.zeros((shape[0] * scale, shape[1] * scale), np.uint8)
    for stroke in strokes:
        widths = _widths(stroke, pen_px, rng, pressure, taper) * scale
        points = np.rint((stroke * scale - 0.5) * 16).astype(int).tolist()
        # `cv2.line` fills one pixel more than an even thickness, and two more than an odd one.
        thickness = np.maximum(1, 2 * np.rint((widths - 1) / 2)).astype(int).tolist()
        for start, end, thick in zip(points, points[1:], thickness, strict=False):
            cv2.line(sheet, start, end, 255, thick, cv2.LINE_8, 4)
    ink = cv2.resize(sheet, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    result: NDArray[np.float32] = ink.astype(np.float32) / 255
    if grain > 0:
        # The grain of paper does not shrink with the picture alone: a wide pen is seen from near.
        sigma = 0.5 + pen_px / 16
        noise = cv2.GaussianBlur(rng.standard_normal(shape, dtype=np.float32), (0, 0), sigma)
        result *= np.clip(1 - grain * (0.3 + 1.6 * sigma * noise), 0, 1)
    return result


def _widths(
    stroke: Stroke, pen_px: float, rng: np.random.Generator, pressure: float, taper: float
) -> NDArray[np.float64]:
    """Width of the pen at each point: slow swells, and thinner where it lands and leaves."""
    steps = np.hypot(*np.diff(stroke, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    swells = _smooth(rng.normal(0, 0.5, max(3, int(along[-1] / (8 * pen_px + 1)) + 2)), len(stroke))
    reach = 2.0 * pen_px + 1e-6
    # The pen leaves faster than it lands; a short stroke has no room to thin out.
    room = min(1.0, along[-1] / (4 * reach))
    ends = 0.5 * np.exp(-along / reach) + np.exp(-(along[-1] - along) / reach)
    thinned = 1 - taper * room * np.minimum(ends, 1)
    return np.asarray(pen_px * (1 + pressure * np.clip(swells, -1, 1)) * thinned)


def _smooth(knots: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Spread knots over `count` places, joined by cosines: no corner where there was none."""
    place = np.linspace(0, len(knots) - 1, count)
    left = np.minimum(place.astype(int), len(knots) - 2)
    share = (1 - np.cos(np.pi * (place - left))) / 2
    if knots.ndim == 2:
        share = share[:, None]
    return np.asarray(knots[left] * (1 - share) + knots[left + 1] * share)


def _parse(text: str) -> Stroke:
    """Turn control points into a polyline; the curve runs anew from each corner."""
    pieces: list[list[list[float]]] = [[]]
    for word in text.split():
        point = [float(part) / 100 for part in word.rstrip("*").split(",")]
        pieces[-1].append(point)
        if word.endswith("*"):
            pieces.append([point])
    curves = [_spline(np.array(piece)) for piece in pieces if len(piece) > 1]
    stroke = np.concatenate([curves[0], *(curve[1:] for curve in curves[1:])])
    stroke.flags.writeable = False
    return stroke


def _spline(points: Stroke) -> Stroke:
    """Return a centripetal Catmull-Rom curve through the points, by Barry and Goldman's recursion."""
    if len(points) == 2:
        count = max(2, int(_length(points) / _STEP) + 1)
        return np.linspace(points[0], points[1], count)
    # The neighbour beyond each end goes on in a parabola, lest the curve go slack there.
    before = 2 * points[0] - points[1] + 0.5 * (points[2] - 2 * points[1] + points[0])
    after = 2 * points[-1] - points[-2] + 0.5 * (points[-3] - 2 * points[-2] + points[-1])
    padded = np.concatenate([[before], points, [after]])
    knots = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(padded, axis=0).T) ** 0.5)])
    curve = [points[:1]]
    for i in range(1, len(padded) - 2):
        p, t = padded[i - 1 : i + 3], knots[i - 1 : i + 3]
        count = max(2, int(np.hypot(*(p[2] - p[1])) / _STEP) + 1)
        at = np.linspace(t[1], t[2], count)[1:, None]

        def blend(a: Stroke, b: Stroke, low: float, high: float, at: Stroke = at) -> Stroke:
            return ((high - at) * a + (at - low) * b) / (high - low)

        first, second, third = (blend(p[k], p[k + 1], t[k], t[k + 1]) for k in range(3))
        fourth, fifth = blend(first, second, t[0], t[2]), blend(second, third, t[1], t[3])
        curve.append(blend(fourth, fifth, t[1], t[2]))
    return np.concatenate(curve)


def _scribble(hand: int) -> Stroke:
    """A pen let loose: another one for each hand, always the same for one."""
    rng = np.random.default_rng([7, hand])
    # It swings about a centre that drifts to one side: tangles, coils, and struck-out words.
    count = int(rng.integers(8, 22))
    drift = np.linspace(0, 1, count)[:, None] * rng.normal(0, 1.2, 2)
    points = rng.uniform(-1, 1, (count, 2)) * rng.uniform(0.35, 1, 2) + drift
    stroke = _spline(points / np.ptp(points, axis=0).max())
    # The curve bulges beyond its points, so it is fitted into the box only now.
    low, high = stroke.min(0), stroke.max(0)
    fitted = np.asarray(0.5 + (stroke - (low + high) / 2) / (high - low).max())
    fitted.flags.writeable = False
    return fitted


def _length(stroke: Stroke) -> float:
    return float(np.hypot(*np.diff(stroke, axis=0).T).sum())
