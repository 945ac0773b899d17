"""Measure the time of a cold `digitry read`, and compare it with the imports that it needs.

    python benchmarks/start.py [--runs 15] [--record]

Each round starts, in turn, a process that only imports numpy, Pillow, OpenCV and ONNX Runtime (which no
reader with these libraries can avoid), `digitry read` on one of the samples, `digitry --help`, and a
Python that does nothing. The record is the ratio of the medians, because seconds depend on the machine.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _record
from digitry.model.load import load_model

SAMPLE = Path(__file__).parents[1] / "samples" / "digit-5.png"
COMMANDS = {
    "imports": [sys.executable, "-c", "import numpy, PIL.Image, cv2, onnxruntime"],
    "read": [sys.executable, "-m", "digitry", "read", str(SAMPLE)],
    "help": [sys.executable, "-m", "digitry", "--help"],
    "python": [sys.executable, "-c", "pass"],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--record", action="store_true", help="save a record")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as compiled:
        # As digitry sets it; see digitry.reading.runtime.
        quiet = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
        # Compiled once, as pip does when it installs a package.
        quiet |= {"PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""}
        for _ in range(arguments.runs + 1):
            for name, command in COMMANDS.items():
                started = time.perf_counter()
                subprocess.run(command, env=quiet, check=True, stdout=subprocess.DEVNULL)
                seconds[name].append(time.perf_counter() - started)
    # The first round fills the file cache, compiles, and is not counted.
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:<8} {1000 * median:7.0f} ms   {median / medians['imports']:.2f} x imports")
    if arguments.record:
        _record.write(
            "start-read",
            table="Speed",
            what="cold `digitry read one.png`, as a multiple of importing its four libraries",
            metric="median of alternating runs",
            unit="x",
            values=[medians["read"] / medians["imports"]],
            data={"model reader": load_model("reader").sha256},
            versions=("digitry", "numpy", "pillow", "opencv-python-headless", "onnxruntime"),
            extra={"seconds": medians, "runs": arguments.runs},
        )


if __name__ == "__main__":
    main()
