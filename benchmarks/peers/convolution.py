"""Train the published fastest network to 99% on MNIST, by digitry or by a plain PyTorch loop.

    python convolution.py digitry|torch MNIST_DIR EPOCHS

5x5 convolution of 24, pool, ReLU, 3x3 of 32, pool, ReLU, dense 256, ReLU, 10; batches of 256, Adam, one
cycle up to 0.01 (github.com/tuomaso/train_mnist_fast). The plain loop keeps images and weights in the
memory format channels last, which is fast on CPUs, and takes batches as slices of a shuffled index.
Prints JSON: {"fit_s", "test_accuracy", "epochs_s"}.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

BATCH, RATE = 256, 0.01
who, folder, epochs = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])


def by_digitry():
    from digitry.training.datasets import load_dataset
    from digitry.training.loop.train import train
    from digitry.training.network.build import keras
    from digitry.training.recipes import Recipe

    recipe = Recipe(
        name="record", architecture="conv", batch_size=BATCH, epochs=epochs, learning_rate=RATE,
        schedule="one-cycle", warmup=0.3,
    )  # fmt: skip
    layers = keras.layers

    def network():
        return keras.Sequential([
            layers.Input((28, 28)), layers.Reshape((28, 28, 1)),
            layers.Conv2D(24, 5), layers.MaxPooling2D(2), layers.ReLU(),
            layers.Conv2D(32, 3), layers.MaxPooling2D(2), layers.ReLU(),
            layers.Flatten(), layers.Dense(256, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ])  # fmt: skip

    dataset = load_dataset("mnist", data_dir=folder)
    trained = train(recipe, dataset.train, device="cpu", initial_model=network)
    glyphs = dataset.test.images.astype(np.float32) / 255
    found = trained.model.predict(glyphs, batch_size=1000, verbose=0).argmax(1)
    seconds = [epoch.seconds for epoch in trained.history]
    return trained.fit_seconds, float((found == dataset.test.labels).mean()), seconds


def by_torch():
    import torch.nn.functional as F
    from torch import nn

    from digitry.training.datasets import load_dataset

    dataset = load_dataset("mnist", data_dir=folder)

    def tensors(split):
        images = torch.from_numpy(split.images.astype(np.float32)).div_(255)[:, None]
        return images.contiguous(memory_format=torch.channels_last), torch.from_numpy(
            split.labels.astype(np.int64)
        )

    (x, y), (x_test, y_test) = tensors(dataset.train), tensors(dataset.test)
    began = time.perf_counter()
    model = nn.Sequential(
        nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    steps = -(-len(x) // BATCH) * epochs
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps, cycle_momentum=False
    )
    seconds = []
    for _ in range(epochs):
        epoch = time.perf_counter()
        for index in torch.randperm(len(x)).split(BATCH):
            batch = x[index].contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(batch), y[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            cycle.step()
        seconds.append(time.perf_counter() - epoch)
    fit_s = time.perf_counter() - began
    with torch.no_grad():
        right = sum(
            (model(a).argmax(1) == b).sum().item()
            for a, b in zip(x_test.split(1000), y_test.split(1000), strict=True)
        )
    return fit_s, right / len(x_test), seconds


fit_s, accuracy, seconds = by_digitry() if who == "digitry" else by_torch()
print(json.dumps({"fit_s": fit_s, "test_accuracy": accuracy, "epochs_s": seconds}))
