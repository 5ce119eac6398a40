"""The core without memory keeps the contract that cores with memory share."""

from __future__ import annotations

import torch

from ppo_and_friends.networks.cores import IdentityCore


def test_unrolling_equals_stepping() -> None:
    core, x = IdentityCore(3), torch.randn(4, 2, 3)
    state = core.start(2)
    output, states = core.unroll(x, state, torch.rand(4, 2) < 0.5)
    assert output.shape == (4, 2, core.features) and states.shape == (4, 2, core.state_size)
    for step in range(4):
        one, state = core.step(x[step], state)
        assert torch.equal(one, output[step]) and torch.equal(state, states[step])
