# ruff: noqa: E402
"""Train one of the five classic recipes as their authors would: in plain Keras on TensorFlow.

Usage: KERAS_BACKEND=tensorflow python plain_keras.py RECIPE MNIST_DIR OUT_DIR [EPOCHS]

One process loads MNIST, trains, evaluates, plots and saves. The last line printed is JSON: {"recipe",
"test_accuracy", "fit_s", "total_s"}. It needs `tensorflow-cpu` and `matplotlib`, in an environment of
its own.
"""

import time

START = time.perf_counter()

import gzip
import json
import sys
from pathlib import Path

import keras
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from keras import layers

name, data_dir, out_dir = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
EPOCHS = int(sys.argv[4]) if len(sys.argv) > 4 else 10
out_dir.mkdir(parents=True, exist_ok=True)


def idx(stem, header):
    raw = gzip.decompress((data_dir / f"{stem}.gz").read_bytes())
    return np.frombuffer(raw, np.uint8, offset=header)


x_train = idx("train-images-idx3-ubyte", 16).reshape(-1, 28, 28) / 255.0
x_test = idx("t10k-images-idx3-ubyte", 16).reshape(-1, 28, 28) / 255.0
y_train, y_test = idx("train-labels-idx1-ubyte", 8), idx("t10k-labels-idx1-ubyte", 8)

# hidden units, optimizer, batch size, one-hot labels, validation split
recipes = {
    "dense-256-128": ([256, 128], "adam", 200, True, 0.0),
    "dense-512": ([512], "rmsprop", 128, True, 0.0),
    "dense-128-64": ([128, 64], "adam", 128, True, 0.2),
    "dense-128-128": ([128, 128], "adam", 32, False, 0.0),
    "dense-128": ([128], "adam", 32, False, 0.2),
}
hidden, optimizer, batch_size, one_hot, validation_split = recipes[name]
if one_hot:
    y_train, y_test = keras.utils.to_categorical(y_train), keras.utils.to_categorical(y_test)

model = keras.Sequential(
    [layers.Input((28, 28)), layers.Flatten()]
    + [layers.Dense(units, activation="relu") for units in hidden]
    + [layers.Dense(10, activation="softmax")]
)
model.compile(
    optimizer=optimizer,
    loss="categorical_crossentropy" if one_hot else "sparse_categorical_crossentropy",
    metrics=["accuracy"],
)
fit_start = time.perf_counter()
history = model.fit(
    x_train,
    y_train,
    epochs=EPOCHS,
    batch_size=batch_size,
    validation_split=validation_split,
    verbose=2,
)
fit_s = time.perf_counter() - fit_start
test_loss, test_accuracy = model.evaluate(x_test, y_test, verbose=0)

for metric in ("loss", "accuracy"):
    plt.figure()
    plt.plot(history.history[metric], label="train")
    if f"val_{metric}" in history.history:
        plt.plot(history.history[f"val_{metric}"], label="validation")
    plt.xlabel("epoch")
    plt.ylabel(metric)
    plt.legend()
    plt.savefig(out_dir / f"{metric}.png")

model.save(out_dir / ("model.h5" if name == "dense-128" else "model.keras"))
print("The result is:", int(model.predict(x_test[:1], verbose=0).argmax()))
print(
    json.dumps(
        {
            "recipe": name,
            "test_accuracy": round(float(test_accuracy), 4),
            "fit_s": round(fit_s, 2),
            "total_s": round(time.perf_counter() - START, 2),
        }
    )
)
