"""Texts that people write in digits: counts, amounts, dates, times, phone numbers.

A text is a string of digits and the marks `. , - / :`, of `?` for one character of other writing, `~` for a
word, and spaces.
"""

from collections.abc import Sequence

import numpy as np

LETTER, WORD = "?", "~"


def drawn(shares: Sequence[float], rng: np.random.Generator) -> int:
    """Return an index, drawn by shares that sum to 1; for a few shares ten times as fast as `choice`."""
    left = rng.random()
    for index, share in enumerate(shares):
        left -= share
        if left < 0:
            return index
    return len(shares) - 1


def text(rng: np.random.Generator) -> str:
    """Return a text as it stands in a field, a table, a form or a letter."""
    return str(_KINDS[drawn(_SHARES, rng)](rng))


def digits(count: int, rng: np.random.Generator) -> str:
    """Return digits; some repeat each other, which is where CTC fails first."""
    values = rng.integers(0, 10, count)
    if count > 1 and rng.random() < 0.25:
        for at in range(1, count):
            if rng.random() < 0.5:
                values[at] = values[at - 1]
    return "".join(map(str, values))


def _plain(rng: np.random.Generator) -> str:
    length = drawn(_LENGTHS, rng) + 1
    return digits(length, rng)


def _groups(rng: np.random.Generator) -> str:
    """Return numbers side by side, as in the cells of a row."""
    count = int(rng.integers(2, 5))
    return " ".join(digits(int(rng.integers(1, 4)), rng) for _ in range(count))


def _decimal(rng: np.random.Generator) -> str:
    point = "." if rng.random() < 0.6 else ","
    after = 1 + drawn((0.4, 0.5, 0.1), rng)
    return digits(int(rng.integers(1, 5)), rng) + point + digits(after, rng)


def _money(rng: np.random.Generator) -> str:
    comma, point = (",", ".") if rng.random() < 0.6 else (".", ",")
    groups = [digits(int(rng.integers(1, 4)), rng)]
    groups += [_end(3, rng) for _ in range(rng.integers(1, 3))]
    amount = comma.join(groups)
    if rng.random() < 0.6:
        amount += point + _end(2, rng)
    return amount


def _end(count: int, rng: np.random.Generator) -> str:
    return "0" * count if rng.random() < 0.3 else digits(count, rng)


def _date(rng: np.random.Generator) -> str:
    mark = "/.-"[drawn((0.45, 0.3, 0.25), rng)]
    day, month = int(rng.integers(1, 32)), int(rng.integers(1, 13))
    year = int(rng.integers(1900, 2040))
    form = "02d" if rng.random() < 0.6 else "d"
    short = f"{year % 100:02d}" if rng.random() < 0.5 else str(year)
    parts = [f"{day:{form}}", f"{month:{form}}", short]
    order = rng.random()
    if order < 0.15:
        parts = [str(year), f"{month:02d}", f"{day:02d}"]
    elif order < 0.3:
        parts = parts[:2]
    return mark.join(parts)


def _time(rng: np.random.Generator) -> str:
    parts = [f"{rng.integers(0, 24):{'02d' if rng.random() < 0.5 else 'd'}}"]
    parts += [f"{rng.integers(0, 60):02d}" for _ in range(1 + (rng.random() < 0.25))]
    return ":".join(parts)


def _phone(rng: np.random.Generator) -> str:
    mark = "-. /"[drawn((0.5, 0.2, 0.2, 0.1), rng)]
    shape = ((3, 4), (3, 3, 4), (2, 2, 2, 2, 2), (4, 6), (5, 4))[int(rng.integers(5))]
    number = mark.join(digits(count, rng) for count in shape)
    if shape[0] == 3 and rng.random() < 0.3:
        number = f"{LETTER}{number[:3]}{LETTER}{number[4:] if mark == ' ' else number[3:]}"
    return number


def _signed(rng: np.random.Generator) -> str:
    value = digits(int(rng.integers(1, 4)), rng)
    choice = rng.random()
    if choice < 0.45:
        return "-" + (value + "." + digits(1, rng) if rng.random() < 0.3 else value)
    if choice < 0.7:
        return value + str(rng.choice([",-", ".-", "-", "/-", "."]))
    return digits(int(rng.integers(1, 4)), rng) + str(rng.choice(["-", "/"])) + value


def _among_others(rng: np.random.Generator) -> str:
    """Return digits among letters, symbols and words."""
    value = _plain(rng)[:6]
    choice = rng.random()
    letter = LETTER * int(rng.integers(1, 4))
    space = " " if rng.random() < 0.5 else ""
    if choice < 0.35:
        return f"{letter}{space}{value}"
    if choice < 0.6:
        return f"{value}{space}{letter}"
    if choice < 0.75:
        return f"{value}{LETTER}{digits(int(rng.integers(1, 4)), rng)}"
    if choice < 0.85:
        return f"{WORD} {value}"
    if choice < 0.92:
        return f"{value} {WORD}"
    return f"{LETTER}{_decimal(rng)}"


_KINDS = (
    _plain,
    _groups,
    _decimal,
    _money,
    _date,
    _time,
    _phone,
    _signed,
    _among_others,
)
_SHARES = (0.53, 0.05, 0.09, 0.05, 0.07, 0.03, 0.05, 0.05, 0.08)
_LENGTHS = (0.22, 0.15, 0.13, 0.12, 0.12, 0.08, 0.06, 0.04, 0.03, 0.03, 0.01, 0.01)
