"""Run the networks: views of pages to lines of characters."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import islice
from operator import or_
from typing import Literal

import numpy as np
import numpy.typing as npt

from digitry.reading import decode, glyph
from digitry.reading import lines as strips_of
from digitry.reading.alone import Alone, may_be_one, whole_of
from digitry.reading.boxes import Box as BoxOnCut
from digitry.reading.budget import Budget
from digitry.reading.classes import DIGITS, UNREADABLE
from digitry.reading.classifier import Classifier
from digitry.reading.find import LARGEST, Place, find
from digitry.reading.network import Session
from digitry.reading.order import joined, rows
from digitry.reading.pattern import Pattern
from digitry.reading.pieces import Piece, pieces
from digitry.reading.result import Box
from digitry.reading.view import (
    CLEAR,
    UPRIGHT,
    Decider,
    ReadLine,
    Said,
    View,
    besides,
    may_be_alone,
)

Layout = Literal["auto", "single", "line", "page"]
LAYOUTS: tuple[Layout, ...] = ("auto", "single", "line", "page")

SURE_ALONE = 0.97
"""If the model gives all the ink of a picture this probability of being one digit, the other networks are
not run."""

SURE_TOGETHER = 0.98
"""The same for the model and the line network together, where the model alone is not so sure."""

SETTLED = 0.9
"""A line whose characters are all surer is not cut out a second time."""

FAINT = 0.2
"""A line in which no character is read as a digit with this probability is other writing: it is not cut out
a second time either."""

SMALL_LINE = 512 * 512
"""Pixels. Larger pictures hold more than one line."""

NONE = np.zeros(11)
NOWHERE = BoxOnCut(0, 1, 0, 1)

LEAST = 1e-5
"""Keeps logarithms finite."""

WEIGHT_LINE = np.array([0.6] * 10 + [0.5])
WEIGHT_GLYPH = np.array([0.8] * 10 + [0.5])
"""Weights of the line network and the glyph model for a digit that stands alone: ten for the digits, one
for "no digit".

Chosen on hands that the line network's training held out, for digits right, letters refused, and a mean
confidence that is the share of digits that are right."""

COLUMNS_SHARE, COLUMNS_LEAST = 1 / 40, 40_000
"""Budget of the line network for one page, in columns: per pixel of the page, and at least."""

GLANCED, GLANCED_LINES, GLANCED_COLUMNS = 768, 12, 4000
"""Limits of a quick look at a page: its long side in pixels, the number of lines, and their columns."""

PORTION = 8192
"""Columns of the lines that are cut out and shown to the network at once."""

SEARCH_SHARE, SEARCH_LEAST = 1 / 160, 8_000
"""Budget of the search for lines that are not plain, in columns: likewise. Most writing is plain."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """A line as the network gets it: its cut, its strips, and their text."""

    cut: strips_of.Cut
    strips: list[decode.Strip]
    line: decode.Line


@dataclass(frozen=True)
class Recogniser:
    """The networks, and how they are used.

    Attributes:
        finder: finds numbers on a page.
        lines: reads a line.
        classifier: the model that is asked about single digits.
        weighs: whether what the line says is weighed against the classifier; else the latter decides.
        pattern: what each line must look like, or None.
    """

    finder: Session
    lines: Session
    classifier: Classifier
    weighs: bool
    pattern: Pattern | None

    def seen(
        self, views: Sequence[Sequence[View]], layout: Layout, glance: bool = False
    ) -> list[list[View]]:
        """Return views of pages with their lines; the networks are asked once for all of them.

        Args:
            views: of each page.
            layout: what the pages hold.
            glance: whether a few lines of a page are enough, those that the finder is surest of.
        """
        flat = [view for seen in views for view in seen]
        if layout == "single":
            flat = self._singles(flat)
        else:
            tried: list[View | None] = [None] * len(flat)
            if layout == "auto":
                flat, tried = self._as_digits(flat)
            left = [i for i, view in enumerate(flat) if not view.lines]
            pages = self._pages([flat[i] for i in left], [tried[i] for i in left], layout, glance)
            for i, view in zip(left, pages, strict=True):
                flat[i] = view
        again = iter(flat)
        return [[next(again) for _ in seen] for seen in views]

    def _singles(self, views: Sequence[View]) -> list[View]:
        """Return views read as one digit: all the ink, or the digit that the finder finds."""
        wholes = [whole_of(view.gray) for view in views]
        found = self._sure_singles(views, wholes)
        for i, view in self._alone(
            found, wholes, [i for i, view in enumerate(found) if not view.lines]
        ):
            found[i] = view
        doubtful = [i for i, view in enumerate(found) if view.merit < CLEAR]
        places = [self._places(found[i].gray, "single") for i in doubtful]
        asked = [(i, part) for i, part in zip(doubtful, places, strict=True) if part]
        read = self._read_places(
            [found[i] for i, _ in asked], [part for _, part in asked], [None] * len(asked), True
        )
        for (i, _), line in zip(asked, read, strict=True):
            other = replace(found[i], lines=(line,))
            if other.merit > found[i].merit:
                found[i] = other
        return found

    def _sure_singles(
        self, views: Sequence[View], wholes: Sequence[tuple[Place, Alone] | None]
    ) -> list[View]:
        """Return views, those with their line whose ink the model is sure is one digit."""
        asked = [(i, whole) for i, whole in enumerate(wholes) if whole is not None]
        glyphs = glyph.normalise([found.ink for _, (_, found) in asked])
        result = list(views)
        rows_ = zip(asked, self.classifier.probabilities(glyphs), strict=True)
        for (i, (place, found)), p_glyph in rows_:
            p = p_glyph if len(p_glyph) > 10 else np.append(p_glyph, 0.0)
            best = int(p[:10].argmax())
            if p[best] < SURE_ALONE:
                continue
            if self.weighs:
                # Where the model is so sure, the line network says the same: their weights add up.
                p = p ** (WEIGHT_LINE[0] + WEIGHT_GLYPH[0])
                p /= p.sum()
            p, fits = self._within(p)
            piece = Piece(found.ink, True, NOWHERE)
            said = Said(str(best), p, float(p[best]), found.box, piece, by="model")
            result[i] = replace(result[i], lines=(ReadLine(place, (said,), ((0, 1),), fits),))
        return result

    def _as_digits(self, views: Sequence[View]) -> tuple[list[View], list[View | None]]:
        """Return views, those whose ink is surely one digit with their line; and each that was read so."""
        wholes = [may_be_one(view.gray) for view in views]
        found = self._sure_singles(views, wholes)
        tried: list[View | None] = [None] * len(found)
        left = [i for i, view in enumerate(found) if not view.lines]
        for i, view in self._alone(found, wholes, left):
            tried[i] = view
            if view.merit >= SURE_TOGETHER:
                found[i] = view
        return found, tried

    def _alone(
        self,
        views: Sequence[View],
        wholes: Sequence[tuple[Place, Alone] | None],
        which: Sequence[int],
    ) -> list[tuple[int, View]]:
        """Return some of the views with all their ink read as one digit."""
        asked = [(i, whole) for i in which if (whole := wholes[i]) is not None]
        read = self._read_places(
            [views[i] for i, _ in asked],
            [[place] for _, (place, _) in asked],
            [found for _, (_, found) in asked],
            True,
        )
        return [
            (i, replace(views[i], lines=(line,))) for (i, _), line in zip(asked, read, strict=True)
        ]

    def _pages(
        self,
        views: Sequence[View],
        tried: Sequence[View | None],
        layout: Layout,
        glance: bool,
    ) -> list[View]:
        """Return views with the lines that the finder finds; or with one digit, if that reads better.

        Args:
            views: the pages.
            tried: each of them with all its ink read as one digit, where that is known already.
            layout: what the pages hold.
            glance: whether a few lines of a page are enough.
        """
        places = [self._places(view.gray, layout, glance) for view in views]
        if glance:
            places = [_surest(part) for part in places]
        made = iter(self._read_places(views, places, [None] * sum(map(len, places)), False))
        found = [
            replace(view, lines=tuple(islice(made, len(part))))
            for view, part in zip(views, places, strict=True)
        ]
        asked = [i for i, view in enumerate(found) if may_be_alone(view)]
        known = [(i, view) for i in asked if (view := tried[i]) is not None]
        asked = [i for i in asked if tried[i] is None]
        wholes = [whole_of(view.gray) if i in asked else None for i, view in enumerate(found)]
        wholes = [None if whole is None or whole[1].beside else whole for whole in wholes]
        for i, view in [*known, *self._alone(found, wholes, asked)]:
            if view.merit > found[i].merit and not besides(found[i], view.lines[0].said[0].box):
                found[i] = view
        for i, view in self._as_lines(found):
            if view.merit > found[i].merit:
                found[i] = view
        return found

    def _as_lines(self, views: Sequence[View]) -> list[tuple[int, View]]:
        """Return the small ones of the views that are hardly readable, read as one line from end to end."""
        asked = [
            (i, place)
            for i, view in enumerate(views)
            if view.merit < UPRIGHT
            and view.gray.size <= SMALL_LINE
            and (place := strips_of.whole(view.gray)) is not None
        ]
        read = self._read_places(
            [views[i] for i, _ in asked],
            [[place] for _, place in asked],
            [None] * len(asked),
            False,
        )
        return [
            (i, replace(views[i], lines=(line,)))
            for (i, _), line in zip(asked, read, strict=True)
            if line.said
        ]

    def _places(
        self, gray: npt.NDArray[np.uint8], layout: Layout, glance: bool = False
    ) -> list[Place]:
        found = find(gray, self.finder, GLANCED if glance else LARGEST)
        if layout == "single":
            largest = max(found, key=lambda place: place.score * place.height, default=None)
            return [] if largest is None else [largest]
        if layout == "line" or self.pattern is not None:
            found = [place for row in rows(found) for place in joined([found[k] for k in row])]
        budget = Budget(gray.size, share=COLUMNS_SHARE, least=COLUMNS_LEAST)
        for place in found:
            budget.spend(strips_of.columns(place))
        return found

    def _read_places(
        self,
        views: Sequence[View],
        places: Sequence[Sequence[Place]],
        wholes: Sequence[Alone | None],
        as_one: bool,
    ) -> list[ReadLine]:
        """Return the lines of several views, read one after the other."""
        flat = [place for part in places for place in part]
        grays = [view.gray for view, part in zip(views, places, strict=True) for _ in part]
        owners = [i for i, part in enumerate(places) for _ in part]
        budgets = [Budget(view.gray.size, share=SEARCH_SHARE, least=SEARCH_LEAST) for view in views]
        spent = [budgets[i] for i in owners]
        if as_one:
            cuts, strips, _ = self._strips(_cut_out(grays, flat), spent)
            shown = [
                _Shown(cut, seen, _as_one(seen, whole))
                for cut, seen, whole in zip(cuts, strips, wholes, strict=True)
            ]
        else:
            shown = self._shown(grays, flat, spent)
        read = self._said(shown, wholes, as_one)
        return [ReadLine(place, *one) for place, one in zip(flat, read, strict=True)]

    def read_cuts(self, cuts: Sequence[strips_of.Cut]) -> list[tuple[Said, ...]]:
        """Return the characters of lines that are cut out already, as on a page."""
        budgets = [Budget(0, share=0, least=cut.ink.shape[1]) for cut in cuts]
        _, strips, _ = self._strips([cuts], budgets)
        shown = [
            _Shown(cut, seen, self._decoded(seen)) for cut, seen in zip(cuts, strips, strict=True)
        ]
        return [said for said, _, _ in self._said(shown, [None] * len(cuts), False)]

    def _shown(
        self,
        grays: Sequence[npt.NDArray[np.uint8]],
        places: Sequence[Place],
        budgets: Sequence[Budget],
    ) -> list[_Shown]:
        """Return lines as the network is shown them, and what they say.

        Lines whose strips do not plainly say the same are also cut out where their writing stands, unless
        they are sure, or other writing; what says more with confidence is taken.

        Args:
            grays: the page of each line.
            places: the lines.
            budgets: of the page of each line, for the search.

        Raises:
            ImageError: on a page of so many pixels, writing is plainer than that.
        """
        cuts, strips, unsure = self._strips(_cut_out(grays, places), budgets)
        shown = [
            _Shown(cut, seen, self._decoded(seen)) for cut, seen in zip(cuts, strips, strict=True)
        ]
        moved: dict[int, strips_of.Cut] = {}
        for i in unsure:
            if _is_settled(shown[i].line) or _is_hopeless(shown[i].line):
                continue
            place = strips_of.nearer(places[i], cuts[i])
            if place is not None and budgets[i].has(strips_of.columns(place)):
                moved[i] = strips_of.cut(grays[i], place)
        heights = strips_of.TALL + strips_of.TALL_MORE
        again = strips_of.seen(list(moved.values()), self.lines, heights)
        for (i, cut), seen in zip(moved.items(), again, strict=True):
            line = self._decoded(seen)
            if _evidence(line) > _evidence(shown[i].line):
                shown[i] = _Shown(cut, seen, line)
        return shown

    def _strips(
        self, portions: Iterable[Sequence[strips_of.Cut]], budgets: Sequence[Budget]
    ) -> tuple[list[strips_of.Cut], list[list[decode.Strip]], list[int]]:
        """Return lines, their strips, and the indices of the lines whose first strips disagree.

        Such lines get strips at more heights.

        Args:
            portions: the lines; a page that is not writing is refused after a portion or two.
            budgets: of the page of each line, for the search.
        """
        cuts: list[strips_of.Cut] = []
        strips: list[list[decode.Strip]] = []
        unsure: list[int] = []
        for portion in portions:
            first = strips_of.seen(portion, self.lines)
            for i, (cut, seen) in enumerate(zip(portion, first, strict=True), len(cuts)):
                if not decode.is_plain(seen) and not decode.is_other(seen):
                    budgets[i].spend(cut.ink.shape[1])
                    unsure.append(i)
            cuts += portion
            strips += first
        more = strips_of.seen([cuts[i] for i in unsure], self.lines, strips_of.TALL_MORE)
        for i, seen in zip(unsure, more, strict=True):
            strips[i] += seen
        return cuts, strips, unsure

    def _decoded(self, strips: Sequence[decode.Strip]) -> decode.Line:
        if decode.is_other(strips):
            return decode.other(strips, self.pattern)
        return decode.decode(strips, pattern=self.pattern)

    def _said(
        self,
        shown: Sequence[_Shown],
        wholes: Sequence[Alone | None],
        as_one: bool,
    ) -> list[tuple[tuple[Said, ...], tuple[tuple[int, int], ...], bool]]:
        """Return what each line says: characters, words, and whether it fits the pattern."""
        inks = [
            pieces(one.cut, one.line, one.strips[one.line.strip])
            if whole is None
            else [_own(whole, one.cut)]
            for one, whole in zip(shown, wholes, strict=True)
        ]
        # Only a digit that stands alone is weighed against the glyph model.
        wanted = [
            piece
            for one, ink in zip(shown, inks, strict=True)
            for character, piece in zip(one.line.characters, ink, strict=True)
            if _is_digit(character) and self._asks(one.line, piece)
        ]
        glyphs = glyph.normalise([piece.ink for piece in wanted])
        asked = iter(self.classifier.probabilities(glyphs))
        found = []
        for one, whole, ink in zip(shown, wholes, inks, strict=True):
            line = one.line
            said = []
            fits = line.fits is not False
            for character, piece in zip(line.characters, ink, strict=True):
                box = on_page(piece.box, one.cut) if whole is None else whole.box
                if not _is_digit(character):
                    said.append(Said(character.value, NONE, character.confidence, box, piece))
                    continue
                p = _by_line(character)
                by: Decider = "line"
                if self._asks(line, piece):
                    p = self._weighed(p, next(asked))
                    by = "both" if self.weighs else "model"
                if as_one:
                    p, fits = self._within(p)
                value = character.value
                if self.pattern is None or value not in DIGITS or not line.fits:
                    value = str(int(p[:10].argmax()))
                said.append(Said(value, p, float(p[int(value)]), box, piece, by))
            words = tuple((word.first, word.past) for word in line.words)
            found.append((tuple(said), words, fits))
        return found

    def _within(self, p: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], bool]:
        """Return how probable each digit is where there is only one, and whether it fits the pattern.

        As for lines, what is more than 95% sure is not overruled.
        """
        if self.pattern is None:
            return p, True
        fit = np.array([self.pattern.matches(digit) for digit in DIGITS])
        held = p * np.append(np.where(fit, 1.0, decode.UNFIT), 1.0)
        held /= held.sum()
        return (held, True) if fit[int(held[:10].argmax())] else (p, False)

    def _asks(self, line: decode.Line, piece: Piece) -> bool:
        """Return whether the classifier is asked about a digit: among neighbours the line knows better."""
        return not self.weighs or (piece.free and len(line.characters) == 1)

    def _weighed(
        self, p_line: npt.NDArray[np.float64], p_glyph: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Return how probable each digit is, and that it is none, (11,), from what both say."""
        if not self.weighs:
            return p_glyph if len(p_glyph) > 10 else np.append(p_glyph, 0.0)
        mixed = WEIGHT_LINE * np.log(p_line + LEAST) + WEIGHT_GLYPH * np.log(p_glyph + LEAST)
        p = np.exp(mixed - mixed.max())
        result: npt.NDArray[np.float64] = p / p.sum()
        return result


def _cut_out(
    grays: Sequence[npt.NDArray[np.uint8]], places: Sequence[Place]
) -> Iterator[list[strips_of.Cut]]:
    """Yield lines cut out of their pages, in portions with about as many columns each."""
    portion: list[strips_of.Cut] = []
    columns = 0
    for gray, place in zip(grays, places, strict=True):
        portion.append(strips_of.cut(gray, place))
        columns += portion[-1].ink.shape[1]
        if columns >= PORTION:
            yield portion
            portion, columns = [], 0
    yield portion


def _evidence(line: decode.Line) -> float:
    """Return the sum of 2 p - 1 over a line's digits: a certain one counts 1, one with p 0.5 nothing."""
    return sum(2 * one.confidence - 1 for one in line.characters if one.value in DIGITS)


def _is_settled(line: decode.Line) -> bool:
    """Return whether all that a line says is so sure that another look changes little."""
    return all(one.confidence > SETTLED for one in line.characters)


def _is_hopeless(line: decode.Line) -> bool:
    """Return whether no character is read as a digit with any confidence: another look changes little."""
    return not any(one.value in DIGITS and one.confidence >= FAINT for one in line.characters)


def _is_digit(character: decode.Character) -> bool:
    return character.value in DIGITS or character.value == UNREADABLE


def _by_line(character: decode.Character) -> npt.NDArray[np.float64]:
    """Return how probable each digit is by the line, and that it is none, (11,)."""
    p = np.zeros(11)
    for value, share in character.alternatives:
        if value in DIGITS:
            p[int(value)] += share
    p[10] = max(1.0 - p[:10].sum(), 0.0)
    return p


def _surest(places: Sequence[Place]) -> list[Place]:
    """Return the places of a page that tell whether it stands upright."""
    kept: list[Place] = []
    left = float(GLANCED_COLUMNS)
    for place in sorted(places, key=lambda place: place.score * place.length, reverse=True):
        left -= strips_of.columns(place)
        if left < 0 or len(kept) == GLANCED_LINES:
            break
        kept.append(place)
    return kept


def on_page(box: BoxOnCut, cut: strips_of.Cut) -> Box:
    """Return the upright box around a box of a cut, on the page."""
    corners = np.array([(x, y, 1.0) for x in (box.start, box.end) for y in (box.top, box.bottom)])
    at = corners @ cut.to_page.T
    low, high = np.floor(at.min(axis=0)), np.ceil(at.max(axis=0))
    x, y = int(low[0]), int(low[1])
    return Box(x, y, max(int(high[0]) - x, 1), max(int(high[1]) - y, 1))


def _as_one(seen: Sequence[decode.Strip], whole: Alone | None) -> decode.Line:
    """Return a line as one digit, whatever it says."""
    p = decode.single([strip.scores for strip in seen])
    rows_, columns = seen[0].ink.shape
    box, surest = BoxOnCut(0, columns, 0, rows_), 0
    if whole is None:
        # Where the digit stands among rulings and its neighbours' ink.
        line = decode.decode(seen)
        if line.characters:
            box = reduce(or_, (character.box for character in line.characters))
            surest = line.strip
    alternatives = tuple((DIGITS[k], float(p[k])) for k in np.argsort(-p).tolist())
    one = decode.Character(alternatives[0][0], alternatives[0][1], box, alternatives)
    word = decode.Word(one.value, one.confidence, 0, 1, box)
    return decode.Line(one.value, one.confidence, (one,), (word,), surest, None)


def _own(whole: Alone, cut: strips_of.Cut) -> Piece:
    """Return all the ink of a page as the piece of its one character."""
    return Piece(whole.ink, True, BoxOnCut(0, cut.ink.shape[1], 0, cut.ink.shape[0]))
