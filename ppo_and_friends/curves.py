"""Runs as curves: a column of progress.csv over steps or minutes, and its mean over runs that differ only by seed."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppo_and_friends.errors import UserError
from ppo_and_friends.progress_csv import PHASE, parse_rows
from ppo_and_friends.schedules import Schedule
from ppo_and_friends.serialize import FREE_SETTINGS, flat, read_config

LONGEST_LABEL = 3  # settings in it
EVALUATION = "evaluation_"  # columns that come with the first evaluation
Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Run:
    """One run: x and y `[M]`, x rising."""

    directory: Path
    environment: str  # what -e said
    name: str  # the experiment's
    seed: int | None  # None where the directory does not say
    settings: Mapping[str, Any]  # {path of a setting: plain value}, of those that change what is learned
    x: Array
    y: Array


@dataclass(frozen=True)
class Curve:
    """Mean and standard deviation `[M]` over `seeds` runs; x `[M]` are all points that lie within every one of them."""

    title: str
    seeds: int
    x: Array
    mean: Array
    std: Array


def read_run(directory: Path, x: str, y: str, smooth: int = 1) -> Run:
    """What a state directory has of column `y`.

    Args:
        x: "steps", or "minutes": the column `seconds`, or the sum of the phases (seconds_*) where a run has none.
        smooth: values over which each is averaged, itself the last.
    Raises:
        UserError: no such directory, no progress.csv, an unknown column, or one without a value.
    """
    names, rows = _read_rows(directory)
    if y not in names:
        if y.startswith(EVALUATION) and not any(name.startswith(EVALUATION) for name in names):
            raise UserError(
                f"{directory} was never evaluated, so it has no '{y}' yet: train on, or take another column."
            )
        near = difflib.get_close_matches(y, names, 3, 0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(names)}."
        raise UserError(f"{directory / 'progress.csv'} has no column '{y}': {hint}")
    environment, experiment, seed = read_config(str(directory / "config.json"))
    points = np.stack((_positions(rows, names, x), _numbers(rows, y)), 1)
    points = points[np.isfinite(points).all(1)]
    if not len(points):
        raise UserError(f"{directory / 'progress.csv'} has no value of '{y}' yet: take another column, or train on.")
    name, settings = str(experiment.get("name") or environment), _settings(experiment)
    return Run(directory, environment, name, seed, settings, points[:, 0], _averaged(points[:, 1], smooth))


def _read_rows(directory: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Names of the columns, and at least one row."""
    if not directory.is_dir():
        raise UserError(f"There is no directory {directory}: give state directories, such as saved_states/Ant.")
    path = directory / "progress.csv"
    try:
        names, rows = parse_rows(path.read_bytes().decode(errors="replace"))
    except FileNotFoundError:
        raise UserError(f"{directory} has no progress.csv: give the directory of a run that was trained.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    if not rows:
        raise UserError(f"{path} has no row yet: wait for the first iteration.")
    return list(names), rows


def _settings(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """Those that change what is learned; the total of timesteps is one where a schedule stretches over it."""
    kept = flat({name: value for name, value in experiment.items() if name not in FREE_SETTINGS})
    schedules = [value for value in kept.values() if isinstance(value, str) and value.startswith("linear:")]
    if any(Schedule(value).depends_on_total for value in schedules):
        kept["num_timesteps"] = experiment.get("num_timesteps")
    return kept


def distinct(runs: Iterable[Run]) -> tuple[list[Run], list[str]]:
    """Runs without those that repeat the seed and the settings of an earlier one, and a line about each of these."""
    kept: list[Run] = []
    first: dict[tuple[str, int], Run] = {}
    lines: list[str] = []
    for run in runs:
        same = run if run.seed is None else first.setdefault((_identity(run), run.seed), run)
        if same is run:
            kept.append(run)
        else:
            lines.append(f"{run.directory} is left out: {same.directory} has the same settings and seed {run.seed}.")
    return kept, lines


def group(runs: Sequence[Run]) -> list[Curve]:
    """One curve for each experiment and its settings, in the order of the runs.

    Raises:
        UserError: the runs of a curve have no stretch in common.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_identity(run), []).append(run)
    firsts = [members[0] for members in groups.values()]
    return [_curve(_title(members, firsts), members) for members in groups.values()]


def _identity(run: Run) -> str:
    """What runs of one curve have in common."""
    return json.dumps([run.environment, run.settings], sort_keys=True)


def _curve(title: str, runs: Sequence[Run]) -> Curve:
    low, high = max(run.x[0] for run in runs), min(run.x[-1] for run in runs)
    if low > high:
        names = ", ".join(str(run.directory) for run in runs)
        raise UserError(f"{names} are seeds of one experiment, but have no stretch in common: draw them one by one.")
    points = np.unique(np.concatenate([run.x for run in runs]))
    points = points[(points >= low) & (points <= high)]
    values = np.stack([np.interp(points, run.x, run.y) for run in runs])
    return Curve(title, len(runs), points, values.mean(0), values.std(0))


def _title(members: Sequence[Run], groups: Sequence[Run]) -> str:
    """The experiment, the settings in which it differs from other curves of the same one, and the seeds."""
    run = members[0]
    alike = [other for other in groups if other.environment == run.environment]
    differing = [
        name
        for name in dict.fromkeys(name for other in alike for name in other.settings)
        if any(other.settings.get(name) != run.settings.get(name) for other in alike)
    ]
    parts = [f"{name} {_text(run.settings.get(name))}" for name in differing[:LONGEST_LABEL]]
    if len(differing) > LONGEST_LABEL:
        parts.append(f"{len(differing) - LONGEST_LABEL} more")
    return ", ".join((run.name, *parts)) + (f" ({len(members)} seeds)" if len(members) > 1 else "")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return "-" if value is None else str(value)


def _positions(rows: Sequence[Mapping[str, str]], names: Iterable[str], x: str) -> Array:
    if x == "steps":
        return _numbers(rows, "timesteps")
    if "seconds" in names:
        return _numbers(rows, "seconds") / 60
    phases = [np.nan_to_num(_numbers(rows, name)) for name in names if name.startswith(PHASE)]
    return np.sum(phases, 0, initial=0.0).cumsum() / 60


def _numbers(rows: Sequence[Mapping[str, str]], name: str) -> Array:
    """NaN where there is none."""
    return np.array([_number(row.get(name, "")) for row in rows])


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _averaged(values: Array, count: int) -> Array:
    """Each value as the mean of the last `count`; the first ones of as many as there are."""
    sums = np.concatenate(([0.0], values.cumsum()))
    ends = np.arange(1, len(sums))
    starts = np.maximum(0, ends - count)
    return (sums[ends] - sums[starts]) / (ends - starts)
