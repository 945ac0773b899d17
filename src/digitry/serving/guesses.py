"""How often one client may show a wrong token."""

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from digitry.serving.addresses import source_of

SOURCES = 4096
"""Clients that are remembered; the one that was wrong longest ago is forgotten first."""


class Guesses:
    """The wrong tokens of the last minute, by client.

    Args:
        most: wrong tokens that one client may show within `seconds`.
        seconds: how long a wrong token counts.
        clock: seconds from any origin; tests give their own.
    """

    def __init__(
        self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.most = most
        self.seconds = seconds
        self._clock = clock
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._wrong)

    def wait(self, address: str) -> int:
        """Return the whole seconds until this client may show a token again; 0: at once."""
        times = self._wrong.get(source_of(address)) if self._wrong else None
        if times is None or len(times) < self.most:
            return 0
        return max(0, math.ceil(times[0] + self.seconds - self._clock()))

    def count(self, address: str) -> None:
        """Remember a wrong token."""
        source = source_of(address)
        times = self._wrong.pop(source, None) or deque(maxlen=self.most)
        times.append(self._clock())
        self._wrong[source] = times
        if len(self._wrong) > SOURCES:
            self._wrong.popitem(last=False)
