"""Parts of observations through layers of their own, and residual bodies."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ppo_and_friends.config import BodyConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.networks.bodies import Body
from ppo_and_friends.networks.split import Split, slices
from ppo_and_friends.types import TensorSpec

PLAIN = TensorSpec((6,))
NAMED = TensorSpec((6,), fields=(("feet", 0, 1), ("joints", 1, 4), ("lidar", 4, 6)))


@pytest.mark.parametrize(
    ("text", "spec", "parts"),
    [
        ("2", PLAIN, [[0, 1], [2, 3, 4, 5]]),
        ("4:,:4", PLAIN, [[4, 5], [0, 1, 2, 3]]),
        ("lidar", NAMED, [[4, 5], [0, 1, 2, 3]]),
        ("joints, lidar", NAMED, [[1, 2, 3], [4, 5], [0]]),
        ("each", NAMED, [[0], [1, 2, 3], [4, 5]]),
    ],
)
def test_every_form_of_a_split(text: str, spec: TensorSpec, parts: list[list[int]]) -> None:
    assert slices(text, spec) == parts


@pytest.mark.parametrize(
    ("text", "spec", "message"),
    [
        ("6", PLAIN, "does not put each of the 6 columns"),
        ("0:3,2:6", PLAIN, "does not put each"),
        ("0:3", PLAIN, "does not put each"),
        ("a:3", PLAIN, "'a:3' is no slice"),
        ("feet", PLAIN, "no entry 'feet' .it has no named entries"),
        ("each", PLAIN, "no entry 'each'"),
        ("foot", NAMED, "no entry 'foot' .its entries are feet, joints, lidar"),
    ],
)
def test_a_split_that_does_not_fit_is_one_sentence(text: str, spec: TensorSpec, message: str) -> None:
    with pytest.raises(UserError, match=message):
        slices(text, spec)


def test_a_part_reaches_its_own_layers_alone() -> None:
    body = Body((NAMED,), BodyConfig(split="lidar", split_hidden=(3,), hidden=()))
    assert body.features == 6
    zero, one = torch.zeros(1, 6), torch.zeros(1, 6)
    one[0, 5] = 1.0  # of the lidar
    changed = body(zero) != body(one)
    assert changed[0, :3].all() and not changed[0, 3:].any()
    assert body(torch.zeros(2, 5, 6)).shape == (2, 5, 6)


def test_a_split_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="no part of what is observed is a vector"):
        Body((TensorSpec((3, 84, 84), torch.uint8),), BodyConfig(split="2"))


def test_images_and_vectors_have_a_body_a_key() -> None:
    image = TensorSpec((3, 16, 16), torch.uint8, "camera")
    body = Body((NAMED, image), BodyConfig(split="each", residual=(4, 8), hidden=(10,), activation="relu"))
    seen = torch.zeros(5, 6), torch.randint(255, (5, 3, 16, 16), dtype=torch.uint8)
    assert body(seen).shape == (5, 10)
    assert isinstance(body.encoders[0], Split) and len(body.encoders[0].layers) == 3


def test_a_residual_body_halves_and_adds() -> None:
    body = Body((TensorSpec((4, 84, 84), torch.uint8),), BodyConfig(residual=(16, 32, 32), hidden=()))
    assert body.features == 32 * 11 * 11
    convolutions = [module for module in body.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 3 * 5
    blocks = [module for module in body.modules() if type(module).__name__ == "Block"]
    for parameter in blocks[0].parameters():
        parameter.data.zero_()
    image = torch.randn(1, 16, 5, 5)
    assert torch.equal(blocks[0](image), image)
