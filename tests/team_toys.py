"""An environment of two groups whose every number is known: hunters go on for five steps, the prey for three."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppo_and_friends.types import ActionSpace, GroupSpec, Obs, Spec, Step, TensorSpec

LENGTH, LIFE = 5, 3


@dataclass(frozen=True)
class Hunt:
    """Two hunters earn 1 and 2 a step, one prey -1 and, for action 1, another -1."""

    prey_learns: bool = True

    def make(self, rows: int, threads: int = 1, render: bool = False) -> HuntVec:
        return HuntVec(self, rows)


class HuntVec:
    def __init__(self, config: Hunt, environments: int) -> None:
        part, action = (TensorSpec((2,)),), ActionSpace("discrete", (2,))
        hunters = GroupSpec(2 * environments, part, part, action, name="hunters", agents=("first", "second"))
        prey = GroupSpec(environments, part, part, action, name="prey", agents=("prey",), learns=config.prey_learns)
        self.spec = Spec((hunters, prey), "Hunt", "toy")
        self.clock = torch.zeros(environments, dtype=torch.int64)
        self.taken: list[tuple[Tensor, ...]] = []

    def _obs(self, agents: int) -> Obs:
        clock = self.clock.repeat_interleave(agents).float()
        seen = torch.stack((clock, torch.ones_like(clock)), 1)
        return Obs(seen, seen, torch.zeros(len(seen), 0, dtype=torch.bool))

    def reset(self, seed: int) -> tuple[Obs, ...]:
        self.clock = torch.arange(len(self.clock)) % LIFE  # environments out of step with each other
        return self._obs(2), self._obs(1)

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        self.taken.append(tuple(action.clone() for action in actions))
        alive = self.clock < LIFE
        self.clock += 1
        ended, finals = self.clock == LENGTH, (self._obs(2), self._obs(1))
        dies = ended | (self.clock == LIFE)
        self.clock[ended] = 0
        of_two = ended.repeat_interleave(2)
        paid = torch.tensor([1.0, 2.0]).repeat(len(ended))
        hunters = Step(self._obs(2), finals[0], paid, of_two, ~of_two & False, ~of_two | True, {})
        prey = Step(self._obs(1), finals[1], -1.0 - actions[1][:, 0], dies, dies & False, alive, {})
        return hunters, prey

    def state(self) -> dict[str, Any]:
        return {"clock": self.clock.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.clock.copy_(state["clock"])

    def frame(self, row: int) -> np.ndarray:
        return np.full((4, 4, 3), row, np.uint8)

    def close(self) -> None: ...
