"""What README shows of the GPU measurements: tables of the CSV files, which `report.py` writes between two marks."""

from __future__ import annotations

from pathlib import Path

import common
from curves import parsed
from gpu_report import (
    OWN,
    RUN,
    WALL,
    Cells,
    current,
    grouped,
    losses,
    median,
    or_nothing,
    reached,
    scaling,
    spread,
    table,
)

README = common.ROOT / "README.md"
BEGIN, END = "<!-- made by benchmarks/report.py -->\n", "<!-- end -->\n"
HEAD = ("launcher", "machine", "rows", "steps/s", "rl_games there", "seconds of training, with compilation")
HEAD += ("mean return while training", "after steps", "seeds that lost more than 20 %")
HEAD += ("rl_games' return on Isaac Gym: seeds that reached it, seconds",)


def place(row: Cells) -> str:
    return f"{row['gpu']}, {row['cores']} cores"


def line(name: str, runs: list[Cells], theirs: list[Cells]) -> tuple[str, ...]:
    """Cells under HEAD; `theirs` are rl_games' runs of the same task."""
    row, curves = runs[0], [parsed(run["returns"]) for run in runs]
    steps = max(curves[0])
    last = spread([curve[steps] for curve in curves if steps in curve])
    last += f", {len(runs)} seeds" if len(runs) > 1 else ""
    seconds = [text for column in ("seconds", WALL) if (text := or_nothing(median(runs, column)))]
    level, _, spent = reached(runs)
    level += f", {spent} s" if spent else ""
    speeds = (or_nothing(median(each, "steps_per_second")) for each in (runs, theirs))
    return (name, place(row), row["rows"], *speeds, ", ".join(seconds), last, f"{steps:,}", losses(runs)[1], level)


def figures(folder: Path) -> str:
    """The table, and a line about several GPUs."""
    cells = []
    rows = current(common.read("gpu_peers", folder), *RUN, "side")
    for _, each in grouped(rows, *RUN, "gpu", "cores", "commit").items():
        sides = {side: runs for (side,), runs in grouped(each, "side").items()}
        for side in [own for own in OWN if own in sides]:
            name = sides[side][0]["task"] + (" `--compile on`" if OWN[side] else "")
            cells.append(line(name, sides[side], sides.get("rl_games", [])))
    for file in ("gpu_learning", "gpu_engines"):
        rows = current(common.read(file, folder), "task", "flags", *RUN[1:])
        rows = [row for row in rows if row["together"] == "1" and (file == "gpu_engines" or not row["flags"])]
        for (task, flags, *_), each in grouped(rows, "task", "flags", *RUN[1:], "gpu", "cores").items():
            cells.append(line(f"{task} `{flags}`" if flags else task, each, []))
    parts = [table(HEAD, cells)] if cells else []
    rows = current(common.read("gpu_scaling", folder), "task", "rows", "launcher")
    return "\n".join([*parts, *([f"Several GPUs:\n\n{scaling(rows)}"] if rows else [])])


def write(folder: Path, path: Path = README) -> None:
    """Put the figures where the marks are, in place of what is there."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{figures(folder)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
