"""Learning rates against the formulas that were published with the recipes, and TensorFlow's RMSProp by hand."""

import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from timm.optim.rmsprop_tf import RMSpropTF

from mobilenetv2.train import RECIPES, find, overview, schedule
from mobilenetv2.train.recipes import Recipe, Schedule
from mobilenetv2.train.rmsprop import RMSprop


def torchvision_v2(position: float) -> float:
    """LinearLR(0.01, 5 epochs), then CosineAnnealingLR(595 epochs), stepped after each epoch."""
    epoch = math.floor(position)
    return 0.5 * (0.01 + 0.99 * epoch / 5) if epoch < 5 else 0.25 * (1 + math.cos(math.pi * (epoch - 5) / 595))


def cosine(position: float) -> float:
    """Step by step: rises over 5 epochs, then half a cosine wave over the other 145."""
    return 0.05 * position / 5 if position < 5 else 0.025 * (1 + math.cos(math.pi * (position - 5) / 145))


def finetune(position: float) -> float:
    return 2e-3 * position / 0.5 if position < 0.5 else 1e-3 * (1 + math.cos(math.pi * (position - 0.5) / 19.5))


@pytest.mark.parametrize(
    ("name", "published", "momentum"),
    [
        ("paper", lambda position: 0.045 * 0.98 ** math.floor(position), 0.9),
        ("slim", lambda position: 0.045 * 0.98 ** math.floor(position / 2.5), 0.9),
        ("cosine", cosine, 0.9),
        ("torchvision-v2", torchvision_v2, 0.9),
        ("finetune", finetune, 0.9),
    ],
)
def test_recipes_follow_their_published_formula(
    name: str, published: Callable[[float], float], momentum: float
) -> None:
    recipe = find(name)
    for position in (0.0, 0.25, 1.0, 2.4, 2.6, 5.0, 7.3, recipe.epochs / 3, recipe.epochs / 2, recipe.epochs - 0.5):
        assert schedule.learning_rate(recipe, position) == pytest.approx(published(position), rel=1e-12)
        assert schedule.momentum(recipe, position) == momentum


@given(
    share=st.floats(0, 1), warmup=st.floats(0, 30), kind=st.sampled_from(["cosine", "exponential", "constant"]),
    staircase=st.booleans(),
)  # fmt: skip
def test_the_learning_rate_stays_between_0_and_its_peak(
    share: float, warmup: float, kind: Schedule, staircase: bool
) -> None:
    recipe = Recipe("any", learning_rate=0.1, warmup=warmup, schedule=kind, staircase=staircase)
    assert 0 <= schedule.learning_rate(recipe, share * recipe.epochs) <= 0.1


def test_pictures_grow_in_steps_of_16_to_full_size() -> None:
    recipe = Recipe("any", epochs=10, small_size=48, small_until=0.5)
    sizes = [schedule.picture_size(recipe, position, full=96) for position in np.linspace(0, 10, 101)]
    assert sorted(set(sizes)) == [48, 64, 80, 96]
    assert sizes == sorted(sizes)
    assert sizes[50:] == [96] * 51


def test_rmsprop_is_what_one_computes_by_hand() -> None:
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    optimiser = RMSprop([weight], 0.1, decay=0.9, momentum=0.9, epsilon=1.0, weight_decay=0.5)
    expected, square, velocity = 2.0, 1.0, 0.0
    for gradient, rate in ((1.0, 0.1), (-3.0, 0.1), (0.5, 0.01)):
        weight.grad = torch.tensor([gradient])
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
        whole = gradient + 0.5 * expected
        square = 0.9 * square + 0.1 * whole**2
        velocity = 0.9 * velocity + rate * whole / math.sqrt(square + 1.0)
        expected -= velocity
        assert float(weight.detach()) == pytest.approx(expected, rel=1e-6)


def test_rmsprop_is_timms() -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4)) for _ in range(2))
    mine = RMSprop([ours], 0.045, decay=0.9, momentum=0.9, epsilon=1.0, weight_decay=4e-5)
    other = RMSpropTF([theirs], 0.045, alpha=0.9, momentum=0.9, eps=1.0, weight_decay=4e-5)
    for step in range(20):
        ours.grad = torch.randn(3, 4)
        theirs.grad = ours.grad.clone()
        for optimiser in (mine, other):
            optimiser.param_groups[0]["lr"] = 0.045 * 0.98**step
            optimiser.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_every_recipe_has_a_panel_with_its_learning_rate() -> None:
    few, all_of_them = (
        Image.open(io.BytesIO(overview.curves(chosen))) for chosen in ([find("paper")], tuple(RECIPES.values()))
    )
    assert all_of_them.width == 4 * few.width
    purple = np.abs(np.asarray(all_of_them.convert("RGB")).astype(int) - (0x70, 0x48, 0xE8)).sum(axis=-1) < 60
    for panel in range(len(RECIPES)):
        row, column = divmod(panel, 4)
        height, width = (side // parts for side, parts in zip(purple.shape, (2, 4), strict=True))
        assert purple[row * height : (row + 1) * height, column * width : (column + 1) * width].any()
