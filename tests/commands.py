"""Call the command line: in this process where starting Python anew is not the point, or in one of its own."""

from __future__ import annotations

import csv
import io
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from ranks import FAILURE_LIMIT, ROOT, environment

from ppo_and_friends import cli
from ppo_and_friends.checkpoint import read_state

MAIN = (sys.executable, str(ROOT / "main.py"))
ROLLOUT = 64  # timesteps of one iteration
TINY = (
    f"--envs_per_proc 2 --ppo.steps_total {ROLLOUT} --ppo.epochs 2 --ppo.minibatches 2 --evaluation.every 0 "
    "--compile off"  # some of these would run for long if nobody stopped them
).split()
CART = ("-e", "CartPole", *TINY)
EVALUATED = ("--evaluation.every", 2, "--evaluation.episodes", 2, "--evaluation.max_episode_steps", 30)

BOOKKEEPING = (".lock", "manifest.json")


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


def call(*words: Any) -> Result:
    """Run `main.py words...` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "argv", ["main.py"]):
        code = cli.main([str(word) for word in words])
    return Result(code, out.getvalue(), err.getvalue())


def succeed(*words: Any) -> str:
    """What a command that must end well prints."""
    result = call(*words)
    assert (result.code, result.err) == (0, ""), result
    return result.out


def refuse(*words: Any) -> str:
    """The one sentence of a command that must not run."""
    result = call(*words)
    assert result.code == 2, result
    return sentence(result.err)


def sentence(err: str) -> str:
    """`err`, after a check that it is one line without a traceback."""
    assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err, err
    return err


def spawn(*words: Any, before: tuple[Any, ...] = (), **extra: str) -> subprocess.Popen[str]:
    """Start `before... python main.py words...`; `extra` are environment variables."""
    command = [str(word) for word in (*before, *MAIN, *words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment(**extra), stdout=pipe, stderr=pipe, text=True)


def finish(child: subprocess.Popen[str]) -> Result:
    """Wait for its end; a child that hangs is killed and fails the test."""
    try:
        out, err = child.communicate(timeout=FAILURE_LIMIT)
    finally:
        child.kill()
    return Result(child.returncode, out, err)


def wait_for(child: subprocess.Popen[str], text: str) -> str:
    """Read the child's output up to the line that contains `text`."""
    assert child.stdout is not None
    for line in child.stdout:
        if text in line:
            return line
    raise AssertionError(f"'{text}' was never printed: {child.communicate()[1]}")


def kept(directory: Path) -> dict[str, bytes]:
    """What a command that only looks must leave as it is: `open` may finish what an earlier process left to do."""
    return {name: content for name, content in files(directory).items() if Path(name).name not in BOOKKEEPING}


def files(directory: Path) -> dict[str, bytes]:
    """Every file below a directory with its content."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def progress(directory: Path) -> list[int]:
    """The iterations in a state directory's progress.csv."""
    with open(directory / "progress.csv", newline="") as file:
        return [int(row["iteration"]) for row in csv.DictReader(file)]


def unlike(one: Any, other: Any, where: str = "state") -> list[str]:
    """The places where two states differ, tensors compared bit for bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = dict.fromkeys((*one, *other))
        return [place for name in names for place in unlike(one.get(name), other.get(name), f"{where}.{name}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [
            place for i, pair in enumerate(zip(one, other, strict=True)) for place in unlike(*pair, f"{where}[{i}]")
        ]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.shape == other.shape and torch.equal(one, other)
    else:
        same = type(one) is type(other) and (one == other or (one != one and other != other))
    return [] if same else [where]


def printed_command(out: str) -> list[str]:
    """The words after `main.py` in the last line."""
    line = out.strip().splitlines()[-1]
    return shlex.split(line.partition("main.py ")[2])


def timeless(path: Path) -> dict[str, Any]:
    """A saved state without how long it took."""
    state = read_state(path)
    assert state.pop("seconds") > 0
    return state
