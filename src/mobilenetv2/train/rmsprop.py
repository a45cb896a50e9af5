"""RMSProp as TensorFlow computes it, which the paper's and TF-Slim's learning rates are meant for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class RMSprop(Optimizer):
    """For gradient g of weight w, with decay r, momentum m, epsilon e, learning rate l and weight decay d:

        g += d w
        s  = r s + (1 - r) g^2          s begins at 1
        v  = m v + l g / sqrt(s + e)    v begins at 0
        w -= v

    `torch.optim.RMSprop` adds e after the root, begins s at 0 and keeps l out of v: with the published e of 1.0 and
    a learning rate that falls it goes another way (tensorflow `RMSPropOptimizer`; timm has the same as `rmsproptf`).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.045,
        *,
        decay: float = 0.9,
        momentum: float = 0.9,
        epsilon: float = 1.0,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "decay": decay, "momentum": momentum, "epsilon": epsilon, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad, group)
        return loss

    def _move(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["square"], state["velocity"] = torch.ones_like(weight), torch.zeros_like(weight)
        square, velocity = state["square"], state["velocity"]
        if group["weight_decay"]:
            gradient = gradient.add(weight, alpha=group["weight_decay"])
        square.lerp_(gradient * gradient, 1 - group["decay"])
        velocity.mul_(group["momentum"])
        velocity.addcdiv_(gradient, (square + group["epsilon"]).sqrt_(), value=group["lr"])
        weight.sub_(velocity)
