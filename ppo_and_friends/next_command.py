"""What to type next about a run."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from pathlib import Path

from ppo_and_friends import registry
from ppo_and_friends.config import Experiment, RunConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.launch import TORCHRUN_VARIABLE, detect
from ppo_and_friends.run_state import directory_of
from ppo_and_friends.serialize import to_plain


def command(reference: str, run: RunConfig, *flags: str) -> str:
    """What to type next about this run."""
    called = Path(sys.argv[0])
    program = ["ppo-and-friends"] if called.name == "ppo-and-friends" else ["python", _script(called)]
    words = [*program, "-e", reference]
    for name in ("name", "state_path", "isaacgym_python"):
        value = getattr(run, name)
        if value != getattr(RunConfig(), name):
            words += [f"--{name}", value]
    return shlex.join([*words, *flags])


def _script(called: Path) -> str:
    return str(called) if called.name == "main.py" else "main.py"  # a script that uses the API takes no flags


def launched(ranks: int, command: str) -> str:
    """The command on so many ranks, by the launcher that started this process."""
    if ranks == 1:
        return command
    if TORCHRUN_VARIABLE not in os.environ:
        return f"{_starter()} -n {ranks} {command}"
    script = command.removeprefix("python ")
    options = "" if script != command else "--no-python "
    return f"torchrun --nproc-per-node {os.environ['LOCAL_WORLD_SIZE']} {options}{script}"


def _starter() -> str:
    """mpirun, or srun as it was asked to speak to MPI."""
    if detect(os.environ).name == "srun":
        kind = os.environ.get("SLURM_MPI_TYPE", "")
        return f"srun --mpi={kind}" if kind else "srun"
    return "mpirun"


def settings_flags(reference: str, experiment: Experiment, run: RunConfig) -> tuple[str, ...]:
    """What gives these settings to a command: nothing where they are the launcher's own."""
    with contextlib.suppress(UserError):  # an experiment without a launcher
        own = (registry.build(reference), registry.build_on_gpu(reference))
        if to_plain(experiment) in [to_plain(default) for default in own if default is not None]:
            return ()
    return "--config", str(directory_of(experiment, run) / "config.json")
