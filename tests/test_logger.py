"""progress.csv, TensorBoard events, and what is printed."""

from __future__ import annotations

import csv
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ppo_and_friends.errors import UserError
from ppo_and_friends.logger import Logger, NullLogger
from ppo_and_friends.progress_csv import ProgressCsv
from ppo_and_friends.schedules import Progress

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


def test_other_ranks_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with NullLogger() as silent:
        silent.log(metrics(1))
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.iterdir())


def test_importing_the_logger_imports_nothing_slow() -> None:
    code = "import sys, ppo_and_friends.logger; print([n for n in ('tensorboard', 'rich') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
