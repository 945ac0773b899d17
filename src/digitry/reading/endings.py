"""Which files of a folder or an archive are read, by their endings; the others are counted."""

from collections.abc import Mapping
from pathlib import PurePosixPath

SUFFIXES = frozenset(
    [
        ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff",
        ".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpf", ".jpx", ".pnm", ".pgm", ".pbm",
        ".ppm", ".pdf",
    ]
)  # fmt: skip
"""Suffixes of image files, in lower case; folders and archives are searched for them."""

WITHOUT = "without an ending"


def is_image(name: str) -> bool:
    """Return whether a file of this name is read."""
    # macOS adds metadata files whose names begin with "._".
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")


def ending_of(name: str) -> str | None:
    """Return under which ending a file that is not read is counted; None for a hidden file."""
    path = PurePosixPath(name)
    if path.name.startswith("."):
        return None
    return path.suffix.lower()[:20] or WITHOUT


def not_read(counts: Mapping[str, int]) -> str:
    """Return one line on files that were not read, the commonest ending first."""
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    shown = [f"{count:,} {ending}" for ending, count in ordered[:8]]
    rest = sum(count for _, count in ordered[8:])
    return f"not read: {', '.join(shown)}" + (f", {rest:,} others" if rest else "")
