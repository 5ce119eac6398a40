"""docs/metrics.md against what a run writes."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from commands import ROLLOUT, TINY, succeed
from ranks import ROOT

EVALUATED = ("--evaluation.every", 2, "--evaluation.episodes", 2, "--evaluation.max_episode_steps", 30)


def documented() -> list[str]:
    lines = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").splitlines()
    return [match[1] for line in lines if (match := re.match(r"\| `([\w*]+)` \|", line))]


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
