"""digitry reads handwritten digits from real images.

    >>> import digitry
    >>> digitry.read("photo.jpg").text          # doctest: +SKIP
    '80417'

Importing this package loads nothing heavy: the names below are resolved when they are first used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from digitry.errors import DigitryError as DigitryError
    from digitry.errors import ImageError as ImageError
    from digitry.errors import ModelError as ModelError
    from digitry.errors import UsageError as UsageError
    from digitry.reading.reader import Reader as Reader
    from digitry.reading.reader import read as read
    from digitry.reading.reader import recognize_digit as recognize_digit
    from digitry.reading.result import Box as Box
    from digitry.reading.result import Digit as Digit
    from digitry.reading.result import FieldReading as FieldReading
    from digitry.reading.result import FormReading as FormReading
    from digitry.reading.result import Reading as Reading
    from digitry.reading.template import Field as Field
    from digitry.reading.template import Template as Template

__version__ = "0.1.0"

__all__ = [
    "Box",
    "Digit",
    "DigitryError",
    "Field",
    "FieldReading",
    "FormReading",
    "ImageError",
    "ModelError",
    "Reader",
    "Reading",
    "Template",
    "UsageError",
    "__version__",
    "read",
    "recognize_digit",
]

_HOMES = {
    "DigitryError": "digitry.errors",
    "ImageError": "digitry.errors",
    "ModelError": "digitry.errors",
    "UsageError": "digitry.errors",
    "Reader": "digitry.reading.reader",
    "read": "digitry.reading.reader",
    "recognize_digit": "digitry.reading.reader",
    "Box": "digitry.reading.result",
    "Digit": "digitry.reading.result",
    "FieldReading": "digitry.reading.result",
    "FormReading": "digitry.reading.result",
    "Reading": "digitry.reading.result",
    "Field": "digitry.reading.template",
    "Template": "digitry.reading.template",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'digitry' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
