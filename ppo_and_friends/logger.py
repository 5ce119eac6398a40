"""Where the metrics of a run go: progress.csv, TensorBoard, and the display. Rank 0 logs, others have `NullLogger`."""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ppo_and_friends.display import make_display
from ppo_and_friends.progress_csv import ProgressCsv
from ppo_and_friends.schedules import Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import FileWriter


class NullLogger:
    """For ranks that do not write."""

    def log(self, metrics: dict[str, float]) -> None:
        """Take the metrics of one iteration."""

    def picture(self, tag: str, gif: bytes, timesteps: int) -> None:
        """Take an animated GIF."""

    def close(self) -> None:
        """Write what is pending."""

    def __enter__(self) -> NullLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Logger(NullLogger):
    """Writes into a state directory, from `start` on. With `clobber`, only after the first save of the new run.

    Args:
        iteration: iterations done so far: what an interrupted run logged beyond is dropped.
        start: timesteps done so far, and the total.
        best: the best evaluation so far, minus infinity before the first.
        verbose: show every metric.
    """

    def __init__(
        self, directory: Path, iteration: int, start: Progress, best: float = -math.inf, verbose: bool = False
    ) -> None:
        self._files = Files(directory, iteration, start.timesteps)
        self._display = make_display(start, best, verbose)

    def log(self, metrics: dict[str, float]) -> None:
        """Metrics of one iteration; `iteration` and `timesteps` among them.

        Raises:
            UserError: the disk is full.
        """
        self._display.update(metrics)
        self._files.log(metrics)

    def picture(self, tag: str, gif: bytes, timesteps: int) -> None:
        """Show a GIF in TensorBoard, before the metrics of its iteration are logged."""
        self._files.picture(tag, gif, timesteps)

    def close(self) -> None:
        self._display.close()
        self._files.close()


class Files:
    """progress.csv and TensorBoard events, complete after every iteration."""

    def __init__(self, directory: Path, iteration: int, timesteps: int) -> None:
        self._csv = ProgressCsv(directory / "progress.csv", iteration)
        self._path, self._timesteps = directory / "tensorboard", timesteps
        self._events: FileWriter | None = None

    def log(self, metrics: dict[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        self._csv.append(metrics)
        self._events = self._events or self._open_events()
        # One event with all values: SummaryWriter.add_scalar for each takes ten times as long.
        shown = {name: value for name, value in metrics.items() if math.isfinite(value) and name != "timesteps"}
        values = [Summary.Value(tag=name, simple_value=value) for name, value in shown.items()]
        self._events.add_summary(Summary(value=values), int(metrics["timesteps"]))
        self._events.flush()

    def picture(self, tag: str, gif: bytes, timesteps: int) -> None:
        """An image summary whose bytes are the GIF: browsers play it, and nothing has to be encoded again."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        width, height = (int.from_bytes(gif[at : at + 2], "little") for at in (6, 8))  # of the GIF's own header
        image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=gif)
        self._events = self._events or self._open_events()
        self._events.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), timesteps)

    def _open_events(self) -> FileWriter:
        """Imports TensorBoard only now, because it would delay the first step."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
        from torch.utils.tensorboard import FileWriter

        events = FileWriter(str(self._path))
        # A session that starts at a step makes TensorBoard forget what an interrupted run logged from there on.
        events.add_event(Event(session_log=SessionLog(status=SessionLog.START)), self._timesteps + 1)
        return events

    def close(self) -> None:
        self._csv.close()
        if self._events is not None:
            self._events.close()
