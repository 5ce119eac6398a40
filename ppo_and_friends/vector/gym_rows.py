"""The loop over Gymnasium environments: steps them one after the other and writes into arrays that are allocated once.

No torch here: worker processes run this file too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.vector.gym_make import picture, refuse_team
from ppo_and_friends.vector.gym_masks import MASK, without_choice, write_flags
from ppo_and_friends.vector.spaces import Actions, Layout, Part

CONTINUES = "episode_continues"  # as in types.py, which imports torch
NON_TERMINAL = "non-terminal done"

Buffers = dict[str, np.ndarray]


@dataclass(frozen=True)
class Interface:
    """What one environment takes and gives: all that is known before the first step."""

    name: str
    layout: Layout
    actions: Actions
    mask: int = 0  # K legal-action flags; 0 when the environment reports none
    steps_per_second: float = 30.0

    @classmethod
    def of(cls, name: str, env: gymnasium.Env[Any, Any], privileged: tuple[str, ...] = ()) -> Interface:
        """Read the spaces, and reset once to see whether legal actions are reported.

        Raises:
            UserError: a space of a kind that is not supported, or several agents.
            EnvironmentFailure: the reset raises.
        """
        refuse_team(name, env)
        layout, actions = Layout(env.observation_space, name, privileged), Actions(env.action_space, name)
        try:
            _, info = env.reset(seed=0)
        except Exception as error:
            raise EnvironmentFailure(f"{name} failed in its first reset: {_text(error)}.") from error
        reports = MASK in info or env.has_wrapper_attr("action_masks")
        if reports and not actions.sizes:
            raise UserError(
                f"{name} reports an {MASK}, but its actions {env.action_space} have no choices to forbid: report none, "
                "or make them Discrete or MultiDiscrete."
            )
        pace = float(env.metadata.get("render_fps") or cls.steps_per_second)
        return cls(name, layout, actions, sum(actions.sizes) if reports else 0, pace)

    def buffers(self, rows: int) -> Buffers:
        """Zeros for `rows` rows: obs0, obs1, ..., final0, ... (one a part), reward, terminated, truncated, masks."""
        made: Buffers = {}
        for kind in ("obs", "final"):
            for index, part in enumerate(self.layout.parts):
                made[f"{kind}{index}"] = np.zeros((rows, *part.shape), part.dtype)
        made["reward"] = np.zeros(rows, np.float32)
        made["terminated"], made["truncated"] = np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
        made["mask"], made["final_mask"] = np.ones((rows, self.mask), np.bool_), np.ones((rows, self.mask), np.bool_)
        return made


def row_seed(seed: int, row: int) -> int:
    """The seed of one row: 31 bits, because some simulators keep it in a signed 32-bit integer."""
    return int(np.random.SeedSequence((seed, row)).generate_state(1)[0] >> 1)


def log_default(key: str) -> float:
    """What a row that says nothing of `key` has in the log."""
    return 0.0 if key == CONTINUES else float("nan")


def not_finite(
    floats: list[np.ndarray], parts: Sequence[Part], observed: list[np.ndarray], reward: np.ndarray
) -> tuple[int, str] | None:
    """The row of the first number that is not finite, and what to say.

    `floats` are those of `observed` and `reward` that can be so, flat. A sum of squares is the cheapest witness; it may
    only overflow.
    """
    for flat in floats:
        if not math.isfinite(flat.dot(flat)):
            break
    else:
        return None
    for part, array in zip(parts, observed, strict=True):
        if not np.isfinite(array).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            return where[0], f"{part.spec().key_of(where[1])} is not finite ({array[where]} at {list(where[1:])})"
    row = int(np.argmin(np.isfinite(reward)))
    return None if np.isfinite(reward[row]) else (row, f"reward is not finite ({reward[row]})")


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


class Rows:
    """Environments stepped in this process.

    Args:
        interface: what one environment takes and gives.
        envs: the environments.
        first: the number of the first row among all rows, for seeds and messages.
        slots: rows of the arrays, at least as many as environments; those left over stay as they are.
    """

    def __init__(
        self, interface: Interface, envs: list[gymnasium.Env[Any, Any]], first: int = 0, slots: int | None = None
    ) -> None:
        self.interface, self.envs, self.first = interface, envs, first
        self.buffers = interface.buffers(slots or len(envs))
        self.log: dict[str, np.ndarray] = {}
        self.clock = 0
        self.started = [0] * len(envs)  # the clock at each row's last reset
        parts = range(len(interface.layout.parts))
        self._obs = [self.buffers[f"obs{index}"] for index in parts]
        self._final = [self.buffers[f"final{index}"] for index in parts]
        self._write = interface.layout.writer(self._obs)
        self._floats = [array.reshape(-1) for array in (*self._obs, self.buffers["reward"]) if array.dtype != np.uint8]
        self._cut: list[int] = []
        self._legal = [_mask_reader(env) for env in envs] if interface.mask else []
        sizes = interface.actions.sizes
        self._columns = np.cumsum(sizes) - np.asarray(sizes)  # where each action column's flags begin

    def reset(self, seed: int) -> None:
        """Start every row anew, row i seeded from (seed, i)."""
        self.clock = 0
        for row, env in enumerate(self.envs):
            number = row_seed(seed, self.first + row)
            env.action_space.seed(number)
            self._reset_row(row, number)
        self._check()
        self._check_mask()

    def step(self, actions: np.ndarray) -> bool:
        """Step every row with `[rows, columns]` actions; True when a row was cut (only then is `final` written)."""
        self.clock += 1
        write, rewards = self._write, self.buffers["reward"]
        self.buffers["terminated"].fill(False)
        self.buffers["truncated"].fill(False)
        for key, column in self.log.items():
            column.fill(log_default(key))
        self._cut.clear()
        row = 0
        try:
            for row, (env, action) in enumerate(zip(self.envs, self.interface.actions.decode(actions), strict=True)):
                observation, reward, terminated, truncated, info = env.step(action)
                write(row, observation)
                rewards[row] = reward
                if terminated or truncated or info:
                    self._note(row, bool(terminated), bool(truncated), info)
                if self._legal:
                    self._write_mask(row, info)
        except Exception as error:
            raise self.failure(row, _text(error)) from error
        self._check()
        if self._cut:
            self._restart()
        else:
            self._check_mask()
        return bool(self._cut)

    def _note(self, row: int, terminated: bool, truncated: bool, info: dict[str, Any]) -> None:
        """Ends and named numbers of one row."""
        if terminated or truncated:
            self._cut.append(row)
        if MASK in info and not self._legal:
            raise ValueError(f"step reports an {MASK}, but the first reset reported none: report one there too")
        if info.get(NON_TERMINAL, False):
            if not (terminated or truncated):
                self._log(row, CONTINUES, 1.0)
            terminated, truncated = False, True
        self.buffers["terminated"][row] = terminated
        self.buffers["truncated"][row] = truncated
        for key, value in info.items():
            if isinstance(value, float | int | np.number | np.bool_) and key != NON_TERMINAL:
                self._log(row, str(key), float(value))

    def _log(self, row: int, key: str, value: float) -> None:
        if key not in self.log:
            self.log[key] = np.full(len(self.buffers["reward"]), log_default(key), np.float32)
        self.log[key][row] = value

    def _restart(self) -> None:
        """Keep the last observations, then reset the rows that ended."""
        for final, obs in zip(self._final, self._obs, strict=True):
            np.copyto(final, obs)
        np.copyto(self.buffers["final_mask"], self.buffers["mask"])
        for row in self._cut:
            self._reset_row(row)
        self._check()
        self._check_mask()

    def _reset_row(self, row: int, seed: int | None = None) -> None:
        env, self.started[row] = self.envs[row], self.clock
        try:
            observation, info = env.reset() if seed is None else env.reset(seed=seed)
            self._write(row, observation)
            if self._legal:
                self._write_mask(row, info)
        except Exception as error:
            raise self.failure(row, _text(error)) from error

    def _write_mask(self, row: int, info: dict[str, Any]) -> None:
        write_flags(self.buffers["mask"], row, self._legal[row](info))

    def _check_mask(self) -> None:
        if self._legal and (fault := without_choice(self.buffers["mask"], self._columns)):
            raise self.failure(*fault)

    def _check(self) -> None:
        if fault := not_finite(self._floats, self.interface.layout.parts, self._obs, self.buffers["reward"]):
            raise self.failure(*fault)

    def failure(self, row: int, what: str) -> EnvironmentFailure:
        step = self.clock - self.started[row]
        where = f"{self.interface.name}, row {self.first + row}, step {step} of its episode"
        return EnvironmentFailure(f"{where}: {what}.")

    def state(self) -> dict[str, Any] | None:
        """Everything the next steps depend on; None where one environment holds something that cannot be saved."""
        from ppo_and_friends.vector import gym_state

        try:
            envs = [gym_state.save(env) for env in self.envs]
        except gym_state.CannotSave:
            return None
        return {"clock": self.clock, "started": list(self.started), "envs": envs}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, with as many rows.

        Raises:
            UserError: the state is of other rows or of another environment.
        """
        from ppo_and_friends.vector import gym_state

        if len(state["envs"]) != len(self.envs):
            raise UserError(
                f"The saved state has {len(state['envs'])} rows of {self.interface.name}, not {len(self.envs)}."
            )
        self.clock, self.started = state["clock"], list(state["started"])
        for env, saved in zip(self.envs, state["envs"], strict=True):
            gym_state.load(env, saved)

    def frame(self, row: int) -> np.ndarray:
        return picture(self.interface.name, self.envs[row])

    def close(self) -> None:
        for env in self.envs:
            env.close()


def _mask_reader(env: gymnasium.Env[Any, Any]) -> Callable[[dict[str, Any]], Any]:
    """How one environment tells its legal actions: a method, or an entry of info."""
    if env.has_wrapper_attr("action_masks"):
        method = env.get_wrapper_attr("action_masks")
        return lambda info: method()
    return lambda info: info.get(MASK)
