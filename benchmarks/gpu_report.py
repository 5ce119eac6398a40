"""The sections of docs/benchmarks.md about GPUs, made of the CSV files that the gpu_*.py scripts write."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path

import common
from curves import PUBLISHED, parsed

Cells = dict[str, str]
Tables = Callable[[list[Cells]], str]

RUN = ("task", "rows", "steps")
OWN = {"ours": "", "ours-compiled": " compiled"}  # sides, and what is said behind their ratios
WALL = "seconds_with_compilation"
HOW = (
    "Seconds are those of training, without compiling and starting; with compilation, the clock's from the first "
    "iteration on. Loss of return: how far the mean return fell below its highest so far, once a third of the run is "
    "over (in rows that lack seconds with compilation: 10 M steps). Failures: simulations that became unstable; "
    "overflows: steps of a row in which contacts were lost; both over all of a line's runs, empty where not counted. "
    "Returns on Isaac Gym and the time they took are CleanRL's documentation's, of its runs on one RTX A6000."
)
LARGE = 20.0  # percent of the highest return so far
REACHED = ("return level", "steps to it, median", "seconds to it, median")
LOSSES = ("loss of return %: median, most", f"seeds that lost more than {LARGE:g} %", "failures, overflows")


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def current(rows: list[Cells], *key: str) -> list[Cells]:
    """Of each `key` on each GPU, the rows of the code and the versions that were measured last."""

    def place(row: Cells) -> tuple[str, ...]:
        return tuple(row[name] for name in ("gpu", *key))

    last = {place(row): common.describe_gpu(row) for row in rows}
    return [row for row in rows if common.describe_gpu(row) == last[place(row)]]


def grouped(rows: Iterable[Cells], *key: str) -> dict[tuple[str, ...], list[Cells]]:
    found: dict[tuple[str, ...], list[Cells]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in key), []).append(row)
    return found


def median(rows: list[Cells], column: str) -> float:
    """NaN where no row has a value."""
    values = [float(row[column]) for row in rows if row[column]]
    return statistics.median(values) if values else math.nan


def spread(values: list[float]) -> str:
    """Mean, spread and range; of one seed alone its value."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return ""
    mean = statistics.fmean(known)
    digits = 0 if abs(mean) >= 100 else 1
    if len(known) == 1:
        return f"{mean:,.{digits}f} (1 seed)"
    mean, deviation, least, most = (
        f"{value:,.{digits}f}" for value in (mean, statistics.pstdev(known), min(known), max(known))
    )
    return f"{mean} +- {deviation} ({least} to {most})"


def or_nothing(value: float) -> str:
    return number(value) if math.isfinite(value) else ""


def seeds(rows: list[Cells]) -> str:
    return ", ".join(sorted((row["seed"] for row in rows), key=int))


def returns(rows: list[Cells], side: str, unnamed: str = "") -> str:
    """Mean returns at the checkpoints, one column for each value of the column `side`."""
    sides = list(dict.fromkeys(row[side] for row in rows))
    cells = []
    for key, each in grouped(rows, *RUN).items():
        found = {own: [parsed(row["returns"]) for row in each if row[side] == own] for own in sides}
        for point in sorted({step for runs in found.values() for run in runs for step in run}):
            values = (spread([run[point] for run in found[own] if point in run]) for own in sides)
            cells.append((*key[:2], f"{int(key[2]):,}", f"{point:,}", *values))
    titles = tuple(own or unnamed for own in sides)
    return f"Mean return, +- spread, (range) over seeds:\n\n{table((*RUN[:2], 'run', 'after steps', *titles), cells)}"


def peers(rows: list[Cells]) -> str:
    groups = grouped(rows, *RUN, "side")
    cells = []
    for (task, count, steps, side), each in groups.items():
        speed = median(each, "steps_per_second")
        over = []
        for name, own in OWN.items():
            base = median(groups.get((task, count, steps, name), []), "steps_per_second")
            if name != side and not math.isnan(base):
                over.append(f"{base / speed:.2f}{own}")
        times = (or_nothing(median(each, name)) for name in ("seconds", WALL))
        what = (task, count, f"{int(steps):,}", side, seeds(each), number(speed), ", ".join(over))
        cells.append((*what, *times, *reached(each), *losses(each)))
    head = ("task", "rows", "steps", "side", "seeds", "steps/s", "ours over it", "seconds", "with compilation")
    own = published((f"{row['task']}, {row['side']}", row) for row in rows if row["side"] in OWN)
    return f"{table((*head, *REACHED, *LOSSES), cells)}{own}\n{returns(rows, 'side')}"


def reached(runs: list[Cells]) -> tuple[str, str, str]:
    """Cells under REACHED."""
    threshold = runs[0]["threshold"]
    if not threshold:
        return ("", "", "")
    passed = [row for row in runs if row["threshold_steps"]]
    # A run that never reached it took longer than any that did.
    times = [float(row["threshold_seconds"] or "inf") for row in runs if row["seconds"]]
    steps = statistics.median(float(row["threshold_steps"] or "inf") for row in runs)
    usual = statistics.median(times) if times else math.inf
    return (f"{len(passed)} of {len(runs)} reached {float(threshold):g}", or_nothing(steps), or_nothing(usual))


def losses(runs: list[Cells]) -> tuple[str, str, str]:
    """Cells under LOSSES; empty for runs that ended before it was counted."""
    found = [
        float(row["loss_percent"]) for row in runs if row["loss_percent"] and int(row["loss_after"]) < int(row["steps"])
    ]
    usual = f"{statistics.median(found):.1f}, {max(found):.1f}" if found else ""
    large = f"{sum(loss > LARGE for loss in found)} of {len(found)}" if found else ""
    trouble = [[int(row[name]) for row in runs if row[name]] for name in ("simulation_failures", "contact_overflow")]
    return (usual, large, ", ".join(f"{sum(each):,}" for each in trouble) if all(trouble) else "")


def rates(rows: list[Cells]) -> str:
    speeds, times = [], []
    for (task, count), each in grouped(rows, "task", "rows").items():
        columns = ("physics", "step", "eager_step", "inference", "training")
        values = [number(median(each, f"{name}_steps")) for name in columns]
        rounds = str(len(each))
        speeds.append((task, count, rounds, *values))
        names = (*(f"{name}_ms" for name in (*columns[:-1], "iteration", "rest")), "memory_mib", "memory_1024_rows_mib")
        times.append((task, count, each[0]["steps_per_iteration"], *(number(median(each, name)) for name in names)))
    head = ("task", "rows", "rounds", "physics", "step", "step from Python", "+ inference", "+ training")
    other = ("task", "rows", "steps an iteration", "physics", "step", "step from Python", "+ inference", "iteration")
    other += ("the rest of it", "memory, MiB", "for 1024 rows, MiB")
    return f"Steps a second:\n\n{table(head, speeds)}\nMilliseconds a call:\n\n{table(other, times)}"


def starts(rows: list[Cells]) -> str:
    cells = [
        (*key, str(len(each)), *(number(median(each, f"{which}_seconds")) for which in ("cold", "warm")))
        for key, each in grouped(rows, "task", "rows").items()
    ]
    return table(("task", "rows", "rounds", "cold caches: seconds to the first iteration's end", "warm"), cells)


def learning(rows: list[Cells]) -> str:
    cells = []
    for (task, flags, count, steps), each in grouped(rows, "task", "flags", *RUN[1:]).items():
        alone = [row for row in each if row["together"] == "1"]
        what = f"{task} `{flags}`" if flags else task
        times = (or_nothing(median(alone, name)) for name in ("steps_per_second", "seconds", WALL))
        cells.append((what, count, f"{int(steps):,}", *times, *reached(each), *losses(each)))
    head = ("launcher", "rows", "steps", "steps/s", "seconds", "with compilation")
    own = published((row["task"], row) for row in rows if not row["flags"])
    return f"{table((*head, *REACHED, *LOSSES), cells)}{own}\n{returns(rows, 'flags', 'as it stands')}"


def published(rows: Iterable[tuple[str, Cells]]) -> str:
    """Ours, by the label of each row, beside what is published: at the last checkpoint within the published steps."""
    runs: dict[tuple[str, str, str], list[Cells]] = {}
    for label, row in rows:
        if row["task"] in PUBLISHED:
            runs.setdefault((label, row["task"], row["rows"]), []).append(row)
    cells = []
    for (label, task, count), each in runs.items():
        theirs = PUBLISHED[task]
        points = [step for row in each for step in parsed(row["returns"]) if step <= theirs.steps]
        if points:
            own = max(points)
            values = [parsed(row["returns"]).get(own, math.nan) for row in each]
            took = or_nothing(own / median(each, "steps_per_second"))
            numbers = (number(value) for value in (theirs.rl_games, theirs.cleanrl, theirs.seconds))
            cells.append((label, count, *numbers, f"{theirs.steps:,}", spread(values), took, f"{own:,}"))
    head = ("launcher", "rows", "rl_games", "CleanRL", "its seconds", "its steps", "ours", "seconds", "steps")
    return f"\nBeside returns on Isaac Gym, whose physics are not these:\n\n{table(head, cells)}" if cells else ""


def scaling(rows: list[Cells]) -> str:
    cells = []
    for (task, count, launcher), each in grouped(rows, "task", "rows", "launcher").items():
        sides = sorted(grouped(each, "gpus").items(), key=lambda item: int(item[0][0]))
        base = median(sides[0][1], "steps_per_second_and_gpu")
        for (gpus,), runs in sides:
            own = median(runs, "steps_per_second_and_gpu")
            total = number(median(runs, "steps_per_second"))
            cells.append((task, count, launcher, gpus, str(len(runs)), total, number(own), f"{own / base:.3f}"))
    head = ("task", "rows a GPU", "launcher", "GPUs", "rounds", "steps/s", "a GPU", "of the fewest GPUs'")
    return table(head, cells)


# (title, command, text, ((file, function that makes the tables, what one measurement is of), ...))
SECTIONS: tuple[tuple[str, str, str, tuple[tuple[str, Tables, tuple[str, ...]], ...]], ...] = (
    (
        "One GPU, beside rl_games and rsl_rl",
        "gpu_peers",
        "The whole training loop on the same environment, MuJoCo Warp. rl_games has its own settings for the task; "
        "`rl_games_side.py` and `rsl_rl_side.py` say what is equal. Returns are of training, about the last 100 "
        f"episodes. {HOW}",
        (("gpu_peers", peers, (*RUN, "side")),),
    ),
    (
        "One GPU, part by part",
        "gpu_rates",
        "Each column has one part more of a training run. Physics: random controls, no resets. Memory: of the device "
        "after training.",
        (("gpu_rates", rates, ("task", "rows")), ("gpu_starts", starts, ("task", "rows"))),
    ),
    (
        "One GPU, learning",
        "gpu_learning",
        f"Launchers as they stand. {HOW}",
        (("gpu_learning", learning, ("task", "flags", *RUN[1:])),),
    ),
    (
        "One GPU beside the cores of its machine",
        "gpu_engines",
        "Gymnasium's task by `main.py`: MuJoCo Warp on the GPU, and MuJoCo on the cores in several ranks.",
        (("gpu_engines", learning, ("task", "flags", *RUN[1:])),),
    ),
    (
        "Several GPUs",
        "gpu_scaling",
        "The same rows on every GPU, one rank each.",
        (("gpu_scaling", scaling, ("task", "rows", "launcher")),),
    ),
)


def sections(folder: Path, empty: str) -> list[str]:
    """Each with its heading; `empty` where nothing was measured."""
    parts = []
    for title, script, text, files in SECTIONS:
        tables = []
        for name, render, key in files:
            rows = sorted(current(common.read(name, folder), *key), key=common.describe_gpu)
            tables += [f"{line}:\n\n{render(list(run))}" for line, run in groupby(rows, key=common.describe_gpu)]
        body = "\n".join(tables) or empty
        parts.append(f"## {title}\n\n`python benchmarks/{script}.py`\n\n{text}\n\n{body}")
    return parts
