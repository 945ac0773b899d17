"""Measure the lower limit of a dense recipe's training time: its matrix products alone.

    python products.py RECIPE_JSON TRAINING_IMAGES HELD_OUT_IMAGES

Each product of a step (forward, gradient of the weights, gradient of the inputs except in the first
layer) is timed separately on data that stay in the cache, in each way that PyTorch has; the fastest
counts. Prints JSON: {"flop", "rate", "limit_s"}: operations of the whole fit, operations a second,
seconds.
"""

import json
import sys
import time

import torch

WAYS = ["mm", "onednn"]


def seconds(a, b, way):
    if way == "mm":
        out = torch.empty(a.shape[0], b.shape[1])

        def call():
            torch.mm(a, b, out=out)

    else:

        def call():
            torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")

    call()
    best, until = float("inf"), time.perf_counter() + 0.1
    while time.perf_counter() < until:
        began = time.perf_counter()
        for _ in range(5):
            call()
        best = min(best, (time.perf_counter() - began) / 5)
    return best


def fastest(rows, inner, columns):
    """Return the fewest seconds of (rows, inner) @ (inner, columns) over ways and memory orders."""
    firsts = torch.randn(rows, inner), torch.randn(inner, rows).t()
    others = torch.randn(inner, columns), torch.randn(columns, inner).t()
    return min(seconds(a, b, way) for way in WAYS for a in firsts for b in others)


recipe = json.loads(sys.argv[1])
trained, held = int(sys.argv[2]), int(sys.argv[3])
if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    WAYS.remove("onednn")
n = recipe["batch_size"]
sizes = [784, *recipe["hidden"], 10]
flop = taken = 0.0
with torch.inference_mode():
    for layer, (a, b) in enumerate(zip(sizes, sizes[1:])):  # noqa: B905, RUF007
        shapes = [(n, a, b), (a, n, b)] + ([(n, b, a)] if layer else [])
        for place, shape in enumerate(shapes):
            operations = 2 * shape[0] * shape[1] * shape[2]
            # The forward product is also computed for the held-out images.
            times = recipe["epochs"] * (trained + (held if place == 0 else 0)) / n
            flop += times * operations
            taken += times * fastest(*shape)
print(json.dumps({"flop": flop, "rate": flop / taken, "limit_s": taken}))
