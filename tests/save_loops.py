"""What `test_saves` starts and kills: python save_loops.py artifact|formats|checkpoint FOLDER.

For each line on standard input a child is forked that saves two versions in turn, without end; its
process id is printed. Everything is imported and built once, before.
"""

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

kind, folder = sys.argv[1], Path(sys.argv[2])


def artifacts() -> Iterator[Callable[[], object]]:
    from digitry.model import artifact
    from digitry.model.load import load_model

    loaded = load_model("reader")
    for temperature in (1.0, 2.0):
        from dataclasses import replace

        metadata = replace(loaded.metadata, temperature=temperature)
        yield lambda metadata=metadata: artifact.save(folder / "model.onnx", loaded.onnx, metadata)


def formats() -> Iterator[Callable[[], object]]:
    import numpy as np
    import torch

    from digitry.model.artifact import Metadata
    from digitry.training.network import build, keras_files
    from digitry.training.recipes import Recipe

    # A forked child has none of its parent's threads.
    torch.set_num_threads(1)
    labels = tuple("0123456789")
    glyphs = np.zeros((2, 28, 28), np.float32)
    for seed in (1, 2):
        model = build.build(Recipe(name="small", hidden=(8,), seed=seed), 10)
        metadata = Metadata(name=str(seed), labels=labels)
        yield lambda model=model, metadata=metadata: keras_files.save_formats(
            model, folder, metadata, glyphs
        )


def checkpoints() -> Iterator[Callable[[], object]]:
    import numpy as np

    from digitry.training.loop import checkpoint
    from digitry.training.recipes import RECIPES

    for epoch in (1, 2):
        made = checkpoint.Checkpoint(
            recipe=RECIPES["dense-128"],
            data_sha256="0" * 64,
            arrays={"weights": np.full(300_000, epoch, np.float32)},
            facts={"epoch": epoch},
        )
        yield lambda made=made: checkpoint.save(folder / "checkpoint.npz", made)


versions = list({"artifact": artifacts, "formats": formats, "checkpoint": checkpoints}[kind]())
for save in versions:
    save()
print("ready", flush=True)
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        for save in itertools.cycle(versions):
            save()
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
