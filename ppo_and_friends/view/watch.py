"""What --view does: a thread of its own reads where a few rows are, now and then, and shows it.

Nothing is pushed: who steps, collects or learns does not know that anybody looks.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from ppo_and_friends.config import RunConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.vector.base import VecEnv
from ppo_and_friends.vector.sim.simulation import Simulation
from ppo_and_friends.vector.sim.task_rows import TaskRows

if TYPE_CHECKING:
    from ppo_and_friends.view.stage import Stage

INTERVAL = 1 / 30  # seconds between two pictures at least
JOIN = 2.0  # seconds that a picture may still take at the end
REOPEN = "view"  # the file in the state directory that opens a closed window


class Screen(Protocol):
    """Draws rows; called from one thread, except for `close`."""

    told: str
    """Where it is, for the user."""

    def ready(self) -> bool:
        """Whether anybody looks. Opens what was asked for."""
        ...

    def show(self, qpos: np.ndarray) -> None:
        """Draw rows at `[K, nq]`."""
        ...

    def close(self) -> None: ...


class NoWatch:
    """Nobody looks."""

    told = ""

    def __enter__(self) -> NoWatch:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def pull(self) -> None:
        """Read where the rows are, if they live where the thread must not read: between two calls of step."""

    def wait(self, seconds: float) -> None:
        """Until somebody looks."""


class Watch(NoWatch):
    """Shows the first `rows` rows of `sim` on a screen, from entering to leaving, at most 30 times a second.

    Rows in host memory are read by the thread, whenever it is time. Those on a GPU only by `pull`, in the thread that
    uses the GPU: another one might do so while a CUDA graph is being recorded, and spoil it. So the picture of a
    training run there changes once an iteration. A screen that fails is said once and ends the showing, never the run.
    """

    def __init__(self, sim: Simulation, rows: int, screen: Screen) -> None:
        self._qpos, self._screen, self.told = sim.bind("qpos")[:rows], screen, screen.told
        self._here = sim.device.type == "cpu"
        self._latest, self._read_at = self._copy(), 0.0
        self._seen, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._show, name="view", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(JOIN)
        self._screen.close()

    def pull(self) -> None:
        if not self._here and time.monotonic() - self._read_at >= INTERVAL:
            self._latest, self._read_at = self._copy(), time.monotonic()

    def wait(self, seconds: float) -> None:
        self._seen.wait(seconds)

    def _show(self) -> None:
        try:
            while not self._ended.wait(INTERVAL):
                if self._screen.ready():
                    self._screen.show(self._copy() if self._here else self._latest)
                    self._seen.set()
        except Exception as error:
            if not self._ended.is_set():
                print(f"--view ended ({type(error).__name__}: {error}); the run goes on.", file=sys.stderr, flush=True)
                self._seen.set()

    def _copy(self) -> np.ndarray:
        """[K, nq]. A row that is being stepped meanwhile may be half before and half after its step."""
        return self._qpos.to("cpu", torch.float64, copy=True).numpy()


class Pace:
    """A frame sink that wants no frames: asked once a step, it holds a test to the environment's own pace."""

    def __init__(self, watch: NoWatch, steps_per_second: float) -> None:
        self._watch, self._step, self._due = watch, 1 / steps_per_second, 0.0

    def wants_frame(self) -> bool:
        self._watch.pull()
        now = time.monotonic()
        self._due = max(self._due + self._step, now)
        time.sleep(self._due - now)
        return False

    def show(self, frame: np.ndarray) -> None:
        """Never called."""

    def end_episode(self) -> None:
        """The next one follows."""


MakeScreen = Callable[["Stage", str, Path], Screen]


def check_view(env: VecEnv, run: RunConfig) -> None:
    """Raise UserError where --view is asked for and the environment is not a MuJoCo task."""
    if run.view and not isinstance(env, TaskRows):
        raise UserError(
            f"--view shows MuJoCo tasks, and {env.spec.task} is not one of this program: "
            "watch a test of it with --render, or film it with --render_gif or --gif_every."
        )


def watch(env: VecEnv, run: RunConfig, directory: Path, make: MakeScreen | None = None) -> NoWatch:
    """What `--view` asks for.

    Args:
        env: as the run made it, unwrapped.
        directory: where a file named `view` opens a closed window again.
        make: called with (stage, title, file) for the screen; by default a window, or a page where none opens.
    Raises:
        UserError: the environment is not a MuJoCo task, or a package is missing.
    """
    check_view(env, run)
    if not run.view or not isinstance(env, TaskRows):
        return NoWatch()
    from ppo_and_friends.view.stage import Stage  # imports mujoco

    rows = min(run.view_rows, env.sim.rows)
    screen = (make or _screen)(Stage(env.task.model(), rows), env.spec.task, directory / REOPEN)
    return Watch(env.sim, rows, screen)


def _screen(stage: Stage, title: str, again: Path) -> Screen:
    from ppo_and_friends.view import browser, window

    return window.Window(stage, again) if window.opens() else browser.Browser(stage, title)
