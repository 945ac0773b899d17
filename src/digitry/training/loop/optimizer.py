"""Keras' optimizers over one flat buffer: the same arithmetic in a few operations per step."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from digitry.training.recipes import Recipe

DEFAULT_LEARNING_RATE = 0.001
"""Keras' default for Adam and RMSprop."""


class Adam:
    """Adam (Kingma & Ba 2015) as in Keras: epsilon is outside the bias correction.

    Args:
        weights: (n,) float32, changed by `step`.
        gradient: (n,) float32, read by `step`.
        fused: use PyTorch's fused kernel. It takes epsilon inside the bias correction and as a
            Python number. A CUDA graph would freeze that number, so it must be False there.
    """

    beta_1, beta_2, epsilon = 0.9, 0.999, 1e-7

    def __init__(self, weights: torch.Tensor, gradient: torch.Tensor, *, fused: bool) -> None:
        self.weights, self.gradient, self.fused = weights, gradient, fused
        self.momentum = torch.zeros_like(weights)
        self.velocity = torch.zeros_like(weights)
        self._scratch = weights.new_empty(0 if fused else len(weights))
        self._rate = weights.new_zeros(())
        self._steps = weights.new_zeros(())

    def prepare(self, step: int, learning_rate: float) -> None:
        """Set the values that differ from step to step; `step` counts from 1."""
        if self.fused:
            self._steps.fill_(step)
            self._learning_rate = learning_rate
            self._epsilon = self.epsilon / math.sqrt(1 - self.beta_2**step)
        else:
            correction = math.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step)
            self._rate.fill_(-learning_rate * correction)

    def apply(self) -> None:
        """Change the weights by one step."""
        if self.fused:
            torch._fused_adam_(
                [self.weights], [self.gradient], [self.momentum], [self.velocity], [],
                [self._steps], amsgrad=False, lr=self._learning_rate, beta1=self.beta_1,
                beta2=self.beta_2, weight_decay=0.0, eps=self._epsilon, maximize=False,
            )  # fmt: skip
            return
        self.momentum.lerp_(self.gradient, 1 - self.beta_1)
        self.velocity.mul_(self.beta_2).addcmul_(
            self.gradient, self.gradient, value=1 - self.beta_2
        )
        torch.sqrt(self.velocity, out=self._scratch).add_(self.epsilon)
        torch.div(self.momentum, self._scratch, out=self._scratch)
        self.weights.addcmul_(self._scratch, self._rate)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors that a checkpoint must hold."""
        return {"momentum": self.momentum, "velocity": self.velocity}

    def as_keras(self) -> dict[str, torch.Tensor]:
        """Return what Keras' optimizer keeps for each weight, by its names."""
        return self.state()


class RMSprop:
    """RMSprop (Hinton 2012) as in Keras: epsilon is under the root.

    The state is the velocity plus epsilon, because each step needs the root of this sum.

    Args:
        weights: (n,) float32, changed by `step`.
        gradient: (n,) float32, read by `step`.
        fused: use PyTorch's fused Adam kernel. Without momentum and epsilon, and at a very large step
            number, Adam is RMSprop. The kernel takes the learning rate as a Python number, which a
            CUDA graph would freeze, so it must be False there.
    """

    rho, epsilon = 0.9, 1e-7

    def __init__(self, weights: torch.Tensor, gradient: torch.Tensor, *, fused: bool) -> None:
        self.weights, self.gradient, self.fused = weights, gradient, fused
        self.raised = torch.full_like(weights, self.epsilon)
        self._scratch = weights.new_empty(0 if fused else len(weights))
        self._rate = weights.new_zeros(())
        self._late_step = weights.new_full((), 1e9)

    def prepare(self, step: int, learning_rate: float) -> None:
        """Set the values that differ from step to step."""
        if self.fused:
            self._learning_rate = learning_rate
        else:
            self._rate.fill_(-learning_rate)

    def apply(self) -> None:
        """Change the weights by one step."""
        # rho * (raised + this) + (1 - rho) * g * g = rho * velocity + (1 - rho) * g * g + epsilon
        self.raised.add_(self.epsilon * (1 - self.rho) / self.rho)
        if self.fused:
            # With beta1 = 0 the momentum is the gradient itself, so the kernel may write it in place.
            torch._fused_adam_(
                [self.weights], [self.gradient], [self.gradient], [self.raised], [],
                [self._late_step], amsgrad=False, lr=self._learning_rate, beta1=0.0,
                beta2=self.rho, weight_decay=0.0, eps=0.0, maximize=False,
            )  # fmt: skip
            return
        self.raised.mul_(self.rho).addcmul_(self.gradient, self.gradient, value=1 - self.rho)
        torch.rsqrt(self.raised, out=self._scratch).mul_(self._rate)
        self.weights.addcmul_(self.gradient, self._scratch)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors that a checkpoint must hold."""
        return {"raised": self.raised}

    def as_keras(self) -> dict[str, torch.Tensor]:
        """Return what Keras' optimizer keeps for each weight, by its names."""
        return {"velocity": (self.raised - self.epsilon).clamp_min_(0)}


def optimizer_for(
    recipe: Recipe, weights: torch.Tensor, gradient: torch.Tensor
) -> "Adam | RMSprop":
    """Return the optimizer of a recipe over the flat buffers of its weights and gradients."""
    if recipe.optimizer == "rmsprop":
        return RMSprop(weights, gradient, fused=weights.device.type == "cpu")
    return Adam(weights, gradient, fused=weights.device.type == "cpu")


def keras_twin(recipe: Recipe) -> Any:
    """Return the Keras optimizer with the same settings, for callbacks and saved files."""
    from digitry.training.network.build import keras

    kind = {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}[recipe.optimizer]
    return kind(learning_rate=recipe.learning_rate or DEFAULT_LEARNING_RATE)


def copy_to_keras(
    state: Mapping[str, Sequence[torch.Tensor]], step: int, twin: Any, variables: Sequence[Any]
) -> None:
    """Copy our optimizer's state into the Keras optimizer, so that Keras can continue the training.

    Args:
        state: `momentum` and `velocity`, or `velocity` only: one tensor for each variable.
        step: number of steps made.
        twin: from `keras_twin`.
        variables: the model's trainable variables.
    """
    if not twin.built:
        twin.build(variables)
    twin.iterations.assign(step)
    for name, tensors in state.items():
        targets = [variable for variable in twin.variables if variable.path.endswith(f"_{name}")]
        for variable, tensor in zip(targets, tensors, strict=True):
            variable.assign(tensor)


def schedule(recipe: Recipe, step: int, steps: int) -> float:
    """Return the share of the peak learning rate at a step.

    Args:
        recipe: holds the schedule.
        step: counted from 0 over the whole training.
        steps: number of steps of the whole training.

    Returns:
        1 if constant. One-cycle (Smith & Topin 2019, piecewise linear): from near 0 up to 1 over
        the share `warmup`, then down to near 0.
    """
    if recipe.schedule == "constant":
        return 1.0
    peak = recipe.warmup * steps
    if step < peak:
        return min(1.0, (step + 1) / peak)
    return (steps - step) / (steps - peak)
