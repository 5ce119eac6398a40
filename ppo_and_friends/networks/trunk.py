"""A body and a core in their order: from normalised observations to the features that heads read."""

from __future__ import annotations

import torch
from torch import Tensor

from ppo_and_friends.config import BodyConfig, NetConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.networks.bodies import BodyModule, make_body
from ppo_and_friends.networks.cores import Core, make_core
from ppo_and_friends.types import TensorSpec, Tree, leaves


class Trunk:
    """How body and core follow each other. It owns neither: both are the net's own modules.

    Args:
        specs: of the observation.
        body: settings of the body.
        config: settings of the core, but its kind.
        kind: of the core, as CoreConfig.core.
    Raises:
        UserError: memory before the body cannot see images.
    """

    def __init__(self, specs: tuple[TensorSpec, ...], body: BodyConfig, config: NetConfig, kind: str) -> None:
        self.core_first = config.core_place == "before" and kind != "identity"
        self.forgets = config.reset_state_on_done
        self.body: BodyModule
        self.core: Core
        if self.core_first:
            flat = next((spec for spec in specs if len(spec.shape) != 1), None)
            if flat is not None:
                raise UserError(
                    f"net.core_place is 'before', but the {flat.name} has shape {flat.shape}, and memory sees vectors "
                    "only: set it to 'after'."
                )
            self.core = make_core(kind, sum(spec.shape[0] for spec in specs), config)
            self.body = make_body((TensorSpec((self.core.features,)),), body)
            self.features = self.body.features
        else:
            self.body = make_body(specs, body)
            self.core = make_core(kind, self.body.features, config)
            self.features = self.core.features

    def step(self, normalized: Tree, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, ...]`, state `[N, S]`, first `[N]` bool -> features `[N, F]` and the state after."""
        if self.forgets and state.shape[-1]:
            state = state * ~first.unsqueeze(-1)
        if self.core_first:
            x, state = self.core.step(_joined(normalized), state)
            return self.body(x), state
        return self.core.step(self.body(normalized), state)

    def unroll(self, normalized: Tree, state: Tensor, first: Tensor, warm_up: int = 0) -> tuple[Tensor, Tensor]:
        """`[L, B, ...]`, state `[B, S]` before row 0, first `[L, B]` bool -> features `[L, B, F]`, states after each
        step `[L, B, S]`. No gradient goes back into the first `warm_up` steps."""
        if self.core_first:
            x, states = self._remember(_joined(normalized), state, first, warm_up)
            return self.body(x), states
        return self._remember(self.body(normalized), state, first, warm_up)

    def _remember(self, x: Tensor, state: Tensor, first: Tensor, warm_up: int) -> tuple[Tensor, Tensor]:
        if not self.forgets:
            first = torch.zeros_like(first)
        if not warm_up or not self.core.state_size:
            return self.core.unroll(x, state, first)
        past, before = (part.detach() for part in self.core.unroll(x[:warm_up], state, first[:warm_up]))
        x, states = self.core.unroll(x[warm_up:], before[-1], first[warm_up:])
        return torch.cat((past, x)), torch.cat((before, states))


def _joined(normalized: Tree) -> Tensor:
    """The parts of an observation, all of them vectors, side by side."""
    parts = leaves(normalized)
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)
