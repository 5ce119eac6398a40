"""Who started this process, what is refused before MPI starts, and how one rank's failure ends all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ranks import FAILURE_LIMIT, OPEN_LIBRARY, OPEN_MPIRUN, environment, needs_mpirun, needs_open_mpi, run

from ppo_and_friends import launch
from ppo_and_friends.comm import SoloComm
from ppo_and_friends.errors import UserError
from ppo_and_friends.launch import Launcher, check_family, check_size, detect, library_family, run_ranks, threads

MPICH = Launcher("MPICH's mpirun", 4, 0, "MPICH")
OPEN_MPI = Launcher("Open MPI's mpirun", 4, 0, "Open MPI")
NOTHING = "def main(comm): print('ran')"


@pytest.mark.parametrize(
    ("environ", "size", "rank", "family"),
    [
        ({}, 1, 0, "unknown"),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, 1, 0, "unknown"),  # a plain sbatch script
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "2"}, 3, 2, "unknown"),
        ({"PMI_SIZE": "4", "PMI_RANK": "3", "MPI_LOCALNRANKS": "2"}, 4, 3, "MPICH"),
        ({"PMI_SIZE": "4", "PMI_RANK": "1", "SLURM_STEP_NUM_TASKS": "4"}, 4, 1, "unknown"),  # srun --mpi=pmi2
        ({"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "5", "PMIX_RANK": "5"}, 8, 5, "Open MPI"),
        # mpirun inside an allocation starts one helper a node with srun
        ({"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "5", "SLURM_STEP_NUM_TASKS": "2"}, 8, 5, "Open MPI"),
        ({"PMI_SIZE": "8", "PMI_RANK": "0", "MPI_LOCALNRANKS": "4", "SLURM_STEP_NUM_TASKS": "2"}, 8, 0, "MPICH"),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "PMIX_RANK": "1"}, 2, 1, "unknown"),  # srun --mpi=pmix
    ],
)
def test_detect(environ: dict[str, str], size: int, rank: int, family: str) -> None:
    found = detect(environ)
    assert (found.size, found.rank, found.family) == (size, rank, family)


def test_a_launcher_that_mpi_cannot_join_is_refused() -> None:
    with pytest.raises(UserError, match="PMIX_RANK"):
        detect({"PMIX_RANK": "0"})


@pytest.mark.parametrize(
    ("version", "family"),
    [
        ("Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4", "Open MPI"),
        ("MPICH Version:      5.0.2\nMPICH Release date: Fri", "MPICH"),
        ("Intel(R) MPI Library 2021.13 for Linux* OS\n", "MPICH"),
        ("MVAPICH Version      :\t4.0\n", "MPICH"),
        ("MPI VERSION    : CRAY MPICH version 8.1.29.4\n", "MPICH"),
        ("Something else 1.0", "unknown"),
    ],
)
def test_library_family(version: str, family: str) -> None:
    assert library_family(version) == family


def test_only_a_known_crossing_is_refused() -> None:
    check_family(MPICH, "MPICH Version: 5.0.2")
    check_family(OPEN_MPI, "Something else 1.0")
    check_family(Launcher("srun", 4), "Open MPI v5.0.11")
    with pytest.raises(UserError, match=r"MPICH's mpirun.*Open MPI v5.0.11.*MPI4PY_LIBMPI"):
        check_family(MPICH, "Open MPI v5.0.11, package")
    with pytest.raises(UserError, match=r"Open MPI's mpirun.*MPICH Version: 5.0.2"):
        check_family(OPEN_MPI, "MPICH Version:      5.0.2\nMPICH Release")
    check_size(MPICH, 4)
    with pytest.raises(UserError, match="--mpi=pmix"):
        check_size(MPICH, 1)


def test_alone_neither_torch_nor_mpi_is_imported() -> None:
    script = (
        "import sys; from ppo_and_friends import launch; launch.connect(); "
        "print({'torch', 'mpi4py', 'numpy'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=FAILURE_LIMIT
    )
    assert result.stdout == "set()\n", result.stderr


@needs_mpirun
def test_srun_without_pmi_is_refused_before_anything_runs() -> None:
    """srun --mpi=none gives every task a world of its own; the step's variables say that there are more."""
    script = "import sys; from ppo_and_friends.launch import run_ranks; sys.exit(run_ranks(lambda comm: print('ran')))"
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(SLURM_STEP_NUM_TASKS="4", SLURM_PROCID="0"),
        capture_output=True,
        text=True,
        timeout=FAILURE_LIMIT,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert "srun started 4 ranks, but MPI sees a world of 1" in result.stderr
    assert "Traceback" not in result.stderr


@needs_mpirun
def test_mpirun_without_mpi4py_says_what_to_install_once(tmp_path: Path) -> None:
    (tmp_path / "mpi4py.py").write_text("raise ImportError('no module named mpi4py')")
    result = run(2, NOTHING, PYTHONPATH=str(tmp_path))
    assert result.returncode != 0
    assert result.stdout == ""
    assert result.stderr.count('pip install ".[mpich]"') == 1
    assert "Traceback" not in result.stderr


@needs_mpirun
@needs_open_mpi
@pytest.mark.parametrize("launcher", ["Open MPI's", "MPICH's"])
def test_crossed_families_are_refused_before_mpi_starts(launcher: str) -> None:
    if launcher == "Open MPI's":
        result = run(2, NOTHING, launcher=OPEN_MPIRUN)
    else:
        result = run(2, NOTHING, MPI4PY_LIBMPI=str(OPEN_LIBRARY))
    assert result.returncode == 2, result.stderr
    assert "ran" not in result.stdout
    assert result.stderr.count(f"error: {launcher} mpirun started 2 ranks, but mpi4py loads") == 1, result.stderr


@needs_open_mpi
def test_open_mpi_works_with_its_own_library() -> None:
    body = """
        import torch
        def main(comm):
            tensor = torch.full((2,), comm.rank + 1.0)
            comm.sum_(tensor)
            print(type(comm).__name__, tensor.tolist())
    """
    result = run(2, body, launcher=OPEN_MPIRUN, MPI4PY_LIBMPI=str(OPEN_LIBRARY))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("MpiComm [3.0, 3.0]") == 2


@needs_mpirun
@pytest.mark.parametrize(
    ("failure", "said", "code"),
    [
        ("raise ValueError('broken dice')", "ValueError: broken dice", 1),
        ("raise KeyboardInterrupt", "interrupted", 130),
        ("sys.exit(0)", "called sys.exit(0)", 1),
    ],
)
def test_one_rank_that_fails_ends_all(failure: str, said: str, code: int) -> None:
    body = f"""
        def main(comm):
            if comm.rank == 1:
                {failure}
            comm.broadcast_bytes(comm.gather_bytes(b"") and b"")
            print("past the others")
    """
    result = run(3, body)
    assert result.returncode == code
    assert "past the others" not in result.stdout
    assert "rank 1: " in result.stderr
    assert result.stderr.count(said) == 1
    assert ("Traceback" in result.stderr) == ("ValueError" in said)


@needs_mpirun
def test_the_same_mistake_on_every_rank_prints_once() -> None:
    result = run(4, "def main(comm): raise UserError('horizon is 0: give at least 1.')")
    assert result.returncode == 1
    assert result.stderr.count("error: horizon is 0: give at least 1.") == 1
    assert "Traceback" not in result.stderr


@needs_mpirun
def test_ranks_that_return_a_code_end_with_it() -> None:
    assert run(2, "def main(comm): return 143").returncode == 143


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(UserError("no."), 2, "error: no.\n"), (KeyboardInterrupt(), 130, "interrupted\n"), (ValueError("x"), 1, None)],
)
def test_exit_codes_alone(
    error: BaseException,
    code: int,
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(comm: object) -> None:
        raise error

    monkeypatch.setattr(launch, "connect", SoloComm)
    assert run_ranks(fail) == code
    printed = capsys.readouterr().err
    assert printed == said if said else printed.startswith("Traceback") and "ValueError: x" in printed


@pytest.mark.parametrize(("cores", "ranks", "each"), [(8, 1, 8), (8, 3, 2), (2, 4, 1)])
def test_ranks_of_a_node_share_its_cores(cores: int, ranks: int, each: int) -> None:
    comm = SoloComm()
    comm.local_cores, comm.local_size = cores, ranks
    assert threads(comm) == each


def test_limit_threads_leaves_the_users_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "3"})
    launch.limit_threads(1)
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert os.environ["MKL_NUM_THREADS"] == "1"
