"""Do everything that wants a GPU, in the order of its worth, and keep each result as it comes.

    python benchmarks/gpu.py OUT [--data-dir DATA] [--minutes 9] [--device cuda] [--only JOB...] [--brief]

DATA holds MNIST and the packs of handwriting. The jobs, each a process of its own with a share of the
minutes:

- reader: the line network from nothing, calibrated, and how well it reads what it has not seen;
- tests: `tests/training/loop/test_cuda.py`;
- conv-fast: `conv.py 99.0`, which writes its records;
- flagship: `recipes.py flagship`, as many seeds as there is time for, which writes its records.

A job that takes longer is ended as Ctrl-C ends it. What it printed is in OUT/JOB.log, and OUT/summary.json
says after each job how it ended and how long it took; files of models are in OUT, too. With `--brief` the
trainings do a little of their work: to try all of it on a processor before a GPU is paid for. There
the tests are skipped.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from digitry import files

HERE = Path(__file__).parent
ROOT = HERE.parent

GRACE = 20.0
"""Seconds that a job has to write what it has, before it is killed."""


@dataclass(frozen=True)
class Job:
    """Commands that run one after the other until their time is over.

    Attributes:
        name: of its log.
        share: of the time that is left when it begins.
        commands: arguments of Python.
    """

    name: str
    share: float
    commands: tuple[tuple[str, ...], ...]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="+", metavar="JOB", help="these jobs alone")
    parser.add_argument("--brief", action="store_true", help="a little of each training")
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    if arguments.data_dir is not None:
        arguments.data_dir = arguments.data_dir.resolve()
    seconds = 60 * arguments.minutes
    every = jobs(arguments.out, arguments.data_dir, arguments.device, seconds, arguments.brief)
    if unknown := set(arguments.only or ()) - {job.name for job in every}:
        parser.error(f"unknown job {', '.join(unknown)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    done: dict[str, dict[str, object]] = {}
    for job in every:
        if arguments.only and job.name not in arguments.only:
            continue
        left = end - time.monotonic()
        done[job.name] = run(job, job.share * left, arguments.out / f"{job.name}.log")
        print(f"{job.name}: {done[job.name]}", flush=True)
        files.write_json(arguments.out / "summary.json", done)


def jobs(out: Path, data_dir: Path | None, device: str, seconds: float, brief: bool) -> list[Job]:
    """Return the jobs in the order of their worth."""
    data = () if data_dir is None else ("--data-dir", str(data_dir))
    mnist = () if data_dir is None else ("--data-dir", str(_mnist(data_dir)))
    on = ("--device", device)
    # The network's own time; loading, calibrating and measuring take the rest of the job's.
    trains = 20.0 if brief else 0.6 * seconds * 0.55
    few = ("--no-record",) if brief else ()
    return [
        Job(
            "reader",
            0.6,
            (
                ("-m", "digitry", "train", "reader", "--part", "lines", *on, *data,
                 "--set", f"lines.seconds={trains:.0f}", "--out", str(out / "reader")),
                (str(HERE / "lines.py"), "--model", str(out / "reader" / "lines.onnx"), *data,
                 *(("--count", "20") if brief else ())),
            ),
        ),
        Job(
            "tests",
            0.3,
            (("-m", "pytest", "-q", str(ROOT / "tests" / "training" / "loop" / "test_cuda.py")),),
        ),
        Job(
            "conv-fast",
            0.4,
            ((str(HERE / "conv.py"), "99.0", *on, *mnist, *few, *(("--seeds", "2") if brief else ())),),
        ),
        Job(
            "flagship",
            1.0,
            (
                (str(HERE / "recipes.py"), "flagship", *on, *mnist, *few, "--keep", str(out / "flagship"),
                 *(("--seeds", "1", "--set", "epochs=1", "--set", "hidden=4,4", "--set", "pools=1,2")
                   if brief else ("--seeds", "3"))),
            ),
        ),
    ]  # fmt: skip


def _mnist(data_dir: Path) -> Path:
    within = data_dir / "mnist"
    return within if within.is_dir() else data_dir


def run(job: Job, seconds: float, log: Path) -> dict[str, object]:
    """Run a job's commands within its time; return how it ended."""
    began = time.monotonic()
    codes: list[int] = []
    with log.open("w", encoding="utf-8") as out:
        for command in job.commands:
            left = began + seconds - time.monotonic()
            if left <= 0:
                break
            print("$ python", *command, file=out, flush=True)
            # A group of its own: a training's helpers are ended with it.
            process = subprocess.Popen(
                [sys.executable, *command],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                process_group=0,
            )
            try:
                codes.append(ended(process, left))
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
            if codes[-1]:
                break
    complete = len(codes) == len(job.commands) and not any(codes)
    return {
        "complete": complete,
        "exit codes": codes,
        "seconds": round(time.monotonic() - began, 1),
    }


def ended(process: "subprocess.Popen[bytes]", seconds: float) -> int:
    """Return a process's exit code, once it has ended or was told to."""
    for wait, told in ((seconds, signal.SIGINT), (GRACE, signal.SIGKILL)):
        try:
            return process.wait(wait)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, told)
    return process.wait()


if __name__ == "__main__":
    main()
