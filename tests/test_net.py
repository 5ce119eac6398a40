"""How networks begin, and how exactly they multiply."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from toys import BOX, NET, Toy, box_spec, experiment

from ppo_and_friends.config import PPOConfig
from ppo_and_friends.devices import set_matmul_precision
from ppo_and_friends.networks.net import Net
from ppo_and_friends.ppo import PPO


def layers(initialization: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    net = Net(box_spec(2), replace(NET, initialization=initialization), PPOConfig())
    return [(layer.weight, layer.bias) for layer in net.modules() if isinstance(layer, torch.nn.Linear)]


def test_initial_weights_and_biases() -> None:
    own, zeroed, orthogonal = layers("default"), layers("zero_biases"), layers("orthogonal")
    assert len(own) == 4
    for (weight, bias), (same, zero), (other, also_zero) in zip(own, zeroed, orthogonal, strict=True):
        assert torch.equal(weight, same) and not torch.allclose(weight, other)
        assert bool(bias.any()) and not zero.any() and not also_zero.any()


@pytest.fixture
def precisions() -> Iterator[Any]:
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    yield lambda: [backend.allow_tf32 for backend in backends]
    for backend, value in zip(backends, before, strict=True):
        backend.allow_tf32 = value


def test_the_precision_of_products_is_the_gpus_alone(precisions: Any) -> None:
    set_matmul_precision(torch.device("cuda"), "high")
    assert precisions() == [True, True] and torch.backends.mkldnn.matmul.fp32_precision == "none"
    set_matmul_precision(torch.device("cuda"), "highest")
    assert precisions() == [False, False]
    PPO(replace(experiment(Toy(BOX)), matmul_precision="high"))  # its networks are on the CPU
    assert precisions() == [False, False]
