"""The contract that every environment fulfils, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from ppo_and_friends.types import Obs, Spec, Step


@runtime_checkable
class VecEnv(Protocol):
    """A batch of environments that takes and gives tensors, one entry a group.

    Rows that end are reset inside `step`: `Step.final` keeps what they saw last, `Step.obs` is the new start.
    """

    spec: Spec

    def reset(self, seed: int) -> tuple[Obs, ...]:
        """Start every row anew. Row i is seeded from (seed, i), so no two rows are alike."""
        ...

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        """Take one action a row: `[rows, columns]`, already in the action space's own units and bounds.

        Raises `EnvironmentFailure`, naming row, step and key, when an environment raises, returns a
        number that is not finite, or an observation of the wrong shape.
        """
        ...

    def state(self) -> dict[str, Any] | None:
        """All that exact resume needs, as tensors, plain numbers, text, dicts and lists; None if it cannot be had."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state` was taken."""
        ...

    def frame(self, row: int) -> np.ndarray:
        """A picture of one row, `[height, width, 3]` uint8. Only for environments made with `render=True`."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Scheduled(Protocol):
    """What a `VecEnv` offers too where something in it changes with the steps taken since the beginning of a run."""

    def elapse(self, steps: int) -> None:
        """Let the next reset begin after so many steps of each row; any other begins at 0."""
        ...


@runtime_checkable
class TensorMaths(Protocol):
    """What a `VecEnv` offers too whose steps, its simulator's calls apart, are functions of tensors."""

    def replace_maths(self, faster: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Put `faster(function)`, which does the same, in the place of each."""
        ...


@runtime_checkable
class EnvConfig(Protocol):
    """A frozen dataclass that says which environment, and makes it. Its fields are `--env.NAME` on the command line."""

    def make(self, rows: int, threads: int = 1, render: bool = False) -> VecEnv:
        """Build `rows` environments. Imports its libraries only here.

        Args:
            rows: environments on this rank.
            threads: cores this rank may use for simulation.
            render: whether `frame` will be called.
        Raises:
            UserError: a package is missing, or a setting is not one the environment takes.
        """
        ...
