"""The arithmetic limit of a dense recipe: its matrix products alone, at the rate that they reach alone.

    python products.py RECIPE_JSON TRAINING_IMAGES HELD_OUT_IMAGES

Each product of a step (forward, gradient of the weights, gradient of the inputs but for the first layer)
is timed by itself on data that stay in the cache, in each of the ways that PyTorch has for it, and the
fastest counts. Prints JSON: {"flop", "rate", "limit_s"}: operations of the whole fit, operations a
second at those times, seconds.
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
    """Give seconds of (rows, inner) @ (inner, columns), over ways and orders of memory."""
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
            # The forward product is made for the held-out images, too.
            times = recipe["epochs"] * (trained + (held if place == 0 else 0)) / n
            flop += times * operations
            taken += times * fastest(*shape)
print(json.dumps({"flop": flop, "rate": flop / taken, "limit_s": taken}))
