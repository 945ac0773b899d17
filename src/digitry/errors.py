"""The errors of digitry, each with a one-line text and an exit code.

Every error that digitry raises to its caller is a `DigitryError`. Its text is one line: where, what,
what to do.
"""


class DigitryError(Exception):
    """An error that a user can act on.

    Args:
        what: what is wrong, without a full stop.
        where: the file, row or option, if any.
        remedy: what the user can do, if anything.
    """

    exit_code = 3

    def __init__(self, what: str, *, where: object = None, remedy: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.remedy = remedy
        line = what if where is None else f"{where}: {what}"
        # A file name may contain a line break, but the text must be one line.
        super().__init__(" ".join((line if remedy is None else f"{line}; {remedy}").split()))

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes pickle errors; the default would keep only the text.
        return _rebuild, (type(self), self.what, self.where, self.remedy)


class UsageError(DigitryError):
    """An option or argument is not valid."""

    exit_code = 2


class ImageError(DigitryError):
    """An image cannot be read: not an image, truncated, too large, or of an unsupported format."""


class ModelError(DigitryError):
    """A model file is not a digitry model, is damaged, or needs another version of digitry."""


class DataError(DigitryError):
    """A data set has a wrong file, row, label or size."""


class UnavailableError(DigitryError):
    """Something needed is not available: an extra, the network, a device."""

    exit_code = 4


class DigitryWarning(UserWarning):
    """Something that a user should know, although the work continues; its text is one line."""


def _rebuild(kind: type[DigitryError], what: str, where: str | None, remedy: str | None) -> object:
    return kind(what, where=where, remedy=remedy)
