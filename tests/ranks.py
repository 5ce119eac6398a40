"""Start ranks under a real mpirun, for the tests that need several processes."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FAILURE_LIMIT = 60.0  # seconds after which a run counts as hanging

MPIRUN = shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
OPEN_MPIRUN = shutil.which("mpirun.openmpi")
OPEN_LIBRARY = ctypes.util.find_library("mpi")

needs_mpirun = pytest.mark.skipif(MPIRUN is None, reason="no mpirun beside this Python or on PATH")
needs_open_mpi = pytest.mark.skipif(
    OPEN_MPIRUN is None or OPEN_LIBRARY is None, reason="no Open MPI of the system (mpirun.openmpi and libmpi.so)"
)

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node")  # and how many

# every script below starts with this; it defines main(comm) after it
PROLOGUE = "import sys\nfrom ppo_and_friends.launch import run_ranks\nfrom ppo_and_friends.errors import UserError\n"
EPILOGUE = "\nsys.exit(run_ranks(main))\n"


def command(ranks: int, body: str, launcher: str | None = MPIRUN) -> list[str]:
    """The command line that runs `main(comm)`, as `body` defines it, on so many ranks."""
    options = ["--allow-run-as-root", "--oversubscribe"] if launcher == OPEN_MPIRUN else []
    script = PROLOGUE + textwrap.dedent(body) + EPILOGUE
    return [str(launcher), *options, "-n", str(ranks), sys.executable, "-c", script]


def run_torch(ranks: int, script: Path, *words: object, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a script on so many ranks of torchrun, at its directory's modules; `extra` are environment variables."""
    return subprocess.run(
        [*TORCHRUN, str(ranks), str(script), *map(str, words)],
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=FAILURE_LIMIT,
    )


def environment(**extra: str) -> dict[str, str]:
    """This process's environment, with the package and the tests importable after what PYTHONPATH in `extra`
    names and before what it named; one thread a rank, and lines written whole."""
    named = (extra.pop("PYTHONPATH", ""), str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", ""))
    paths = os.pathsep.join(filter(None, named))
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # in containers
    return {**os.environ, **root, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "", **extra, "PYTHONPATH": paths}


def run(ranks: int, body: str, launcher: str | None = MPIRUN, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run `main(comm)` on so many ranks; `extra` are environment variables."""
    return subprocess.run(
        command(ranks, body, launcher),
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=FAILURE_LIMIT,
    )
