"""Handwriting that may train the shipped reader: digits, strings and other writing, by hand.

    >>> from digitry.training.data import handwriting
    >>> digits = handwriting.load_digits("unipen_digits")        # doctest: +SKIP
    >>> train, held = handwriting.split(digits)                   # doctest: +SKIP
    >>> digits.labels[0], digits.hands[0]                         # doctest: +SKIP
    (1, 'unipen/0')
    >>> [stroke.shape for stroke in digits.drawings.strokes(0)]   # doctest: +SKIP
    [(17, 2)]

What can be loaded, by the name of its pack (`packs.PACKS` tells source, licence and sha256):

| function | packs | result |
|---|---|---|
| `load_digits` | `unipen_digits` (strokes), `bhmsds_digits`, `mfeat_pixel` (images) | `Digits` |
| `load_strings` | `unipen_strings` (strokes), `lectaurep_strings`, `peraire_strings` (grey) | `Strings` |
| `load_other` | `unipen_letters`, `bhmsds_symbols`, `omniglot` (images of characters) | `Other` |
| `load_other` | `unipen_words`, `lectaurep_text` (grey), `quickdraw` (images of more) | `Other` |
| `mnist_writers` | `mnist_writers` | (60000,) writer ids, in MNIST's order |
| `mnist_digits` | MNIST's training images, given by the caller, with their writers | `Digits` |

Each result has `drawings`, which is `Images` or `Strokes`, and `hands`: the writer, page or document
that each sample comes from. `split` divides by hand. The folder of the packs is `data_dir`, else
`DIGITRY_DATA`; see `packs.folder`.
"""

import hashlib
import re
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from digitry.errors import DataError, UsageError
from digitry.training.data.packs import PACKS, Array, Kind, read

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Texts = npt.NDArray[np.str_]

HELD_OUT = 0.1
"""The share of hands that `split` holds out."""

# Of 6,000 salts the one that holds out a whole document of LECTAUREP, and the most even shares of the
# other packs: 9 to 11%.
_SALT = "digitry-hands-2604"
_MAX_SIDE = 4096


# --- drawings -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures of any sizes; picture i is `pixels[starts[i]:][:heights[i] * widths[i]]`.

    Attributes:
        pixels: (total,) uint8, as scanned or drawn; shared by all subsets.
        starts: (n,) int64.
        heights: (n,) int64, in pixels.
        widths: (n,) int64, in pixels.
        dark_ink: True = dark ink on light paper, 255 = white; False = ink high on a ground of 0.
    """

    pixels: Bytes
    starts: Ints
    heights: Ints
    widths: Ints
    dark_ink: bool

    def __len__(self) -> int:
        return len(self.starts)

    def raw(self, i: int) -> Bytes:
        """Return picture i as it is stored: a (h, w) uint8 view."""
        start, height, width = int(self.starts[i]), int(self.heights[i]), int(self.widths[i])
        picture: Bytes = self.pixels[start : start + height * width].reshape(height, width)
        return picture

    def ink(self, i: int) -> Floats:
        """Return picture i as (h, w) float32 in [0, 1], ink = 1.

        Scans are turned round, no more: their paper stays grey, often 0.1 to 0.4.
        """
        raw = self.raw(i)
        return np.asarray((255 - raw if self.dark_ink else raw) / np.float32(255), np.float32)

    def stack(self) -> Bytes:
        """Return all pictures as (n, h, w) uint8, ink = 255.

        Raises:
            UsageError: they are of several sizes.
        """
        if len(self) == 0:
            return np.zeros((0, 0, 0), np.uint8)
        height, width = int(self.heights[0]), int(self.widths[0])
        if (self.heights != height).any() or (self.widths != width).any():
            raise UsageError("the images are of several sizes", remedy="take them one by one")
        pixels = self.pixels[self.starts[:, None] + np.arange(height * width)]
        stacked: Bytes = pixels.reshape(-1, height, width)
        return 255 - stacked if self.dark_ink else stacked

    def take(self, index: Array) -> "Images":
        """Return the pictures of these indices; no pixel is copied."""
        return replace(
            self,
            starts=self.starts[index],
            heights=self.heights[index],
            widths=self.widths[index],
        )


@dataclass(frozen=True, eq=False)
class Strokes:
    """Pen strokes; sample i has the strokes `first[i]` to `last[i] - 1`.

    Stroke s is `points[offsets[s]:offsets[s + 1]]`, so the points of sample i lie in one piece.

    Attributes:
        points: (total, 2) float32, x and y, y down, in [0, 1]; each sample begins at 0 in x and y, and
            its longest side is 1. Shared by all subsets.
        offsets: (strokes + 1,) int64.
        first: (n,) int64.
        last: (n,) int64.
        sizes: (n, 2) float32, width and height in [0, 1].
    """

    points: Floats
    offsets: Ints
    first: Ints
    last: Ints
    sizes: Floats

    def __len__(self) -> int:
        return len(self.first)

    def strokes(self, i: int) -> list[Floats]:
        """Return the strokes of sample i, in the order of writing: (k, 2) float32 views of `points`.

        To draw, multiply by the size wanted and shift: `cv2.polylines` takes them as int32.
        """
        bounds = self.offsets[self.first[i] : self.last[i] + 1].tolist()
        return [self.points[a:b] for a, b in pairwise(bounds)]

    def take(self, index: Array) -> "Strokes":
        """Return the samples of these indices; no point is copied."""
        return replace(
            self, first=self.first[index], last=self.last[index], sizes=self.sizes[index]
        )


# --- samples --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Samples:
    """What all packs have.

    Attributes:
        pack: the name of the pack.
        drawings: n samples.
        hands: (n,) str, who or what wrote each: equal for samples of one hand, across packs too;
            empty where the source does not tell hands apart.
    """

    pack: str
    drawings: Images | Strokes
    hands: Texts

    def __len__(self) -> int:
        return len(self.hands)


@dataclass(frozen=True, eq=False, kw_only=True)
class Digits(Samples):
    """Isolated digits.

    Attributes:
        labels: (n,) uint8, 0 to 9.
    """

    labels: Bytes


@dataclass(frozen=True, eq=False, kw_only=True)
class Strings(Samples):
    """Numbers, dates and amounts as they were written in one line.

    Attributes:
        texts: (n,) str, with separators.
        complete: (n,) bool; False = the text may lack a mark that is written: UNIPEN's contributor `lex`
            left out percent signs (8 of 120 strings looked at).
        pages: (n,) str, the page that each comes from; empty where unknown.
    """

    texts: Texts
    complete: Bools
    pages: Texts


@dataclass(frozen=True, eq=False, kw_only=True)
class Other(Samples):
    """Writing that is no digit: letters, symbols, words, lines of text, drawings.

    Attributes:
        labels: (n,) str: the character, word or kind. For `lectaurep_text` the text of the whole line,
            of which the picture is a window.
        looks_like_digit: (n,) bool; leave these out of "other writing". In `omniglot` they are not
            marked; `digitry.training.writing.sources` names its characters that look like digits.
    """

    labels: Texts
    looks_like_digit: Bools


S = TypeVar("S", bound=Samples)


def take(samples: S, index: Array) -> S:
    """Return the samples of these indices (or of a (n,) bool mask), in this order."""
    index = np.asarray(index)
    parts: dict[str, object] = {"drawings": samples.drawings.take(index)}
    for part in fields(samples):
        value = getattr(samples, part.name)
        if isinstance(value, np.ndarray):
            parts[part.name] = value[index]
    return replace(samples, **parts)  # type: ignore[arg-type]


def split(samples: S, held_out: float = HELD_OUT) -> tuple[S, S]:
    """Divide by hand: what to train on, and what is held out.

    Which hands are held out is said by a hash of their ids alone. So it is the same on every machine
    and in every pack, whatever else a pack holds, and a hand is never on both sides.

    Args:
        samples: what to divide.
        held_out: share of the hands, in [0, 1). With the default, 9 to 11% of the samples of UNIPEN,
            Omniglot and MNIST are held out; of LECTAUREP one document of four (8% of the strings,
            17% of the text).

    Returns:
        The samples to train on, and those held out. Samples without a known hand are all in the first.
    """
    held = is_held_out(samples.hands, held_out)
    return take(samples, np.flatnonzero(~held)), take(samples, np.flatnonzero(held))


def is_held_out(hands: Texts, held_out: float = HELD_OUT) -> Bools:
    """Return (n,) bool: which of (n,) hands are held out; see `split`."""
    if not 0 <= held_out < 1:
        raise UsageError(f"a share of {held_out} cannot be held out", remedy="name one in [0, 1)")
    names, inverse = np.unique(hands, return_inverse=True)
    held = np.array([bool(name) and _place(str(name)) < held_out for name in names], bool)
    return np.asarray(held[inverse], bool)


def _place(hand: str) -> float:
    """Return the place of a hand in [0, 1): as good as random, and the same on any machine."""
    digest = hashlib.sha256(f"{_SALT}/{hand}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


# --- loading --------------------------------------------------------------------------------------


def load_digits(name: str, data_dir: Path | None = None, *, suspects: bool = False) -> Digits:
    """Load a pack of isolated digits.

    Args:
        name: `unipen_digits`, `bhmsds_digits` or `mfeat_pixel`.
        data_dir: see `packs.folder`.
        suspects: keep the samples whose label is in doubt, too.

    Raises:
        UnavailableError: the pack is not there.
        DataError: it is not what it must be.
    """
    arrays = _Arrays(name, "digits", data_dir)
    drawings = _drawings(arrays, dark_ink=False)
    labels = arrays.get("labels", "u", len(drawings))
    if len(labels) and labels.max() > 9:
        raise arrays.wrong(f"has the label {labels.max()}")
    digits = Digits(
        pack=name, drawings=drawings, hands=_hands(arrays, len(drawings)),
        labels=labels.astype(np.uint8),
    )  # fmt: skip
    if suspects or "suspect" not in arrays.content:
        return digits
    return take(digits, ~arrays.get("suspect", "b", len(drawings)))


def load_strings(name: str, data_dir: Path | None = None) -> Strings:
    """Load a pack of strings: `unipen_strings`, `lectaurep_strings` or `peraire_strings`.

    Raises:
        UnavailableError: the pack is not there.
        DataError: it is not what it must be.
    """
    arrays = _Arrays(name, "strings", data_dir)
    drawings = _drawings(arrays, dark_ink=True)
    count = len(drawings)
    none = np.zeros(count, "U1")
    return Strings(
        pack=name,
        drawings=drawings,
        hands=_hands(arrays, count),
        texts=arrays.get("labels", "U", count),
        complete=_complete(arrays, count),
        pages=arrays.get("pages", "U", count) if "pages" in arrays.content else none,
    )


def load_other(name: str, data_dir: Path | None = None) -> Other:
    """Load a pack of other writing; see the table at the top.

    Raises:
        UnavailableError: the pack is not there.
        DataError: it is not what it must be.
    """
    arrays = _Arrays(name, "other", data_dir)
    drawings = _drawings(arrays, dark_ink=name == "lectaurep_text")
    count = len(drawings)
    labels = arrays.get("line_text" if name == "lectaurep_text" else "labels", "U", count)
    if name == "bhmsds_symbols":
        labels = np.array([_SYMBOLS.get(str(label), str(label)) for label in labels], "U5")
    if "looks_like_digit" in arrays.content:
        alike = arrays.get("looks_like_digit", "b", count)
    else:
        alike = np.isin(labels, ("/", "z")) if name == "bhmsds_symbols" else np.zeros(count, bool)
    return Other(
        pack=name,
        drawings=drawings,
        hands=_hands(arrays, count),
        labels=labels,
        looks_like_digit=alike,
    )


def mnist_writers(data_dir: Path | None = None) -> npt.NDArray[np.int32]:
    """Load the NIST writer of each of MNIST's training images: (60000,) int32, in MNIST's order.

    Raises:
        UnavailableError: the pack is not there.
        DataError: it is not what it must be.
    """
    arrays = _Arrays("mnist_writers", "writers", data_dir)
    return arrays.get("writers", "i", 60_000).astype(np.int32)


def mnist_digits(images: Bytes, labels: Bytes, data_dir: Path | None = None) -> Digits:
    """Join MNIST's training images with their writers.

    Args:
        images: (60000, 28, 28) uint8, ink = 255, in MNIST's order.
        labels: (60000,) uint8.
        data_dir: of the pack `mnist_writers`; see `packs.folder`.

    Raises:
        UnavailableError: the pack is not there.
        DataError: it is not what it must be, or these are not MNIST's training images.
    """
    if images.shape != (60_000, 28, 28) or labels.shape != (60_000,):
        raise DataError(f"images {images.shape} and labels {labels.shape} are not MNIST's 60,000")
    writers = mnist_writers(data_dir)
    hands = np.strings.add("nist/", writers.astype("U"))
    return Digits(pack="mnist", drawings=_fixed(images), hands=hands, labels=labels)


# --- arrays to samples ----------------------------------------------------------------------------

_SYMBOLS = {"dot": ".", "minus": "-", "plus": "+", "slash": "/"}
"""The names that BHMSDS gives to characters."""


@dataclass(frozen=True, eq=False)
class _Arrays:
    """The arrays of a pack, each checked when it is asked for."""

    name: str
    kind: Kind
    data_dir: Path | None
    content: dict[str, Array] = field(init=False)

    def __post_init__(self) -> None:
        known = [pack.name for pack in PACKS.values() if pack.kind == self.kind]
        if self.name not in known:
            raise UsageError(
                f"{self.name!r} is no pack of {self.kind}", remedy=f"name {', '.join(known)}"
            )
        object.__setattr__(self, "content", read(self.name, self.data_dir))

    def get(self, key: str, kinds: str, count: int | None = None, ndim: int = 1) -> Array:
        array = self.content.get(key)
        if array is None:
            raise self.wrong(f"has no array {key!r}")
        if array.dtype.kind not in kinds or array.ndim != ndim:
            raise self.wrong(f"has {key} of {array.shape} {array.dtype}")
        if count is not None and len(array) != count:
            raise self.wrong(f"has {len(array):,} {key} for {count:,} samples")
        return array

    def wrong(self, what: str) -> DataError:
        return DataError(what, where=PACKS[self.name].file, remedy="build the packs anew")


def _drawings(arrays: _Arrays, *, dark_ink: bool) -> Images | Strokes:
    if "points" in arrays.content:
        return _strokes(arrays)
    if "images" in arrays.content:
        images = arrays.get("images", "u", ndim=3)
        if images.dtype != np.uint8 or not all(0 < side <= _MAX_SIDE for side in images.shape[1:]):
            raise arrays.wrong(f"has images of {images.shape} {images.dtype}")
        return _fixed(images)
    pixels = arrays.get("pixels", "u")
    heights = arrays.get("heights", "i").astype(np.int64)
    widths = arrays.get("widths", "i", len(heights)).astype(np.int64)
    offsets = arrays.get("offsets", "i", len(heights) + 1).astype(np.int64)
    sides = np.concatenate([heights, widths])
    if len(sides) and not (sides.min() > 0 and sides.max() <= _MAX_SIDE):
        raise arrays.wrong(f"has sides of {sides.min()} to {sides.max()} pixels")
    if (
        pixels.dtype != np.uint8
        or offsets[0] != 0
        or offsets[-1] != len(pixels)
        or (np.diff(offsets) != heights * widths).any()
    ):
        raise arrays.wrong("has offsets that do not fit its pixels")
    return Images(pixels, offsets[:-1], heights, widths, dark_ink)


def _fixed(images: Bytes) -> Images:
    count, height, width = images.shape
    return Images(
        np.ascontiguousarray(images).reshape(-1),
        np.arange(count, dtype=np.int64) * (height * width),
        np.full(count, height, np.int64),
        np.full(count, width, np.int64),
        dark_ink=False,
    )


def _strokes(arrays: _Arrays) -> Strokes:
    points = arrays.get("points", "i", ndim=2)
    offsets = arrays.get("stroke_offsets", "i").astype(np.int64)
    samples = arrays.get("sample_offsets", "i").astype(np.int64)
    for steps, total in ((offsets, len(points)), (samples, len(offsets) - 1)):
        if len(steps) == 0 or steps[0] != 0 or steps[-1] != total or (np.diff(steps) < 1).any():
            raise arrays.wrong("has strokes that do not fit its points")
    if points.shape[1] != 2 or (points.size and not (points.min() >= 0 and points.max() <= 1000)):
        raise arrays.wrong("has points outside 0 to 1000")
    scaled = points.astype(np.float32) / np.float32(1000)
    sizes = np.zeros((0, 2), np.float32)
    if len(samples) > 1:
        sizes = np.maximum.reduceat(scaled, offsets[samples[:-1]])
    return Strokes(scaled, offsets, samples[:-1], samples[1:], sizes)


def _complete(arrays: _Arrays, count: int) -> Bools:
    if "contributors" not in arrays.content:
        return np.ones(count, bool)
    return np.asarray(arrays.get("contributors", "U", count) != "lex")


# What a writer's name in UNIPEN carries besides the writer: the disk, the session, the digit's file.
_SESSION = re.compile(r"^d\d_|\.[ab]$|-dig\d+$")


def _hands(arrays: _Arrays, count: int) -> Texts:
    """Return the hand of each sample; see `Samples.hands`."""
    source = PACKS[arrays.name].source.name
    if source == "unipen":
        # One person wrote for several contributors (`apb/Jon_Klein`, `apd/Jon_Klein`).
        names, inverse = np.unique(arrays.get("writers", "U", count), return_inverse=True)
        hands = [_SESSION.sub("", str(name).rpartition("/")[2].lower()) for name in names]
        return np.strings.add("unipen/", np.array(hands, "U"))[inverse]
    if source == "lectaurep":
        # A document is the work of one office and its clerks; pages of it share hands.
        return np.strings.add("lectaurep/", arrays.get("documents", "U", count))
    if source == "omniglot":
        # Whether drawer 01 of one alphabet is drawer 01 of another is not told: taken as one.
        return np.strings.add("omniglot/", arrays.get("writers", "U", count))
    # BHMSDS, mfeat and Quick, Draw! name no writers; the diary of Peraire is by one hand.
    return np.zeros(count, "U1")
