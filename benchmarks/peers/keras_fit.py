"""Train a dense recipe by Keras' own `fit`, on the backend that KERAS_BACKEND names.

KERAS_BACKEND=jax python keras_fit.py MNIST_DIR RECIPE_JSON [STEPS_PER_EXECUTION]
"""

import sys
import time

import _mnist
import keras

recipe = _mnist.recipe()
x, y, x_test, y_test = _mnist.mnist()
if recipe["one_hot"]:
    y, y_test = keras.utils.to_categorical(y, 10), keras.utils.to_categorical(y_test, 10)
layers = [keras.layers.Dense(units, activation="relu") for units in recipe["hidden"]]
model = keras.Sequential(
    [keras.layers.Input((784,)), *layers, keras.layers.Dense(10, activation="softmax")]
)
model.compile(
    optimizer=recipe["optimizer"],
    loss="categorical_crossentropy" if recipe["one_hot"] else "sparse_categorical_crossentropy",
    metrics=["accuracy"],
    steps_per_execution=int(sys.argv[3]) if len(sys.argv) > 3 else 1,
)
began = time.perf_counter()
model.fit(
    x, y, epochs=recipe["epochs"], batch_size=recipe["batch_size"],
    validation_split=recipe["validation"], verbose=0,
)  # fmt: skip
fit_s = time.perf_counter() - began
_mnist.finish(fit_s, model.evaluate(x_test, y_test, batch_size=1000, verbose=0)[1])
