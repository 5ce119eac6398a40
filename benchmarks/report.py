"""Write docs/benchmarks.md and README's GPU figures from the CSV files in results/.

--plot writes docs/scaling.png too (needs matplotlib).

    python benchmarks/report.py [--plot]

Of every setting, the last run on each kind of machine counts; earlier rows stay in the CSV files. gpu_report.py makes
the sections about GPUs.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import common
import gpu_readme
import gpu_report
from common import read
from gpu_report import number, table

PAGE = common.ROOT / "docs" / "benchmarks.md"
PICTURE = common.ROOT / "docs" / "scaling.png"
HEAD = """# Benchmarks

Made by `python benchmarks/report.py` from the files in `benchmarks/results/`; not to be edited. Each value is the
median of so many rounds with the lowest and the highest. Sides take turns within one run, and a ratio is the median of
the rounds' ratios to the setting's first side. "+" after a commit: with changes that were not committed.
"""
EMPTY = "Not measured yet.\n"
SECTIONS = {
    "peers": (
        "Beside Stable-Baselines3",
        "`python benchmarks/peers.py`",
        "The whole training loop with equal settings. Steps a second, or seconds from a process's start to its end.",
    ),
    "scaling": (
        "Ranks",
        "`python benchmarks/scaling.py`",
        "HalfCheetah. Strong: one rollout of 4096 samples, each rank with the launcher's 16 rows. Dealt: the same with "
        "the 16 rows dealt out over the ranks. Weak: 4096 samples on every rank, which at equal environment "
        "steps means fewer updates, and so lower returns, with more ranks.",
    ),
    "overhead": (
        "Logging, evaluation and checkpoints",
        "`python benchmarks/overhead.py`",
        "Launchers as they stand, with everything on at its default, beside their bare iterations.",
    ),
    "recurrence": (
        "Memory",
        "`python benchmarks/recurrence.py`",
        "The whole training loop of a launcher with two layers in actor and critic, the second a core, beside the same "
        "without memory.",
    ),
    "agents": (
        "Several agents",
        "`python benchmarks/agents.py`",
        "Environments of several agents as rows of tensors, beside bare loops over the same environments: steps of "
        "environments in a second of one process.",
    ),
    "games": (
        "Games",
        "`python benchmarks/games.py STATE...`",
        "Policies that learned a game by self-play against players that do not learn, each seat in half of the games. "
        "A round is a seed.",
    ),
    "spread": (
        "SimpleSpread as the MAPPO paper has it",
        "`python benchmarks/spread.py STATE...`",
        "Mean returns of a team on landmarks nearer to the middle, and the same as the paper (arXiv:2103.01955) counts "
        "them, where about -120 is published. A round is a seed.",
    ),
    "collector": ("Collector", "`python benchmarks/collector.py`", "Stepping and recording, beside the bare engine."),
}
SCORES = ("Scores", "`python benchmarks/scores.py NAME...`", "Whole deterministic episodes after training.")


def latest(rows: Iterable[dict[str, str]], *key: str) -> list[dict[str, str]]:
    """The rows of the last run of each `key` on each machine, in the order of the file."""
    rows = list(rows)
    names = ("machine", "cores", *key)
    last = {tuple(row[name] for name in names): row["date"] for row in rows}
    return [row for row in rows if last[tuple(row[name] for name in names)] == row["date"]]


def origin(row: dict[str, str]) -> str:
    return common.describe(row).replace("; commit", f"; {row['date'].partition(' ')[0]}, commit")


def measured(rows: list[dict[str, str]]) -> str:
    """Tables of settings and sides, one for each run."""
    parts = []
    for line, run in groupby(sorted(rows, key=origin), key=origin):
        cells = []
        for (setting, side), each in by_side(run).items():
            values = [float(row["value"]) for row in each]
            rounds = f"{len(values)} round{'s' if len(values) > 1 else ''}"
            spread = f"{number(min(values))} to {number(max(values))}, {rounds}"
            ratio = f"{statistics.median(ratios(each)):.3f}" if ratios(each) else ""
            cells.append((setting, side, f"{number(statistics.median(values))} {each[0]['unit']}", spread, ratio))
        parts.append(f"{line}:\n\n{table(('setting', 'side', 'median', 'range', 'ratio'), cells)}")
    return "\n".join(parts)


def ratios(rows: Iterable[dict[str, str]]) -> list[float]:
    """Of the rounds in which the base was measured too."""
    return [float(row["ratio"]) for row in rows if row["ratio"]]


def by_side(rows: Iterable[dict[str, str]]) -> dict[tuple[str, str], list[dict[str, str]]]:
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault((row["setting"], row["side"]), []).append(row)
    return found


def scored(rows: list[dict[str, str]]) -> str:
    """A row for each environment at each number of steps, ranks and flags: mean and spread over seeds."""
    names = ("environment", "steps", "ranks", "flags", "machine", "cores")
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    cells = []
    for (environment, steps, ranks, flags, machine, cores), each in sorted(groups.items()):
        each.sort(key=lambda row: int(row["seed"]))
        means = [float(row["mean"]) for row in each]
        minutes = [float(row["minutes"]) for row in each if row["minutes"]]
        score = (
            f"{statistics.fmean(means):.1f} +- {statistics.pstdev(means):.1f}" if len(means) > 1 else f"{means[0]:.1f}"
        )
        seeds = ", ".join(row["seed"] for row in each)
        time = f"{statistics.median(minutes):.1f}" if minutes else ""
        what = f"{environment} `{flags}`" if flags else environment
        commits = ", ".join(dict.fromkeys(row["commit"] for row in each))
        cells.append(
            (
                what,
                f"{int(steps):,}",
                ranks,
                seeds,
                each[0]["episodes"],
                score,
                time,
                f"{machine}, {cores} cores",
                commits,
            )
        )
    head = (
        "environment",
        "steps",
        "ranks",
        "seeds",
        "episodes",
        "mean +- spread over seeds",
        "minutes",
        "machine",
        "commit",
    )
    return table(head, cells)


def page(folder: Path = common.RESULTS) -> str:
    """docs/benchmarks.md, a function of the CSV files alone."""
    parts = [HEAD]
    for name, (title, command, text) in SECTIONS.items():
        rows = latest(read(name, folder), "setting")
        picture = f"\n![Speed over ranks]({PICTURE.name})\n" if name == "scaling" and rows else ""
        parts.append(f"## {title}\n\n{command}\n\n{text}\n{picture}\n{measured(rows) or EMPTY}")
    title, command, text = SCORES
    scores = latest(read("scores", folder), "environment", "seed", "steps", "ranks", "flags")
    parts.append(f"## {title}\n\n{command}\n\n{text}\n\n{scored(scores) if scores else EMPTY}")
    parts += gpu_report.sections(folder, EMPTY)
    return "\n".join(parts)


def speedups(rows: Iterable[dict[str, str]]) -> dict[str, list[tuple[int, float]]]:
    """(ranks, speed over that of the fewest ranks) of each setting on each machine, by its label."""
    found = {}
    for key, each in groupby(rows, key=lambda row: (row["setting"], row["machine"], row["cores"])):
        sides = by_side(row for row in each if row["unit"] == "steps/s")
        points = [
            (int(side.split()[0]), statistics.median(ratios(group) or [1.0]))  # the base has no ratio
            for (_, side), group in sides.items()
        ]
        if points:
            found["{}\n{}, {} cores".format(*key)] = sorted(points)
    return found


def plot(rows: list[dict[str, str]], path: Path) -> None:
    """Speed over ranks, relative to the fewest, beside the straight line."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(4.5, 3.2), dpi=90)
    found = speedups(rows)
    for label, points in found.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=label)
    most = max((points[-1][0] for points in found.values()), default=1)
    axes.plot([1, most], [1, most], color="grey", linestyle=":", label="ideal")
    axes.set(xlabel="ranks", ylabel="speed over that of one rank", xscale="log", yscale="log")
    axes.set_xticks(ticks := [2**power for power in range(most.bit_length())], ticks)
    axes.set_yticks(ticks, ticks)
    axes.minorticks_off()
    axes.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--plot", action="store_true")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--readme", type=Path, default=gpu_readme.README)
    options = parser.parse_args()
    options.page.write_text(page(options.results), encoding="utf-8")
    gpu_readme.write(options.results, options.readme)
    if options.plot:
        plot(latest(read("scaling", options.results), "setting"), options.page.parent / PICTURE.name)


if __name__ == "__main__":
    main()
