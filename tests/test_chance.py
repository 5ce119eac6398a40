"""Random numbers as a function of a key, and the distributions made of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ppo_and_friends.vector.sim.chance import Chance, uniforms


def test_uniforms() -> None:
    key, stream = torch.arange(500), torch.zeros(500, dtype=torch.int64)
    numbers = uniforms(key, stream, 400, torch.float64)
    others = uniforms(key, stream + 1, 400, torch.float64)
    bound = 5 / (500 * 400) ** 0.5  # five standard errors of a mean of unit variance
    for drawn in (numbers, others):
        assert drawn.min() > 0 and drawn.max() < 1
        assert abs(drawn.mean() - 1 / 2) < bound * 12**-0.5
        assert abs(drawn.square().mean() - 1 / 3) < bound * (4 / 45) ** 0.5
    for one, other in ((numbers, others), (numbers[1:], numbers[:-1]), (numbers[:, 1:], numbers[:, :-1])):
        assert abs(((one - 0.5) * (other - 0.5)).mean()) * 12 < bound * 1.01
    assert torch.equal(uniforms(key, stream, 400, torch.float32).double(), numbers)  # the same on every engine


def test_uniforms_are_splitmix64() -> None:
    """The first outputs of the reference implementation for seed 0, cut to 23 bits."""
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    numbers = uniforms(torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), 3, torch.float64)
    assert ((numbers[0] * 2**23) - 0.5).tolist() == [output >> 41 for output in expected]


@pytest.mark.parametrize(
    ("distribution", "mean", "std"),
    [("uniform", 1.5, 12**-0.5), ("loguniform", 1 / 0.693147, 0.2866), ("gaussian", 1.0, 2.0)],
)
def test_distributions(distribution: Any, mean: float, std: float) -> None:
    uniform = uniforms(torch.arange(1000), torch.zeros(1000, dtype=torch.int64), 100, torch.float64)
    drawn = Chance(range=(1.0, 2.0), distribution=distribution).sample(uniform, torch.zeros(1000, dtype=torch.int64))
    assert abs(drawn.mean() - mean) < 5 * std / 100_000**0.5
    assert drawn.std().item() == pytest.approx(std, rel=0.02)
