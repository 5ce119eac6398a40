"""Learning curves of runs, finished or not: python -m ppo_and_friends.plot --help.

Runs with the same settings are one curve: the mean over their seeds, within a band of one standard deviation.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ppo_and_friends.curves import Curve, distinct, group, read_run
from ppo_and_friends.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

X_LABELS = {"steps": "environment steps", "minutes": "training time (minutes)"}
DIGITS = {"steps": 0, "minutes": 2}  # after the point
UNITS = {
    "mean_return": "sum of rewards",
    "evaluation_return": "sum of rewards",
    "evaluation_std": "sum of rewards",
    "mean_length": "steps",
    "evaluation_length": "steps",
    "kl": "nats",
    "entropy": "nats",
}


@dataclass(frozen=True)
class Options:
    """Draw the learning curves of runs: mean and standard deviation over seeds."""

    directories: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DIR ...", help_behavior_hint="")
    ]
    """State directories, such as saved_states/Ant."""
    x: Literal["steps", "minutes"] = "steps"
    """Environment steps, or minutes of training over all resumes."""
    y: str = "mean_return"
    """A column of progress.csv."""
    out: Path = Path("curves.png")
    """The picture; .svg and .pdf work too."""
    smooth: int = 1
    """Values over which each is averaged before it is drawn, itself the last; 1 draws them as they are."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw what a command line asks for; returns the exit code, 2 where it asks for something that cannot be."""
    options = tyro.cli(Options, args=arguments, prog="python -m ppo_and_friends.plot", use_underscores=True)
    try:
        _run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(options: Options) -> None:
    if not options.directories:
        raise UserError("No run is named: give one or more state directories, such as saved_states/Ant.")
    if options.smooth < 1:
        raise UserError(f"smooth is {options.smooth}, but must be 1 (as they are) or more values.")
    directories = {directory.resolve(): directory for directory in options.directories}  # one named twice is one seed
    read = (read_run(path, options.x, options.y, options.smooth) for path in directories.values())
    runs, left_out = distinct(read)
    curves = group(runs)
    figure = draw(curves, options.x, options.y)
    try:
        figure.savefig(options.out)
    except (OSError, ValueError) as error:  # ValueError: a format that matplotlib does not know
        raise UserError(f"{options.out} cannot be written: {getattr(error, 'strerror', error)}.") from error
    print("".join(f"{line}\n" for line in left_out), end="")
    for curve in curves:
        last = f"{curve.mean[-1]:,.4g}" + (f" +- {curve.std[-1]:,.4g}" if curve.seeds > 1 else "")
        print(f"{curve.title}: {options.y} {last} at {curve.x[-1]:,.{DIGITS[options.x]}f} {options.x}")
    print(f"Curves: {options.out}")


def draw(curves: Sequence[Curve], x: str, y: str) -> Figure:
    """All curves in one picture.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError('Curves need matplotlib: pip install ".[plot]".') from error
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for curve in curves:
        (line,) = axes.plot(curve.x, curve.mean, label=curve.title)
        if curve.seeds > 1:
            low, high = curve.mean - curve.std, curve.mean + curve.std
            axes.fill_between(curve.x, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
    axes.set_xlabel(X_LABELS[x])
    axes.set_ylabel(y.replace("_", " ") + (f" ({UNITS[y]})" if y in UNITS else ""))
    if x == "steps":
        from matplotlib.ticker import EngFormatter

        axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    sys.exit(main())
