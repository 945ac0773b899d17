"""A reader of the protobuf wire format, enough to check an ONNX file.

Source: protobuf.dev/programming-guides/encoding and the field numbers of onnx.proto (IR version 13).
"""

from collections.abc import Iterator

from digitry.errors import ModelError


def wholes(value: int | bytes) -> list[int]:
    """Return the signed integers of a field, single or packed."""
    if isinstance(value, int):
        return [value - (1 << 64) if value >= 1 << 63 else value]
    found, position = [], 0
    while position < len(value):
        whole, position = _varint(value, position)
        found.append(whole - (1 << 64) if whole >= 1 << 63 else whole)
    return found


def walk(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of one protobuf message; a value is an int or bytes."""
    position, end = 0, len(content)
    while position < end:
        key, position = _varint(content, position)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, position = _varint(content, position)
            yield number, value
            continue
        if kind == 2:
            length, position = _varint(content, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise _broken()
        if position + length > end:
            raise _broken()
        yield number, content[position : position + length]
        position += length


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(content):
            raise _broken()
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _broken()


def message(value: int | bytes) -> bytes:
    """Return the bytes of a field.

    Raises:
        ModelError: the field is an integer.
    """
    if isinstance(value, int):
        raise _broken()
    return value


def _broken() -> ModelError:
    return ModelError("is truncated or not an ONNX file", remedy="copy it again")
