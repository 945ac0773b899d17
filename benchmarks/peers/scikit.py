"""Train a dense recipe by scikit-learn's MLPClassifier, with Adam and without held-out images.

python scikit.py MNIST_DIR RECIPE_JSON
"""

import time
import warnings

import _mnist
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

recipe = _mnist.recipe()
x, y, x_test, y_test = _mnist.mnist()
(x, y), _ = _mnist.held_out(x, y, recipe["validation"])
model = MLPClassifier(
    tuple(recipe["hidden"]), solver=recipe["optimizer"], batch_size=recipe["batch_size"], alpha=0,
    epsilon=1e-7, max_iter=recipe["epochs"], n_iter_no_change=recipe["epochs"] + 1,
    random_state=recipe["seed"],
)  # fmt: skip
# It warns after the given number of epochs.
warnings.simplefilter("ignore", ConvergenceWarning)
began = time.perf_counter()
model.fit(x, y)
fit_s = time.perf_counter() - began
_mnist.finish(fit_s, model.score(x_test, y_test))
