"""Readers in worker processes: their answers, overload, and lost workers."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from digitry.errors import ImageError, UnavailableError, UsageError
from digitry.reading.reader import Reader
from digitry.serving.dispatch import PoolReaders
from digitry.workers import messages
from digitry.workers.answer import PicturedReading
from digitry.workers.pool import WorkerPool
from digitry.workers.supervisor import State

from ..waiting import PATIENCE_S, until
from .conftest import MODEL, drawn, png
from .local import LocalReaders

PLAIN: dict[str, Any] = {"name": "a.png", "layout": "auto", "max_error": None}


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(MODEL, workers=1, wall_s=PATIENCE_S, cpu_s=60) as pool:
        yield pool


def asked(readers: Any, content: bytes, **options: Any) -> PicturedReading:
    wanted = {**PLAIN, "glyphs": False, "crops": False, **options}
    found: PicturedReading = asyncio.run(readers.read(content, **wanted))
    return found


@pytest.mark.parametrize("pictures", [False, True])
def test_workers_and_threads_give_the_same_answer(
    pictures: bool, pool: WorkerPool, reader: Reader
) -> None:
    content = png(drawn("408"))
    options = {"glyphs": pictures, "crops": pictures, "layout": "line"}
    there = asked(PoolReaders(pool, wait_s=PATIENCE_S), content, **options)
    here = asked(LocalReaders(reader), content, **options)
    assert there.reading.digits == here.reading.digits
    assert (there.glyphs, there.crops) == (here.glyphs, here.crops)
    assert len(there.glyphs) == (3 if pictures else 0)


def test_errors_keep_their_types(pool: WorkerPool) -> None:
    readers = PoolReaders(pool, wait_s=PATIENCE_S)
    with pytest.raises(ImageError, match="is not an image"):
        asked(readers, b"junk", glyphs=True)
    with pytest.raises(UsageError, match="share of errors"):
        asked(readers, png(drawn("4")), max_error=7.0)


def test_waiting_too_long_for_a_worker_is_an_error(pool: WorkerPool) -> None:
    async def crowd() -> list[Any]:
        readers = PoolReaders(pool, wait_s=0.05)
        content = png(drawn("4"))
        wanted = {**PLAIN, "glyphs": False, "crops": False}
        return await asyncio.gather(
            *[readers.read(content, **wanted) for _ in range(3)], return_exceptions=True
        )

    loan = pool.lend()
    assert loan is not None
    try:
        answers = asyncio.run(crowd())
    finally:
        pool.give_back(loan)
    assert [type(one) for one in answers] == [UnavailableError] * 3


def test_a_killed_worker_is_replaced(pool: WorkerPool) -> None:
    readers = PoolReaders(pool, wait_s=PATIENCE_S)
    for pid in pool.pids():
        os.kill(pid, signal.SIGKILL)
    answers = []
    for _ in range(2):
        try:
            answers.append(asked(readers, png(drawn("4")), crops=True).reading.text)
        except ImageError:
            answers.append("error")
    assert answers[-1] == "4"


def test_a_late_answer_is_not_used_for_the_next_request(pool: WorkerPool) -> None:
    wanted = {**PLAIN, "glyphs": False, "crops": False}

    async def impatient() -> None:
        readers = PoolReaders(pool, wait_s=PATIENCE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                await readers.read(png(drawn("1234567890")), **wanted)
        assert (await readers.read(png(drawn("4")), **wanted)).reading.text == "4"
        # The loop ends while a worker reads: the next loop must not receive this answer.
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)  # type: ignore[union-attr]
        await readers.read(png(drawn("1234567890")), **wanted)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(impatient())
    assert asked(PoolReaders(pool, wait_s=PATIENCE_S), png(drawn("7"))).reading.text == "7"


def test_concurrent_requests_get_their_own_answers(pool: WorkerPool) -> None:
    texts = [str(number) for number in range(10, 26)]

    async def crowd() -> list[PicturedReading]:
        readers = PoolReaders(pool, wait_s=PATIENCE_S)
        wanted = {**PLAIN, "glyphs": False, "crops": False}
        return await asyncio.gather(*[readers.read(png(drawn(t)), **wanted) for t in texts])

    assert [one.reading.text for one in asyncio.run(crowd())] == texts


async def counted(readers: PoolReaders, seconds: float, connections: int = 4) -> Counter[str]:
    """Send requests over some connections, one after another, and count the results."""
    content, found = png(drawn("4")), Counter[str]()
    end = asyncio.get_running_loop().time() + seconds

    async def one() -> None:
        while asyncio.get_running_loop().time() < end:
            try:
                await readers.read(content, **PLAIN, glyphs=False, crops=False)
                found["read"] += 1
            except (ImageError, UnavailableError) as error:
                found[type(error).__name__] += 1

    await asyncio.gather(*[one() for _ in range(connections)])
    return found


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_workers_killed_while_starting_are_replaced() -> None:
    async def storm(pool: WorkerPool) -> tuple[list[Any], str]:
        readers = PoolReaders(pool, wait_s=PATIENCE_S)
        content = png(drawn("4"))
        asked = [
            asyncio.create_task(readers.read(content, **PLAIN, glyphs=False, crops=False))
            for _ in range(10)
        ]
        for _ in range(3):
            await asyncio.sleep(0.15)
            kill(pool.pids())
        answers = await asyncio.gather(*asked, return_exceptions=True)
        last = await readers.read(content, **PLAIN, glyphs=False, crops=False)
        return answers, last.reading.text

    with WorkerPool(MODEL, workers=2, wall_s=PATIENCE_S, cpu_s=60) as pool:
        answers, last = asyncio.run(storm(pool))
    failed = [answer for answer in answers if isinstance(answer, Exception)]
    # Only images that were being read when their worker was killed fail.
    assert len(failed) <= 6
    assert {type(error) for error in failed} <= {ImageError}
    assert last == "4"


def test_a_worker_that_cannot_be_replaced_costs_no_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def with_one(pool: WorkerPool) -> Counter[str]:
        readers = PoolReaders(pool, wait_s=PATIENCE_S)
        await counted(readers, 0.3)

        def none(_: object) -> Any:
            raise BlockingIOError(11, "Resource temporarily unavailable")

        monkeypatch.setattr("digitry.workers.supervisor._process", none)
        kill(pool.pids()[:1])
        await asyncio.to_thread(until, lambda: pool.health().states[State.GONE] == 1)
        found = await counted(readers, 1.5)
        health = pool.health()
        assert health.states[State.GONE] == 1
        assert health.fault() is None
        return found

    with WorkerPool(MODEL, workers=2, wall_s=PATIENCE_S, cpu_s=60) as pool:
        found = asyncio.run(with_one(pool))
    assert set(found) == {"read"}


def test_without_workers_it_is_unavailable_until_one_is_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from digitry.workers import supervisor

    start = supervisor._process

    async def without(pool: WorkerPool) -> tuple[Counter[str], Counter[str]]:
        readers = PoolReaders(pool, wait_s=0.2)

        def none(_: object) -> Any:
            raise BlockingIOError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(supervisor, "_process", none)
        kill(pool.pids())
        await asyncio.to_thread(until, lambda: pool.health().fault() is not None)
        during = await counted(readers, 0.5)
        monkeypatch.setattr(supervisor, "_process", start)
        await asyncio.to_thread(until, lambda: pool.health().states[State.READY] == 1)
        return during, await counted(readers, 0.3, connections=1)

    with WorkerPool(MODEL, workers=1, wall_s=PATIENCE_S, cpu_s=60) as pool:
        during, after = asyncio.run(without(pool))
    assert set(during) == {"UnavailableError"}
    assert set(after) == {"read"}


def test_an_invalid_answer_of_a_worker_costs_one_image(pool: WorkerPool) -> None:
    async def odd() -> list[Any]:
        readers = PoolReaders(pool, wait_s=PATIENCE_S)
        await readers.read(png(drawn("4")), **PLAIN, glyphs=False, crops=False)
        (connection,) = readers._connections
        asked = [
            asyncio.create_task(readers.read(png(drawn(t)), **PLAIN, glyphs=False, crops=False))
            for t in "12"
        ]
        await asyncio.sleep(0)
        connection.data_received(messages.framed(b"{}\n[]"))
        return await asyncio.gather(*asked, return_exceptions=True)

    first, second = asyncio.run(odd())
    assert isinstance(first, ImageError)
    assert second.reading.text == "2"
