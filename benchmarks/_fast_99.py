# ruff: noqa: E402
"""The published "MNIST to 99% in 0.76 s" network and schedule in plain PyTorch, for comparison.

Source: github.com/tuomaso/train_mnist_fast (one epoch, batch 256, Adam lr 0.01 betas (0.7, 0.9),
one-cycle schedule; conv 24@5x5, pool, conv 32@3x3, pool, dense 256; 99.04 +- 0.07% over 30 runs;
0.762 s on a GTX 1660 Ti, without loading). Written here from that description.

Usage: python benchmarks/_fast_99.py MNIST_DIR [RUNS]     (needs torch and numpy)
Prints one JSON line a run: {"accuracy", "train_s", "total_s"}; total_s counts from the start of the
process.
"""

import time

START = time.perf_counter()

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

folder, runs = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
device = "cuda" if torch.cuda.is_available() else "cpu"


def idx(stem, header):
    raw = np.frombuffer(
        gzip.decompress((folder / f"{stem}.gz").read_bytes()), np.uint8, offset=header
    )
    return torch.from_numpy(raw.copy())


def images(stem):
    pixels = idx(stem, 16).view(-1, 1, 28, 28).float().div(255)
    return pixels.sub(0.1307).div(0.3081).to(device)


x, y = images("train-images-idx3-ubyte"), idx("train-labels-idx1-ubyte", 8).long().to(device)
x_test, y_test = (
    images("t10k-images-idx3-ubyte"),
    idx("t10k-labels-idx1-ubyte", 8).long().to(device),
)
BATCH = 256
steps = -(-len(x) // BATCH)

for run in range(runs):
    torch.manual_seed(run)
    start = time.perf_counter()
    model = nn.Sequential(
        nn.Conv2d(1, 24, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(24, 32, 3),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(800, 256),
        nn.ReLU(),
        nn.Linear(256, 10),
    ).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, betas=(0.7, 0.9))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1e-2, total_steps=steps, cycle_momentum=False
    )
    for i in range(steps):
        optimizer.zero_grad()
        batch = slice(i * BATCH, (i + 1) * BATCH)
        F.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
        schedule.step()
    if device == "cuda":
        torch.cuda.synchronize()
    train_s = time.perf_counter() - start
    with torch.no_grad():
        right = sum(
            (model(a).argmax(1) == b).sum().item()
            for a, b in zip(x_test.split(2000), y_test.split(2000), strict=True)
        )
    print(
        json.dumps(
            {
                "accuracy": right / len(y_test),
                "train_s": round(train_s, 3),
                "total_s": round(time.perf_counter() - START, 2),
            }
        )
    )
