"""One shard to its rows, in order."""

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

from digitry.bulk import inputs, output
from digitry.bulk.entry import Entry, Shard, grouped
from digitry.bulk.output import Written
from digitry.workers.pool import BATCH, Rows, WorkerPool
from digitry.workers.worker import Item

T = TypeVar("T")

REQUEST_BYTES = 1 << 20


def read_shard(shard: Shard, pool: WorkerPool, format: str) -> Written:
    """Return the rows of one shard; the same shard gives the same bytes on any machine."""

    def batches() -> Iterator[Rows]:
        entries = inputs.entries(shard)
        groups = grouped(
            entries, lambda entry: len(entry.content or b""), most=BATCH, size=REQUEST_BYTES
        )
        for batch in _ahead(groups):
            yield _rows(batch, pool)

    return output.written(shard, format, batches(), forms=pool.template is not None)


def _rows(batch: list[Entry], pool: WorkerPool) -> Rows:
    """Return the rows of a batch, with errors in the places of images without content."""
    items = [
        Item(entry.name, entry.content, entry.offset)
        for entry in batch
        if entry.content is not None
    ]
    read = pool.rows(items)
    if len(items) == len(batch):
        return read
    lines, counts = iter(read.lines), iter(read.counts)
    reasons = dict(read.failed)
    merged: list[bytes] = []
    failed: list[tuple[int, str]] = []
    position = 0
    for entry in batch:
        if entry.content is None:
            reason = entry.error or "is missing"
            failed.append((len(merged), reason))
            merged.append(pool.failed_line(entry.name, entry.offset, reason))
            continue
        for _ in range(next(counts)):
            if position in reasons:
                failed.append((len(merged), reasons[position]))
            merged.append(next(lines))
            position += 1
    return Rows(tuple(merged), read.rejected, tuple(failed))


def _ahead(values: Iterator[T]) -> Iterator[T]:
    """Yield the values, and fetch the next one in a thread while the caller uses the last one."""
    ready: queue.Queue[tuple[T | None, BaseException | None, bool]] = queue.Queue(maxsize=1)
    gone = threading.Event()

    def put(value: tuple[T | None, BaseException | None, bool]) -> bool:
        while not gone.is_set():
            try:
                ready.put(value, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def take() -> None:
        try:
            for value in values:
                if not put((value, None, False)):
                    return
        except BaseException as error:  # noqa: BLE001 (raised again in the consuming thread)
            put((None, error, True))
            return
        put((None, None, True))

    threading.Thread(target=take, daemon=True).start()
    try:
        while True:
            value, error, ended = ready.get()
            if error is not None:
                raise error
            if ended:
                return
            yield value  # type: ignore[misc]
    finally:
        gone.set()
