"""Environments that hold their batch as tensors on a device already: Isaac Lab, mjlab, IsaacGymEnvs, rsl_rl.

Observations, rewards and flags of a `Step` are the environment's own tensors wherever they have the right type, and
nothing is read by the host. Two copies are made on purpose: of the actions, because an environment may keep those it
is given and the caller may write the next ones into the same place; and of each observation, because the environment
may overwrite it, and it may be needed one step later.

**Where an episode ends.** Most environments reset a row in the very step that ended it: its observation is the next
episode's start, and the last one of the old episode is lost. `Step.final` is then what the extras have as `final_obs`
or `final_observation`, as a batch of tensors; without it, the observation that the action was taken in. That is also
where rsl_rl and rl_games take the value of a time-out.
Others (IsaacGymEnvs, Gymnasium's NEXT_STEP) reset with the next step: `Step.obs` and `Step.final` are the true last
observation, and the step that follows belongs to no episode, because its action was chosen for a state that is gone.
It is marked inactive, so its reward counts nowhere: returns are lower by about one step's reward than what rl_games
reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ppo_and_friends.devices import own_gpu
from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.types import GroupSpec, Obs, Spec, Step, TensorSpec, Tree, tree_map
from ppo_and_friends.vector.tensor_interfaces import Answer, Interface, action_space, owner, recognize

Groups = tuple[str, ...]
Path = tuple[str, ...]  # the keys that lead to one tensor of an observation; none where it is a tensor itself

ACTOR = ("policy", "actor", "obs")
CRITIC = ("critic", "states")
FINAL = ("final_obs", "final_observation")


@dataclass(frozen=True)
class TensorEnv:
    """Any environment with one of the interfaces of `tensor_interfaces`: `TensorEnv(factory=make_mine)`.

    factory    called with (rows, device, **kwargs), and render_mode="rgb_array" where frames are wanted; gives the
               environment. `device` is text: "cuda:0" or "cpu"
    interface  auto asks the object which it has
    kwargs     given to the factory
    device     auto is this rank's GPU, or the CPU where torch sees none
    actor      groups of a dict observation that the actor sees; empty for policy, actor or obs, whichever is there
    critic     the same for the critic; empty for critic or states, and the actor's where there is neither
    name       for messages; empty for the class of the environment
    """

    factory: Callable[..., Any]
    interface: Literal["auto", "isaacgym", "rsl_rl", "gymnasium"] = "auto"
    kwargs: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    actor: Groups = ()
    critic: Groups = ()
    name: str = ""

    def make(self, rows: int, threads: int = 1, render: bool = False) -> TensorVec:
        """Build `rows` environments; `threads` means nothing here.

        Raises:
            UserError: the factory raises, or what it gives has none of the interfaces, other rows, or no tensors.
        """
        device = str(own_gpu()) if self.device == "auto" else self.device
        settings = {**self.kwargs, "render_mode": "rgb_array"} if render else self.kwargs
        name = self.name or getattr(self.factory, "__name__", "The environment")
        try:
            env = self.factory(rows, device, **settings)
        except UserError:
            raise
        except ImportError as error:
            raise UserError(f"{name} needs a package that this Python cannot import ({error}): install it.") from error
        except Exception as error:
            raise UserError(
                f"{name} raises {type(error).__name__} when made for {rows} rows on {device} with {settings}: {error}"
            ) from error
        return TensorVec(recognize(env, self.interface, name), rows, self.name, self.actor, self.critic)


class TensorVec:
    """A `VecEnv` of one group over any of the interfaces. It cannot give its state: resumed rows start anew.

    Raises:
        UserError: it has other rows than asked for, gives no tensors, or lacks a group that was named.
    """

    def __init__(self, inner: Interface, rows: int, name: str = "", actor: Groups = (), critic: Groups = ()) -> None:
        base = getattr(inner.env, "unwrapped", inner.env)
        self.inner, self.rows, self.name = inner, rows, name or type(base).__name__
        made = owner(inner.env, "num_envs").num_envs
        if made != rows:
            raise UserError(f"{self.name} has {made} rows where {rows} were asked for: pass them on in the factory.")
        obs = inner.look()
        actor_paths = _choose(obs, actor, ACTOR, self.name)
        critic_paths = _choose(obs, critic, CRITIC, self.name, actor_paths)
        self._actor = tuple(_Part.of(obs, path, rows, self.name) for path in actor_paths)
        self._critic = tuple(_Part.of(obs, path, rows, self.name) for path in critic_paths)
        self._symmetric = critic_paths == actor_paths
        device = _at(obs, actor_paths[0]).device
        actor_spec, critic_spec = (tuple(part.spec for part in parts) for parts in (self._actor, self._critic))
        action = action_space(inner.space, self.name)
        group = GroupSpec(rows, actor_spec, critic_spec, action, symmetric=self._symmetric)
        engine = f"{type(base).__module__.partition('.')[0]}'s own tensors"
        pace = float((getattr(base, "metadata", None) or {}).get("render_fps") or Spec.steps_per_second)
        self.spec = Spec((group,), self.name, engine, device, steps_per_second=pace)
        # Added to actions, which copies them: the environment never holds the caller's tensor.
        self._first_action = torch.as_tensor(getattr(inner.space, "start", 0), device=device)
        self._action_shape = (rows, *inner.space.shape)
        self._mask = torch.ones(rows, 0, dtype=torch.bool, device=device)
        self._active = self._everyone = torch.ones(rows, dtype=torch.bool, device=device)
        self._before = _map(torch.clone, self._read(obs))  # what the next action is taken in
        self._steps = 0

    def reset(self, seed: int) -> tuple[Obs, ...]:
        with self._blamed("reset"):
            observation, waits = self.inner.reset(seed)
            obs = self._read(observation)
        self._active = self._everyone if waits is None else ~waits
        _map(Tensor.copy_, self._before, obs)
        return (obs,)

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        with self._blamed("step"):
            answer = self._take((actions[0] + self._first_action).view(self._action_shape))
            obs, last = self._read(answer.obs), self._last(answer.extras)
        self._steps += 1
        active, restarted = self._active, answer.terminated | answer.truncated
        ends = answer.terminated, answer.truncated
        if answer.waits is not None:
            ends = answer.terminated & active, answer.truncated & active  # a step of no episode ends none
            restarted, self._active = restarted & ~answer.waits, ~answer.waits
        final = _map(lambda before, now: torch.where(_like(restarted, now), before, now), last, obs)
        _map(Tensor.copy_, self._before, obs)
        log = dict(self._log(answer.extras))
        return (Step(obs, final, answer.reward.float(), *ends, active, log),)

    def state(self) -> None:
        return None

    def load_state(self, state: dict[str, Any]) -> None:
        raise UserError(f"{self.name} cannot go on from a saved state: its rows start anew.")

    def frame(self, row: int) -> np.ndarray:
        """The environment's own picture, `[height, width, 3]` uint8; the same for all rows where it draws only one."""
        picture = self.inner.env.render()
        if picture is None:
            raise UserError(f"{self.name} draws nothing: let its factory pass render_mode on.")
        array = picture.cpu().numpy() if isinstance(picture, Tensor) else np.asarray(picture)
        return array[row] if array.ndim == 4 else array

    def close(self) -> None:
        if hasattr(self.inner.env, "close"):
            self.inner.env.close()

    @contextmanager
    def _blamed(self, what: str) -> Iterator[None]:
        """Whatever is raised inside is the environment's failure."""
        try:
            yield
        except EnvironmentFailure:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise EnvironmentFailure(f"{self.name}: {what} raised {reason} (after {self._steps} steps).") from error

    def _take(self, actions: Tensor) -> Answer:
        values = self.inner.env.step(actions)
        if len(values) != self.inner.count:
            raise EnvironmentFailure(
                f"{self.name}: step gave {len(values)} values where its interface gives {self.inner.count}."
            )
        answer = self.inner.read(values)
        for name in ("reward", "terminated", "truncated"):
            _check(getattr(answer, name), (self.rows,), f"{self.name}: {name}")
        return answer

    def _read(self, obs: Any) -> Obs:
        actor = self._tree(obs, self._actor)
        return Obs(actor, actor if self._symmetric else self._tree(obs, self._critic), self._mask)

    def _tree(self, obs: Any, parts: tuple[_Part, ...]) -> Tree:
        first, *others = (part.read(obs, self.name) for part in parts)
        return (first, *others) if others else first

    def _last(self, extras: Any) -> Obs:
        """The last observations of the episodes that ended; meaningless in other rows."""
        for name in FINAL:
            if name in extras and (isinstance(extras[name], Tensor) or hasattr(extras[name], "keys")):
                return self._read(extras[name])
        return self._before

    def _log(self, extras: Any) -> Iterator[tuple[str, Tensor]]:
        """Numbers of the extras, and of what they have as "episode" and "log": of each row, or one for all."""
        for source in (extras, extras.get("episode"), extras.get("log")):
            for name, value in source.items() if hasattr(source, "items") else ():
                if type(value) in (int, float):
                    yield name, torch.full((), float(value), device=self.spec.device).expand(self.rows)
                elif isinstance(value, Tensor) and name != "time_outs" and self._fits(value):
                    yield name, value.float().reshape(-1).expand(self.rows)

    def _fits(self, value: Tensor) -> bool:
        return value.device == self.spec.device and (value.numel() == 1 or value.shape == (self.rows,))


@dataclass(frozen=True)
class _Part:
    """One tensor of an observation."""

    path: Path
    shape: tuple[int, ...]  # as the environment gives it, rows first
    spec: TensorSpec

    @staticmethod
    def of(obs: Any, path: Path, rows: int, name: str) -> _Part:
        value = _at(obs, path)
        if not isinstance(value, Tensor):
            raise UserError(
                f"{name} observes a {type(value).__name__}, but tensors are needed: wrap it "
                "(gymnasium.wrappers.vector.NumpyToTorch), or use GymEnv for environments that are made one by one."
            )
        _, *shape = value.shape
        image = len(shape) == 3
        if image and shape[2] < min(shape[:2]):
            shape = [shape[2], *shape[:2]]
        dtype = torch.uint8 if image and value.dtype == torch.uint8 else torch.float32
        return _Part(path, (rows, *value.shape[1:]), TensorSpec(tuple(shape), dtype, ".".join(path) or "observation"))

    def read(self, obs: Any, name: str) -> Tensor:
        """This part of an observation, `[N, *spec.shape]`: the very tensor where it has the right type."""
        value = _at(obs, self.path)
        _check(value, self.shape, f"{name}: {self.spec.name}")
        if self.shape[1:] != self.spec.shape:
            value = value.permute(0, 3, 1, 2)  # channels first
        return value.to(self.spec.dtype)


def _choose(obs: Any, asked: Groups, known: Groups, name: str, otherwise: tuple[Path, ...] = ()) -> tuple[Path, ...]:
    """The paths of the groups asked for, of the first known one, of `otherwise`, or of the only one there is."""
    keys = list(obs.keys()) if hasattr(obs, "keys") else []
    if missing := [group for group in asked if group not in keys]:
        raise UserError(f"{name} has no observation group '{missing[0]}': it has {', '.join(keys) or 'none'}.")
    groups = asked or tuple(group for group in known if group in keys)[:1]
    if not groups and (otherwise or not keys):
        return otherwise or ((),)
    if not groups and len(keys) > 1:
        raise UserError(f"{name} has the observation groups {', '.join(keys)}: say which the actor sees (env.actor).")
    return tuple(path for group in groups or keys for path in _paths(obs[group], (group,)))


def _paths(value: Any, path: Path) -> Iterator[Path]:
    if not hasattr(value, "keys"):
        yield path
        return
    for key in value.keys():  # noqa: SIM118 - a TensorDict iterates over its rows
        yield from _paths(value[key], (*path, key))


def _at(obs: Any, path: Path) -> Any:
    for key in path:
        obs = obs[key]
    return obs


def _check(value: Any, shape: tuple[int, ...], what: str) -> None:
    if not isinstance(value, Tensor) or value.shape != shape:
        got = list(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise EnvironmentFailure(f"{what} is {got}, but must be a tensor of shape {list(shape)}.")


def _map(function: Callable[..., Tensor], obs: Obs, *others: Obs) -> Obs:
    actor = tree_map(function, obs.actor, *(other.actor for other in others))
    if obs.critic is obs.actor:
        return Obs(actor, actor, obs.mask)
    return Obs(actor, tree_map(function, obs.critic, *(other.critic for other in others)), obs.mask)


def _like(rows: Tensor, part: Tensor) -> Tensor:
    """`[N]` with as many axes as `part`."""
    return rows.view(-1, *[1] * (part.dim() - 1))
