"""Worker processes, their states, and the replacement of lost ones.

    STARTING -> READY <-> BUSY
         \\________|_______/
                  v
                DYING -> GONE -> (after a pause) STARTING

One thread supervises all workers of a pool. It learns when a worker has loaded its reader, kills workers
that take too long, notices processes that have ended, and starts new ones in their place. Only READY
workers get requests.
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

from digitry import processors
from digitry.errors import DigitryError, ModelError, UnavailableError
from digitry.limits import OUT_OF_MEMORY
from digitry.reading.confined import too_long
from digitry.reading.decoding import NO_MEMORY
from digitry.workers import messages

log = logging.getLogger("digitry.workers")

START_S = 60.0
"""Time limit for loading a reader; generous, for busy machines."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0
"""Pause after a failed start. It doubles with each failure in a row, up to the longest pause."""

GIVE_UP = 10
"""Failed starts in a row after which a pool without any worker raises an error."""

MAX_ANSWER = 64 << 20
_TICK_S = 0.05
_GRACE_S = 1.0
"""Time for a process to exit after its socket has closed: a kill would hide its exit status."""

_START = "import sys; from digitry.workers.worker import serve; serve(int(sys.argv[1]))"


class State(Enum):
    """The state of a worker."""

    STARTING = "starting"
    """The process is loading the reader."""
    READY = "ready"
    """The worker is waiting for a request."""
    BUSY = "busy"
    """The worker is reading."""
    DYING = "dying"
    """The worker was killed, or its socket has closed; the process has not ended yet."""
    GONE = "gone"
    """The process has ended; another will replace it."""


class Cause(Enum):
    """Why a worker was lost."""

    CRASHED = "crashed"
    LATE = "late"
    COMPUTED = "computed too long"
    DREW = "drew too long"
    MEMORY = "memory"
    GROWN = "grown"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Loss:
    """How a worker was lost.

    Attributes:
        cause: the kind of the loss.
        text: the reason, worded for the image that the worker was reading.
    """

    cause: Cause
    text: str


class LostError(Exception):
    """A worker was lost while it was reading.

    Args:
        loss: how; its text is the text of the error.
    """

    def __init__(self, loss: Loss) -> None:
        super().__init__(loss.text)
        self.loss = loss


class Worker:
    """One worker process, the socket to it, and its state.

    Args:
        config: the model, the options and the limits of the worker; see `WorkerPool`.

    Raises:
        OSError: the system cannot start a process.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._lock = threading.Lock()
        self.state = self.lost_while = State.STARTING
        self.lent = False
        """Whether a caller has taken it; the supervisor's lock guards this."""
        self.error: DigitryError | None = None
        """The error that the worker sent instead of becoming ready."""
        self._cause: Cause | None = None
        self._deadline = time.monotonic() + START_S
        self.socket, theirs = socket.socketpair()
        try:
            with theirs:
                self.process = _process(theirs)
        except OSError:
            self.socket.close()
            raise
        with suppress(OSError):
            self.socket.sendall(messages.framed(json.dumps(config).encode()))

    # --- transitions ---------------------------------------------------------------------------------

    def greet(self) -> bool:
        """Receive the first message of a STARTING worker, and return whether it is READY."""
        try:
            # The message is short; the timeout protects us from a process that stops in the middle.
            self.socket.settimeout(_GRACE_S)
            answer = json.loads(messages.receive(self.socket, bytearray(), MAX_ANSWER))
            self.socket.settimeout(None)
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
        """Make the worker BUSY and start the time limit of its next request."""
        with self._lock:
            if self.state in (State.READY, State.BUSY):
                self.state = State.BUSY
                self._deadline = time.monotonic() + self._config["wall_s"]

    def done(self) -> None:
        """Make a BUSY worker READY."""
        # The lock is shared with `kill_if_late`: no worker is killed for a request that has ended.
        with self._lock:
            if self.state is State.BUSY:
                self.state, self._deadline = State.READY, float("inf")

    def hung_up(self) -> None:
        """Note that the socket has closed: the worker is DYING, and is killed if it does not exit."""
        self._die(None, _GRACE_S)

    def kill(self, cause: Cause) -> None:
        """Kill the process; the worker is DYING until the process has ended."""
        self._die(cause, 0.0)
        self.process.kill()

    def kill_if_late(self) -> None:
        """Kill the worker if it has exceeded its time limit."""
        with self._lock:
            late = self._deadline < time.monotonic()
            if late:
                self._deadline = float("inf")
                self._enter_dying(Cause.LATE)
                self.process.kill()

    def ended(self) -> bool:
        """Return whether the process has ended; if so, the worker is GONE."""
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

    # --- requests and losses -------------------------------------------------------------------------

    def ask(self, request: bytes) -> bytes:
        """Send one request and return its answer.

        Raises:
            LostError: the worker was lost before it answered.
        """
        self.begin()
        try:
            self.socket.sendall(messages.framed(request))
            answer = messages.receive(self.socket, bytearray(), MAX_ANSWER)
        except (EOFError, OSError) as error:
            self.hung_up()
            raise LostError(self.loss()) from error
        self.done()
        return answer

    def loss(self) -> Loss:
        """Return how the worker was lost; waits up to two seconds for the process to end."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(2 * _GRACE_S)
        status = self.process.poll()
        if self.error is not None:
            return Loss(Cause.CRASHED, self.error.what)
        if self._cause is Cause.LATE:
            if self.lost_while is State.STARTING:
                return Loss(Cause.LATE, f"was not ready after {START_S:g} s")
            return Loss(Cause.LATE, f"took too long: more than {self._config['wall_s']:g} s")
        if self._cause is Cause.GROWN:
            return Loss(Cause.GROWN, "held too much memory after its last request")
        if self._cause is not None:
            return Loss(self._cause, "was stopped")
        if status in (-signal.SIGPROF, -signal.SIGXCPU):
            text = f"took too long: more than {self._config['cpu_s']:g} s of processor time"
            return Loss(Cause.COMPUTED, text)
        if status == -signal.SIGVTALRM:
            return Loss(Cause.DREW, too_long(self._config["draw_s"]))
        if status == OUT_OF_MEMORY:
            return Loss(Cause.MEMORY, NO_MEMORY)
        name = f" ({signal.Signals(-status).name})" if status is not None and status < 0 else ""
        return Loss(Cause.CRASHED, f"crashed its worker process{name}")


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a pool.

    Attributes:
        states: number of workers in each state.
        losses: number of lost workers since the start, by their state and the cause.
        last: a description of the last loss, or None.
    """

    states: Mapping[State, int]
    losses: Mapping[tuple[State, Cause], int]
    last: str | None

    def fault(self) -> str | None:
        """Return why no image can be read now; None if images can be read."""
        if self.states[State.READY] + self.states[State.BUSY]:
            return None
        now = ", ".join(f"{count} {state.value}" for state, count in self.states.items() if count)
        return f"no worker is ready ({now})" + (f"; {self.last}" if self.last else "")


class Supervisor:
    """Keeps a number of workers running until it is closed; thread-safe.

    Args:
        config: the configuration of each worker.
        size: the number of workers.
    """

    def __init__(self, config: Mapping[str, Any], size: int) -> None:
        self._config = config
        self._places = [_Place() for _ in range(size)]
        self._changed = threading.Condition()
        """Guards the places and `Worker.lent`; notified whenever a worker may be free."""
        self._closed = False
        self._losses: Counter[tuple[State, Cause]] = Counter()
        self._last: str | None = None
        self._error: DigitryError | None = None
        self._thread = threading.Thread(
            target=self._supervise, name="digitry-supervisor", daemon=True
        )
        self._thread.start()

    def take(self, wait_s: float | None = None) -> Worker | None:
        """Take a READY worker, to be given back with `give_back`.

        Args:
            wait_s: seconds to wait for one; None = without limit.

        Returns:
            The worker, or None if none became free in time.

        Raises:
            ModelError: no worker runs, and none can be started with this model.
            UnavailableError: no worker runs and too many starts have failed, or the pool is closed.
        """
        until = None if wait_s is None else time.monotonic() + wait_s
        with self._changed:
            while True:
                self.check_open()
                if (worker := self._free()) is not None:
                    worker.lent = True
                    return worker
                self._check_startable()
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._changed.wait(left)

    def give_back(self, worker: Worker) -> None:
        """Take back a worker of `take`."""
        with self._changed:
            worker.lent = False
            if worker.state not in (State.READY, State.BUSY):
                worker.socket.close()
            self._changed.notify()

    def check_open(self) -> None:
        """Raise UnavailableError if the pool is closed."""
        if self._closed:
            raise UnavailableError("the worker pool is closed", remedy="create a new one")

    def health(self) -> Health:
        """Return the state of the workers now."""
        with self._changed:
            states = dict.fromkeys(State, 0)
            for place in self._places:
                states[State.GONE if place.worker is None else place.worker.state] += 1
            return Health(states, dict(self._losses), self._last)

    def workers(self) -> list[Worker]:
        """Return the current workers."""
        with self._changed:
            return [place.worker for place in self._places if place.worker is not None]

    def close(self) -> None:
        """Stop all workers; pending requests fail."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _free(self) -> Worker | None:
        for place in self._places:
            worker = place.worker
            if worker is None or worker.lent or worker.state is not State.READY:
                continue
            # It may have ended since the supervisor's last look.
            if worker.process.poll() is None:
                return worker
        return None

    def _check_startable(self) -> None:
        """Raise an error if no worker runs and none can be started."""
        if any(
            place.worker is not None and place.worker.state in (State.READY, State.BUSY)
            for place in self._places
        ):
            return
        if self._error is not None:
            raise self._error
        if all(place.failures >= GIVE_UP for place in self._places):
            raise UnavailableError(
                "a worker process could not be started", remedy="check that there is free memory"
            )

    # --- the thread ----------------------------------------------------------------------------------

    def _supervise(self) -> None:
        while not self._closed:
            for place in self._places:
                self._look_after(place)
            starting = {
                place.worker.socket: place
                for place in self._places
                if place.worker is not None and place.worker.state is State.STARTING
            }
            heard = wait(list(starting), _TICK_S)
            for connection, place in starting.items():
                if connection in heard:
                    self._greet(place)
        for worker in self.workers():
            worker.kill(Cause.STOPPED)
        for worker in self.workers():
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(5.0)
            if not worker.lent:
                worker.socket.close()

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
            text = f"the system cannot start a process ({error.strerror})"
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
                worker.socket.close()
        self._lose(place, worker.lost_while, loss)

    def _lose(self, place: "_Place", state: State, loss: Loss) -> None:
        """Record the loss of a worker, and when the next one starts in its place."""
        pause = 0.0
        if state is State.STARTING:
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**place.failures)
        last = f"a worker was lost while {state.value}: {loss.text}"
        # Replacing a worker that has grown is routine; all other losses deserve a warning.
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
    """The place of one worker in the pool.

    Attributes:
        worker: the current worker, or None.
        failures: failed starts in a row.
        due: when the next worker may start, on the monotonic clock.
    """

    worker: Worker | None = None
    failures: int = 0
    due: float = 0.0


def _process(connection: socket.socket) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _START, str(connection.fileno())],
        pass_fds=[connection.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Ctrl-C must reach only the parent. It closes the socket, and then the worker exits.
        start_new_session=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            **processors.waiting(),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        },
    )
