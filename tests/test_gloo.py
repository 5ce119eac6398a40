"""Ranks that torchrun starts: collectives over Gloo, the same training as under mpirun, and one end for all."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from commands import ROLLOUT, TINY, Result, finish, spawn, unlike, wait_for
from ranks import MPIRUN, TORCHRUN, needs_mpirun, run_torch

from ppo_and_friends import cli
from ppo_and_friends.checkpoint import read_state
from ppo_and_friends.launch import detect, local_rank
from ppo_and_friends.next_command import launched

TORCHRUNS = {
    "TORCHELASTIC_RUN_ID": "none",
    "WORLD_SIZE": "8",
    "RANK": "5",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "SLURM_STEP_NUM_TASKS": "2",  # srun has started one torchrun on each of two nodes
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
LAST_WORDS = """
import sys
import torch
from collectives import check_all
from ppo_and_friends.launch import run_ranks

def main(comm):
    check_all(comm)
    try:
        comm.sum_(torch.ones(4, 4).T[1:3, 1:3])
    except ValueError:
        # in one piece: the ranks share a pipe
        print(f"{type(comm).__name__} {comm.rank} of {comm.size} {'mpi4py' in sys.modules}\\n", end="", flush=True)
    if comm.rank == 1:
        raise ValueError("broken dice")
    comm.sum_(torch.ones(1))
    print("past the reduction")

sys.exit(run_ranks(main))
"""


def words(tmp_path: Path, launcher: str, *more: object) -> tuple[object, ...]:
    return "-e", "CartPole", *TINY, "--state_path", tmp_path / launcher, *more


def train(tmp_path: Path, launcher: str, before: tuple[object, ...]) -> Result:
    return finish(spawn(*words(tmp_path, launcher, "--max_iterations", 4), before=before))


@needs_mpirun
def test_training_ends_where_mpirun_does_bit_for_bit(tmp_path: Path) -> None:
    result = train(tmp_path, "torchrun", (*TORCHRUN, 2, "--no-python"))
    assert (result.code, result.err) == (0, "")
    assert result.out.count("2 ranks of 2 rows") == result.out.count("Done: ") == 1
    assert train(tmp_path, "mpirun", (MPIRUN, "-n", 2)).code == 0
    mine, other = (read_state(tmp_path / launcher / "CartPole") for launcher in ("torchrun", "mpirun"))
    assert mine["shared"]["iteration"] == 4 and mine["size"] == 2
    assert unlike(mine, other) == ["state.seconds"]


def test_collectives_and_one_rank_that_fails_ends_all(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(LAST_WORDS)
    result = run_torch(3, script)
    assert sorted(result.stdout.splitlines()) == [f"GlooComm {rank} of 3 False" for rank in range(3)], result.stderr
    assert result.returncode == 1
    assert result.stderr.count("rank 1: Traceback") == result.stderr.count("ValueError: broken dice") == 1
    assert not any(f"rank {rank}: " in result.stderr for rank in (0, 2)), "the others' ends need no words"


def test_a_signal_to_torchrun_saves_and_ends_all(tmp_path: Path) -> None:
    total = ("--num_timesteps", ROLLOUT * 10**6, "--evaluation.every", 10**6, "--evaluation.episodes", 2)
    child = spawn(*words(tmp_path, "run", *total), before=(*TORCHRUN, 2, "--no-python"))
    try:
        wait_for(child, "evaluation at")  # which all ranks took part in: none is in its first iteration
        child.send_signal(signal.SIGTERM)
    finally:
        result = finish(child)
    assert result.code == 1  # torchrun's own, whatever its ranks return
    assert result.out.count("and saved. To go on: torchrun --nproc-per-node 2 ") == 1, result.err
    assert read_state(tmp_path / "run" / "CartPole")["shared"]["iteration"] > 0


def test_torchrun_is_found_inside_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    found = detect(TORCHRUNS)
    assert (found.name, found.size, found.rank, local_rank(TORCHRUNS)) == ("torchrun", 8, 5, 1)
    assert detect({**TORCHRUNS, "WORLD_SIZE": "1", "RANK": "0"}).size == 1
    monkeypatch.setattr(os, "environ", dict(TORCHRUNS))
    assert launched(8, "python main.py -e Ant") == "torchrun --nproc-per-node 4 main.py -e Ant"
    assert launched(8, "ppo-and-friends -e Ant") == "torchrun --nproc-per-node 4 --no-python ppo-and-friends -e Ant"
    assert launched(1, "python main.py -e Ant") == "python main.py -e Ant"


@pytest.mark.parametrize(
    ("variables", "starter"),
    [
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "0", "SLURM_MPI_TYPE": "pmix"}, "srun --mpi=pmix"),
        ({"SLURM_STEP_NUM_TASKS": "8", "PMI_SIZE": "8", "PMI_RANK": "0", "SLURM_MPI_TYPE": "pmi2"}, "srun --mpi=pmi2"),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "0"}, "srun"),
        ({"SLURM_STEP_NUM_TASKS": "2", "PMI_SIZE": "8", "PMI_RANK": "0", "MPI_LOCALNRANKS": "4"}, "mpirun"),
        ({"SLURM_STEP_NUM_TASKS": "2", "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "0"}, "mpirun"),
    ],
)
def test_the_next_command_has_the_launcher_of_this_one(
    variables: dict[str, str], starter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", variables)
    assert launched(8, "python main.py -e Ant") == f"{starter} -n 8 python main.py -e Ant"


def test_only_torchruns_first_rank_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in TORCHRUNS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert cli.main(["-e", "Cheeta"]) == 2
    assert capsys.readouterr().err == ""
