"""What the environments of one rank have played of an evaluation, and have yet to play."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ppo_and_friends.errors import EnvironmentFailure
from ppo_and_friends.types import CONTINUES, Spec, Step


class Scores:
    """Counts episodes of environments, each with all its agents (row = environment, where there is one agent).

    An environment whose episode was cut for its length is set aside until it ends that episode by itself.
    When only such ones have episodes left to play, all are stuck and must be reset.
    """

    def __init__(self, spec: Spec, rank: int, ranks: int, episodes: int, longest: int) -> None:
        rows = spec.groups[0].environments
        first_row, all_rows = rank * rows, ranks * rows
        self.wanted = [len(range(first_row + row, episodes, all_rows)) for row in range(rows)]
        self.episodes: list[dict[str, Any]] = []
        self._learns = torch.tensor([group.learns for group in spec.groups for _ in group.agents])
        self._number = [first_row + row for row in range(rows)]  # of each row's present episode
        self._all_rows, self._longest, self._task = all_rows, longest, spec.task
        self.restart()

    @property
    def done(self) -> bool:
        return not any(self.wanted)

    @property
    def stuck(self) -> bool:
        """No row plays an episode that is wanted."""
        return not any(wanted and not aside for wanted, aside in zip(self.wanted, self._aside, strict=True))

    def restart(self) -> None:
        """All rows begin a new episode."""
        rows = len(self.wanted)
        self._returns = torch.zeros(rows, len(self._learns), dtype=torch.float64)  # of each agent
        self._lengths = torch.zeros(rows, dtype=torch.int64)
        self._absent = torch.zeros(rows, dtype=torch.int64)  # steps since a row was last active
        self._aside = [False] * rows

    def add(self, steps: Sequence[Step]) -> list[int]:
        """Count one step of all groups; the environments whose episodes ended or were cut with it.

        Raises EnvironmentFailure."""
        acted = self._agents([step.active for step in steps])
        rewards = self._agents([step.reward for step in steps]).double()
        active = acted.any(1)
        self._returns += torch.where(acted, rewards, 0.0)
        self._lengths += active
        self._refuse_absence(active)
        ends = self._agents([_ended(step) for step in steps]).all(1) & (self._lengths > 0)  # else it never began
        over = (ends | (self._lengths >= self._longest)).nonzero().flatten().tolist()
        for row in over:
            if self.wanted[row] and not self._aside[row]:
                self._record(row, steps, cut=not ends[row])
            self._aside[row] = not ends[row]
            if ends[row]:
                self._returns[row], self._lengths[row] = 0.0, 0
        return over

    def _agents(self, parts: list[Tensor]) -> Tensor:
        """`[environments, agents]` from the groups' rows."""
        return torch.cat([part.cpu().reshape(len(self.wanted), -1) for part in parts], 1)

    def _refuse_absence(self, active: Tensor) -> None:
        self._absent = (self._absent + 1).masked_fill_(active, 0)
        if self._absent.max() <= self._longest:
            return
        for row, (absent, wanted) in enumerate(zip(self._absent.tolist(), self.wanted, strict=True)):
            if wanted and not self._aside[row] and absent > self._longest:
                raise EnvironmentFailure(
                    f"{self._task}: row {row} was not active in any of {absent} steps of an evaluation: every start of "
                    "its fails at once, or it is absent."
                )

    def _record(self, row: int, steps: Sequence[Step], cut: bool) -> None:
        said: dict[str, list[float]] = {}
        for step in steps:
            for name, values in step.log.items():
                own = values.reshape(len(self.wanted), -1)[row].tolist()
                said.setdefault(name, []).extend(value for value in own if value == value)  # NaN: nothing was said
        returns = self._returns[row]
        self.episodes.append(
            {
                "number": self._number[row],
                "return": float(returns[self._learns].sum()),
                "agents": returns.tolist(),
                "length": int(self._lengths[row]),
                "cut": cut,
                "log": {name: sum(own) / len(own) for name, own in said.items() if own and name != CONTINUES},
            }
        )
        self._number[row] += self._all_rows
        self.wanted[row] -= 1


def _ended(step: Step) -> Tensor:
    ended = step.terminated | step.truncated
    return ended & (step.log[CONTINUES] != 1) if CONTINUES in step.log else ended
