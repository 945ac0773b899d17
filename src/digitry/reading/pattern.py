"""The form of a field, given as a small regular expression and made ready for a search.

`\\d{4}` is a year, `[01]\\d/\\d\\d` a day and month, `\\d{5}|\\d{9}` a postal code, `\\d+\\.\\d\\d` an
amount. A pattern becomes a deterministic automaton (Thompson 1968, then the subset construction), so
that the search for the best text follows it step by step.

The meaning of a pattern's marks depends on what the reader reads:

- A reader of digits alone (`compile(text)`) ignores every other character: a mark of the pattern may be
  on the paper or not.
- For a reader of digits and marks (`compile(text, READABLE)`) `. , - / :` stand for themselves and must be
  on the paper. `/?` allows one to be missing. A space may be a gap or nothing; any other character, such
  as a letter or a currency sign, may be other writing or nothing.
"""

from dataclasses import dataclass, field
from functools import lru_cache

from digitry.errors import UsageError
from digitry.reading import classes

DIGITS = frozenset(range(10))
MARKS = frozenset(classes.SYMBOLS.index(mark) for mark in classes.MARKS)
READABLE = DIGITS | MARKS | {classes.OTHER}
"""The symbols of a reader of digits and marks, by their index in `classes.SYMBOLS`."""

MOST_STATES = 2_000
MOST_WORK = 500_000
"""Largest number of states that are visited while an automaton is built: well under a second."""
DEEPEST = 50
"""Largest depth of groups within groups."""

_SAME = str.maketrans("\u2010\u2011\u2012\u2013\u2014\u2212\u2044\u2215", "------//")
"""Other hyphens, dashes, minus signs and slashes -> those that are read."""


@dataclass(frozen=True)
class Pattern:
    """A deterministic automaton over symbols; it starts in state 0.

    Attributes:
        text: as it was written.
        steps: for each state, symbol -> next state. A symbol is an index in `classes.SYMBOLS`; that
            of a digit is its value.
        ends: the states in which a text may end.
    """

    text: str
    steps: tuple[dict[int, int], ...] = field(repr=False)
    ends: frozenset[int] = field(repr=False)

    def matches(self, text: str) -> bool:
        """Return whether a text of digits, marks and `?` fits."""
        state = 0
        for character in text:
            following = self.steps[state].get(classes.SYMBOLS.find(character))
            if following is None:
                return False
            state = following
        return state in self.ends

    @property
    def length(self) -> int | None:
        """The number of symbols of every text that fits; None if it is not the same for all."""
        reached, lengths = {0}, []
        # If texts of any length fit, there is a second one within twice as many steps as states.
        for count in range(2 * len(self.steps)):
            if reached & self.ends:
                lengths.append(count)
            reached = {following for state in reached for following in self.steps[state].values()}
        return lengths[0] if len(lengths) == 1 else None


@lru_cache(maxsize=8)
def compile(text: str, reads: frozenset[int] = DIGITS) -> Pattern:
    """Return the automaton of a pattern.

    A pattern may have digits, `\\d`, sets such as `[0-3]`, `[^9]` and `[.,]`, groups, `|`, and the
    repetitions `?`, `*`, `+`, `{n}`, `{m,n}`, `{m,}`. A set that excludes, such as `[^9]`, is a set of
    digits.

    Args:
        text: the pattern.
        reads: the symbols that the reader can read: `DIGITS` or `READABLE`.

    Raises:
        UsageError: it is not a valid pattern, has no digit, or is too large.
    """
    parser = _Parser(text, reads)
    first, last = parser.choice()
    if parser.at < len(text):
        raise parser.wrong("an unexpected " + repr(text[parser.at]))
    return _deterministic(text, parser, first, last)


class _Parser:
    """Recursive descent; every part becomes a pair of states of `edges` and `free`."""

    def __init__(self, text: str, reads: frozenset[int]) -> None:
        self.text = text
        self.reads = reads
        self.at = 0
        self.edges: list[tuple[int, frozenset[int], int]] = []
        self.free: list[tuple[int, int]] = []
        self.count = 0
        self.depth = 0

    def choice(self) -> tuple[int, int]:
        first, last = self.sequence()
        while self.peek() == "|":
            self.at += 1
            other_first, other_last = self.sequence()
            start, end = self.state(), self.state()
            self.free += [(start, first), (start, other_first), (last, end), (other_last, end)]
            first, last = start, end
        return first, last

    def sequence(self) -> tuple[int, int]:
        first = last = self.state()
        while self.peek() not in ("", "|", ")"):
            begin, end = self.repeated()
            self.free.append((last, begin))
            last = end
        return first, last

    def repeated(self) -> tuple[int, int]:
        start = self.at
        part = self.atom()
        stop = self.at
        low, high = self.repetition()
        if (low, high) == (1, 1):
            return part
        # A repetition is copied: its text is parsed again for each copy.
        first = last = self.state()
        resume = self.at
        for index in range(max(low, 1) if high is None else high):
            self.at = start
            begin, end = self.atom()
            if self.at != stop:
                raise self.wrong("a repetition that cannot be read")
            self.free.append((last, begin))
            if index >= low:
                self.free.append((last, end))
            if high is None and index == max(low, 1) - 1:
                self.free.append((end, begin))
                if low == 0:
                    self.free.append((begin, end))
            last = end
        self.at = resume
        return first, last

    def repetition(self) -> tuple[int, int | None]:
        mark = self.peek()
        if mark in ("?", "*", "+"):
            self.at += 1
            return {"?": (0, 1), "*": (0, None), "+": (1, None)}[mark]
        if mark != "{":
            return 1, 1
        close = self.text.find("}", self.at)
        low, comma, high = self.text[self.at + 1 : max(close, self.at + 1)].partition(",")
        if close < 0 or not low.isdecimal() or (comma and high and not high.isdecimal()):
            raise self.wrong("an invalid repetition, not like {4}, {2,} or {2,4},")
        self.at = close + 1
        most = int(low) if not comma else int(high) if high else None
        if int(low) > 200 or (most is not None and (most > 200 or most < int(low) or most == 0)):
            raise self.wrong("a repetition outside 1 to 200")
        return int(low), most

    def atom(self) -> tuple[int, int]:
        mark = self.peek()
        if mark == "(":
            self.at += 1
            self.depth += 1
            if self.depth > DEEPEST:
                raise self.wrong(f"more than {DEEPEST} groups in groups")
            if self.text.startswith("?:", self.at):
                self.at += 2
            part = self.choice()
            if self.peek() != ")":
                raise self.wrong("a group that does not end")
            self.at += 1
            self.depth -= 1
            return part
        if mark in ("*", "+", "?", "{", "}", "]", ")", "|"):
            raise self.wrong(f"a stray {mark!r}")
        allowed = self.symbols(mark)
        first, last = self.state(), self.state()
        if allowed:
            self.edges.append((first, allowed, last))
        if not allowed or allowed == {classes.OTHER}:
            # A character that the reader does not know may be missing.
            self.free.append((first, last))
        return first, last

    def symbols(self, mark: str) -> frozenset[int]:
        """Return the symbols that one character or set stands for; none for what is not read."""
        self.at += 1
        if mark == "\\":
            mark = self.peek()
            self.at += 1
            if mark == "d":
                return DIGITS
            if not mark or mark.isalnum():
                raise self.wrong(f"the unknown \\{mark}")
            return self.symbol(mark)
        if mark != "[":
            return self.symbol(mark)
        close = self.text.find("]", self.at)
        if close < 0:
            raise self.wrong("a set that does not end")
        body = self.text[self.at : close].replace("\\d", "0-9")
        self.at = close + 1
        inverse, body = body.startswith("^"), body.removeprefix("^")
        chosen: set[int] = set()
        while body:
            if len(body) >= 3 and body[1] == "-" and body[0].isdecimal() and body[2].isdecimal():
                chosen.update(range(int(body[0]), int(body[2]) + 1))
                body = body[3:]
            else:
                if body[0] != "\\":
                    chosen |= self.symbol(body[0])
                body = body[1:]
        return DIGITS - chosen if inverse else frozenset(chosen)

    def symbol(self, character: str) -> frozenset[int]:
        """Return the symbols that a character stands for: itself, other writing, or none."""
        character = character.translate(_SAME)
        if character.isspace():
            return frozenset()
        index = (classes.DIGITS + classes.MARKS).find(character)
        return frozenset([index if index >= 0 else classes.OTHER]) & self.reads

    def state(self) -> int:
        self.count += 1
        if self.count > 40 * MOST_STATES:
            raise self.wrong("too much of it")
        return self.count - 1

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def wrong(self, what: str) -> UsageError:
        return UsageError(
            f"has {what} at position {self.at + 1}",
            where=f"pattern {self.text}",
            remedy=r"give something like \d{4} or \d\d\.\d\d\.\d{4}",
        )


def _deterministic(text: str, parser: _Parser, first: int, last: int) -> Pattern:
    free: dict[int, list[int]] = {}
    for source, target in parser.free:
        free.setdefault(source, []).append(target)
    edges: dict[int, list[tuple[frozenset[int], int]]] = {}
    for source, allowed, target in parser.edges:
        edges.setdefault(source, []).append((allowed, target))

    work = 0

    def closed(states: set[int]) -> frozenset[int]:
        nonlocal work
        reached, waiting = set(states), list(states)
        while waiting:
            for target in free.get(waiting.pop(), []):
                if target not in reached:
                    reached.add(target)
                    waiting.append(target)
        work += len(reached)
        if work > MOST_WORK:
            raise parser.wrong("too much of it")
        return frozenset(reached)

    known = {closed({first}): 0}
    order = list(known)
    steps: list[dict[int, int]] = []
    for states in order:
        leaving: dict[frozenset[int], set[int]] = {}
        for state in states:
            for allowed, target in edges.get(state, []):
                leaving.setdefault(allowed, set()).add(target)
        step = {}
        # Symbols of the same sets, such as all digits of \d, lead to the same state.
        alike: dict[tuple[frozenset[int], ...], int] = {}
        for symbol in sorted(parser.reads):
            sets = tuple(allowed for allowed in leaving if symbol in allowed)
            if not sets:
                continue
            if sets not in alike:
                following = closed(set().union(*(leaving[allowed] for allowed in sets)))
                if following not in known:
                    known[following] = len(order)
                    order.append(following)
                    if len(order) > MOST_STATES:
                        raise parser.wrong("too much of it")
                alike[sets] = known[following]
            step[symbol] = alike[sets]
        steps.append(step)
    ends = frozenset(index for index, states in enumerate(order) if last in states)
    if not any(symbol in DIGITS for step in steps for symbol in step):
        raise UsageError("asks for no digit", where=f"pattern {text}", remedy=r"give e.g. \d{4}")
    return Pattern(text, tuple(steps), ends)
