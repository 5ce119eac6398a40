"""docs/from_the_predecessor.md: what its column of our names says exists."""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ppo_and_friends import registry
from ppo_and_friends.config import RunConfig
from ppo_and_friends.flags import ALIASES, leaves
from ppo_and_friends.parser import Request

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "from_the_predecessor.md").read_text(encoding="utf-8")
ROWS = [re.split(r"(?<!\\)\|", line)[1:-1] for line in PAGE.splitlines() if line.startswith("| ")]
OURS = [row[1] for row in ROWS]
METRICS = PAGE.partition("## The status report")[2]
OF_GYMNASIUM = {"env.env_id"}  # an argument of one environment's constructor


def resolved(name: str) -> Any:
    """What a dotted name stands for: a module's, a class's, or a field's."""
    owner: Any = importlib.import_module("ppo_and_friends")
    for part in name.split(".")[1:]:
        if isinstance(owner, ModuleType) and not hasattr(owner, part):
            owner = importlib.import_module(f"{owner.__name__}.{part}")
            continue
        fields = {field.name for field in dataclasses.fields(owner)} if dataclasses.is_dataclass(owner) else set()
        owner = getattr(owner, part) if part not in fields else None
    return owner


def test_every_row_has_three_cells_and_a_name_of_ours_or_none() -> None:
    assert len(ROWS) > 80
    assert [row for row in ROWS if len(row) != 3 or not row[1].strip()] == []
    assert [ours for ours in OURS if "none" in ours and ours.strip() != "none"] == []


def test_every_flag_exists() -> None:
    known = {*leaves(Request()), *leaves(RunConfig()), *ALIASES, *OF_GYMNASIUM}
    known |= {
        name for example in ("RoomsICM", "BreakoutPixels", "SimpleSpread") for name in leaves(registry.build(example))
    }
    named = {flag for row in ROWS for cell in row[1:] for flag in re.findall(r"`--([\w.]+)", cell)}
    assert named - known == set() and {"num_timesteps", "ppo.minibatches", "addons.0.beta", "env.critic"} <= named


@pytest.mark.parametrize(
    "name", sorted({name for ours in OURS for name in re.findall(r"`(ppo_and_friends\.[\w.]+)`", ours)})
)
def test_every_name_exists(name: str) -> None:
    resolved(name)


def test_names_that_do_not_exist_are_found_out() -> None:
    for wrong in ("ppo_and_friends.nowhere.GymEnv", "ppo_and_friends.vector.gym_vec.NoEnv"):
        with pytest.raises(ModuleNotFoundError):
            resolved(wrong)
    with pytest.raises(AttributeError):
        resolved("ppo_and_friends.config.Experiment.nothing")


def test_experiments_and_metrics_exist() -> None:
    assert {"Ant", "Walker2d", "SimpleSpread", "SimpleTag", "Rooms"} <= set(registry.names())
    explained = (DOCS / "metrics.md").read_text(encoding="utf-8")
    named = {name for line in METRICS.splitlines() if line.startswith("| ") for name in re.findall(r"`(\w+)`", line)}
    unknown = {name for name in named if f"`{name}`" not in explained}
    assert "mean_return" in named and unknown == set()


def test_their_flags_are_all_there() -> None:
    theirs = {flag for row in ROWS for flag in re.findall(r"`--([\w-]+)`", row[0])}
    assert {"environment", "num_timesteps", "test", "num_test_runs", "state_path", "clobber", "render"} <= theirs
    assert {"render_gif", "random_seed", "envs_per_proc", "allow_mpi_gpu", "force-deterministic"} <= theirs
