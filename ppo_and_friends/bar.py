"""The live display on a terminal, drawn by the calling thread alone: no thread competes with training."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ppo_and_friends.display import Metrics, Standing, number, printable
from ppo_and_friends.schedules import Progress

SECONDS_BETWEEN_DRAWINGS = 0.1
SHARE_OF_TIME = 0.02  # that drawing may take of training, on a slow terminal too
WIDEST = 120  # columns of the line with the bar
SHORTEST = 3  # columns of the bar itself
GAP = "   "  # between blocks
LONGEST = 8  # lines of a block
CUT = "crop"  # not "ellipsis": that character is not in every encoding

EPISODES = {"return": "mean_return", "length": "mean_length", "episodes": "episodes"}
UPDATE = {
    "KL": "kl",
    "clip fraction": "clip_fraction",
    "explained variance": "explained_variance",
    "entropy": "entropy",
}
SHOWN = ("timesteps", "evaluation_return", "lr", *EPISODES.values(), *UPDATE.values())

Block = list[Text]  # lines of one width


class BarDisplay:
    """Progress, pace and the numbers to watch; with `verbose`, the phases and all other numbers below."""

    def __init__(self, start: Progress, best: float, verbose: bool, stream: TextIO) -> None:
        self._standing, self._verbose, self._stream = Standing(start, best), verbose, stream
        self._draw_after = -math.inf
        self._console = Console(file=stream, force_terminal=True)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            get_renderable=self._render,
            redirect_stderr=sys.stderr.isatty(),  # otherwise it goes to a file, and must go on doing so
        )
        self._live.start()
        self._console.show_cursor(True)  # a run that is killed cannot give a hidden cursor back

    def update(self, metrics: Metrics) -> None:
        self._standing.update(metrics)
        began = time.monotonic()
        if began >= self._draw_after:
            self._live.refresh()
            took = time.monotonic() - began
            self._draw_after = began + max(SECONDS_BETWEEN_DRAWINGS, took / SHARE_OF_TIME)

    def close(self) -> None:
        self._live.stop()  # draws once more

    def _render(self) -> RenderableType:
        text = self._side_by_side(self._numbers())
        if self._verbose:
            text.append("\n").append_text(self._side_by_side(self._details()))
        return Group(self._progress(), text)

    def _progress(self) -> RenderableType:
        """How far, how long and how long still; what does not fit is left out whole, the least needed first."""
        standing = self._standing
        cells = {
            "share": Text(f"{standing.fraction:4.0%}", "progress.percentage"),
            "steps": Text(f"{standing.timesteps:,}/{standing.total:,} steps"),
            "elapsed": Text(standing.elapsed, "progress.elapsed"),
            "remaining": Text(f"ETA {standing.remaining}", "progress.remaining"),
        }
        width = min(self._console.width, WIDEST)
        for name in ("elapsed", "steps", "remaining", "share"):
            if sum(len(cell) + 1 for cell in cells.values()) - 1 > width:
                del cells[name]
        free = width - sum(len(cell) + 1 for cell in cells.values())
        parts: list[RenderableType] = [*cells.values()]
        if free >= SHORTEST and parts:
            parts.insert(1, ProgressBar(standing.total, min(standing.timesteps, standing.total), free))
        line = Table.grid(padding=(0, 1, 0, 0))
        line.add_row(*parts)
        return line

    def _numbers(self) -> list[Block]:
        standing = self._standing
        pace = {"steps/s": standing.pace}
        scores = {
            "evaluation": number(standing.latest.get("evaluation_return")),
            "at step": number(standing.evaluated_at),
            "best": number(standing.best),
            "learning rate": number(standing.latest.get("lr")),
        }
        return [
            self._block(self._values(EPISODES) | pace, ">9"),
            self._block(self._values(UPDATE), ">9"),
            self._block(scores, ">11"),
        ]

    def _details(self) -> list[Block]:
        phases = self._standing.phases().items()
        shares = {name: f"{share:4.0%} {milliseconds:9,.1f} ms" for name, (share, milliseconds) in phases}
        rest = list(self._standing.rest(SHOWN).items())
        parts = [dict(rest[start : start + LONGEST]) for start in range(0, len(rest), LONGEST)]
        return [self._block(part, ">8") for part in (shares, *parts) if part]

    def _values(self, names: Mapping[str, str]) -> dict[str, str]:
        return {label: self._standing.value(name) for label, name in names.items()}

    def _block(self, values: Mapping[str, str], cell: str) -> Block:
        """Labels and values; `cell` gives the values a least width, so that nothing moves as digits come and go."""
        labels = [printable(label, self._stream) for label in values]
        cells = [f"{value:{cell}}" for value in values.values()]
        label_width, cell_width = max(map(len, labels)), max(map(len, cells))
        pairs = zip(labels, cells, strict=True)
        return [Text.assemble(f"{label:{label_width}} ", (f"{cell:{cell_width}}", "bold")) for label, cell in pairs]

    def _side_by_side(self, blocks: Sequence[Block]) -> Text:
        """As many beside each other as the terminal is wide, the others below.

        Laid out by hand, because rich's tables take some milliseconds each time."""
        rows: list[list[Block]] = []
        for block in blocks:
            if rows and sum(len(each[0]) + len(GAP) for each in rows[-1]) + len(block[0]) <= self._console.width:
                rows[-1].append(block)
            else:
                rows.append([block])
        lines = [
            Text(GAP).join(line or Text(" " * len(block[0])) for line, block in zip(line, row, strict=True))
            for row in rows
            for line in zip_longest(*row)
        ]
        joined = Text("\n").join(lines)
        joined.no_wrap, joined.overflow = True, CUT
        return joined
