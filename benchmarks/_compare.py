"""How a text that was read is compared with the label of its picture.

- Lines are compared as lines. A manifest of pictures that people wanted read (it has the column
  `right_today`) joins the lines of a label by `/`, any other by `|`.
- Spaces count if the label has spaces; else they are left aside.
- Marks (`.` `,` `-` `/` `:`) count if the label has marks; else they are left aside.
- A `?` in a label stands for writing that is no digit: a mark or a refusal is right there.
- A refused digit in a text is not right.

`same_digits` compares the digits alone, in their order, lines joined.
"""

from dataclasses import dataclass

MARKS = ".,-/:"
TRIALS = "right_today"
"""A column that only manifests of trials have."""


@dataclass(frozen=True)
class Label:
    """What stands in a picture.

    Attributes:
        text: the lines, joined by a newline.
        any_order: whether only the digits count, in any order.
    """

    text: str
    any_order: bool = False

    @classmethod
    def of(cls, written: str, *, trials: bool = False, any_order: bool = False) -> "Label":
        """Return the label that is written in a manifest."""
        return cls(written.replace("/" if trials else "|", "\n"), any_order)

    @property
    def is_comparable(self) -> bool:
        """Whether it is a text; some labels are remarks in words."""
        return bool(self.text) and not any(character.isalpha() for character in self.text)

    def errors(self, text: str) -> int:
        """Return the edit distance of a text that was read; 0 = it is right."""
        if self.any_order:
            return edit_distance("".join(sorted(digits(self.text))), "".join(sorted(digits(text))))
        return edit_distance(self.text, self.as_compared(text))

    def as_compared(self, text: str) -> str:
        """Return a text without what the label leaves aside."""
        left_out = set()
        if " " not in self.text:
            left_out.add(" ")
        if not any(mark in self.text for mark in (*MARKS, "?")):
            left_out.update(MARKS)
        return "".join(character for character in text if character not in left_out)

    def same_digits(self, text: str) -> bool:
        """Return whether the digits are right, whatever else was read."""
        if self.any_order:
            return sorted(digits(self.text)) == sorted(digits(text))
        return digits(self.text) == digits(text)


def digits(text: str) -> str:
    """Return the digits of a text."""
    return "".join(character for character in text if character in "0123456789")


def edit_distance(label: str, text: str) -> int:
    """Return how many characters must be changed; a `?` in the label is also any mark."""
    row = list(range(len(text) + 1))
    for i, x in enumerate(label, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(text, 1):
            same = x == y or (x == "?" and y in MARKS)
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (not same))
    return row[-1]
