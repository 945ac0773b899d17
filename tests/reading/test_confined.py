"""A PDF is drawn in a process of its own: no PDF takes our time or memory, and nothing is left behind."""

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from digitry.errors import ImageError
from digitry.reading import confined, documents, image
from digitry.reading.confined import Document, Drawer

from .. import documents as made
from ..waiting import PATIENCE_S, until

Processes = list["subprocess.Popen[bytes]"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Processes:
    """The processes that draw, as they are started."""
    found: Processes = []
    start = confined._start

    def counted() -> "subprocess.Popen[bytes]":
        found.append(start())
        return found[-1]

    monkeypatch.setattr(confined, "_start", counted)
    return found


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Limits that are reached soon."""
    monkeypatch.setattr(confined, "DRAW_S", 0.4)
    # A quick processor fills the smaller memory before its time is up.
    room = 1 << 30 if name == "drawn without end" else 200 << 20
    monkeypatch.setattr(confined, "MEMORY_BYTES", room)


@cache
def unpacking() -> bytes:
    """Return a small PDF whose drawing unpacks to 300 MB."""
    head = b"<< /Filter /FlateDecode /Length 9 >>\nstream\n"
    return made.pdf([head + made.zeros(300 << 20) + b"\nendstream"])


def nested() -> bytes:
    """Return a PDF whose first object is an array in an array, and so on."""
    return b"%PDF-1.7\n1 0 obj " + b"[" * 20_000_000


def chained() -> bytes:
    """Return a PDF with 200,000 tables of its objects, each of which names the one before."""
    out = bytearray(b"%PDF-1.7\n1 0 obj << /Type /Catalog >> endobj\n")
    before = b""
    for _ in range(200_000):
        at = len(out)
        out += b"xref\n0 1\n0000000000 65535 f \ntrailer << /Size 3 /Root 1 0 R %s>>\n" % before
        before = b"/Prev %d " % at
    return bytes(out) + b"startxref\n%d\n%%%%EOF" % at


NO_ROOM = r"crashed the process that draws it \(SIGABRT\): .* needs more than 0\.\d|took too long"
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "drawn without end": (
        lambda: made.laughs(9),
        r"took too long to draw: more than 0\.4 s of pro",
    ),
    "drawing unpacks to 300 MB": (unpacking, NO_ROOM),
    "opened without end": (chained, r"took too long to draw: more than 0\.4 s of processor time"),
    "opened with all memory": (nested, NO_ROOM),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.usefixtures("strict")
def test_a_hostile_pdf_is_an_error_of_one_line_and_its_process_ends(
    name: str, started: Processes
) -> None:
    make, said = HOSTILE[name]
    with pytest.raises(ImageError, match=rf"^a\.pdf: ({said})") as caught:
        image.load(make(), name="a.pdf")
    assert "save its pages as images" in str(caught.value)
    assert [process.returncode is None for process in started] == [False]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.usefixtures("strict")
def test_a_hostile_pdf_is_tried_once_and_those_beside_it_are_read(
    name: str, started: Processes
) -> None:
    good = made.pdf([made.PLAIN])
    first, hostile, last = image.pages_of([good, HOSTILE[name][0](), good])
    assert image.load(first).width == image.load(last).width == 556
    with pytest.raises(ImageError):
        image.load(hostile)
    with pytest.raises(ImageError):
        image.load(hostile)
    drawing = hostile.document is not None and hostile.document.pages > 0
    assert len(started) <= 2 + 2 * drawing


COSTS = """
import resource, sys
from digitry.errors import ImageError
from digitry.reading import confined, image

def largest(whose):
    return resource.getrusage(whose).ru_maxrss // 1000

confined.MEMORY_BYTES = 200 << 20
before = largest(resource.RUSAGE_SELF)
try:
    image.load(sys.argv[1])
except ImageError as error:
    print(largest(resource.RUSAGE_SELF) - before, largest(resource.RUSAGE_CHILDREN))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_the_memory_of_a_hostile_pdf_is_bounded_and_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(unpacking())
    words = [sys.executable, "-c", COSTS, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    ours, theirs = map(int, done.stdout.split())
    assert ours < 20 and theirs < 400


def test_all_pages_of_all_pdfs_are_drawn_by_one_process_in_order(
    started: Processes, tmp_path: Path
) -> None:
    shapes = [(120, 90), (90, 120), (60, 60)]
    scans = [
        made.scanned([made.drawn().resize(shape) for shape in shapes[:count]], 200)
        for count in (3, 1, 2)
    ]
    path = tmp_path / "a.pdf"
    path.write_bytes(scans[2])
    for listed in (False, True):
        started.clear()
        pages = image.pages_of([scans[0], scans[1], path])
        found = [image.load(page) for page in (list(pages) if listed else pages)]
        wanted = [*shapes, shapes[0], *shapes[:2]]
        assert [(page.width, page.height) for page in found] == wanted
        assert found[-1].source == f"{path}#page=2" and found[3].source == "<bytes>"
        assert len(started) == 1
        del pages
        assert started[0].returncode is not None, "the process ends with its last page"


def test_a_worker_draws_itself_and_draws_the_same(
    started: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = made.scanned([made.drawn((3, 5))])
    apart = image.load(content).gray
    assert len(started) == 1
    monkeypatch.setattr(documents, "_worker_draws_s", 60.0)
    assert np.array_equal(image.load(content).gray, apart)
    assert len(started) == 1


def test_threads_may_share_the_pages_of_a_pdf(started: Processes) -> None:
    shapes = [(60 + 10 * index, 90) for index in range(8)]
    pages = list(image.pages_of([made.scanned([made.drawn().resize(one) for one in shapes], 200)]))
    widths = [0] * len(pages)

    def load(index: int) -> None:
        widths[index] = image.load(pages[index]).width

    threads = [threading.Thread(target=load, args=[index]) for index in range(len(pages))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert widths == [width for width, _ in shapes]
    assert len(started) == 1


def test_a_process_that_was_killed_between_two_pages_is_replaced(started: Processes) -> None:
    pages = image.pages_of([made.scanned([made.drawn()] * 2)])
    first = image.load(next(pages))
    started[0].kill()
    started[0].wait()
    assert np.array_equal(image.load(next(pages)).gray, first.gray)
    assert len(started) == 2


def test_a_process_that_is_killed_or_stands_still_is_an_error_of_its_page(
    started: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(signal, "SIGSTOP"):
        pytest.skip("this system has no such signal")
    document = Document(Drawer())
    with document.opened(BytesIO(made.laughs(9))):
        watch = threading.Timer(0.1, started[0].kill)
        watch.start()
        with pytest.raises(ImageError, match=r"crashed the process that draws it \(SIGKILL\)"):
            document.draw(1, most_pixels=100, longest_side=100)
    monkeypatch.setattr(confined, "DRAW_S", 0.1)
    with document.opened(BytesIO(made.pdf([made.PLAIN]))):
        started[1].send_signal(signal.SIGSTOP)
        with pytest.raises(ImageError, match=r"took too long to draw: more than 0\.5 s;"):
            document.draw(1, most_pixels=100, longest_side=100)
    assert all(process.returncode is not None for process in started)


# --- what a process could answer that a hostile PDF has taken over -----------------------------------

ANSWERS = {
    "nothing": "pass",
    "nonsense, and waits": "say(b'q'); requests.read()",
    "junk": "out.write(b'x' * 1000)",
    "another size": "say(b'd', 4000, 4000)",
    "a size of 2^32": "say(b'd', 4294967295, 4294967295)",
    "no size": "say(b'd', 0, 100)",
    "too few pixels": "say(b'd', 10, 10); out.write(bytes(99))",
    "codes of a terminal": r"say(b'r', text=b'is \x1b[2Jdamaged\nsave it')",
    "a long text": "say(b'r', text=b'a' * 30000 + b'\\nb')",
    "a text of one line": "say(b'r', text=b'is damaged')",
    "a text in no encoding": r"say(b'r', text=b'\xff\n')",
}
IMPOSTOR = """
import sys
from digitry.reading.pdf import ANSWER, OPENED, READY, REQUEST
requests, out = sys.stdin.buffer, sys.stdout.buffer
def say(kind, width=0, height=0, text=b""):
    out.write(ANSWER.pack(kind, False, width, height, len(text)) + text)
    out.flush()
say(READY)
requests.read(REQUEST.unpack(requests.read(REQUEST.size))[1])
say(OPENED, 1)
requests.read(REQUEST.size)
"""


@pytest.mark.parametrize("name", ANSWERS)
def test_a_process_that_answers_nonsense_is_an_error_of_one_line(
    name: str, started: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confined, "_START", IMPOSTOR + ANSWERS[name])
    with pytest.raises(
        ImageError, match=r"^a\.pdf: crashed the process that draws it \("
    ) as caught:
        image.load(made.pdf([made.PLAIN]), name="a.pdf")
    assert str(caught.value).isprintable()
    assert started[0].returncode is not None


# --- nothing is left behind --------------------------------------------------------------------------

READING = """
import sys
import digitry
from digitry.reading import confined
start = confined._start
def told():
    process = start()
    print(process.pid, flush=True)
    return process
confined._start = told
digitry.read(sys.argv[1])
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_nothing_is_left_when_a_reading_is_interrupted(how: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(made.laughs(9))
    words = [sys.executable, "-c", READING, str(path)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as reading:
        assert reading.stdout is not None
        child = int(reading.stdout.readline())
        os.killpg(reading.pid, getattr(signal, how))
        reading.wait(PATIENCE_S)

    def ended() -> bool:
        with suppress(ProcessLookupError):
            os.kill(child, 0)
            # Its parent has ended: whoever inherited it may not have asked how it ended.
            state = subprocess.run(
                ["ps", "-o", "stat=", "-p", str(child)], capture_output=True, text=True
            ).stdout
            return not state.strip() or state.startswith("Z")
        return True

    until(ended)


class Faulty(BytesIO):
    """A file that is shorter than it says, or cannot be read."""

    def __init__(self, error: OSError | None) -> None:
        super().__init__(made.pdf([made.PLAIN]))
        self._error = error

    def read(self, size: int | None = -1, /) -> bytes:
        """Return nothing, or fail."""
        if self._error is not None:
            raise self._error
        return b""


@pytest.mark.parametrize(
    ("error", "said"),
    [(None, "became shorter while"), (OSError(5, "Input/output error"), r"read \(Input/output")],
)
def test_a_file_that_cannot_be_read_to_its_end_is_its_own_error(
    error: OSError | None, said: str, started: Processes
) -> None:
    drawer = Drawer()
    with pytest.raises(ImageError, match=said), Document(drawer).opened(Faulty(error)):
        pass
    assert started[0].returncode is not None, "it would wait for the rest of the file"
    with Document(drawer).opened(BytesIO(made.pdf([made.PLAIN]))) as opened:
        assert opened.pages == 1


def test_a_program_without_python_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(ImageError, match=r"no Python to draw with; save its pages as images"):
        image.load(made.pdf([made.PLAIN]))


def test_a_process_that_cannot_be_started_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(ImageError, match=r"no process can be started \(Resource temporarily"):
        image.load(made.pdf([made.PLAIN]))


def test_the_pages_of_a_pdf_can_be_sent_to_another_process() -> None:
    for page in image.pages_of([made.scanned([made.drawn()] * 2)]):
        image.load(page)
        again = pickle.loads(pickle.dumps(page))
        assert np.array_equal(image.load(again).gray, image.load(page).gray)
