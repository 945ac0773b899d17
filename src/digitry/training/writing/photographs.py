"""A written page as a camera or a scanner sees it: paper, light, shadows, a table beside it, grain."""

import cv2
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


def photographed(writing: Bytes, printed: Bytes, rng: np.random.Generator) -> Bytes:
    """Return a grey picture of a page, dark ink on light paper.

    Args:
        writing: (h, w) uint8, 255 = ink.
        printed: (h, w) uint8, 255 = the ink of what is printed: lighter or darker than the pen's.
        rng: light, paper, blur and noise.

    Returns:
        (h, w) uint8.
    """
    height, width = writing.shape
    ink = writing.astype(np.float32) / np.float32(255)
    lines = printed.astype(np.float32) / np.float32(255)
    paper = np.full((height, width), np.float32(rng.uniform(130, 252)))
    rough = rng.random()
    if rough < 0.5:
        few = rng.uniform(rng.uniform(0.4, 1.0), 1.0, (3, 3)).astype(np.float32)
        paper *= cv2.resize(few, (width, height), interpolation=cv2.INTER_CUBIC)
    if rough < 0.18:
        _shadow(paper, rng)
    dark = rng.uniform(0.2, 0.95)
    seen = np.maximum(
        ink * np.float32(dark), lines * np.float32(min(1.0, dark * rng.uniform(0.4, 1.3)))
    )
    if rng.random() < 0.1:
        _surroundings(paper, seen, rng)
    if rng.random() < 0.12:
        _strew(seen, rng)
    grey = paper * (1 - seen)
    if rng.random() < 0.5:
        grey = cv2.GaussianBlur(grey, (0, 0), float(rng.uniform(0.3, 1.2)))
    if rng.random() < 0.6:
        grain = rng.standard_normal((height, width), dtype=np.float32)
        if rng.random() < 0.4:
            grain = 1.6 * cv2.GaussianBlur(grain, (0, 0), 0.8)
        grey = grey + grain * np.float32(rng.uniform(0.5, 8) * (0.5 + 0.5 * dark))
    if rng.random() < 0.2 and min(height, width) > 24:
        scale = rng.uniform(0.45, 0.85)
        size = (max(8, round(width * scale)), max(8, round(height * scale)))
        how = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)[int(rng.integers(3))]
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        grey = cv2.resize(grey, (width, height), interpolation=how)
    shown = np.asarray(np.clip(grey, 0, 255), np.uint8)
    if rng.random() < 0.1:
        _, data = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 70))])
        shown = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)
    if rng.random() < 0.08:
        level = float(paper.mean() * (1 - dark * rng.uniform(0.3, 0.6)))
        shown = np.asarray(cv2.threshold(shown, level, 255, cv2.THRESH_BINARY)[1], np.uint8)
    return shown


def _shadow(paper: npt.NDArray[np.float32], rng: np.random.Generator) -> None:
    """Let a shadow with an edge lie on a picture, in place."""
    height, width = paper.shape
    mask = np.zeros((height, width), np.float32)
    middle = rng.uniform((0, 0), (width, height))
    angles = np.sort(rng.uniform(0, 2 * np.pi, 6))
    reach = rng.uniform(0.2, 1.2, (6, 1)) * max(height, width)
    corners = middle + reach * np.stack([np.cos(angles), np.sin(angles)], 1)
    cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 1.0)
    mask = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.6, 8)))
    paper *= 1 - mask * np.float32(rng.uniform(0.2, 0.65))


def _surroundings(
    paper: npt.NDArray[np.float32], seen: npt.NDArray[np.float32], rng: np.random.Generator
) -> None:
    """Show the table beside the sheet along one or two sides, in place: dark, with a grain of wood."""
    height, width = paper.shape
    outside = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(1, 3)):
        side = int(rng.integers(4))
        depth = rng.uniform(0.03, 0.3, 2) * (height if side % 2 else width)
        corners = {
            0: [(0, 0), (depth[0], 0), (depth[1], height), (0, height)],
            1: [(0, 0), (width, 0), (width, depth[0]), (0, depth[1])],
            2: [(width, 0), (width - depth[0], 0), (width - depth[1], height), (width, height)],
            3: [(0, height), (width, height), (width, height - depth[0]), (0, height - depth[1])],
        }[side]
        cv2.fillPoly(outside, [np.round(corners).astype(np.int32)], 1)
    stripes = rng.uniform(0.6, 1.3, (max(2, height // int(rng.integers(2, 12))), 3))
    wood = cv2.resize(stripes.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.5:
        wood = np.ascontiguousarray(cv2.resize(wood.T, (width, height)))
    table = np.float32(rng.uniform(20, 140)) * wood
    paper[outside > 0] = table[outside > 0]
    seen[outside > 0] = 0


def _strew(seen: npt.NDArray[np.float32], rng: np.random.Generator) -> None:
    """Strew dirt on a picture, in place."""
    height, width = seen.shape
    count = int(rng.integers(5, 10 + height * width // 200))
    ys, xs = rng.integers(0, height, count), rng.integers(0, width, count)
    seen[ys, xs] = np.maximum(seen[ys, xs], rng.uniform(0.1, 0.9, count))
