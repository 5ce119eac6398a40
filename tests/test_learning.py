"""Training launchers as they stand until they reach their scores. Minutes each: run with `pytest -m learning`."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import pytest
from commands import MAIN
from ranks import MPIRUN, environment

pytestmark = pytest.mark.learning


@pytest.mark.parametrize(
    ("name", "ranks", "flags", "score"),
    [
        ("CartPole", 1, "", 500),
        ("CartPole", 2, "", 500),
        ("Pendulum", 1, "", -200),
        ("CartPoleNoVel", 1, "", 450),
        ("PendulumNoVel", 1, "", -250),
        ("RecallCue", 1, "", 0.99),
        ("LunarLander", 1, "", 200),
        ("InvertedPendulum", 1, "", 1000),
        ("HalfCheetah", 1, "--num_timesteps 1000000", 1500),
        ("RoomsICM", 1, "", 0.99),
        ("RoomsRND", 1, "", 0.99),
    ],
)
def test_score(name: str, ranks: int, flags: str, score: float, tmp_path: Path) -> None:
    assert mean_score(name, ranks, flags, tmp_path) >= score


@pytest.mark.parametrize(("name", "score"), [("CartPoleNoVel", 200), ("PendulumNoVel", -500), ("RecallCue", 0.5)])
def test_what_cannot_be_learned_without_memory(name: str, score: float, tmp_path: Path) -> None:
    assert mean_score(name, 1, "--net.core identity", tmp_path) < score


def mean_score(name: str, ranks: int, flags: str, tmp_path: Path) -> float:
    """Of 100 test episodes after training."""
    launcher = [MPIRUN, "-n", str(ranks)] if ranks > 1 else []
    command = [*launcher, *MAIN, "-e", name, "--state_path", str(tmp_path)]
    for words in (["--random_seed", "1", *flags.split()], ["--num_test_runs", "100", "--save_test_scores"]):
        subprocess.run([*command, *words], check=True, env=environment(OMP_NUM_THREADS="1"))
    summary = json.loads((tmp_path / name / "test_scores.json").read_text())
    assert summary["episodes"] == 100
    return summary["mean"]


def test_rooms_are_not_solved_without_a_bonus(tmp_path: Path) -> None:
    command = [*MAIN, "-e", "Rooms", "--state_path", str(tmp_path), "--random_seed", "1"]
    subprocess.run(command, check=True, env=environment(OMP_NUM_THREADS="1"))
    with open(tmp_path / "Rooms" / "progress.csv", newline="") as file:
        assert max(float(row["mean_return"]) for row in csv.DictReader(file)) == 0
