"""Which engine steps a run's worlds: chosen before they are made, kept in the run's state."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from typing import Any

import torch

from ppo_and_friends.checkpoint import StateDirectory
from ppo_and_friends.comm import Comm
from ppo_and_friends.config import Experiment, RunConfig
from ppo_and_friends.devices import own_gpu
from ppo_and_friends.errors import UserError
from ppo_and_friends.run_state import directory_of

CPU, WARP, AUTO = "cpu", "warp", "auto"
WORTH = 1024  # rows from which on a GPU is taken without being asked for: fewer are faster on a CPU's cores


def simulator_of(experiment: Experiment) -> str:
    """What the experiment asks for; "" where its environment offers no choice."""
    return getattr(experiment.env, "simulator", "")


def with_simulator(experiment: Experiment, simulator: str) -> Experiment:
    """The experiment on another engine, where its environment offers a choice."""
    if not simulator_of(experiment):
        return experiment
    return dataclasses.replace(experiment, env=dataclasses.replace(experiment.env, simulator=simulator))


def choose_simulator(experiment: Experiment, run: RunConfig | None, comm: Comm) -> Any:
    """The environment's config with `auto` resolved; the same on every rank. Collective.

    A run that goes on keeps the engine of its state. A test takes the CPU's, which needs no kernels. Anything else
    takes the GPU's where there are rows enough for it, one GPU for this process alone, and its package.

    Raises:
        UserError: another engine than the state's is asked for, or one that this machine cannot run.
    """
    asked = simulator_of(experiment)
    if not asked:
        return experiment.env
    options = run or RunConfig()
    saved = _saved(experiment, run, comm)
    if saved and asked not in (AUTO, saved):
        raise UserError(
            f"{directory_of(experiment, options)} was trained with --simulator {saved}, and cannot go on with {asked}: "
            f"leave the flag out, or start another run with --name, from these weights with --init_from."
        )
    chosen = saved or asked
    if chosen == AUTO:
        alone = comm.size == 1 and options.device != "cpu" and not options.test
        wanted = alone and experiment.envs_per_proc >= WORTH
        chosen = WARP if wanted and not obstacle() else CPU
    if chosen == WARP:
        _claim_gpu(options, comm)
    return with_simulator(experiment, chosen).env


def obstacle() -> str:
    """Why this machine cannot run the GPU engine, and the remedy; "" where it can."""
    if find_spec("mujoco_warp") is None or find_spec("warp") is None:
        return 'needs the package mujoco-warp: install it with pip install ".[gpu]", or use --simulator cpu'
    if not torch.cuda.is_available():
        return f"needs a GPU, but torch {torch.__version__} sees none: use --simulator cpu, or install a CUDA build"
    import warp

    if not warp.is_conditional_graph_supported():
        driver = warp.get_cuda_driver_version()
        found = f"is for CUDA {driver[0]}.{driver[1]}" if driver else "cannot be loaded"
        return f"needs an NVIDIA driver for CUDA 12.4 or newer, and this one {found}: update it, or use --simulator cpu"
    return ""


def _saved(experiment: Experiment, run: RunConfig | None, comm: Comm) -> str:
    """The engine of the state that this run goes on from; "" without one."""
    if run is None or run.test or run.clobber:
        return ""
    data = b""
    if comm.rank == 0:
        state = StateDirectory(directory_of(experiment, run)).load(run.checkpoint)
        data = (state or {}).get("simulator", CPU if state else "").encode()
    return comm.broadcast_bytes(data).decode()


def _claim_gpu(run: RunConfig, comm: Comm) -> None:
    """Make this rank's GPU the current one: environments that live on a GPU are made there."""
    reason = obstacle()
    if reason:
        raise UserError(f"--simulator {WARP} {reason}.")
    if comm.size > 1 and not run.allow_mpi_gpu:
        raise UserError(f"--simulator {WARP} with {comm.size} ranks: add --allow_mpi_gpu to share GPUs between ranks.")
    torch.cuda.set_device(own_gpu(run.device))
