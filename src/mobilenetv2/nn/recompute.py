"""Gradients without keeping what lies between: computed again when they are needed (arXiv 1604.06174)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputing(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function(x)`, a bound method of a module; the module's batch norms count each batch once.

    Only `x` is kept for the gradients. `function` must not draw random numbers.
    """
    module = function.__self__  # type: ignore[attr-defined]
    return checkpoint(
        function, x, use_reentrant=False, preserve_rng_state=False,
        context_fn=lambda: (contextlib.nullcontext(), _again(module)),
    )  # fmt: skip


@contextlib.contextmanager
def _again(module: nn.Module) -> Iterator[None]:
    """The second time, batch norm's running statistics stay as they are: they have seen this batch.

    With a momentum of 0, not without statistics: checkpoint wants the same tensors to be saved both times.
    """
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d) and part.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.sub_(1)
