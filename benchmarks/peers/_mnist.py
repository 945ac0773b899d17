"""Shared code of the peers: the recipe from the command line, MNIST, and the last line of output.

Peers run in environments without digitry. Their usage is

    PYTHON PEER.py MNIST_DIR RECIPE_JSON

and the last line printed is JSON: {"fit_s", "test_accuracy"}.
"""

import gzip
import json
import sys
from pathlib import Path

import numpy as np

STEMS = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


def recipe():
    """Return the recipe as a dictionary with the fields of digitry's Recipe."""
    return json.loads(sys.argv[2])


def mnist():
    """Return training images and labels, test images and labels: (n, 784) float32 in [0, 1], (n,) uint8."""
    parts = []
    for stem in STEMS:
        plain, packed = Path(sys.argv[1], f"{stem}-ubyte"), Path(sys.argv[1], f"{stem}-ubyte.gz")
        raw = plain.read_bytes() if plain.exists() else gzip.decompress(packed.read_bytes())
        images = "images" in stem
        array = np.frombuffer(raw, np.uint8, offset=16 if images else 8)
        parts.append(
            array.reshape(-1, 784).astype(np.float32) / np.float32(255) if images else array
        )
    return parts


def held_out(images, labels, share):
    """Split off the last images, as Keras does."""
    cut = int(len(images) * (1 - share))
    return (images[:cut], labels[:cut]), (images[cut:], labels[cut:])


def finish(fit_s, test_accuracy):
    print(json.dumps({"fit_s": fit_s, "test_accuracy": float(test_accuracy)}))
