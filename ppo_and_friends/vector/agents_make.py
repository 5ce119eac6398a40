"""Making one environment of several agents, whichever of three interfaces it has, as a PettingZoo ParallelEnv."""

from __future__ import annotations

import copy
import importlib
import inspect
import os
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled, DeprecatedEnv, UnregisteredEnv

from ppo_and_friends.errors import UserError
from ppo_and_friends.render import has_display
from ppo_and_friends.vector.gym_make import is_team, missing_package, unknown_id
from ppo_and_friends.vector.turns import TurnAgents


def make_agents(
    name: str, kwargs: dict[str, Any], factory: Callable[..., Any] | None = None, render: bool = False
) -> Any:
    """One environment with the methods of a ParallelEnv, from `factory`, from a module or from Gymnasium's registry.

    Raises:
        UserError: it cannot be made, a package is missing, it has one agent, or turns with actions other than Discrete.
    """
    if render and not has_display():
        os.environ.setdefault(
            "PYGLET_HEADLESS", "1"
        )  # read when pyglet is imported, which happens with a first picture
    try:
        env = _made(name, kwargs, factory, render)
    except UserError:
        raise
    except (UnregisteredEnv, DeprecatedEnv) as error:
        raise UserError(unknown_id(name, error)) from error
    except (ImportError, DependencyNotInstalled) as error:
        raise UserError(missing_package(name, error)) from error
    except Exception as error:
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise UserError(
            f"{name} raises {type(error).__name__} when made with {kwargs}: {reason}; correct env.id or env.kwargs."
        ) from error
    return _parallel(name, env)


def _made(name: str, kwargs: dict[str, Any], factory: Callable[..., Any] | None, render: bool) -> Any:
    settings = {**kwargs, "render_mode": "rgb_array"} if render else kwargs
    if factory is not None:
        return factory(**settings)
    module, colon, function = name.partition(":")
    importable = all(word.isidentifier() for word in module.split("."))  # CartPole-v1 is not
    if (
        name in gymnasium.registry
        or not importable
        or (colon and not hasattr(importlib.import_module(module), function))
    ):
        env = _registered(function or name, kwargs)
        return _registered(function or name, settings) if render and not _takes_mode(env) else env
    found = importlib.import_module(module)
    make = getattr(found, function, None) if colon else getattr(found, "parallel_env", getattr(found, "env", None))
    if make is None:
        raise UserError(
            f"{name} has neither parallel_env nor env: give env.id as MODULE, MODULE:FUNCTION or a Gymnasium id."
        )
    return make(**settings)


def _registered(name: str, settings: dict[str, Any]) -> Any:
    """By Gymnasium's registry; all settings reach the constructor, max_episode_steps too."""
    spec = copy.deepcopy(gymnasium.spec(name))
    spec.kwargs |= settings
    return gymnasium.make(spec, disable_env_checker=True)


def _parallel(name: str, env: Any) -> Any:
    if hasattr(env, "agent_iter"):
        env = _of_turns(name, env)
    if isinstance(env, gymnasium.Env) and is_team(env):
        return TupleAgents(env)
    if isinstance(env, gymnasium.Env) or not hasattr(env, "action_space"):
        space = getattr(env, "action_space", None)
        raise UserError(f"{name} has one agent, whose actions are {space}: use GymEnv, or -e gymnasium:ID.")
    if not getattr(env, "possible_agents", None):
        raise UserError(
            f"{name} does not say its possible_agents, so its rows cannot be counted: give it that attribute."
        )
    return env


def _of_turns(name: str, env: Any) -> Any:
    """An AEC environment; PettingZoo's own conversion is for those whose agents only seem to take turns."""
    if not env.metadata.get("is_parallelizable"):
        return TurnAgents(name, env)
    from pettingzoo.utils.conversions import aec_to_parallel

    return aec_to_parallel(env)


def _takes_mode(env: Any) -> bool:
    """Whether it draws as Gym's environments did once: `render(mode=...)`."""
    return "mode" in inspect.signature(env.unwrapped.render).parameters


class TupleAgents:
    """A Gymnasium environment with a tuple for each agent's part, as a ParallelEnv."""

    def __init__(self, env: Any) -> None:
        self.env, self.metadata = env, env.metadata
        self.possible_agents = [f"agent_{number}" for number in range(len(env.action_space))]
        self.agents: list[str] = []
        self._last: dict[str, Any] = {}
        self._nobody = dict.fromkeys(self.possible_agents, False)
        self._mode = {"mode": "rgb_array"} if _takes_mode(env) else {}
        if hasattr(env.unwrapped, "state") and hasattr(env.unwrapped, "state_space"):
            self.state, self.state_space = env.unwrapped.state, env.unwrapped.state_space

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return self.env.observation_space[self.possible_agents.index(agent)]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return self.env.action_space[self.possible_agents.index(agent)]

    def reset(self, seed: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        observations, info = self.env.reset(seed=seed)
        self.agents = self.possible_agents[:]
        return self._each(observations), self._infos(info)

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        # Those that are done go on with their last: the environment wants all.
        self._last = actions if len(actions) == len(self.possible_agents) else {**self._last, **actions}
        observations, rewards, terminated, truncated, info = self.env.step(tuple(self._last.values()))
        ends = self._flags(terminated), self._flags(truncated)
        if terminated is not False or truncated is not False:
            self.agents = [agent for agent in self.agents if not (ends[0][agent] or ends[1][agent])]
        infos = self._infos(info) if info else {}
        return self._each(observations), self._each(rewards), *ends, infos

    def _each(self, values: Any) -> dict[str, Any]:
        return dict(zip(self.possible_agents, values, strict=True))

    def _flags(self, flags: Any) -> dict[str, Any]:
        """One for each agent, of one for each agent or one for all."""
        if flags is False:
            return self._nobody
        return dict.fromkeys(self.possible_agents, flags) if np.ndim(flags) == 0 else self._each(flags)

    def _infos(self, info: Any) -> dict[str, Any]:
        if not isinstance(info, dict):
            return self._each(info)
        masks = info.get("action_mask")
        if masks is None:
            return dict.fromkeys(self.possible_agents, info)
        return {agent: {**info, "action_mask": mask} for agent, mask in self._each(masks).items()}

    def render(self) -> np.ndarray:
        return self.env.unwrapped.render(**self._mode)

    def close(self) -> None:
        self.env.close()
