"""A kill between any two steps of saving loses nothing that was saved."""

from __future__ import annotations

import errno
import io
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from state_directories import iteration_of, old_run, opened, run, state, states, unlisted

from ppo_and_friends import files, lock
from ppo_and_friends.errors import UserError
from ppo_and_friends.manifest import Manifest


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.os, "fsync", lambda _: None)


KILLED = 9


def killed_at(step: int, work: Any, inside: Path) -> bool:
    """Run `work` in a child that dies, as by SIGKILL, before its `step`-th change below `inside`; whether it died."""
    child = os.fork()
    if child == 0:
        left = step

        def perhaps_die() -> None:
            nonlocal left
            if left == 0:
                os._exit(KILLED)
            left -= 1

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            changes = event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir") or (
                event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
            )
            if changes and str(inside) in str(arguments[0]):
                perhaps_die()

        class SlowFile(io.FileIO):
            def write(self, data: Any) -> int:
                half = len(data) // 2
                written = super().write(data[:half])
                perhaps_die()
                return written + super().write(data[half:])

        try:
            files.__dict__["open"] = SlowFile
            sys.addaudithook(hook)
            work()
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == KILLED


def test_kill_between_any_two_steps_of_saving(tmp_path: Path) -> None:
    step, seen = 0, set()
    run(tmp_path / "before", range(4), best=1)
    while True:
        path = shutil.copytree(tmp_path / "before", tmp_path / f"run{step}")
        died = killed_at(step, lambda path=path: run(path, range(4, 6), best=5), path)
        directory = opened(path)
        assert not unlisted(path)
        seen.add(iteration_of(directory.load()))
        assert iteration_of(directory.load("best")) in (1, 5)
        directory.save(state(9), 9)
        directory.close()
        assert not list(path.glob(".*.tmp"))
        if not died:
            break
        step += 1
    assert seen == {3, 4, 5}
    assert step > 10


def test_kill_between_any_two_steps_of_the_first_save(tmp_path: Path) -> None:
    step = 0
    while True:
        path = tmp_path / f"run{step}"
        died = killed_at(step, lambda path=path: run(path, range(1)), path)
        with opened(path) as directory:
            assert directory.load() is None or iteration_of(directory.load()) == 0
            directory.save(state(1), 1)
            assert not unlisted(path)
        if not died:
            break
        step += 1
    assert step > 5


def test_clobber_at_any_kill_leaves_the_old_run_or_the_new(tmp_path: Path) -> None:
    step, seen = 0, set()
    old_run(tmp_path / "before")
    while True:
        path = shutil.copytree(tmp_path / "before", tmp_path / f"run{step}")

        def start_over(path: Path = path) -> None:
            run(path, range(1), clobber=True)
            (path / "progress.csv").write_text("new")

        died = killed_at(step, start_over, path)
        directory = opened(path)
        iteration = iteration_of(directory.load())
        seen.add(iteration)
        if iteration == 14:
            assert not unlisted(path)
            assert iteration_of(directory.load("best")) == 11
            assert (path / "progress.csv").read_text() == "old"
            assert (path / "tensorboard" / "events").exists()
        else:
            assert directory.best is None
            log = path / "progress.csv"
            assert (log.read_text() if log.exists() else "") == ("" if died else "new")
            assert not (path / "tensorboard").exists()
            assert [file.name[:14] for file in states(path)] == ["state-00000000"]
        assert (path / "notes.txt").exists()
        directory.close()
        if not died:
            break
        step += 1
    assert seen == {14, 0}


@pytest.mark.filterwarnings("ignore:.*cannot be locked")
def test_only_what_a_kill_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a state that somebody put there, nor one of a process that a file system without locks does not keep out."""

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "none left")

    run(tmp_path, range(2))
    own = shutil.copy(states(tmp_path)[0], tmp_path / "state-00000007-0123abcd.pt")
    with monkeypatch.context() as patch, opened(tmp_path) as directory, pytest.raises(UserError):
        patch.setattr(Manifest, "write", fail)
        directory.save(state(2), 2)
    (left,) = (name for name in unlisted(tmp_path) if name.startswith("state-00000002"))
    with monkeypatch.context() as patch:
        patch.setattr(lock.fcntl, "lockf", fail)
        opened(tmp_path).close()
    assert (tmp_path / left).exists()
    opened(tmp_path).close()
    assert unlisted(tmp_path) == {own.name}
