"""What a segmentation network is trained with: the cross-entropy of every pixel of a mask that counts.

Shapes: B batch, H W mask, h w logits, O outputs, N pixels that count.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mobilenetv2.errors import UsageError
from mobilenetv2.segmentation_metrics import IGNORE


def segmentation_loss(
    logits_BhwO: Tensor,
    masks_BHW: Tensor,
    *,
    align_corners: bool,
    class_weights_O: Tensor | None = None,
    hardest: float = 1.0,
) -> dict[str, Tensor]:
    """{"class_loss": the weighted mean of the pixels' cross-entropy}, of logits resized to the masks' size.

    `masks_BHW` names outputs, in any integer type; pixels of 255 do not count, nor those of a class whose weight is 0.
    A pixel's weight is its class's (None: 1 for each), and the mean is over the weights, as torch's. `hardest` is the
    share, above 0 and at most 1, of the batch's pixels that count which are kept: those of the largest weighted loss,
    at least one. Where no pixel counts, the loss is 0 and so are its gradients. In float32 whatever the logits are.
    Raises `UsageError` for another share, or weights that are not one for each output.
    """
    if not 0 < hardest <= 1:
        raise UsageError(f"hardest must be a share above 0 and at most 1, got {hardest}")
    outputs = logits_BhwO.shape[-1]
    if class_weights_O is not None and class_weights_O.shape != (outputs,):
        raise UsageError(f"class weights must be one for each of {outputs} outputs, got {tuple(class_weights_O.shape)}")
    size = (masks_BHW.shape[1], masks_BHW.shape[2])
    logits_BOHW = resized(logits_BhwO.float(), size, align_corners=align_corners).permute(0, 3, 1, 2)
    masks_BHW = masks_BHW.to(logits_BOHW.device, torch.int64)
    losses_BHW = F.cross_entropy(logits_BOHW, masks_BHW, ignore_index=IGNORE, reduction="none")
    counts_BHW = masks_BHW != IGNORE
    losses_N, weights_N = losses_BHW[counts_BHW], torch.ones_like(losses_BHW)[counts_BHW]
    if class_weights_O is not None:
        weights_N = class_weights_O.to(losses_N)[masks_BHW[counts_BHW]]
        losses_N, weights_N = losses_N[weights_N > 0], weights_N[weights_N > 0]
    if hardest < 1 and len(losses_N):
        kept = (losses_N.detach() * weights_N).topk(max(round(hardest * len(losses_N)), 1)).indices
        losses_N, weights_N = losses_N[kept], weights_N[kept]
    total = weights_N.sum()
    return {"class_loss": (losses_N * weights_N).sum() / torch.where(total > 0, total, 1)}


def resized(maps_BhwO: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Bilinear to `size` (H, W): [B, H, W, O]. With `align_corners` the corner pixels' centres stay where they are,
    otherwise the map's edges do."""
    maps_BOhw = maps_BhwO.permute(0, 3, 1, 2)
    return F.interpolate(maps_BOhw, size, mode="bilinear", align_corners=align_corners).permute(0, 2, 3, 1)
