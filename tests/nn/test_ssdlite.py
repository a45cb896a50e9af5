"""The torch detector: the model file's names, any size, initial weights, and losses that learn."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from mobilenetv2 import boxes, spec, spec_fields
from mobilenetv2.model_file import ModelFile
from mobilenetv2.nn import MobileNetV2, SSDLite, Target, load_tensors, save_tensors
from mobilenetv2.spec import Spec
from mobilenetv2.spec import SSDLite as SSDLiteSpec
from mobilenetv2.spec_fields import backbone

RandomModel = Callable[..., ModelFile]


TINY: dict[str, Any] = {
    "stages": [(1, 8, 1, 1), (3, 8, 1, 2), (3, 16, 1, 2), (3, 16, 1, 2), (3, 24, 1, 2)],
    "stem_channels": 8,
    "last_channels": 32,
}


def network(**head: Any) -> SSDLite:
    """A detector of 5 classes with a backbone that takes no time."""
    torch.manual_seed(0)
    head = {"classes": 5, "extras": (32, 32, 32, 32), **head}
    return SSDLite.from_spec(spec_fields.network(backbone(**TINY), spec_fields.ssdlite(**head)))


def test_the_state_dict_has_the_model_files_names_and_shapes() -> None:
    heads: list[dict[str, Any]] = [{}, {"separable": False}, {"background": "none"}]
    for head in heads:
        found = network(**head)
        assert {name: value.shape for name, value in save_tensors(found).items()} == spec.tensors(found.spec)


def test_the_backbones_tensors_are_torchvisions() -> None:
    theirs = torchvision.models.mobilenet_v2(width_mult=0.35)
    ours = SSDLite.from_spec(Spec(backbone(width_mult=0.35), SSDLiteSpec(5)))
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert {name.split(".")[0] for name in missing} == {"extras", "class_heads", "box_heads"}
    assert {name.split(".")[0] for name in unexpected} == {"classifier"}


def test_a_model_file_carries_the_detector_there_and_back(random_detector: RandomModel) -> None:
    model = random_detector(padding="same", bn_eps=1e-3)
    found = SSDLite.from_spec(model.info.spec)
    load_tensors(found, model.tensors)
    saved = save_tensors(found)
    assert saved.keys() == model.tensors.keys()
    assert all(np.array_equal(saved[name], model.tensors[name]) for name in saved)


@torch.inference_mode()
def test_anchors_go_with_the_outputs_at_any_size() -> None:
    found = network().eval()
    for size in ((320, 320), (97, 161), (1, 500)):
        outputs = found(torch.zeros(2, 3, *size))
        assert outputs["class_logits"].shape == (2, len(found.anchors(size)), 6)
        assert outputs["box_deltas"].shape == (2, len(found.anchors(size)), 4)


def test_the_output_does_not_depend_on_training_beyond_batch_norm() -> None:
    found = network()
    for module in found.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    found.training = True
    x = torch.rand(1, 3, 64, 64)
    trained = found(x)
    found.training = False
    assert all(torch.equal(values, trained[name]) for name, values in found(x).items())


def test_initial_weights_are_tensorflows_above_the_backbone() -> None:
    tensors = network().state_dict()
    for name in ("extras.0.0.0.weight", "extras.3.2.0.weight", "class_heads.1.1.weight", "box_heads.0.0.0.weight"):
        assert tensors[name].abs().max() <= 0.06
        assert tensors[name].std().item() == pytest.approx(0.03 * 0.88, rel=0.1)  # cut off at two deviations
    assert not tensors["class_heads.0.1.bias"].any()
    assert tensors["features.0.0.weight"].std() > 0.05


@pytest.mark.parametrize("score", ["sigmoid", "softmax"])
@pytest.mark.parametrize("background", ["none", "first", "last"])
def test_a_prior_is_the_probability_of_an_object_before_training(score: str, background: str) -> None:
    if score == "softmax" and background == "none":
        return
    found = network(score=score, background=background)
    found.set_prior(0.01)
    bias_AO = found.class_heads[1].get_parameter("1.bias").detach().view(6, found.head.outputs)
    probabilities = bias_AO.sigmoid() if score == "sigmoid" else bias_AO.softmax(dim=1)
    column = {"none": None, "first": 0, "last": -1}[background]
    if column is not None:
        assert probabilities[:, column].tolist() == pytest.approx([0.99] * 6)
        probabilities = probabilities[:, 1:] if column == 0 else probabilities[:, :-1]
    share = 0.01 if score == "sigmoid" else 0.01 / 5
    assert probabilities.flatten().tolist() == pytest.approx([share] * 30)


def test_a_few_steps_find_the_objects_of_one_picture(one_thread: None) -> None:
    found = network()
    found.set_prior(0.01)
    wanted = torch.tensor([[0.1, 0.2, 0.5, 0.9], [0.6, 0.1, 0.9, 0.3]])
    target = Target(wanted, torch.tensor([3, 1]))
    x = torch.zeros(1, 3, 96, 96)
    x[:, 0, 19:86, 10:48] = 1  # a red box and a blue one
    x[:, 2, 10:29, 58:86] = 1
    found.eval()  # batch norm in training would have nothing but one picture's statistics
    optimizer = torch.optim.Adam(found.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = sum(found.loss(found(x), [target], (96, 96)).values())
        assert isinstance(loss, torch.Tensor)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    with torch.inference_mode():
        outputs = found(x)
    scores = outputs["class_logits"][0, :, 1:].sigmoid().numpy()
    anchors = boxes.anchors(found.spec, (96, 96))
    decoded = boxes.xyxy_from_cxcywh(boxes.decode(outputs["box_deltas"][0].numpy(), anchors, found.head.coder))
    kept, classes = boxes.nms(
        decoded, scores, iou_threshold=0.6, score_threshold=0.0, most_per_class=1, most=2
    )  # fmt: skip
    assert sorted(classes.tolist()) == [1, 3]
    overlaps = boxes.iou(decoded[kept[np.argsort(-classes)]], wanted.numpy())
    assert np.diag(overlaps).min() > 0.5


def test_a_classifier_and_a_detector_share_their_features(random_detector: RandomModel) -> None:
    model = random_detector()
    detector = SSDLite.from_spec(model.info.spec).eval()
    load_tensors(detector, model.tensors)
    classifier = MobileNetV2.from_spec(Spec(model.info.spec.backbone)).eval()
    classifier.features.load_state_dict(detector.features.state_dict())
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(classifier.features(x), detector.features_dict(x)["out"])
