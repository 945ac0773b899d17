"""Reading has an end: what asks for more work than writing does is refused, in time and within memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from digitry.errors import ImageError
from digitry.reading.budget import TOO_MUCH, Budget
from digitry.reading.reader import Reader

ROOT = Path(__file__).parents[2]
SAMPLES = sorted(p for p in (ROOT / "samples").iterdir() if p.suffix in (".png", ".jpg"))
BENCHMARKS = ROOT / "benchmarks"
sys.path.append(str(BENCHMARKS))

from _floods import FLOODS, flood  # noqa: E402 (benchmarks are no package)

MOST_MB = 300
HANG_S = 30
"""Not how long it may take, but when it is certain that it does not end."""

READ_ALL = """
import json, re, sys
from pathlib import Path
from _floods import FLOODS, flood
from digitry.errors import ImageError
from digitry.reading.reader import Reader
reader = Reader()
for name in FLOODS:
    content = flood(name)
    try:
        reading = reader.read(content, name=name)
        answer = "rejected" if reading.rejected else f"read as {reading.text!r}"
    except ImageError as error:
        answer = str(error)
    # The peak of getrusage is inherited from the process that started this one.
    status = Path("/proc/self/status")
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) if status.exists() else 0
    print(json.dumps([name, answer, peak // 1024]), flush=True)
"""


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple[str, int]]:
    """Of each flood the answer, and the peak of the process that has read it and all before it, in MB."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({str(BENCHMARKS)!r})\n{READ_ALL}"],
        capture_output=True, text=True, timeout=HANG_S * len(FLOODS),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: (answer, peak) for name, answer, peak in rows}


@pytest.mark.parametrize("name", FLOODS)
def test_no_flood_of_ink_is_believed(answers: dict[str, tuple[str, int]], name: str) -> None:
    answer, _ = answers[name]
    assert answer == f"{name}: {TOO_MUCH}; crop it to the digits" or answer == "rejected"


def test_no_flood_of_ink_takes_more_memory_than_a_large_photo(
    answers: dict[str, tuple[str, int]],
) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not show the peak of a process")
    assert 0 < max(peak for _, peak in answers.values()) < MOST_MB


def test_a_flood_among_others_is_refused_alone_by_the_name_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "flood.png"
    path.write_bytes(flood("diagonal grid"))
    reader = Reader()
    sample = ROOT / "samples" / "digit-3.png"
    first, refused, last = reader.read_many([sample, path, sample])
    assert isinstance(refused, ImageError)
    assert refused.what == TOO_MUCH
    assert str(refused).startswith(f"{path}: has too much ink to be writing")
    assert not isinstance(first, ImageError)
    assert not isinstance(last, ImageError)
    assert first.text == last.text == "3"


def test_a_budget_grows_with_the_pixels_and_ends() -> None:
    budget = Budget(1000, share=2, least=500)
    budget.spend(2500)
    with pytest.raises(ImageError, match="too much ink to be writing; crop it to the digits"):
        budget.spend(1)
