"""What the network that reads lines tells apart, in the order of its outputs."""

DIGITS = "0123456789"

MARKS = ".,-/:"
"""Marks that stand in numbers; they are read and kept in the text."""

UNREADABLE = "?"
"""How writing that is neither a digit nor a mark stands in a text."""

CLASSES: tuple[str, ...] = (*DIGITS, *MARKS, "other", "blank")
"""The 17 outputs: ten digits, five marks, other writing, and CTC's blank."""

SYMBOLS = DIGITS + MARKS + UNREADABLE
"""The character of each output in a text, by its index; the blank has none."""

OTHER = CLASSES.index("other")
BLANK = CLASSES.index("blank")
