"""Train a dense recipe by a plain PyTorch loop: tensors in memory, no DataLoader, the fused Adam.

python torch_loop.py MNIST_DIR RECIPE_JSON
"""

import time

import _mnist
import torch
import torch.nn.functional as F
from torch import nn

recipe = _mnist.recipe()
x, y, x_test, y_test = _mnist.mnist()
(x, y), (x_held, y_held) = _mnist.held_out(
    torch.from_numpy(x), torch.from_numpy(y.astype("int64")), recipe["validation"]
)
x_test, y_test = torch.from_numpy(x_test), torch.from_numpy(y_test.astype("int64"))
began = time.perf_counter()
torch.manual_seed(recipe["seed"])
sizes = [784, *recipe["hidden"]]
layers = [part for a, b in zip(sizes, sizes[1:]) for part in (nn.Linear(a, b), nn.ReLU())]  # noqa: B905, RUF007
model = nn.Sequential(*layers, nn.Linear(sizes[-1], 10))
if recipe["optimizer"] == "adam":
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, fused=True)
else:
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.9, eps=1e-7, foreach=True)


@torch.no_grad()
def accuracy(images, labels):
    parts = zip(images.split(1000), labels.split(1000))  # noqa: B905
    return sum((model(a).argmax(1) == b).sum().item() for a, b in parts) / len(labels)


for _ in range(recipe["epochs"]):
    order = torch.randperm(len(x))
    for index in order.split(recipe["batch_size"]):
        loss = F.cross_entropy(model(x[index]), y[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    if len(x_held):
        accuracy(x_held, y_held)
fit_s = time.perf_counter() - began
_mnist.finish(fit_s, accuracy(x_test, y_test))
