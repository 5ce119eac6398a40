"""The state directory: nothing is lost, whatever happens between any two steps."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from state_directories import iteration_of, old_run, opened, run, state, states

from ppo_and_friends import files, state_file
from ppo_and_friends.checkpoint import StateDirectory, differences, read_state
from ppo_and_friends.errors import UserError
from ppo_and_friends.provenance import provenance


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.os, "fsync", lambda _: None)


def truncate(path: Path) -> bytes:
    path.write_bytes(path.read_bytes()[:-100])
    return path.read_bytes()


def test_keeps_the_last_three_and_the_best(tmp_path: Path) -> None:
    run(tmp_path / "run", range(8), best=2)
    directory = StateDirectory(tmp_path / "run")
    assert [int(file.name.split("-")[1]) for file in states(directory.path)] == [2, 5, 6, 7]
    assert iteration_of(directory.load()) == 7
    assert iteration_of(directory.load("best")) == 2
    assert iteration_of(directory.load(states(directory.path)[1])) == 5
    assert iteration_of(directory.load(states(directory.path)[1].name)) == 5
    assert iteration_of(read_state(directory.path)) == 7


def test_a_new_best_replaces_the_old_one(tmp_path: Path) -> None:
    run(tmp_path, range(5), best=0)
    run(tmp_path, range(5, 8), best=6)
    assert [int(file.name.split("-")[1]) for file in states(tmp_path)] == [5, 6, 7]
    assert iteration_of(StateDirectory(tmp_path).load("best")) == 6


def test_nothing_there(tmp_path: Path) -> None:
    assert StateDirectory(tmp_path / "absent").load() is None
    assert not (tmp_path / "absent").exists()
    with pytest.raises(UserError, match="no best state"):
        StateDirectory(tmp_path).load("best")
    with pytest.raises(UserError, match="does not exist"):
        StateDirectory(tmp_path).load("nowhere.pt")
    with pytest.raises(UserError, match="no state"):
        read_state(tmp_path)


def test_round_trip_is_exact_and_small(tmp_path: Path) -> None:
    buffer = torch.arange(100_000, dtype=torch.float64)
    kept = {"view": buffer[3:5], "big": 2**127 + 5, "none": None, "inf": float("inf"), "bytes": b"\x00", "flag": True}
    with opened(tmp_path) as directory:
        path = directory.save(kept, 0)
    loaded = read_state(path)
    assert loaded.pop("view").equal(kept.pop("view"))
    assert loaded == kept
    assert path.stat().st_size < 10_000


@pytest.mark.parametrize("bad", [np.float64(1), np.zeros(2), object(), {"deeper": {1, 2}}])
def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path, bad: Any) -> None:
    with opened(tmp_path) as directory, pytest.raises(TypeError, match=r"state\.env\[0\]"):
        directory.save({"env": [bad]}, 0)
    assert StateDirectory(tmp_path).load() is None


def damage(path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "truncated":
        truncate(path)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("hello")
    elif how == "foreign":
        torch.save({"weights": torch.zeros(3)}, path)
    elif how == "pickle":
        torch.save({"weights": Path("x")}, path)
    elif how == "newer":
        with monkeypatch.context() as patch:
            patch.setattr(state_file, "FORMAT", 99)
            path.write_bytes(state_file.pack(state(4), 4))


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("truncated", "truncated"),
        ("empty", "truncated"),
        ("text", "not a state"),
        ("foreign", "not a state"),
        ("pickle", "truncated or damaged"),
        ("newer", "newer version"),
    ],
)
def test_bad_newest_state(tmp_path: Path, how: str, cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, range(5))
    *_, good, bad = states(tmp_path)
    damage(bad, how, monkeypatch)
    content = bad.read_bytes()
    with opened(tmp_path) as directory:
        with pytest.raises(UserError, match=cause) as error:
            directory.load()
        assert bad.name in str(error.value)
        assert str(error.value).endswith(f"--checkpoint {good}")
        assert iteration_of(directory.load(good)) == 3
        for iteration in range(4, 9):
            directory.save(state(iteration), iteration)
    assert bad.read_bytes() == content
    assert iteration_of(StateDirectory(tmp_path).load()) == 8


def test_no_good_state_left(tmp_path: Path) -> None:
    run(tmp_path, range(1))
    truncate(states(tmp_path)[0])
    with pytest.raises(UserError, match="no other state"):
        StateDirectory(tmp_path).load()


def test_damaged_manifest(tmp_path: Path) -> None:
    run(tmp_path, range(2))
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="manifest.json is damaged"):
        opened(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match="newer version"):
        StateDirectory(tmp_path).load()
    (tmp_path / "manifest.json").unlink()
    assert iteration_of(StateDirectory(tmp_path).load()) == 1


def test_going_on_from_an_earlier_state(tmp_path: Path) -> None:
    run(tmp_path, range(6), best=5)
    with opened(tmp_path) as directory:
        assert iteration_of(directory.load(states(tmp_path)[0])) == 3
        assert directory.best is None  # it lies in the future that was given up
        directory.save(state(4), 4)
    assert iteration_of(StateDirectory(tmp_path).load()) == 4
    assert len(states(tmp_path)) == 4  # 3, 4, 5 and the new 4


def test_going_on_from_the_best(tmp_path: Path) -> None:
    run(tmp_path, range(6), best=1)
    with opened(tmp_path) as directory:
        assert iteration_of(directory.load("best")) == 1
        directory.save(state(2), 2)
        assert iteration_of(directory.load("best")) == 1
    assert iteration_of(StateDirectory(tmp_path).load()) == 2


def test_reading_another_state_changes_nothing(tmp_path: Path) -> None:
    run(tmp_path, range(4), best=1)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    StateDirectory(tmp_path).load("best")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_clobber_loads_nothing_and_ignores_a_damaged_manifest(tmp_path: Path) -> None:
    old_run(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with opened(tmp_path, clobber=True) as directory:
        assert directory.load() is None
        directory.save(state(0), 0)
    assert len(states(tmp_path)) == 1


def test_only_one_run_at_a_time(tmp_path: Path) -> None:
    code = f"""if True:
        from pathlib import Path
        from ppo_and_friends.lock import DirectoryLock
        try:
            DirectoryLock(Path({str(tmp_path)!r})).acquire()
        except Exception as error:
            print(type(error).__name__, error)
    """

    def other() -> str:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    with opened(tmp_path):
        assert f"in use by process {os.getpid()} on" in other()
        with pytest.raises(UserError, match="in use by this process"):
            opened(tmp_path)
        assert StateDirectory(tmp_path).load() is None  # reading needs no lock
    assert other() == ""
    opened(tmp_path).close()


def test_a_child_process_does_not_keep_the_lock(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    holder = os.fork()
    if holder == 0:
        os.close(writer)
        directory = opened(tmp_path)
        if os.fork() == 0:
            os.read(reader, 1)  # lives on, as an environment worker may, until the test is over
        os._exit(0 if directory else 1)
    os.waitpid(holder, 0)
    try:
        opened(tmp_path).close()
    finally:
        os.close(writer)
        os.close(reader)


def test_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match=f"{tmp_path}/file is a file"):
            opened(path)
    assert StateDirectory(tmp_path / "file" / "run").load() is None


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_unwritable_or_full_from_the_start(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(UserError, match=os.strerror(number)):
        opened(tmp_path)
    monkeypatch.undo()
    opened(tmp_path).close()  # the lock was given back


def test_disk_full_while_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for failing in range(4):  # the state file, its directory, the manifest, its directory
        path = tmp_path / str(failing)
        with opened(path) as directory:
            directory.save(state(1), 1)
            calls = 0

            def fsync(_: int, failing: int = failing) -> None:
                nonlocal calls
                calls += 1
                if calls > failing:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            with monkeypatch.context() as patch:
                patch.setattr(files.os, "fsync", fsync)
                with pytest.raises(UserError, match=r"No space left.*state-00000001-\w+\.pt is intact"):
                    directory.save(state(2), 2)
            assert not list(path.glob(".*.tmp"))
        assert iteration_of(StateDirectory(path).load()) in (1, 2)


def test_documents_are_written_with_the_first_save(tmp_path: Path) -> None:
    with opened(tmp_path) as directory:
        assert not (tmp_path / "config.json").exists()
        directory.save(state(0), 0)
        assert json.loads((tmp_path / "config.json").read_text()) == {"lr": 1.0}
    run(tmp_path, range(1, 3))
    assert len(json.loads((tmp_path / "provenance.json").read_text())) == 2


def test_provenance() -> None:
    record = json.loads(json.dumps(provenance(ranks=2)))
    assert record["packages"]["torch"] == torch.__version__
    assert Path(record["command"].split()[0]).name.startswith("python")
    assert record["hardware"]["ranks"] == 2
    assert record["git"] is None or len(record["git"]["commit"]) == 40


def test_differences() -> None:
    saved = {"ppo": {"lr": "0.0003", "gamma": 0.99, "betas": (0.9, 0.999)}, "env": {}, "gone": 1}
    current = {"ppo": {"lr": "0.0001", "gamma": 0.99, "betas": [0.9, 0.999]}, "env": {}, "new": {"a": 2}}
    assert differences(saved, current) == ["ppo.lr: 0.0003 -> 0.0001", "gone: 1 -> absent", "new.a: absent -> 2"]
    assert differences(saved, saved) == []
