"""Prometheus metrics. Label values are few: routes, statuses and kinds, never paths or ids."""

import functools

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import Scope

from digitry.reading.result import Reading
from digitry.workers.supervisor import Cause, Health, State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
VERBS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """The metrics of one service, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "digitry_requests",
            "Requests by status; 499 = the client disconnected.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "digitry_request_seconds",
            "Time from the headers of a request to the end of its answer.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.working = Gauge("digitry_working", "Requests being worked on.", registry=self.registry)
        self.connections = Gauge("digitry_connections", "Open connections.", registry=self.registry)
        self.refused_connections = Counter(
            "digitry_refused_connections",
            "Connections refused, or closed by the service, by reason.",
            ("why",),
            registry=self.registry,
        )
        self.images = Counter(
            "digitry_images",
            "Images by result: read, refused (at least one digit), blank (no digit), failed.",
            ("result",),
            registry=self.registry,
        )
        self.digits = Counter(
            "digitry_digits", "Digits by value; ? = refused.", ("value",),
            registry=self.registry,
        )  # fmt: skip
        self.marks = Counter(
            "digitry_marks", "Marks in numbers, by mark.", ("mark",), registry=self.registry
        )
        self.reading_seconds = Histogram(
            "digitry_reading_seconds",
            "Time to read one image, from its bytes to its digits.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.workers = Gauge(
            "digitry_workers", "Worker processes in each state.", ("state",), registry=self.registry
        )
        self.losses = Counter(
            "digitry_worker_losses",
            "Worker processes that were lost and replaced, by their state and the cause.",
            ("state", "cause"),
            registry=self.registry,
        )
        self._lost: dict[tuple[State, Cause], int] = {}
        # Cached: for a request that is refused at once, looking up labels is half of all work.
        self._counted = functools.cache(
            lambda method, route, status: (
                self.requests.labels(method, route, str(status)),
                self.request_seconds.labels(route),
            )
        )
        self.corrections = Counter(
            "digitry_corrections", "Corrections kept, already known, or undone.", ("what",),
            registry=self.registry,
        )  # fmt: skip

    def request(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one request."""
        # The route's pattern, not the path; requests that match no route share one label.
        route = getattr(scope.get("route"), "path", None) or "other"
        method = scope["method"] if scope["method"] in VERBS else "other"
        count, timed = self._counted(method, route, status)
        count.inc()
        timed.observe(seconds)

    def reading(self, reading: Reading) -> None:
        """Count one reading, its digits and its marks."""
        result = "read" if not reading.rejected else "refused" if reading.digits else "blank"
        self.images.labels(result).inc()
        self.reading_seconds.observe(reading.ms / 1000)
        for digit in reading.digits:
            self.digits.labels(digit.text).inc()
        for mark in reading.marks:
            self.marks.labels(mark.text).inc()

    def text(self, health: Health) -> bytes:
        """Return all metrics in Prometheus' text format.

        Args:
            health: the state of the workers.
        """
        for state, count in health.states.items():
            self.workers.labels(state.value).set(count)
        for loss, count in health.losses.items():
            state, cause = loss
            self.losses.labels(state.value, cause.value).inc(count - self._lost.get(loss, 0))
        self._lost = dict(health.losses)
        return generate_latest(self.registry)
