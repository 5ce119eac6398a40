"""Gymnasium environments in batch: in this process, or in worker processes where their Python is slow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Dict
from torch import Tensor

from ppo_and_friends.errors import UserError
from ppo_and_friends.types import GroupSpec, Obs, Spec, Step, Tree, Views, as_tree
from ppo_and_friends.vector.gym_masks import MASK, flat_flags, without_mask
from ppo_and_friends.vector.spaces import Layout


@dataclass(frozen=True)
class GymEnv:
    """Any Gymnasium environment.

    id                 a registered id ("CartPole-v1", "my_module:Mine-v0"); with `factory`, a name for messages
    kwargs             given to the environment's constructor
    workers            0 steps all rows in this process; K > 0 deals them out to at most K processes, whose messages
                       cost some tenths of a millisecond a step: it pays where all rows together take much longer
    max_episode_steps  a time limit in place of the registered one
    factory            called with `kwargs` (and render_mode="rgb_array" where frames are wanted) in place of
                       gymnasium.make: for environments that are wrapped, or not registered
    privileged         entries of a Dict observation that the critic sees and the policy does not (arXiv:1710.06542)
    """

    id: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    workers: int = 0
    max_episode_steps: int | None = None
    factory: Callable[..., Any] | None = None
    privileged: tuple[str, ...] = ()

    def make(self, rows: int, threads: int = 1, render: bool = False) -> GymVec:
        """Build `rows` environments; `threads` means nothing here, because Python steps one at a time.

        Raises:
            UserError: an unknown id, a missing package, settings or spaces that cannot be used.
            EnvironmentFailure: the first reset raises.
        """
        from ppo_and_friends.vector.gym_make import check_id, make_environment
        from ppo_and_friends.vector.gym_rows import Interface, Rows
        from ppo_and_friends.vector.gym_views import views_of
        from ppo_and_friends.vector.gym_workers import Workers

        if self.workers < 0:
            raise UserError(f"env.workers is {self.workers}; give 0 for this process, or the number of processes.")
        check_id(self.id, "GymEnv")
        if isinstance(self.privileged, str):  # each of its letters would be taken for a name
            raise UserError(f"env.privileged is the text {self.privileged!r}: give a tuple, ({self.privileged!r},).")

        build = partial(make_environment, self.id, self.kwargs, self.max_episode_steps, self.factory, render)
        first = build()
        interface = Interface.of(self.id, first, self.privileged)
        views = views_of(first, self.id, interface.layout)
        if self.workers == 0:
            envs = [first, *(build() for _ in range(rows - 1))]
            return GymVec(Rows(interface, envs), rows, "gymnasium in process", views)
        first.close()
        workers = Workers(interface, build, (self.factory,), rows, self.workers)
        return GymVec(workers, rows, f"gymnasium, {workers.processes} worker processes", views)


class GymVec:
    """A `VecEnv` of one group over `Rows` or `Workers`.

    Tensors share the memory of the arrays that those write, so a step allocates nothing here.
    """

    def __init__(self, backend: Any, rows: int, engine: str, views: Views | None = None) -> None:
        interface = backend.interface
        layout, action = interface.layout, interface.actions.spec()
        seen, parts = (tuple(part.spec() for part in shown.parts) for shown in (layout.seen, layout))
        group = GroupSpec(rows, seen, parts, action, interface.mask, symmetric=layout.seen is layout, views=views)
        self.spec = Spec((group,), interface.name, engine, steps_per_second=interface.steps_per_second)
        self._backend, self._wanted = backend, (rows, interface.actions.columns)
        self._log: dict[str, Tensor] = {}
        tensors = {key: torch.from_numpy(array) for key, array in backend.buffers.items()}
        self._obs = _observation(tensors, "obs", layout, "mask")
        facts = tensors["reward"], tensors["terminated"], tensors["truncated"], torch.ones(rows, dtype=torch.bool)
        final = _observation(tensors, "final", layout, "final_mask")
        self._plain = Step(self._obs, self._obs, *facts, self._log)
        self._cut = Step(self._obs, final, *facts, self._log)

    def reset(self, seed: int) -> tuple[Obs, ...]:
        self._backend.reset(seed)
        return (self._obs,)

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        if actions[0].shape != self._wanted:  # fewer would be broadcast to the processes' rows
            raise ValueError(f"{self.spec.task} needs actions {list(self._wanted)}, not {list(actions[0].shape)}")
        cut = self._backend.step(actions[0].numpy())
        if len(self._log) != len(self._backend.log):
            self._log.update({key: torch.from_numpy(column) for key, column in self._backend.log.items()})
        return (self._cut if cut else self._plain,)

    def legal(self, observation: Any) -> Tensor | None:
        """The flags `[1, K]` that come inside an observation; None where there are none."""
        if not self.spec.groups[0].mask or not isinstance(observation, dict) or MASK not in observation:
            return None
        return torch.from_numpy(flat_flags(observation[MASK]) != 0).unsqueeze(0)

    def encode(self, observation: Any) -> tuple[Tree, bool]:
        """An observation as Gymnasium gives it, or a batch of them with one more leading axis (spaces without
        parts only), as tensors `[B, ...]`; and whether it was a batch."""
        whole = self._backend.interface.layout
        layout = whole.seen
        if isinstance(layout.space, Dict):
            _check_is_dict(observation, layout.space, self.spec.task)
        if layout is not whole:  # the flags are no part of what is seen either
            observation = {name: value for name, value in observation.items() if name in layout.space.spaces}
        elif self.legal(observation) is not None:
            observation = without_mask(observation)
        batched = layout.space.shape is not None and np.ndim(observation) > len(layout.space.shape)
        values = list(observation) if batched else [observation]
        arrays = [np.zeros((len(values), *part.shape), part.dtype) for part in layout.parts]
        write = layout.writer(arrays)
        try:
            for row, value in enumerate(values):
                write(row, value)
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"This is no observation of {self.spec.task}: {error}.") from error
        first, *others = (torch.from_numpy(array) for array in arrays)
        return ((first, *others) if others else first), batched

    def decode(self, actions: np.ndarray) -> list[Any]:
        """Each row of `[B, columns]` as its environment takes it."""
        return self._backend.interface.actions.decode(actions)

    def state(self) -> dict[str, Any] | None:
        return self._backend.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self._backend.load_state(state)

    def frame(self, row: int) -> np.ndarray:
        return self._backend.frame(row)

    def close(self) -> None:
        self._backend.close()


def _check_is_dict(observation: Any, space: Dict, environment: str) -> None:
    if not isinstance(observation, dict):
        raise UserError(
            f"{environment} observes a Dict of {', '.join(space.spaces)}, but this observation is a "
            f"{type(observation).__name__}: give a dict, one at a time."
        )


def _observation(tensors: dict[str, Tensor], kind: str, layout: Layout, mask: str) -> Obs:
    critic = [tensors[f"{kind}{index}"] for index in range(len(layout.parts))]
    if layout.seen is layout:
        tree = as_tree(critic)
        return Obs(tree, tree, tensors[mask])
    # What the policy sees comes first, among the columns and among the images.
    columns, images = ([part for part in critic if (part.dim() == 2) == flat] for flat in (True, False))
    widths = [part.shape[0] for part in layout.seen.parts if len(part.shape) == 1]
    actor = [part[:, :width] for part, width in zip(columns, widths, strict=False)]
    return Obs(as_tree(actor + images[: len(layout.seen.parts) - len(widths)]), as_tree(critic), tensors[mask])
