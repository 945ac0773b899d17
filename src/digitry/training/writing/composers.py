"""Strips and pages composed in other processes, in pools that a seed and a number make."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import cv2

from digitry.errors import UsageError
from digitry.training.writing.strips import Batch, Composer, Mix, Sources

B = TypeVar("B", covariant=True)


class Composes(Protocol[B]):
    """What composes the batches of a pool: the same wherever and whenever it does."""

    def compose(self, sources: Sources, pool: int) -> Sequence[B]:
        """Return the batches of one pool."""
        ...


@dataclass(frozen=True, kw_only=True)
class Pools:
    """What is composed: pool `i` holds the same strips wherever and whenever it is composed."""

    seed: int = 0
    strips: int = 2048
    """In a pool, from which batches by width are made."""
    columns: int = 10_240
    """Strips times width in a batch, at the most."""
    mix: Mix = field(default_factory=Mix)

    def compose(self, sources: Sources, pool: int) -> list[Batch]:
        """Return the batches of one pool."""
        return Composer(sources, [self.seed, pool], self.mix).batches(self.strips, self.columns)


_sources: Sources | None = None


def _begin(sources: Sources) -> None:
    global _sources
    _sources = sources
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the training is killed: what it composes has no use then."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _compose(pools: Composes[Any], pool: int) -> Sequence[Any]:
    if _sources is None:
        raise UsageError("no sources", where="composing")
    return pools.compose(_sources, pool)


def composed(
    pools: Composes[B], sources: Sources, first: int = 0, processes: int = 1
) -> Generator[tuple[B, int], None, None]:
    """Yield batches without end, each with the number of pools that were begun.

    The processes are spawned: a process that was forked beside running threads may wait for a lock that
    nobody holds any more.

    Args:
        pools: what to compose.
        sources: what strips are made of; sent to each process once.
        first: the pool to begin with.
        processes: how many compose.
    """
    context = multiprocessing.get_context("spawn")
    workers = ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(sources,))
    waiting: deque[Future[Sequence[B]]] = deque()
    pool = first
    try:
        while True:
            while len(waiting) < processes + 1:
                waiting.append(workers.submit(_compose, pools, pool + len(waiting)))
            batches = waiting.popleft().result()
            pool += 1
            for batch in batches:
                yield batch, pool
    finally:
        workers.shutdown(wait=True, cancel_futures=True)
