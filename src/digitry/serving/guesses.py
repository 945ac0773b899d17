"""A rate limit on wrong tokens, for each client."""

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from digitry.serving.addresses import source_of

SOURCES = 4096
"""Clients that are remembered; the one whose last wrong token is oldest is dropped first."""


class Guesses:
    """The recent wrong tokens of each client.

    Args:
        most: wrong tokens that one client may send within `seconds`.
        seconds: how long a wrong token counts.
        clock: returns seconds from any origin; tests pass their own.
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
        """Return the whole seconds until this client may send a token again; 0 = now."""
        times = self._wrong.get(source_of(address)) if self._wrong else None
        if times is None or len(times) < self.most:
            return 0
        return max(0, math.ceil(times[0] + self.seconds - self._clock()))

    def count(self, address: str) -> None:
        """Record a wrong token."""
        source = source_of(address)
        times = self._wrong.pop(source, None) or deque(maxlen=self.most)
        times.append(self._clock())
        self._wrong[source] = times
        if len(self._wrong) > SOURCES:
            self._wrong.popitem(last=False)
