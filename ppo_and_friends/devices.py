"""Which device the networks live on, and why."""

from __future__ import annotations

import os
from typing import Literal

import torch
from torch import Tensor

from ppo_and_friends.comm import Comm
from ppo_and_friends.errors import UserError
from ppo_and_friends.launch import local_rank
from ppo_and_friends.types import Obs, Spec, Step
from ppo_and_friends.vector.base import Scheduled, VecEnv


def check_device(device: str, allow_mpi_gpu: bool, ranks: int) -> None:
    """Refuse what cannot be had, before anything is built.

    Raises:
        UserError: an unknown device, or a GPU that torch does not see.
    """
    try:
        wanted = torch.device("cpu" if device == "auto" else device)
    except RuntimeError:
        raise UserError(f"--device is '{device}', but must be auto, cpu, cuda or cuda:N.") from None
    if wanted.type not in ("cpu", "cuda"):
        raise UserError(f"--device is '{device}', but only cpu and cuda are supported.")
    visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (wanted.type == "cuda" or allow_mpi_gpu) and not visible:
        flag = "--allow_mpi_gpu" if allow_mpi_gpu and wanted.type == "cpu" else f"--device {device}"
        raise UserError(
            f"{flag} needs a GPU, but torch {torch.__version__} sees none: leave the flag out, or install a CUDA build."
        )
    if wanted.type == "cuda" and (wanted.index or 0) >= visible:
        raise UserError(
            f"--device is '{device}', but this machine has {visible} GPUs: use cuda:0 to cuda:{visible - 1}."
        )
    if wanted.type == "cuda" and ranks > 1 and not allow_mpi_gpu:
        raise UserError(f"--device is '{device}' with {ranks} ranks: add --allow_mpi_gpu to share GPUs between ranks.")


def choose_device(device: str, allow_mpi_gpu: bool, comm: Comm, spec: Spec) -> torch.device:
    """The device of the networks.

    auto is the CPU for several ranks (unless allowed otherwise) and for small networks on environments of the
    CPU, where a GPU is slower; the GPU for images and for environments that live on it.
    """
    if device != "auto":
        return own_gpu() if device == "cuda" else torch.device(device)
    if comm.size > 1:
        return own_gpu() if allow_mpi_gpu else torch.device("cpu")
    images = any(part.dtype == torch.uint8 for group in spec.groups for part in group.actor)
    return own_gpu() if images or spec.device.type == "cuda" else torch.device("cpu")


def set_matmul_precision(device: torch.device, precision: Literal["high", "highest"]) -> None:
    """How exact products and convolutions on GPUs are from here on; nothing where the networks are on the CPU."""
    if device.type == "cuda":  # torch.set_float32_matmul_precision would reach the CPU's products too
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "high"


def own_gpu(device: str = "auto") -> torch.device:
    """The GPU of this rank: the one that is named, else the ranks of a node take theirs in turn.

    The CPU where torch sees none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    named = torch.device("cuda" if device in ("auto", "cpu") else device)
    in_turn = local_rank(os.environ) % torch.cuda.device_count()
    return torch.device("cuda", in_turn if named.index is None else named.index)


class OnDevice:
    """A `VecEnv` whose tensors are carried to and from the networks' device."""

    def __init__(self, env: VecEnv, device: torch.device) -> None:
        self.env, self.device = env, device
        self.spec = env.spec
        self.state, self.load_state, self.frame, self.close = env.state, env.load_state, env.frame, env.close
        if isinstance(env, Scheduled):
            self.elapse = env.elapse

    def reset(self, seed: int) -> tuple[Obs, ...]:
        return tuple(self._carry_obs(obs) for obs in self.env.reset(seed))

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        there = tuple(action.to(self.spec.device) for action in actions)
        return tuple(self._carry(step) for step in self.env.step(there))

    def _carry(self, step: Step) -> Step:
        obs = self._carry_obs(step.obs)
        final = obs if step.final is step.obs else self._carry_obs(step.final)
        log = {name: values.to(self.device) for name, values in step.log.items()}
        reward, terminated, truncated, active = (part.to(self.device) for part in step[2:6])
        return Step(obs, final, reward, terminated, truncated, active, log)

    def _carry_obs(self, obs: Obs) -> Obs:
        return obs.map(lambda part: part.to(self.device))


def on_device(env: VecEnv, device: torch.device) -> VecEnv:
    """The environment itself where its tensors are on `device` already."""
    return env if env.spec.device == device else OnDevice(env, device)
