"""What a field must look like, as a small regular expression over digits, ready for a search.

`\\d{4}` is a year, `[01]\\d/\\d\\d` a day and month, `\\d{5}|\\d{9}` a postal code. Only digits are read;
every other character of a pattern (a dot, a dash, a slash, a space) stands for a mark that may be on
the paper or not. A pattern becomes a deterministic automaton (Thompson 1968, then the subset
construction), so that the best path through a line can be sought in it step by step.
"""

from dataclasses import dataclass, field

from digitry.errors import UsageError

DIGITS = frozenset(range(10))
MOST_STATES = 2_000


@dataclass(frozen=True)
class Pattern:
    """A deterministic automaton over digits; state 0 is where it starts.

    Attributes:
        text: as it was written.
        steps: for each state, digit -> next state.
        ends: the states in which a text may end.
    """

    text: str
    steps: tuple[dict[int, int], ...] = field(repr=False)
    ends: frozenset[int] = field(repr=False)

    def matches(self, digits: str) -> bool:
        """Tell whether a text of digits fits."""
        state = 0
        for digit in digits:
            following = self.steps[state].get(int(digit)) if digit.isdecimal() else None
            if following is None:
                return False
            state = following
        return state in self.ends


def compile(text: str) -> Pattern:
    """Give the automaton of a pattern.

    Known are digits, `\\d`, sets such as `[0-3]` and `[^9]`, groups, `|`, and the repetitions `?`,
    `*`, `+`, `{n}`, `{m,n}`, `{m,}`.

    Raises:
        UsageError: it cannot be understood, holds no digit, or is too large.
    """
    parser = _Parser(text)
    first, last = parser.choice()
    if parser.at < len(text):
        raise parser.wrong("an unexpected " + repr(text[parser.at]))
    return _deterministic(text, parser, first, last)


class _Parser:
    """Recursive descent; every part becomes a pair of states of `edges` and `free`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.edges: list[tuple[int, frozenset[int], int]] = []
        self.free: list[tuple[int, int]] = []
        self.count = 0

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
        # Repetition is written out: the same text is parsed anew for each of its places.
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
            raise self.wrong("a repetition that is none")
        self.at = close + 1
        most = int(low) if not comma else int(high) if high else None
        if int(low) > 200 or (most is not None and (most > 200 or most < int(low) or most == 0)):
            raise self.wrong("a repetition out of 1 to 200")
        return int(low), most

    def atom(self) -> tuple[int, int]:
        mark = self.peek()
        if mark == "(":
            self.at += 1
            if self.text.startswith("?:", self.at):
                self.at += 2
            part = self.choice()
            if self.peek() != ")":
                raise self.wrong("a group that does not end")
            self.at += 1
            return part
        if mark in ("*", "+", "?", "{", "}", "]", ")", "|"):
            raise self.wrong(f"a stray {mark!r}")
        allowed = self.digits(mark)
        first, last = self.state(), self.state()
        if allowed is None:
            # A mark between digits: nothing is read for it.
            self.free.append((first, last))
        else:
            self.edges.append((first, allowed, last))
        return first, last

    def digits(self, mark: str) -> frozenset[int] | None:
        self.at += 1
        if mark == "\\":
            escaped = self.peek()
            self.at += 1
            if escaped == "d":
                return DIGITS
            if not escaped or escaped.isalnum():
                raise self.wrong(f"the unknown \\{escaped}")
            return None
        if mark != "[":
            return frozenset([int(mark)]) if mark.isdecimal() and mark.isascii() else None
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
                if body[0].isdecimal():
                    chosen.add(int(body[0]))
                body = body[1:]
        allowed = DIGITS - chosen if inverse else frozenset(chosen)
        return allowed or None

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

    def closed(states: set[int]) -> frozenset[int]:
        reached, waiting = set(states), list(states)
        while waiting:
            for target in free.get(waiting.pop(), []):
                if target not in reached:
                    reached.add(target)
                    waiting.append(target)
        return frozenset(reached)

    known = {closed({first}): 0}
    order = list(known)
    steps: list[dict[int, int]] = []
    for states in order:
        step = {}
        for digit in DIGITS:
            targets = {t for s in states for allowed, t in edges.get(s, []) if digit in allowed}
            if targets:
                following = closed(targets)
                if following not in known:
                    known[following] = len(order)
                    order.append(following)
                    if len(order) > MOST_STATES:
                        raise parser.wrong("too much of it")
                step[digit] = known[following]
        steps.append(step)
    ends = frozenset(index for index, states in enumerate(order) if last in states)
    if not any(steps):
        raise UsageError("asks for no digit", where=f"pattern {text}", remedy=r"give e.g. \d{4}")
    return Pattern(text, tuple(steps), ends)
