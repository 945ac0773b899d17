"""Limits the work on a picture: work that grows faster than its pixels shows that it is not writing.

The work on a digit grows with its box, and the boxes of writing lie beside each other, so the work on a
page of writing grows with its pixels. Grids, mazes and sketches are one piece of ink as large as the
page, or thousands of pieces inside each other: each stage could then process the page a hundred times.
"""

from digitry.errors import ImageError

TOO_MUCH = "has too much ink to be writing"


class Budget:
    """Work that is left for one stage on one page.

    Args:
        pixels: of the working page.
        share: units of work for each pixel.
        least: units of work that even the smallest picture may need.
    """

    def __init__(self, pixels: int, *, share: float, least: int) -> None:
        self._left = least + share * pixels

    def has(self, work: float) -> bool:
        """Take some work from the budget if that much is left; return whether it was."""
        if work > self._left:
            return False
        self._left -= work
        return True

    def spend(self, work: float) -> None:
        """Take some work from the budget, before it is done.

        Raises:
            ImageError: that much is not left.
        """
        if not self.has(work):
            raise ImageError(TOO_MUCH, remedy="crop it to the digits")
