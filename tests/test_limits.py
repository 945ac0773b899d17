"""A process that decodes bytes of strangers ends itself when it takes too long."""

import signal
import subprocess
import sys

import pytest

from digitry.limits import OUT_OF_TIME

from .waiting import PATIENCE_S

BUSY = """
import signal, sys, time
from digitry import limits
{before}
with limits.ending_after(60):
    pass
with limits.ending_after(0.1):
    while True:
        pass
"""


@pytest.mark.parametrize(
    ("before", "status"),
    [
        ("", -getattr(signal, "SIGPROF", 0)),
        ("signal.setitimer(signal.ITIMER_PROF, 60)", -getattr(signal, "SIGVTALRM", 0)),
        # As on Windows.
        ("limits.signal = None", OUT_OF_TIME),
    ],
)
def test_a_process_that_works_too_long_ends_itself(before: str, status: int) -> None:
    if not hasattr(signal, "setitimer") and status != OUT_OF_TIME:
        pytest.skip("this system has no such timer")
    words = [sys.executable, "-c", BUSY.format(before=before)]
    assert subprocess.run(words, timeout=PATIENCE_S).returncode == status
