"""The local engine: worker processes on this machine read the shards."""

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress

from digitry import processors
from digitry.bulk.entry import Shard
from digitry.bulk.job import BulkJob
from digitry.bulk.output import Written
from digitry.bulk.shard import read_shard
from digitry.workers.pool import WorkerPool


def read_locally(
    job: BulkJob, todo: Iterator[Shard], model: bytes
) -> Iterator[tuple[float | None, Written]]:
    """Yield shards as they are read, each with its `done`; one thread and one process per worker."""
    workers = job.workers or processors.available()
    pool = WorkerPool(
        job.model,
        job.layout,
        workers,
        max_error=job.max_error,
        template=job.template,
        region=job.region,
        wall_s=job.wall_s,
        cpu_s=job.cpu_s,
    )
    ready: queue.Queue[tuple[float | None, Written] | BaseException | None] = queue.Queue(workers)
    turn = threading.Lock()
    stopped = threading.Event()

    def work() -> None:
        try:
            while not stopped.is_set():
                with turn:
                    shard = next(todo, None)
                if shard is None:
                    break
                ready.put((shard.done, read_shard(shard, pool, job.format)))
        except BaseException as error:  # noqa: BLE001 (raised again in the calling thread)
            ready.put(error)
            return
        ready.put(None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        running = workers
        while running:
            result = ready.get()
            if result is None:
                running -= 1
            elif isinstance(result, BaseException):
                raise result
            else:
                yield result
    finally:
        # No thread and no process may stay behind: closing the pool and emptying the queue releases
        # threads that wait for a worker or for room in the queue.
        stopped.set()
        pool.close()
        while any(thread.is_alive() for thread in threads):
            with suppress(queue.Empty):
                ready.get(timeout=0.05)
