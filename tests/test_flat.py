"""One buffer for all that is trained, and Adam over it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from ppo_and_friends.flat import FlatParameters, Part
from ppo_and_friends.functional.adam import adam_


def parts(limits: tuple[float, ...]) -> list[Part]:
    torch.manual_seed(0)
    modules = [nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)) for _ in limits]
    return [Part(module, limit) for module, limit in zip(modules, limits, strict=True)]


class Adam:
    """The state that `adam_` writes."""

    def __init__(self, flat: FlatParameters, rates: tuple[float, ...], betas: tuple[float, float]) -> None:
        self.flat, self.betas = flat, betas
        self.first, self.second = torch.zeros(flat.size), torch.zeros(flat.size)
        self.steps = torch.zeros(())
        pairs = zip(flat.parts, rates, strict=True)
        self.shares = [(where, part.max_grad_norm, torch.tensor(rate)) for (part, where), rate in pairs]

    def step(self, gradient: Tensor) -> Tensor:
        state = (self.first, self.second, self.steps, self.shares, self.betas, 1e-5)
        return adam_(self.flat.values, gradient, *state)


def loss(module: nn.Module, x: Tensor) -> Tensor:
    return module(x).square().sum() * 3


def test_parameters_and_gradients_are_views_and_shared_ones_count_once() -> None:
    made = parts((1.0, 1.0))
    made.append(Part(made[0].module, 1.0))
    flat = FlatParameters(made, tail=3)
    assert flat.size == sum(p.numel() for part in made[:2] for p in part.module.parameters())
    flat.values.fill_(2.0)
    assert all(bool((p == 2.0).all()) for p in made[0].module.parameters())
    loss(made[1].module, torch.ones(1, 3)).backward()
    assert bool(flat.gradient[flat.parts[1][1]].any()) and not flat.gradient[flat.parts[0][1]].any()
    flat.tail.fill_(1.0)
    flat.zero_()
    assert not flat.reduced.any() and all(p.grad is not None and not p.grad.any() for p in flat.parameters)


@pytest.mark.parametrize("limits", [(0.5,), (0.5, float("inf")), (1e6, 0.01)])
def test_steps_are_those_of_torchs_adam_and_clip(limits: tuple[float, ...]) -> None:
    rates = (0.05, 0.002)[: len(limits)]
    made = parts(limits)
    theirs = [copy.deepcopy(part.module) for part in made]
    optimisers = [
        torch.optim.Adam(module.parameters(), lr=rate, betas=(0.8, 0.99), eps=1e-5)
        for module, rate in zip(theirs, rates, strict=True)
    ]
    flat = FlatParameters(made, tail=1)
    adam = Adam(flat, rates, (0.8, 0.99))
    for step in range(8):
        x, weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(step)), 5.0
        flat.zero_()
        for part in made:
            loss(part.module, x).backward()
        expected = []
        for module, optimiser, limit in zip(theirs, optimisers, limits, strict=True):
            optimiser.zero_grad()
            (loss(module, x) / weight).backward()
            expected.append(nn.utils.clip_grad_norm_(module.parameters(), limit))
            optimiser.step()
        norm = adam.step(flat.gradient / weight)
        torch.testing.assert_close(norm, torch.stack(expected).square().sum().sqrt())
        for part, module in zip(made, theirs, strict=True):
            for mine, other in zip(part.module.parameters(), module.parameters(), strict=True):
                torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("limits", [(0.5,), (float("inf"), 0.5)])
@pytest.mark.parametrize("before", [0, 2])
def test_a_gradient_that_is_not_finite_changes_nothing(bad: float, limits: tuple[float, ...], before: int) -> None:
    flat = FlatParameters(parts(limits), tail=1)
    adam = Adam(flat, (0.1, 0.1)[: len(limits)], (0.9, 0.999))
    for _ in range(before):
        adam.step(torch.randn(flat.size))
    kept = [tensor.clone() for tensor in (flat.values, adam.first, adam.second, adam.steps)]
    gradient = torch.randn(flat.size)
    gradient[3] = bad
    assert not adam.step(gradient).isfinite()
    for was, now in zip(kept, (flat.values, adam.first, adam.second, adam.steps), strict=True):
        assert torch.equal(was, now)
    adam.step(torch.randn(flat.size))
    assert bool(flat.values.isfinite().all()) and not torch.equal(flat.values, kept[0])
