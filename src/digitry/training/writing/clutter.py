"""Pictures with nothing written on them: bare paper with its folds, rulings and stains, and things."""

import cv2
import numpy as np
import numpy.typing as npt

from digitry.training.writing.photographs import photographed
from digitry.training.writing.sheets import SIDE, Sheet, ruled, squared

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def bare(rng: np.random.Generator) -> Bytes:
    """Return a picture of a part of a page without writing, (h, w) uint8."""
    sheet = Sheet(np.eye(2, 3))
    tall = float(np.exp(rng.uniform(np.log(14), np.log(100))))
    kind = rng.integers(4)
    if kind < 2:
        (ruled, squared)[kind](sheet, tall, rng)
    height, width = (int(side) for side in rng.integers(30, 200, 2))
    top, left = int(rng.integers(SIDE - height)), int(rng.integers(SIDE - width))
    part = slice(top, top + height), slice(left, left + width)
    gray = photographed(sheet.writing[part], sheet.print[part], rng)
    if kind < 2:
        return gray
    dark = _fold(gray.shape, rng) if kind == 2 else _stains(gray.shape, rng)
    return np.asarray(np.clip(gray * (1 - dark), 0, 255), np.uint8)


def _fold(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Return what a fold or the edge of another sheet takes of the light, (h, w) in [0, 1]."""
    height, width = shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    away = (columns - rng.uniform(0.1, 0.9) * width) * np.cos(angle)
    away = away + (rows - rng.uniform(0.1, 0.9) * height) * np.sin(angle)
    away = np.clip(away / rng.uniform(0.4, 0.06 * min(shape) + 0.5), -30, 30)
    light = 1 - rng.uniform(0.05, 0.4) / (1 + np.exp(-away))
    if rng.random() < 0.6:
        light = light * (1 - rng.uniform(0.05, 0.5) * np.exp(-(away**2)))
    return np.asarray(1 - light, np.float32)


def _stains(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Return what blots and dried drops take of the light, (h, w) in [0, 1].

    None is a ring: a ring alone looks like a 0.
    """
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    light = np.ones(shape, np.float32)
    for _ in range(int(rng.integers(1, 5))):
        y, x = rng.uniform(0.1, 0.9, 2) * shape
        stretch, radius = np.exp(rng.normal(0, 0.25)), min(shape) * rng.uniform(0.08, 0.45)
        turn = np.arctan2(rows - y, columns - x)
        waves = sum(
            rng.normal(0, 0.08) * np.cos(k * turn + rng.uniform(0, 6.3)) for k in range(1, 5)
        )
        away = np.hypot((rows - y) * stretch, (columns - x) / stretch) / (radius * (1 + waves))
        body = 1 / (1 + np.exp(np.clip((away - 1) / rng.uniform(0.02, 0.4), -30, 30)))
        rim = np.exp(-(((away - 1) / rng.uniform(0.05, 0.25)) ** 2))
        share = body if rng.random() < 0.5 else 0.5 * body + 0.5 * rim
        light *= (1 - rng.uniform(0.1, 0.7) * share).astype(np.float32)
    return np.asarray(1 - light, np.float32)


def thing(rng: np.random.Generator) -> Bytes:
    """Return a picture of anything else: bodies and textures in uneven light, (h, w) uint8."""
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
    return np.asarray(np.clip(gray, 0, 255), np.uint8)


def _waves(shape: tuple[int, int], rng: np.random.Generator, *, coarse: int, low: float) -> Floats:
    """Return a smooth random field in [low, 1]; `coarse` is the distance of its knots in pixels."""
    count = (max(2, shape[0] // coarse + 2), max(2, shape[1] // coarse + 2))
    knots = rng.uniform(low, 1, count).astype(np.float32)
    grown: Floats = cv2.resize(knots, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return grown
