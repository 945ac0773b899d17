"""Fit the calibration of the line network to held-out hands, and measure what it is worth.

    python benchmarks/line_calibration.py --data-dir DATA [--model FILE] [--write] [--record]

DATA holds MNIST's training part and the packs of handwriting. The lines are of hands that no training saw:
strings of a register (LECTAUREP) and of UNIPEN's writers, lines and digits composed of MNIST's and
UNIPEN's held-out writers, and words without digits. Half of the writers and pages fit what judges the
other half, and the reverse: the expected calibration error is of answers that did not fit their map. The
shipped map is fitted to both halves. `--write` puts it into the network's file.
"""

import argparse
from importlib import resources
from pathlib import Path

import numpy as np

import _record
from digitry.model.line_calibration import LineCalibration
from digitry.reading import network
from digitry.reading.classifier import threshold_of
from digitry.training.data import mnist
from digitry.training.data.packs import PACKS
from digitry.training.evaluation import held_lines, line_calibration

VERSIONS = ("digitry", "numpy", "opencv-python-headless", "onnxruntime")
WHAT = {
    "single": "a digit that stands alone, both networks weighed",
    "digit": "a digit among others",
    "line": "a line of several characters, as a whole",
}
NAMES = ("lectaurep_strings", "lectaurep_text", "unipen_digits", "unipen_letters", "unipen_strings",
         "unipen_words")  # fmt: skip
LIMITS = (0.05, 0.02, 0.01, 0.005, 0.001)


def shipped() -> Path:
    """Return the path of the package's line network."""
    return Path(str(resources.files("digitry") / "models" / "lines.onnx"))


def shown(found: LineCalibration) -> None:
    """Print the maps, what they are worth, and what is accepted at some shares of errors."""
    print(f"{'':<8}{'slope':>8}{'shift':>8}{'ECE':>9}{'after':>9}   accepted at a share of errors")
    for kind in WHAT:
        scale = getattr(found, kind)
        cells = []
        for limit in LIMITS:
            threshold = threshold_of(scale.risk_coverage, limit)
            share = max(
                (c for t, _, c in scale.risk_coverage if threshold and t >= threshold), default=0
            )
            cells.append(f"{limit:g}: {100 * share:.1f}%")
        before, after = (100 * found.scores[f"{kind} ece {when}"] for when in ("before", "after"))
        print(f"{kind:<8}{scale.slope:>8.3f}{scale.shift:>8.3f}{before:>8.2f}%{after:>8.2f}%   "
              + ", ".join(cells))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--model", type=Path, help="a .onnx file; default: the shipped one")
    parser.add_argument("--write", action="store_true", help="write the map into the file")
    parser.add_argument("--record", action="store_true", help="save a record for each kind")
    arguments = parser.parse_args()
    path = arguments.model or shipped()
    images = mnist.load(arguments.data_dir, offline=True, console=None).train
    held = held_lines.load(images.images, np.asarray(images.labels, np.uint8), arguments.data_dir)
    networks = line_calibration.beside_shipped(network.Session(path))
    found = line_calibration.fit(held, networks)
    shown(found)
    if arguments.write:
        line_calibration.write(path, found)
    if arguments.record:
        for kind, what in WHAT.items():
            before = found.scores[f"{kind} ece before"]
            _record.write(
                f"calibration-{kind}",
                table="Calibration of the line network, on hands that did not fit it",
                what=what,
                metric=f"expected calibration error; {100 * before:.2f}% without the map",
                unit="%",
                values=[found.scores[f"{kind} ece after"]],
                data={"lines": found.data_sha256, **{name: PACKS[name].sha256 for name in NAMES}},
                versions=VERSIONS,
                extra={"lines": found.lines},
            )


if __name__ == "__main__":
    main()
