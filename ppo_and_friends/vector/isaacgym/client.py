"""Isaac Gym (Preview 4) as a `VecEnv`: its tasks run in a process of their own, under its own old Python.

Isaac Gym's environments (isaacgymenvs/tasks/base/vec_task.py) flag an end in step t, with the true last observation,
and reset the row within step t + 1, whose action was chosen from that last observation and does nothing (or, where
the reset comes before the simulation, acts on a start that the policy never saw). That step t + 1 belongs to no
episode: its `active` is False, and the start that it shows is the next episode's first observation. So an episode has
one step less than the task's own count, its return lacks the reward of the joint step, and no transition leads from an
end to a start.

Tasks that reset within step t itself have no last observation. There the one before it stands for it: what a time-out
is bootstrapped from, as rl_games does everywhere (`value_bootstrap`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ppo_and_friends.devices import own_gpu
from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.types import ActionSpace, GroupSpec, Obs, Spec, Step, TensorSpec
from ppo_and_friends.vector.isaacgym.memory import share
from ppo_and_friends.vector.isaacgym.process import ServerProcess, interpreter

IMMEDIATE = ("AnymalTerrain",)  # of isaacgymenvs' tasks, those that reset within the step that ends


@dataclass(frozen=True)
class IsaacGymEnv:
    """`EnvConfig` of a task of isaacgymenvs, or of a package of the same form."""

    task: str = "Ant"
    """A file of isaacgymenvs/cfg/task, without its ending."""
    python: str = ""
    """The interpreter that isaacgym and isaacgymenvs are installed in."""
    device: str = "auto"
    """Where it is simulated: cpu, cuda:N, or auto: this rank's GPU, or the CPU where torch sees none."""
    overrides: tuple[str, ...] = ()
    """More settings of isaacgymenvs, as its train.py takes them: task.env.episodeLength=500."""
    resets: Literal["auto", "lagged", "immediate"] = "auto"
    """Whether a row that ends is reset one step later, as in most tasks, or at once; auto knows isaacgymenvs' own."""

    def make(self, rows: int, threads: int = 1, render: bool = False) -> IsaacGymVec:
        """Start a server with `rows` environments. See `EnvConfig.make`.

        Raises:
            UserError: no interpreter, an installation that lacks something, an unknown task or device.
            EnvironmentFailure: the server failed for a reason that is not known here.
        """
        return IsaacGymVec(self, rows, threads, render)

    @property
    def immediate(self) -> bool:
        return self.resets == "immediate" or (self.resets == "auto" and self.task in IMMEDIATE)

    def where(self) -> torch.device:
        """The device, with its index.

        Raises:
            UserError: there is no such device.
        """
        if self.device == "auto":
            return own_gpu()
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        try:
            device = torch.device(self.device)
        except RuntimeError:
            device = torch.device("meta")
        if device.type not in ("cpu", "cuda"):
            raise UserError(f"env.device is '{self.device}', but must be auto, cpu or cuda:N.")
        if device.type == "cuda" and (device.index or 0) >= gpus:
            raise UserError(f"env.device is '{self.device}', but torch {torch.__version__} sees {gpus} GPUs here.")
        return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


class IsaacGymVec:
    """`VecEnv` of one group over a server. Observations and rewards are the memory that the server writes to."""

    def __init__(self, config: IsaacGymEnv, rows: int, threads: int, render: bool) -> None:
        device = config.where()
        self._immediate, self._taken = config.immediate, 0
        self._server = ServerProcess(interpreter(config.python), config.task)
        order = {"task": config.task, "rows": rows, "device": str(device), "threads": threads}
        order |= {"overrides": list(config.overrides), "immediate": self._immediate, "render": render}
        told = self._server.ask(order, starting=True)
        shared = share(self._server, device, told["bytes"], told["fields"])
        self._actions, self._rewards = shared["actions"], shared["rewards"]
        self._resets, self._time_outs = shared["resets"], shared["time_outs"]
        self._log = {name: shared["log"][index] for index, name in enumerate(told["log"])}
        self._parts = (shared["observations"], shared["states"]) if "states" in shared else (shared["observations"],)
        self._mask = torch.zeros(rows, 0, dtype=torch.bool, device=device)
        self._obs = Obs(self._parts[0], self._parts[-1], self._mask)
        self._joint = torch.zeros(rows, dtype=torch.bool, device=device)  # rows whose next step belongs to no episode
        specs = [(TensorSpec((part.shape[1],)),) for part in self._parts]
        space = ActionSpace("box", low=tuple(told["low"]), high=tuple(told["high"]))
        group = GroupSpec(rows, specs[0], specs[-1], space, symmetric=len(specs) == 1)
        engine = f"Isaac Gym under Python {self._server.python_version}"
        self.spec = Spec((group,), f"{config.task} (isaacgymenvs)", engine, device)

    def reset(self, seed: int) -> tuple[Obs, ...]:
        """Start every row anew. The rows share one generator of the simulation's, seeded with `seed`.

        Where a task resets rows before it simulates, the first observation is one step after the start.
        """
        self._ask({"do": "reset", "seed": seed})
        if not self._immediate:
            self._joint = self._ended()
        return (self._obs,)

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        self._actions.copy_(actions[0])
        before = [part.clone() for part in self._parts] if self._immediate else []
        self._ask({"do": "step"})
        self._taken += 1
        self._check()
        active, ended, timed_out = ~self._joint, self._ended(), self._time_outs != 0
        cut, final = ended & active, self._obs
        if self._immediate:
            last = [torch.where(cut[:, None], *parts) for parts in zip(before, self._parts, strict=True)]
            final = Obs(last[0], last[-1], self._mask)
        else:
            self._joint = ended
        return (Step(self._obs, final, self._rewards, cut & ~timed_out, cut & timed_out, active, self._log),)

    def state(self) -> None:
        """Not to be had: a PhysX scene cannot be restored exactly."""

    def load_state(self, state: dict[str, Any]) -> None:
        raise UserError(f"{self.spec.task} cannot load a state: Isaac Gym gives none.")

    def frame(self, row: int) -> np.ndarray:
        """What Isaac Gym's viewer shows, all rows in one picture: the same for every `row`."""
        height, width, channels = self._server.ask({"do": "picture"})["picture"]
        picture = self._server.receive_bytes(height * width * channels)
        return np.frombuffer(picture, np.uint8).reshape(height, width, channels)[..., :3]

    def close(self) -> None:
        self._server.close()

    def _ask(self, message: dict[str, Any]) -> None:
        if self._actions.is_cuda:  # the server knows nothing of this stream, which may still read or write
            torch.cuda.current_stream(self._actions.device).synchronize()
        self._server.ask(message)

    def _ended(self) -> Tensor:
        return self._resets != 0

    def _check(self) -> None:
        """One sum tells whether any number is bad; only then is the place looked for."""
        if torch.stack([part.sum() for part in (self._rewards, *self._parts)]).sum().isfinite():
            return
        for key, part in zip(("reward", "observation", "state"), (self._rewards, *self._parts), strict=False):
            bad = (~part.isfinite()).nonzero()
            if len(bad):
                raise EnvironmentFailure(
                    f"{self.spec.task}: the {key} of row {int(bad[0, 0])} is not finite in step {self._taken}."
                )
