"""What goes wrong in an installation of Isaac Gym, told from the server's last words, and the mend of each."""

from __future__ import annotations

import re

INSTALLED = "IsaacGymEnvs (https://github.com/isaac-sim/IsaacGymEnvs, `pip install -e .`)"
PREVIEW = "Isaac Gym Preview 4 (https://developer.nvidia.com/isaac-gym, `pip install -e python`)"

ON_CPU = "--device cpu with --simulator isaacgym, else --env.device cpu"

# (what the server or its compiler wrote, cause and mend); {python} is the interpreter, {found} what the pattern caught
KNOWN = (
    (
        r"(libpython[\w.]+\.so[\w.]*): cannot open shared object",
        "Isaac Gym needs {found}, which was found neither by the loader nor beside {python}: make the environment with "
        "conda, which brings it, or install it (Debian and Ubuntu: libpython3.8), or add its folder to LD_LIBRARY_PATH",
    ),
    (
        r"Python\.h: No such file",
        "Isaac Gym compiles an extension at its first start, and {python} comes without Python.h: install its headers "
        "(Debian and Ubuntu: python3.8-dev), or make the environment with conda, which brings them",
    ),
    (
        r"Ninja is required",
        "Isaac Gym compiles an extension at its first start and needs ninja: `{python} -m pip install ninja`",
    ),
    (
        r"No module named '(isaacgym)'",
        "{python} has no package {found}: install " + PREVIEW + " there, or name the interpreter that has it",
    ),
    (
        r"No module named '(isaacgymenvs|hydra|omegaconf|gym|rl_games)\b",
        "{python} has no package {found}: install " + INSTALLED + " there, or name the interpreter that has it",
    ),
    (r"No module named '([\w]+)", "{python} has no package {found}: `{python} -m pip install {found}`"),
    (
        r"No gym module found for the active version of Python \(([\d.]+)\)",
        "Isaac Gym has no library for Python {found}: name a Python of 3.6, 3.7 or 3.8 that it is installed in",
    ),
    (
        r"module 'numpy' has no attribute",
        'Isaac Gym needs a NumPy older than 1.24: `{python} -m pip install "numpy<1.24"`',
    ),
    (
        r"make\(\) got an unexpected keyword|has no attribute 'initialize_config_dir'",
        "isaacgymenvs or its hydra-core is older than this client knows: install release 1.5.1 of " + INSTALLED,
    ),
    (
        r"Could not find 'task/(\w+)'",
        "isaacgymenvs has no task {found}: see the files in its folder cfg/task",
    ),
    (
        r"Could not override '([\w.]+)'",
        "isaacgymenvs has no setting {found} for this task (env.overrides): see the task's file in cfg/task",
    ),
    (
        r"(?i)(?:CUDA out of memory|out of memory|fail(?:ed)? to allocate (?:GPU )?memory)",
        "the GPU has too little memory for these rows: ask for fewer (--envs_per_proc)",
    ),
    (
        r"(libcuda\.so\.1): cannot open|Failed to acquire interface|no CUDA-capable device",
        "Isaac Gym found no NVIDIA driver or GPU on this machine: see whether `nvidia-smi` works",
    ),
    (
        r"cuIpc\w+ failed: (\w+)",
        "the driver refuses to share GPU memory between processes ({found}), as it does under WSL: simulate on the CPU "
        "(" + ON_CPU + ")",
    ),
)


def remedy(said: str, python: str) -> str | None:
    """Cause and mend of the first known failure in `said`, one sentence without its end; None for an unknown one."""
    for pattern, sentence in KNOWN:
        found = re.search(pattern, said)
        if found:
            return sentence.format(python=python, found=found.group(1) if found.groups() else "")
    return None
