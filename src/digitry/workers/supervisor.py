"""Worker processes, the state that each is in, and a new one in place of each that goes.

    STARTING -> READY <-> BUSY
         \\________|_______/
                  v
                DYING -> GONE -> (after a pause) STARTING

One thread supervises all workers of a pool. It hears when a worker has loaded its reader, kills what is
late, notices what has ended, and starts the next one, whatever the reason was and whoever used it.
Requests are given to workers that are READY, and to no others.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from multiprocessing.connection import wait
from typing import Any

from digitry.errors import DigitryError, ModelError, UnavailableError
from digitry.reading.image import NO_MEMORY
from digitry.workers import messages
from digitry.workers.worker import OUT_OF_MEMORY

log = logging.getLogger("digitry.workers")

START_S = 60.0
"""Time to load a reader, on a machine that has much else to do."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0
"""Before the second start in a row that fails, and at most; it doubles from one to the other."""

GIVE_UP = 10
"""Failed starts in a row after which a pool with no worker at all says so instead of waiting."""

MAX_ANSWER = 64 << 20
_TICK_S = 0.05
_GRACE_S = 1.0
"""For a process whose line has ended: its exit status says why, and a kill would hide it."""

_START = "import sys; from digitry.workers.worker import serve; serve(int(sys.argv[1]))"


class State(Enum):
    """Where a worker is in its life."""

    STARTING = "starting"
    """Its process loads the reader."""
    READY = "ready"
    """It waits for a request."""
    BUSY = "busy"
    """It reads."""
    DYING = "dying"
    """It was killed, or its line has ended; the process has not."""
    GONE = "gone"
    """Its process has ended; another will take its place."""


class Cause(Enum):
    """Why a worker went."""

    CRASHED = "crashed"
    LATE = "late"
    COMPUTED = "computed too long"
    MEMORY = "memory"
    GROWN = "grown"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Loss:
    """How a worker went.

    Attributes:
        cause: why, in one of few words.
        text: why, as the image that it was reading is told.
    """

    cause: Cause
    text: str


class LostError(Exception):
    """A worker went while it read; the text says why."""


class Worker:
    """One process, our end of the line to it, and its state.

    Args:
        config: what it reads with, and its limits; see `digitry.workers.worker.serve`.

    Raises:
        OSError: the system starts no process.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._lock = threading.Lock()
        self.state = self.lost_while = State.STARTING
        self.lent = False
        """Whether somebody has it who will give it back; the supervisor guards this."""
        self.error: DigitryError | None = None
        """What it said instead of becoming ready."""
        self._cause: Cause | None = None
        self._deadline = time.monotonic() + START_S
        self.line, theirs = socket.socketpair()
        try:
            with theirs:
                self.process = _process(theirs)
        except OSError:
            self.line.close()
            raise
        with suppress(OSError):
            self.line.sendall(messages.framed(json.dumps(config).encode()))

    # --- from one state to the next ------------------------------------------------------------------

    def greet(self) -> bool:
        """Take the first message of a STARTING worker, and return whether it is READY."""
        try:
            # The message is short and comes whole; a process that stops within it must not stop us.
            self.line.settimeout(_GRACE_S)
            answer = json.loads(messages.receive(self.line, bytearray(), MAX_ANSWER))
            self.line.settimeout(None)
        except (EOFError, OSError, ValueError):
            self.hung_up()
            return False
        if "error" in answer:
            self.error = ModelError(answer["error"], where=self._config["model"])
            self.hung_up()
            return False
        with self._lock:
            starting = self.state is State.STARTING
            if starting:
                self.state, self._deadline = State.READY, float("inf")
            return starting

    def begin(self) -> None:
        """Make a READY worker BUSY, or a BUSY one turn to its next request; its clock starts."""
        with self._lock:
            if self.state in (State.READY, State.BUSY):
                self.state = State.BUSY
                self._deadline = time.monotonic() + self._config["wall_s"]

    def done(self) -> None:
        """Make a BUSY worker READY."""
        # Under one lock with `kill_if_late`: no worker is killed for a request that has ended.
        with self._lock:
            if self.state is State.BUSY:
                self.state, self._deadline = State.READY, float("inf")

    def hung_up(self) -> None:
        """Note that the line has ended: the worker is DYING by itself, or is helped soon."""
        self._die(None, _GRACE_S)

    def kill(self, cause: Cause) -> None:
        """Kill it; it is DYING until its process has ended."""
        self._die(cause, 0.0)
        self.process.kill()

    def kill_if_late(self) -> None:
        """Kill it if what it does takes longer than it may."""
        with self._lock:
            late = self._deadline < time.monotonic()
            if late:
                self._deadline = float("inf")
                self._enter_dying(Cause.LATE)
                self.process.kill()

    def ended(self) -> bool:
        """Return whether the process has ended; the worker is then GONE."""
        if self.process.poll() is None:
            return False
        with self._lock:
            self._enter_dying(None)
            self.state = State.GONE
        return True

    def _die(self, cause: Cause | None, grace_s: float) -> None:
        with self._lock:
            self._enter_dying(cause)
            self._deadline = time.monotonic() + grace_s

    def _enter_dying(self, cause: Cause | None) -> None:
        if self.state not in (State.DYING, State.GONE):
            self.lost_while, self.state, self._cause = self.state, State.DYING, cause

    # --- what it is for ------------------------------------------------------------------------------

    def ask(self, request: bytes) -> bytes:
        """Send one request and wait for its answer.

        Raises:
            LostError: the worker went before it answered.
        """
        self.begin()
        try:
            self.line.sendall(messages.framed(request))
            answer = messages.receive(self.line, bytearray(), MAX_ANSWER)
        except (EOFError, OSError) as error:
            self.hung_up()
            raise LostError(self.loss().text) from error
        self.done()
        return answer

    def loss(self) -> Loss:
        """Return how it went; waits a moment for its process to end."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(2 * _GRACE_S)
        status = self.process.poll()
        if self.error is not None:
            return Loss(Cause.CRASHED, self.error.what)
        if self._cause is Cause.LATE:
            if self.lost_while is State.STARTING:
                return Loss(Cause.LATE, f"was not ready after {START_S:g} s")
            return Loss(Cause.LATE, f"takes longer than {self._config['wall_s']:g} s to read")
        if self._cause is Cause.GROWN:
            return Loss(Cause.GROWN, "kept much more memory than it usually has")
        if self._cause is not None:
            return Loss(self._cause, "was stopped")
        if status in (-signal.SIGPROF, -signal.SIGXCPU):
            text = f"takes more than {self._config['cpu_s']:g} s of computing to read"
            return Loss(Cause.COMPUTED, text)
        if status == OUT_OF_MEMORY:
            return Loss(Cause.MEMORY, NO_MEMORY)
        name = f" ({signal.Signals(-status).name})" if status is not None and status < 0 else ""
        return Loss(Cause.CRASHED, f"crashed its reader{name}")


@dataclass(frozen=True, slots=True)
class Health:
    """How the workers of a pool are.

    Attributes:
        states: workers in each state.
        losses: workers that went, by the state that they were in and the cause, since the start.
        last: how the last one went, or None.
    """

    states: Mapping[State, int]
    losses: Mapping[tuple[State, Cause], int]
    last: str | None

    def fault(self) -> str | None:
        """Return why no image would be read now; None if one would be."""
        if self.states[State.READY] + self.states[State.BUSY]:
            return None
        now = ", ".join(f"{count} {state.value}" for state, count in self.states.items() if count)
        return f"no worker is ready ({now})" + (f"; {self.last}" if self.last else "")


class Supervisor:
    """Keeps a number of workers alive until it is closed; may be used from several threads.

    Args:
        config: of each worker.
        size: how many.
    """

    def __init__(self, config: Mapping[str, Any], size: int) -> None:
        self._config = config
        self._places = [_Place() for _ in range(size)]
        self._changed = threading.Condition()
        """Guards who is lent, and the places; told whenever a worker may be free."""
        self._closed = False
        self._losses: Counter[tuple[State, Cause]] = Counter()
        self._last: str | None = None
        self._error: DigitryError | None = None
        self._thread = threading.Thread(
            target=self._supervise, name="digitry-supervisor", daemon=True
        )
        self._thread.start()

    def take(self, wait_s: float | None = None) -> Worker | None:
        """Take a READY worker, to be given back.

        Args:
            wait_s: seconds to wait for one; None = until there is one.

        Returns:
            It, or None where none became free in time.

        Raises:
            ModelError: none runs, and none can be started with this model.
            UnavailableError: none runs, and starting one has failed again and again; or it is closed.
        """
        until = None if wait_s is None else time.monotonic() + wait_s
        with self._changed:
            while True:
                self.check_open()
                if (worker := self._free()) is not None:
                    worker.lent = True
                    return worker
                self._check_hope()
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._changed.wait(left)

    def give_back(self, worker: Worker) -> None:
        """Give back a worker that was taken."""
        with self._changed:
            worker.lent = False
            if worker.state not in (State.READY, State.BUSY):
                worker.line.close()
            self._changed.notify()

    def check_open(self) -> None:
        """Raise UnavailableError if it was closed."""
        if self._closed:
            raise UnavailableError("the readers were stopped", remedy="start them again")

    def health(self) -> Health:
        """Return how the workers are now."""
        with self._changed:
            states = dict.fromkeys(State, 0)
            for place in self._places:
                states[State.GONE if place.worker is None else place.worker.state] += 1
            return Health(states, dict(self._losses), self._last)

    def workers(self) -> list[Worker]:
        """Return the workers that there are now."""
        with self._changed:
            return [place.worker for place in self._places if place.worker is not None]

    def close(self) -> None:
        """End all workers; requests under way fail."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _free(self) -> Worker | None:
        for place in self._places:
            worker = place.worker
            if worker is None or worker.lent or worker.state is not State.READY:
                continue
            # It may have gone within this tick.
            if worker.process.poll() is None:
                return worker
        return None

    def _check_hope(self) -> None:
        """Raise an error if there is no worker and none is to be expected."""
        if any(
            place.worker is not None and place.worker.state in (State.READY, State.BUSY)
            for place in self._places
        ):
            return
        if self._error is not None:
            raise self._error
        if all(place.failures >= GIVE_UP for place in self._places):
            raise UnavailableError(
                "a worker process could not be started", remedy="look whether memory is short"
            )

    # --- the thread ----------------------------------------------------------------------------------

    def _supervise(self) -> None:
        while not self._closed:
            for place in self._places:
                self._look_after(place)
            starting = {
                place.worker.line: place
                for place in self._places
                if place.worker is not None and place.worker.state is State.STARTING
            }
            heard = wait(list(starting), _TICK_S)
            for line, place in starting.items():
                if line in heard:
                    self._greet(place)
        for worker in self.workers():
            worker.kill(Cause.STOPPED)
        for worker in self.workers():
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(5.0)
            if not worker.lent:
                worker.line.close()

    def _look_after(self, place: "_Place") -> None:
        worker = place.worker
        if worker is None:
            if place.due <= time.monotonic():
                self._start(place)
            return
        worker.kill_if_late()
        if worker.ended():
            self._replace(place, worker)

    def _greet(self, place: "_Place") -> None:
        if place.worker is not None and place.worker.greet():
            with self._changed:
                place.failures, self._error = 0, None
                self._changed.notify_all()

    def _start(self, place: "_Place") -> None:
        try:
            worker = Worker(self._config)
        except OSError as error:
            text = f"the system starts no process ({error.strerror})"
            self._lose(place, State.STARTING, Loss(Cause.CRASHED, text))
            return
        with self._changed:
            place.worker = worker

    def _replace(self, place: "_Place", worker: Worker) -> None:
        loss = worker.loss()
        with self._changed:
            place.worker = None
            self._error = worker.error or self._error
            if not worker.lent:
                worker.line.close()
        self._lose(place, worker.lost_while, loss)

    def _lose(self, place: "_Place", state: State, loss: Loss) -> None:
        """Note that the worker of a place is gone, and when the next one starts."""
        pause = 0.0
        if state is State.STARTING:
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**place.failures)
        last = f"a worker was lost while {state.value}: {loss.text}"
        # One that has only grown has done its work; all others are something to know of.
        level = logging.INFO if loss.cause is Cause.GROWN else logging.WARNING
        log.log(level, "%s; another one starts in %g s", last, pause)
        with self._changed:
            place.failures += state is State.STARTING
            place.due = time.monotonic() + pause
            self._losses[state, loss.cause] += 1
            self._last = last
            self._changed.notify_all()


@dataclass(slots=True)
class _Place:
    """Where one worker is, or will be.

    Attributes:
        worker: the one that is there.
        failures: starts in a row that have failed.
        due: when the next one may start, on the monotonic clock.
    """

    worker: Worker | None = None
    failures: int = 0
    due: float = 0.0


def _process(line: socket.socket) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _START, str(line.fileno())],
        pass_fds=[line.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Ctrl-C is for the parent, which then hangs up; a worker ends when the line does.
        start_new_session=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        },
    )
