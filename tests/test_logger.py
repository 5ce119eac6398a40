"""progress.csv, TensorBoard events, and what is printed."""

from __future__ import annotations

import csv
import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ppo_and_friends import display
from ppo_and_friends.display import BarDisplay, LineDisplay, first_line, make_display
from ppo_and_friends.errors import UserError
from ppo_and_friends.logger import Logger, NullLogger
from ppo_and_friends.progress_csv import ProgressCsv
from ppo_and_friends.schedules import Progress
from ppo_and_friends.types import ActionSpace, GroupSpec, Spec, TensorSpec

START = Progress(0, 1000)


def metrics(iteration: int, **more: float) -> dict[str, float]:
    return {"iteration": iteration, "timesteps": 100 * iteration, "mean_return": iteration / 3, **more}


def log(directory: Path, iterations: range, **more: float) -> None:
    first = iterations[0] - 1
    with Logger(directory, first, Progress(100 * first, 1000)) as logger:
        for iteration in iterations:
            logger.log(metrics(iteration, **more))


def rows(directory: Path) -> list[dict[str, str]]:
    with open(directory / "progress.csv", newline="") as file:
        return list(csv.DictReader(file))


def iterations(directory: Path) -> list[int]:
    return [int(row["iteration"]) for row in rows(directory)]


def test_rows_are_exact_and_on_disk_at_once(tmp_path: Path) -> None:
    with Logger(tmp_path, 0, START) as logger:
        logger.log(metrics(1, mean_length=float("nan")))
        assert float(rows(tmp_path)[0]["mean_return"]) == 1 / 3
        assert rows(tmp_path)[0]["mean_length"] == "nan"
        assert rows(tmp_path)[0]["timesteps"] == "100"


def test_resume_drops_rows_past_the_state(tmp_path: Path) -> None:
    log(tmp_path, range(1, 6))
    log(tmp_path, range(4, 8))
    assert iterations(tmp_path) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("cut", range(1, 11))
def test_resume_after_a_half_written_row(tmp_path: Path, cut: int) -> None:
    log(tmp_path, range(1, 4))
    path = tmp_path / "progress.csv"
    path.write_bytes(path.read_bytes()[:-cut])
    log(tmp_path, range(3, 5))
    assert iterations(tmp_path) == [1, 2, 3, 4]
    assert [float(row["mean_return"]) for row in rows(tmp_path)] == [1 / 3, 2 / 3, 1.0, 4 / 3]


def test_half_a_number_is_not_taken_for_a_number(tmp_path: Path) -> None:
    log(tmp_path, range(1, 3))
    path = tmp_path / "progress.csv"
    path.write_bytes(path.read_bytes()[:-5])
    log(tmp_path, range(3, 4))
    assert iterations(tmp_path) == [1, 3]


@pytest.mark.parametrize("left", [b"", b"iterat", b"\xff\xfe\n\x00", b"something,else\n1,2\n"])
def test_a_file_without_a_header_is_begun_anew(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "progress.csv").write_bytes(left)
    log(tmp_path, range(1, 3))
    assert iterations(tmp_path) == [1, 2]


def test_columns_may_come_and_go(tmp_path: Path) -> None:
    log(tmp_path, range(1, 3))
    log(tmp_path, range(3, 5), is_success=0.5)
    log(tmp_path, range(5, 6))
    assert [row["is_success"] for row in rows(tmp_path)] == ["", "", "0.5", "0.5", ""]
    assert iterations(tmp_path) == [1, 2, 3, 4, 5]


def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_file = ProgressCsv(tmp_path / "progress.csv", 0)

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ppo_and_friends.files.os.fsync", fail)
    with pytest.raises(UserError, match="progress.csv cannot be written .No space left"):
        log_file.append(metrics(1))


def scalars(directory: Path) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("mean_return")]


def test_tensorboard_has_each_iteration_once(tmp_path: Path) -> None:
    with Logger(tmp_path, 0, START) as logger:
        for iteration in range(1, 6):
            logger.log(metrics(iteration, mean_length=float("nan")))
        assert len(scalars(tmp_path)) == 5  # before anything is closed
    log(tmp_path, range(4, 7))
    assert [step for step, _ in scalars(tmp_path)] == [100, 200, 300, 400, 500, 600]


def test_no_directory_and_other_ranks_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with NullLogger() as silent:
        silent.log(metrics(1))
        silent.say("nothing")
    assert capsys.readouterr().out == ""
    with Logger(None, 0, START) as logger:
        logger.log(metrics(1))
    assert not list(tmp_path.iterdir())


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(display.time, "monotonic", lambda: self.now)


def test_lines_now_and_then_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(monkeypatch), io.StringIO()
    lines = make_display(Progress(0, 10_000), False, stream)
    assert isinstance(lines, LineDisplay)
    for iteration in range(1, 12):
        clock.now += 1
        lines.update(metrics(iteration, mean_length=7))
    lines.say("saved")
    lines.close()
    shown = stream.getvalue().splitlines()
    assert [line.split()[0] for line in shown] == ["1%", "6%", "11%", "saved"]
    assert shown[1].strip() == "6% 600/10,000 steps, 100 steps/s, ETA 0:01:34, return 2.0, length 7.0"
    lines.update(metrics(12))
    lines.close()
    assert "1,200/10,000" in stream.getvalue().splitlines()[-1]


def test_resumed_pace_counts_only_new_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(monkeypatch), io.StringIO()
    lines = LineDisplay(Progress(5000, 10_000), True, stream)
    clock.now = 2
    lines.update({"iteration": 51, "timesteps": 5100, "mean_return": float("nan"), "kl": 0.0123456})
    assert "51% 5,100/10,000 steps, 50 steps/s, ETA 0:01:38, return -, length -" in stream.getvalue()
    assert "kl 0.01235" in stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("verbose", [False, True])
def test_bar_on_a_terminal(verbose: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    bar = make_display(START, verbose, terminal)
    assert isinstance(bar, BarDisplay)
    bar.update(metrics(5, mean_length=float("nan"), kl=0.25))
    bar.say("[best] saved")
    bar.close()
    assert "50%" in terminal.getvalue() and "500/1,000 steps" in terminal.getvalue()
    assert "[best] saved" in terminal.getvalue()
    assert ("kl" in terminal.getvalue()) == verbose


def test_first_line() -> None:
    group = GroupSpec(8, (TensorSpec((4,)),), (TensorSpec((4,)),), ActionSpace("discrete", (2,)))
    spec = Spec((group,), "CartPole-v1", "gymnasium in process")
    assert first_line(spec, "cpu", 4, 1) == (
        "CartPole-v1 on gymnasium in process: device cpu, 4 ranks of 8 rows and 1 thread each"
    )


def test_importing_the_logger_imports_nothing_slow() -> None:
    code = "import sys, ppo_and_friends.logger; print([n for n in ('tensorboard', 'rich') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
