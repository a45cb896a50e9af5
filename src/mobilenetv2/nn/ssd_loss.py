"""What SSD's heads are trained with: anchors matched to the boxes of a picture, and the multibox loss.

Shapes: B batch, A anchors, O outputs per anchor, N boxes of one picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mobilenetv2.spec import Score, SSDLite

NO_BOX = -1
MATCHED = 0.5  # IoU from which an anchor stands for a box
NEGATIVES_PER_MATCH = 3
LEAST_NEGATIVES = 3  # of a picture without a match

# (logits [B, A, O], the output that should be 1 [B, A] or -1 for none, whether matched [B, A], score) -> their sum
ClassLoss = Callable[[Tensor, Tensor, Tensor, Score], Tensor]


class Target(NamedTuple):
    """What is on one picture: boxes [N, 4] xyxy_norm (shares of its width and height), and their real classes [N], from
    0, int64. N may be 0. A box without area, or that is not finite, is passed over."""

    boxes_xyxy_norm: Tensor
    classes: Tensor


def multibox_loss(
    outputs: Mapping[str, Tensor],
    targets: Sequence[Target],
    anchors_cxcywh: Tensor,
    head: SSDLite,
    *,
    class_loss: ClassLoss,
) -> dict[str, Tensor]:
    """{"class_loss", "box_loss"}: scalars, each summed over the batch and divided by the number of matched anchors.

    Boxes: smooth L1 of matched anchors' deltas. Classes: `class_loss`, such as `hard_mined` or `focal`. Both are
    finite, and so are their gradients, for a batch without a single object. `outputs` are the network's; `targets` has
    one entry for each picture. (SSD, arXiv 1512.02325, section 2.2, with TensorFlow's choices.)
    """
    class_logits_BAO, box_deltas_BA4 = outputs["class_logits"].float(), outputs["box_deltas"].float()
    wanted, deltas = zip(*(_wanted(target, anchors_cxcywh, head) for target in targets), strict=True)
    wanted_BA, wanted_BA4 = torch.stack(wanted), torch.stack(deltas)
    matched_BA = wanted_BA != _nothing(head)
    matches = matched_BA.sum().clamp(min=1)
    box_loss = F.smooth_l1_loss(box_deltas_BA4[matched_BA], wanted_BA4[matched_BA], reduction="sum")
    return {
        "class_loss": class_loss(class_logits_BAO, wanted_BA, matched_BA, head.score) / matches,
        "box_loss": box_loss / matches,
    }


@torch.no_grad()
def match(anchors_cxcywh: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """The box that each anchor stands for: [A] int64, or -1 for none.

    First each box gets an anchor of its own: the pair with the largest overlap of all is taken, then the largest of
    what is left, as long as there is any. Every other anchor stands for the box that it overlaps most, if by 0.5 or
    more (of equal ones the first).
    """
    matched = torch.full((len(anchors_cxcywh),), NO_BOX, dtype=torch.int64, device=anchors_cxcywh.device)
    if not len(boxes_xyxy):
        return matched
    overlaps_NA = _iou(boxes_xyxy, _xyxy(anchors_cxcywh))
    best, box = overlaps_NA.max(dim=0)
    matched = torch.where(best >= MATCHED, box, matched)
    left_NA = overlaps_NA.clone()
    anchors = len(anchors_cxcywh)
    for _ in range(min(len(boxes_xyxy), anchors)):
        overlap, place = left_NA.flatten().max(dim=0)
        own_box, own_anchor = place // anchors, place % anchors
        matched[own_anchor] = torch.where(overlap > 0, own_box, matched[own_anchor])
        left_NA[own_box] = -1
        left_NA[:, own_anchor] = -1
    return matched


def hard_mined(logits_BAO: Tensor, wanted_BA: Tensor, matched_BA: Tensor, score: Score) -> Tensor:
    """The cross-entropy of matched anchors, and of the worst unmatched ones: three for each match of a picture, at
    least three."""
    losses_BA = _cross_entropy(logits_BAO, wanted_BA, score)
    wanted_negatives_B = (NEGATIVES_PER_MATCH * matched_BA.sum(dim=1)).clamp(min=LEAST_NEGATIVES)
    order_BA = losses_BA.detach().masked_fill(matched_BA, -torch.inf).argsort(dim=1, descending=True, stable=True)
    places_BA = torch.arange(order_BA.shape[1], device=order_BA.device).expand_as(order_BA)
    rank_BA = torch.empty_like(order_BA).scatter_(1, order_BA, places_BA)
    kept_BA = matched_BA | (rank_BA < wanted_negatives_B[:, None])
    return losses_BA[kept_BA].sum()


def focal(logits_BAO: Tensor, wanted_BA: Tensor, matched_BA: Tensor, score: Score) -> Tensor:
    """Focal loss over all anchors (arXiv 1708.02002), alpha 0.25 and gamma 2; for heads that score by sigmoid."""
    assert score == "sigmoid", score
    wanted_BAO = _one_hot(wanted_BA, logits_BAO)
    losses_BAO = F.binary_cross_entropy_with_logits(logits_BAO, wanted_BAO, reduction="none")
    wrong_BAO = (logits_BAO.sigmoid() - wanted_BAO).abs()
    weight_BAO = 0.25 * wanted_BAO + 0.75 * (1 - wanted_BAO)
    return (weight_BAO * wrong_BAO**2 * losses_BAO).sum()


def _cross_entropy(logits_BAO: Tensor, wanted_BA: Tensor, score: Score) -> Tensor:
    """[B, A]: of each output by itself, summed (sigmoid), or of all together (softmax)."""
    if score == "softmax":
        return F.cross_entropy(logits_BAO.transpose(1, 2), wanted_BA, reduction="none")
    wanted_BAO = _one_hot(wanted_BA, logits_BAO)
    return F.binary_cross_entropy_with_logits(logits_BAO, wanted_BAO, reduction="none").sum(dim=-1)


def _one_hot(wanted_BA: Tensor, logits_BAO: Tensor) -> Tensor:
    """1 at the wanted output; nowhere where that is -1."""
    outputs = logits_BAO.shape[-1]
    return F.one_hot(wanted_BA + 1, outputs + 1)[..., 1:].to(logits_BAO.dtype)


def _nothing(head: SSDLite) -> int:
    """The output of an anchor without a box; -1 where no output says so."""
    return {"none": NO_BOX, "first": 0, "last": head.outputs - 1}[head.background]


def _wanted(target: Target, anchors_cxcywh: Tensor, head: SSDLite) -> tuple[Tensor, Tensor]:
    """For each anchor the output that should be 1 [A], and its deltas [A, 4], 0 where it stands for no box."""
    boxes, classes = target
    extent = boxes[:, 2:] - boxes[:, :2]
    usable = ((extent > 0) & extent.isfinite()).all(dim=1)
    boxes, classes = boxes[usable].to(anchors_cxcywh), classes[usable].to(anchors_cxcywh.device)
    matched = match(anchors_cxcywh, boxes)
    wanted = torch.full_like(matched, _nothing(head))
    deltas = torch.zeros_like(anchors_cxcywh)
    found = matched != NO_BOX
    own = matched[found]
    wanted[found] = classes[own] + (head.background == "first")
    deltas[found] = _encode(boxes[own], anchors_cxcywh[found], head)
    return wanted, deltas


def _encode(boxes_xyxy: Tensor, anchors_cxcywh: Tensor, head: SSDLite) -> Tensor:
    """`boxes.encode`, where the weights are."""
    centre, extent = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    shift = (centre - anchors_cxcywh[:, :2]) / anchors_cxcywh[:, 2:]
    grow = (extent / anchors_cxcywh[:, 2:]).log()
    return torch.cat([shift, grow], dim=1) * shift.new_tensor(head.coder)


def _xyxy(boxes_cxcywh: Tensor) -> Tensor:
    centre, half = boxes_cxcywh[:, :2], boxes_cxcywh[:, 2:] / 2
    return torch.cat([centre - half, centre + half], dim=1)


def _iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """[N, M], of boxes that have an area."""
    low = torch.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    high = torch.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    a, b = ((boxes[:, 2:] - boxes[:, :2]).prod(dim=-1) for boxes in (a_xyxy, b_xyxy))
    return shared / (a[:, None] + b[None, :] - shared)
