"""docs/metrics.md against what a run writes."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from commands import ROLLOUT, TINY, succeed
from ranks import ROOT

from ppo_and_friends.vector.sim.device_env import DeviceTaskEnv

EVALUATED = ("--evaluation.every", 2, "--evaluation.episodes", 2, "--evaluation.max_episode_steps", 30)


PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")


def documented() -> list[str]:
    """Names and beginnings of names (`seconds_*`) that every run has."""
    names, _, _ = PAGE.partition("## What environments report")
    return re.findall(r"^\| `([\w*]+)` \|", names, re.MULTILINE)


def documented_of_addons() -> list[str]:
    _, _, rest = PAGE.partition("## What add-ons report")
    rows = [line.split("|")[1] for line in rest.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


def written(directory: Path) -> set[str]:
    with open(directory / "progress.csv", newline="") as file:
        return set(next(csv.reader(file)))


def fits(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def unmatched(names: Iterable[str], patterns: Iterable[str]) -> tuple[list[str], list[str]]:
    """(names without a pattern, patterns without a name)."""
    names, patterns = list(names), list(patterns)
    return (
        [name for name in names if not any(fits(name, pattern) for pattern in patterns)],
        [pattern for pattern in patterns if not any(fits(name, pattern) for name in names)],
    )


@pytest.mark.parametrize("experiment", ["CartPole", "Pendulum"])
def test_every_logged_name_is_defined_and_every_defined_name_is_logged(experiment: str, tmp_path: Path) -> None:
    succeed("-e", experiment, *TINY, *EVALUATED, "--num_timesteps", 2 * ROLLOUT, "--state_path", tmp_path)
    assert unmatched(written(tmp_path / experiment), documented()) == ([], [])


def test_what_an_environment_reports_is_logged_with_its_evaluation(tmp_path: Path) -> None:
    """FrozenLake's info has the probability of the last transition."""
    words = (*TINY, *EVALUATED, "--num_timesteps", ROLLOUT, "--state_path", tmp_path, "--name", "ice")
    succeed("-e", "gymnasium:FrozenLake-v1", *words)
    assert unmatched(written(tmp_path / "ice"), documented()) == (["evaluation_prob"], [])


def test_what_a_task_says_in_every_step_is_logged_while_training_too(tmp_path: Path) -> None:
    """A pole that stands is rewarded with 1 a step, and one that falls with 0."""
    words = (*TINY, *EVALUATED, "--num_timesteps", ROLLOUT, "--state_path", tmp_path)
    succeed("-e", "InvertedPendulum", *words)
    names, missing = unmatched(written(tmp_path / "InvertedPendulum"), documented())
    assert missing == [] and sorted(names) == ["evaluation_reward_survive", "rollout_reward_survive"]
    assert all(f"`{kind}_NAME`" in PAGE for kind in ("evaluation", "rollout"))
    with open(tmp_path / "InvertedPendulum" / "progress.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    survived = float(row["rollout_reward_survive"]) * ROLLOUT
    assert survived == pytest.approx(round(survived)) and 0 < survived < ROLLOUT


def test_what_an_addon_reports_is_logged_and_defined(tmp_path: Path) -> None:
    found: set[str] = set()
    for name in ("RoomsICM", "RoomsRND", "ConnectFour"):
        succeed("-e", name, *TINY, *EVALUATED, "--num_timesteps", 2 * ROLLOUT, "--state_path", tmp_path)
        names, missing = unmatched(written(tmp_path / name), documented())
        assert missing == [] and names
        found |= {own for own in names if "/" not in own} - {"evaluation_is_success"}  # GROUP/NAME is of agents
    assert found == set(documented_of_addons())


def test_what_is_summed_over_a_rollout_is_named() -> None:
    (line,) = (line for line in PAGE.splitlines() if "**sums**" in line)
    assert re.findall(r"`rollout_(\w+)`", line) == list(DeviceTaskEnv.counts)
