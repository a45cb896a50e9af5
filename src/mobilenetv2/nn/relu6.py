"""ReLU6 that keeps its result for the gradient, where torch's keeps a copy of its input."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ReLU6(nn.ReLU6):
    """`nn.ReLU6(inplace=True)`: the same values and the same gradients, to the last bit.

    Of each wide tensor two versions then wait for the gradients and not three: the one that batch norm takes, and the
    result, which the next convolution keeps anyway.
    """

    def __init__(self) -> None:
        super().__init__(inplace=True)

    def forward(self, input: Tensor) -> Tensor:
        # what is not trained is run, traced and exported as torch's own operation
        return _keeping_result(input) if self.training else super().forward(input)


@torch.fx.wrap
def _keeping_result(x: Tensor) -> Tensor:
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
    if traced or not x.requires_grad:
        return F.relu6(x, inplace=True)
    return _KeepingResult.apply(x)  # type: ignore[return-value]


class _KeepingResult(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x.clamp_(0, 6))
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Tensor:
        (gradient,), (result,) = grad_outputs, ctx.saved_tensors
        # the result is 0 or 6 just where the input was at most 0 or at least 6
        return torch.ops.aten.hardtanh_backward(gradient, result, 0.0, 6.0)
