"""Commands on several GPUs at once, and the list of those whose results README shows; no GPU is needed."""

from __future__ import annotations

import io
import shlex
import sys
from pathlib import Path
from typing import Any

import common
import gpu_engines
import gpu_jobs
import gpu_learning
import gpu_peers
import gpu_rates
import gpu_report
import pytest
from gpu_scripts import ORIGIN, call

SCRIPTS = (gpu_engines, gpu_learning, gpu_peers, gpu_rates)


def test_another_process_may_write_the_first_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_was_first(*_: Any) -> None:
        monkeypatch.undo()
        common.append("some", ORIGIN, [{"value": 1}], tmp_path)

    monkeypatch.setattr(common.fcntl, "flock", other_was_first)
    common.append("some", ORIGIN, [{"value": 2}], tmp_path)
    assert [row["value"] for row in common.read("some", tmp_path)] == ["1", "2"]


def run_list(lines: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *words: Any) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return call(gpu_jobs, monkeypatch, "-", "--logs", folder, *words)


def test_commands_are_spread_over_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Each waits for the other, which has another GPU.
    monkeypatch.chdir(tmp_path)
    script = "import os, pathlib, sys, time; own = os.environ['CUDA_VISIBLE_DEVICES']; pathlib.Path(own).touch()"
    script += "\nwhile not pathlib.Path(str(1 - int(own))).exists(): time.sleep(0.01)\nprint('GPU', own)"
    wait = f"python {tmp_path / 'wait.py'}  # a comment\n"
    (tmp_path / "wait.py").write_text(script)
    assert run_list(f"# two\n{wait}\n{wait}", tmp_path, monkeypatch, "--gpus", 2) == 0
    said = capsys.readouterr().out
    assert "01.log ended with 0 after" in said and {"s: GPU 0", "s: GPU 1"} <= {line[-8:] for line in said.splitlines()}


def test_a_command_that_fails_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "no-such-command\npython -c 'raise SystemExit(3)'\nX=yes python -c 'import os; print(os.environ[\"X\"])'"
    assert run_list(lines, tmp_path, monkeypatch, "--gpus", 1) == 1
    assert (tmp_path / "03.log").read_text().splitlines()[-1] == "yes"


def test_at_the_limit_all_ends_and_nothing_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_jobs, "GRACE", 0.1)
    lines = "bash -c 'trap \"\" TERM; sleep 600 & wait'\npython -c 1"
    assert run_list(lines, tmp_path, monkeypatch, "--gpus", 1, "--seconds-limit", 2) == 1
    said = capsys.readouterr().out
    assert "cut: 01.log ended with -9" in said and "not begun: python -c 1" in said
    assert not (tmp_path / "02.log").exists()


def test_the_list_asks_for_what_the_scripts_have(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[Any] = []

    def collected(name: str, _: Any, jobs: Any, *__: Any) -> int:
        keys.extend((name, *common.texts(key).items()) for key, _ in jobs)
        return 0

    monkeypatch.setattr(common, "gpu_origin", lambda *_: ORIGIN)
    monkeypatch.setattr(common, "work_through", collected)
    modules = {f"benchmarks/{module.__name__}.py": module for module in SCRIPTS}
    for line in (common.ROOT / "benchmarks" / "gpu_jobs.txt").read_text().splitlines():
        if words := shlex.split(line, comments=True):
            before = len(keys)
            assert words[0] == "python" and call(modules[words[1]], monkeypatch, *words[2:]) == 0
            assert len(keys) > before
    assert len(set(keys)) == len(keys)
    asked = {("gpu_peers", side) for name, *_, (_, side), _ in keys if name == "gpu_peers"}
    assert {side for _, side in asked} == {"ours", "ours-compiled", "rl_games"}


def test_a_task_of_gymnasium_runs_on_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = "--simulator cpu --envs_per_proc 2 --ppo.steps_total 128 --ppo.epochs 1 --ppo.minibatches 1 --compile off"
    words = ("--task", "InvertedPendulum", "--engines", "ranks", "--ranks", 2, "--steps", 512, "--until", 1)
    assert call(gpu_engines, monkeypatch, *words, "--cpu", flags, "--device", "cpu", "--results", tmp_path) == 0
    (row,) = common.read("gpu_engines", tmp_path)
    assert (row["rows"], row["flags"], row["loss_after"]) == ("4", f"mpirun -n 2: {flags}", "170")
    assert float(row["threshold_seconds"]) > 0 and float(row["steps_per_second"]) > 0
    assert f"InvertedPendulum `{row['flags']}` | 4 | 512 |" in "\n".join(gpu_report.sections(tmp_path, ""))
