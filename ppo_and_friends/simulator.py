"""Which engine steps a run's worlds: chosen before they are made, kept in the run's state."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

from ppo_and_friends.checkpoint import StateDirectory, read_state
from ppo_and_friends.comm import Comm
from ppo_and_friends.config import Experiment, RunConfig
from ppo_and_friends.devices import own_gpu
from ppo_and_friends.errors import UserError
from ppo_and_friends.run_state import directory_of
from ppo_and_friends.vector.base import EnvConfig, VecEnv

CPU, WARP, ISAACGYM, AUTO = "cpu", "warp", "isaacgym", "auto"
WORTH = 1024  # rows from which on a GPU is taken without being asked for: fewer are faster on a CPU's cores


def simulator_of(experiment: Experiment) -> str:
    """What the experiment asks for; "" where its environment offers no choice."""
    asked = getattr(experiment.env, "simulator", "")
    return asked if asked in (AUTO, *ENGINES) else ""  # a user's own environment may mean something else by the word


def with_simulator(experiment: Experiment, simulator: str) -> Experiment:
    """The experiment on another engine, where its environment offers a choice."""
    if not simulator_of(experiment):
        return experiment
    return dataclasses.replace(experiment, env=dataclasses.replace(experiment.env, simulator=simulator))


def choose_simulator(experiment: Experiment, run: RunConfig | None, comm: Comm) -> Any:
    """The environment's config with `auto` resolved; the same on every rank. Collective.

    A run that goes on keeps the engine of its state, and its limits where none are asked for. A test takes the CPU's,
    which needs no kernels (see `tested_on`). Anything else takes the GPU's where there are rows enough for it, its
    package, and a GPU that this process has for itself or may share.

    Raises:
        UserError: another engine than the state's is asked for, or one that this machine or task cannot have.
    """
    asked = simulator_of(experiment)
    if not asked:
        return experiment.env
    options = run or RunConfig()
    saved, limits = _saved(experiment, run, comm)
    if saved and asked not in (AUTO, saved):
        raise UserError(
            f"{directory_of(experiment, options)} was trained with --simulator {saved}, and cannot go on with {asked}: "
            f"leave the flag out, or begin another run from its weights with {_anew(experiment, options)} "
            f"--simulator {asked}."
        )
    chosen = _resolved(saved or asked, experiment, options, comm.size)
    if chosen == WARP and (reason := obstacle()):
        new = f"begin another run from its weights with {_anew(experiment, options)}" if saved else "use"
        raise UserError(f"--simulator {WARP} {reason}, or {new} --simulator {CPU}.")
    config: Any = ENGINES[chosen].prepare(with_simulator(experiment, chosen), options, comm)
    return dataclasses.replace(config, **{name: limit for name, limit in limits.items() if not getattr(config, name)})


def _anew(experiment: Experiment, run: RunConfig) -> str:
    """Flags of another run with the weights and settings of this one."""
    directory = directory_of(experiment, run)
    return f"--name NEW --init_from {directory} --config {directory / 'config.json'}"


def takes_gpu(experiment: Experiment, on_gpu: Callable[[], Experiment], run: RunConfig, comm: Comm) -> bool:
    """Whether a GPU will simulate what `on_gpu` makes of `experiment`, and the weights that it may begin with are those
    of a run that one simulated; the same on every rank. Collective."""
    found = b""
    if comm.rank == 0:
        saved, _ = _read_saved(experiment, run)
        chosen = saved or simulator_of(experiment)
        if chosen == AUTO:
            chosen = CPU if obstacle() else _resolved(AUTO, on_gpu(), run, comm.size)
        source = read_state(run.init_from).get("simulator", CPU) if run.init_from else chosen
        found = b"yes" if chosen == source == WARP else b"no"
    return comm.broadcast_bytes(found) == b"yes"


def _resolved(asked: str, experiment: Experiment, run: RunConfig, ranks: int) -> str:
    if asked != AUTO:
        return asked
    allowed = (ranks == 1 or run.allow_mpi_gpu) and run.device != "cpu" and not run.test
    return WARP if allowed and experiment.envs_per_proc >= WORTH and not obstacle() else CPU


def as_made(config: Any, env: VecEnv) -> Any:
    """The environment's config with the limits that `env`, made from it, has measured: they hold for whatever else is
    made from it, and for a run that is resumed."""
    limits = getattr(getattr(env, "sim", None), "limits", None)
    if limits is None or not hasattr(config, "max_contacts"):
        return config
    return dataclasses.replace(config, max_contacts=limits.contacts, max_constraints=limits.constraints)


def tested_on(experiment: Experiment, state: Mapping[str, Any]) -> str:
    """The engine that a test of `state` asks for: what the command line names, else what `Engine` says."""
    asked, trained = simulator_of(experiment), ENGINES.get(state.get("simulator", ""))
    return state["simulator"] if asked == AUTO and trained is not None and trained.tests_its_own else asked


def obstacle() -> str:
    """Why this machine cannot run the GPU engine, and how it could; "" where it can."""
    if find_spec("mujoco_warp") is None or find_spec("warp") is None:
        return 'needs the package mujoco-warp: install it with pip install ".[gpu]"'
    if not torch.cuda.is_available():
        return f"needs a GPU, but torch {torch.__version__} sees none: install a CUDA build"
    import warp

    warp.config.log_level = warp.LOG_WARNING  # its first call would print all devices
    if not warp.is_conditional_graph_supported():
        driver = warp.get_cuda_driver_version()
        found = f"is for CUDA {driver[0]}.{driver[1]}" if driver else "cannot be loaded"
        return f"needs an NVIDIA driver for CUDA 12.4 or newer, and this one {found}: update it"
    return ""


def _saved(experiment: Experiment, run: RunConfig | None, comm: Comm) -> tuple[str, dict[str, int]]:
    """`_read_saved`, on every rank."""
    if run is None:
        return "", {}
    found = _read_saved(experiment, run) if comm.rank == 0 else None
    saved, limits = json.loads(comm.broadcast_bytes(json.dumps(found).encode()))
    return saved, limits


def _read_saved(experiment: Experiment, run: RunConfig) -> tuple[str, dict[str, int]]:
    """The engine and the limits of the state that this run goes on from; "" and none without one."""
    if run.test or run.clobber:
        return "", {}
    state = StateDirectory(directory_of(experiment, run)).load(run.checkpoint)
    return ("", {}) if state is None else (state.get("simulator", CPU), state.get("limits", {}))


def _on_cpu(experiment: Experiment, run: RunConfig, comm: Comm) -> EnvConfig:
    return experiment.env


def _on_warp(experiment: Experiment, run: RunConfig, comm: Comm) -> EnvConfig:
    torch.cuda.set_device(_shared_gpu(WARP, run, comm))  # environments that live on a GPU are made on the current one
    return experiment.env


def _on_isaacgym(experiment: Experiment, run: RunConfig, comm: Comm) -> EnvConfig:
    from ppo_and_friends.vector.isaacgym.original import original

    gpu = run.device != "cpu" and torch.cuda.is_available()
    return original(experiment, run.isaacgym_python, str(_shared_gpu(ISAACGYM, run, comm)) if gpu else "cpu")


def _shared_gpu(simulator: str, run: RunConfig, comm: Comm) -> torch.device:
    """This rank's GPU, where it may have one."""
    if comm.size > 1 and not run.allow_mpi_gpu:
        raise UserError(
            f"--simulator {simulator} with {comm.size} ranks: add --allow_mpi_gpu to share GPUs between ranks."
        )
    return own_gpu(run.device)


@dataclass(frozen=True)
class Engine:
    """One value of --simulator."""

    prepare: Callable[[Experiment, RunConfig, Comm], EnvConfig]
    """What makes the environments of an experiment that has this engine; UserError where it cannot be had."""
    tests_its_own: bool = False
    """Whether its states are tested on it where nothing else is asked for: its physics are not those of the CPU's."""


ENGINES = {CPU: Engine(_on_cpu), WARP: Engine(_on_warp), ISAACGYM: Engine(_on_isaacgym, tests_its_own=True)}
