"""Readers in killable processes: what they answer, when they are full, when an image kills one."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from digitry.errors import ImageError, UnavailableError, UsageError
from digitry.reading.reader import Reader
from digitry.serving.dispatch import LocalReaders, PoolReaders
from digitry.workers.answer import Examined
from digitry.workers.pool import WorkerPool

from .conftest import MODEL, drawn, png

PLAIN: dict[str, Any] = {"name": "a.png", "layout": "auto", "max_error": None}


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(MODEL, workers=1) as pool:
        yield pool


def asked(readers: Any, content: bytes, **options: Any) -> Examined:
    wanted = {**PLAIN, "glyphs": False, "crops": False, **options}
    found: Examined = asyncio.run(readers.examine(content, **wanted))
    return found


@pytest.mark.parametrize("pictures", [False, True])
def test_a_process_answers_what_a_thread_answers(
    pictures: bool, pool: WorkerPool, reader: Reader
) -> None:
    content = png(drawn("408"))
    options = {"glyphs": pictures, "crops": pictures, "layout": "line"}
    there = asked(PoolReaders(pool, workers=1), content, **options)
    here = asked(LocalReaders(reader), content, **options)
    assert there.reading.digits == here.reading.digits
    assert (there.glyphs, there.crops) == (here.glyphs, here.crops)
    assert len(there.glyphs) == (3 if pictures else 0)


def test_errors_come_back_as_they_are(pool: WorkerPool) -> None:
    readers = PoolReaders(pool, workers=1)
    with pytest.raises(ImageError, match="is not an image"):
        asked(readers, b"junk", glyphs=True)
    with pytest.raises(UsageError, match="share of errors"):
        asked(readers, png(drawn("4")), max_error=7.0)


def test_who_waits_too_long_for_a_free_process_is_told_so(pool: WorkerPool) -> None:
    async def crowd() -> list[Any]:
        readers = PoolReaders(pool, workers=1, wait_s=0.05)
        content = png(drawn("4"))
        wanted = {**PLAIN, "glyphs": False, "crops": False}
        return await asyncio.gather(
            *[readers.examine(content, **wanted) for _ in range(3)], return_exceptions=True
        )

    loan = pool.lend()
    assert loan is not None
    try:
        answers = asyncio.run(crowd())
    finally:
        loan.give_back()
    assert [type(one) for one in answers] == [UnavailableError] * 3


def test_a_killed_process_is_replaced(pool: WorkerPool) -> None:
    readers = PoolReaders(pool, workers=1)
    for pid in pool.pids():
        os.kill(pid, signal.SIGKILL)
    answers = []
    for _ in range(2):
        try:
            answers.append(asked(readers, png(drawn("4")), crops=True).reading.text)
        except ImageError:
            answers.append("error")
    assert answers[-1] == "4"


def test_an_answer_that_nobody_waits_for_is_not_taken_for_the_next_one(pool: WorkerPool) -> None:
    wanted = {**PLAIN, "glyphs": False, "crops": False}

    async def impatient() -> None:
        readers = PoolReaders(pool, workers=1)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                await readers.examine(png(drawn("1234567890")), **wanted)
        assert (await readers.examine(png(drawn("4")), **wanted)).reading.text == "4"
        # The loop ends here while a worker reads: the next loop must not hear its answer.
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)  # type: ignore[union-attr]
        await readers.examine(png(drawn("1234567890")), **wanted)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(impatient())
    assert asked(PoolReaders(pool, workers=1), png(drawn("7"))).reading.text == "7"


def test_each_of_a_crowd_gets_its_own_answer(pool: WorkerPool) -> None:
    texts = [str(number) for number in range(10, 40)]

    async def crowd() -> list[Examined]:
        readers = PoolReaders(pool, workers=1)
        wanted = {**PLAIN, "glyphs": False, "crops": False}
        return await asyncio.gather(*[readers.examine(png(drawn(t)), **wanted) for t in texts])

    assert [one.reading.text for one in asyncio.run(crowd())] == texts
