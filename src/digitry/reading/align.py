"""Lay a photo of a form over the picture of the blank form, or raise an error if that is not sure.

Features of both pictures (SIFT, Lowe 2004) are paired, and the homography is sought that most pairs
agree on (MAGSAC++, Barath et al. 2020). Agreeing pairs alone are no proof: forms repeat themselves, and
every form has lines. So the photo is laid over the blank form, and the blank form's print is looked for at
its place, all over the page.

Source: docs.opencv.org/4.x/d1/de0/tutorial_py_feature_homography.html
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from digitry.errors import ImageError, UsageError
from digitry.reading import image
from digitry.reading.ink import lift

Gray = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]

LONG_SIDE = 1000
"""Pixels. Both pictures are compared at this size: print of 8 points is 9 pixels high on A4."""

MOST_FEATURES = 4000
FAINTEST = 0.015
"""Contrast threshold of SIFT; below OpenCV's 0.04, because grey print on a dim photo has less contrast."""

LEAST_FEATURES = 40
"""A reference picture with fewer features has too little print to find the fields by."""

ALIKE = 0.8
"""Lowe's ratio test: a pair counts if its distance is below this times that of the second-best pair."""

SPREAD = 3.0
"""How far a pair, or a piece of print, may be from its place, in pixels at `LONG_SIDE`."""

LEAST_PAIRS = 20
"""Least number of pairs that agree on the homography."""

LEAST_AGREEMENT = 0.6
"""Least share of the blank form's print that is found; in each quarter of the page, half of this."""

FLATTEST, SMALLEST = 0.35, 0.15
"""Limits of what a photo may show: least ratio of opposite sides of the page, and least length of its
longest side, as a share of the photo's longer side."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """How a form lies on a picture.

    Attributes:
        to_page: (3, 3) float64, from shares of the form to pixels of the working page.
        agreement: share of the blank form's print that was found at its place, in [0, 1]; None where
            there is no blank form to compare with.
    """

    to_page: Matrix = field(repr=False)
    agreement: float | None


def as_it_is(gray: Gray) -> Alignment:
    """Return the alignment of a picture that shows the form and nothing else."""
    height, width = gray.shape
    return Alignment(np.diag([float(width), float(height), 1.0]), None)


class Aligner:
    """Lays photos over one blank form; safe to share.

    Args:
        reference: (h, w) uint8, the blank form, dark on light or light on dark.
        name: what errors call it.

    Raises:
        UsageError: there is too little print on it.
    """

    def __init__(self, reference: Gray, name: str) -> None:
        gray = 255 - reference if image.light_on_dark(reference)[0] else reference
        self.gray = gray
        self._small = _reduced(gray)
        self._points, self._features = _features(self._small)
        self._print = lift(self._small).mask
        if len(self._points) < LEAST_FEATURES:
            raise UsageError(
                "shows too little print to find the fields by",
                where=name,
                remedy="give a sharp picture of the whole blank form, or leave `reference` out",
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the blank form's picture."""
        height, width = self.gray.shape
        return height, width

    def align(self, gray: Gray) -> Alignment:
        """Return how the form lies on a picture.

        Args:
            gray: (h, w) uint8, the working page, dark on light.

        Raises:
            ImageError: it does not look like the form, or it is not sure how it lies. It names no source.
        """
        small = _reduced(gray)
        points, features = _features(small)
        mine, theirs = self._pairs(points, features)
        if len(mine) < LEAST_PAIRS:
            raise _unlike(f"{len(mine)} of its features are alike")
        found, agree = cv2.findHomography(mine, theirs, cv2.USAC_MAGSAC, SPREAD, None, 5000, 0.999)
        count = 0 if found is None else int(agree.sum())
        if found is None or count < LEAST_PAIRS:
            raise _unlike(f"{count} of its features lie as on the blank form")
        _check_plausible(found, self._small.shape, small.shape)
        agreement, worst = self._agreement(small, found)
        if agreement < LEAST_AGREEMENT or worst < LEAST_AGREEMENT / 2:
            raise _unlike(
                f"{agreement:.0%} of the blank form's print is at its place, "
                f"in one quarter {worst:.0%}"
            )
        rows, columns = self._small.shape
        shares = np.diag([float(columns), float(rows), 1.0])
        larger = np.diag([gray.shape[1] / small.shape[1], gray.shape[0] / small.shape[0], 1.0])
        return Alignment(larger @ found @ shares, round(agreement, 4))

    def _pairs(
        self, points: npt.NDArray[np.float32], features: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the places of features that are alike, here and on the picture: (n, 2) each."""
        if len(points) < 2:
            return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
        near = cv2.BFMatcher(cv2.NORM_L2).knnMatch(self._features, features, k=2)
        kept = [best for best, second in near if best.distance < ALIKE * second.distance]
        return (
            self._points[[match.queryIdx for match in kept]],
            points[[match.trainIdx for match in kept]],
        )

    def _agreement(self, small: Gray, to_small: Matrix) -> tuple[float, float]:
        """Return which share of the print is found at its place, on the page and in its worst quarter."""
        height, width = self._small.shape
        seen = cv2.warpPerspective(
            small,
            to_small,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        size = 2 * round(SPREAD) + 1
        # Print in grey is faint beside a pen's ink.
        ink = cv2.dilate(lift(seen).faint, np.ones((size, size), np.uint8))
        shares = [_share(self._print, ink)]
        for rows in (slice(0, height // 2), slice(height // 2, height)):
            for columns in (slice(0, width // 2), slice(width // 2, width)):
                if self._print[rows, columns].sum() >= 0.05 * self._print.sum():
                    shares.append(_share(self._print[rows, columns], ink[rows, columns]))
        return shares[0], min(shares)


def _share(print_: Gray, ink: Gray) -> float:
    """Return the share of the print with ink at its place, corrected for ink that lies there by chance."""
    by_chance = float(ink.mean())
    found = float(ink[print_ > 0].mean()) if print_.any() else 0.0
    return max(0.0, (found - by_chance) / max(1 - by_chance, 1e-6))


def _reduced(gray: Gray) -> Gray:
    height, width = gray.shape
    factor = LONG_SIDE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(gray, size, interpolation=how), np.uint8)


def _features(small: Gray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the places of features, (n, 2), and what they look like, (n, 128)."""
    points, features = cv2.SIFT.create(
        nfeatures=MOST_FEATURES, contrastThreshold=FAINTEST
    ).detectAndCompute(small, None)
    if features is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    # Hellinger's distance instead of Euclid's (Arandjelovic and Zisserman 2012, RootSIFT).
    features /= np.maximum(features.sum(axis=1, keepdims=True), 1e-6)
    return np.array([point.pt for point in points], np.float32), np.sqrt(features)


def corners_of(to_page: Matrix, box: tuple[float, float, float, float]) -> Matrix:
    """Return the corners of a box on the page, (4, 2): left upper, right upper, right lower, left lower."""
    x, y, w, h = box
    corners = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], np.float64)
    return np.asarray(cv2.perspectiveTransform(corners[None], to_page)[0], np.float64)


def _check_plausible(found: Matrix, shape: tuple[int, ...], seen: tuple[int, ...]) -> None:
    """Check that a camera can see a page like this.

    Args:
        found: from pixels of the blank form to those of the picture.
        shape: rows and columns of the blank form.
        seen: rows and columns of the picture.

    Raises:
        ImageError: it cannot.
    """
    height, width = float(shape[0]), float(shape[1])
    # Corners behind the camera would change sides.
    depth = (
        np.array([[0, 0], [width, 0], [width, height], [0, height]]) @ found[2, :2] + found[2, 2]
    )
    corners = corners_of(found, (0, 0, width, height))
    sides = np.roll(corners, -1, axis=0) - corners
    lengths = np.linalg.norm(sides, axis=1)
    turns = sides[:, 0] * np.roll(sides[:, 1], -1) - sides[:, 1] * np.roll(sides[:, 0], -1)
    stretch = (lengths[[0, 2]].mean() / width) / max(lengths[[1, 3]].mean() / height, 1e-6)
    if (
        (depth <= 0).any()
        or (turns <= 0).any()
        or lengths.max() < SMALLEST * max(seen)
        or min(lengths[0], lengths[2]) < FLATTEST * max(lengths[0], lengths[2])
        or min(lengths[1], lengths[3]) < FLATTEST * max(lengths[1], lengths[3])
        or not FLATTEST < stretch < 1 / FLATTEST
    ):
        raise _unlike("no camera sees the page so")


def _unlike(why: str) -> ImageError:
    return ImageError(
        f"does not look like the form ({why})",
        remedy="photograph the whole form, flat and sharp, or check the template",
    )
