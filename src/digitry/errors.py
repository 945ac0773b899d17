"""What can go wrong, one class for each remedy, each with the line that a user sees and an exit code.

Every error that leaves digitry is a `DigitryError`. Its text is one line: where, what, what to do.
"""


class DigitryError(Exception):
    """An error that a user can act on.

    Args:
        what: what is wrong, without a full stop.
        where: the file, row or option that it concerns, if any.
        remedy: what to do about it, if anything can be done.
    """

    exit_code = 3

    def __init__(self, what: str, *, where: object = None, remedy: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.remedy = remedy
        line = what if where is None else f"{where}: {what}"
        # A file name may hold a line break; the promise is one line.
        super().__init__(" ".join((line if remedy is None else f"{line}; {remedy}").split()))

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders in bulk work; rebuilding from the text alone would lose parts.
        return _rebuild, (type(self), self.what, self.where, self.remedy)


class UsageError(DigitryError):
    """An option or argument that makes no sense."""

    exit_code = 2


class ImageError(DigitryError):
    """An image that cannot be read: not an image, cut, too large, of a refused format."""


class ModelError(DigitryError):
    """A model file that is not ours, is damaged, or asks for something that this version lacks."""


class DataError(DigitryError):
    """A data set with a wrong file, row, label or size."""


class UnavailableError(DigitryError):
    """Something needed is not here: an extra, the network, a device."""

    exit_code = 4


class DigitryWarning(UserWarning):
    """Something that a user should know of, though the work goes on; its text is one line."""


def _rebuild(kind: type[DigitryError], what: str, where: str | None, remedy: str | None) -> object:
    return kind(what, where=where, remedy=remedy)
