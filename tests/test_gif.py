"""GIFs of bounded size without a screen, of one row or several, now and while training; and a window with a screen."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import unlike
from PIL import Image, ImageSequence
from toys import Toy

from ppo_and_friends import recording, registry, render
from ppo_and_friends.config import RunConfig
from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.gif import MOST_BYTES, GifRecorder
from ppo_and_friends.mosaic import mosaic
from ppo_and_friends.ppo import PPO
from ppo_and_friends.render import Window, prepare_headless
from ppo_and_friends.vector.sim.task_env import TaskEnv


def gradient(value: int, height: int = 12, width: int = 20) -> np.ndarray:
    frame = np.zeros((height, width, 3), np.uint8)
    frame[:, : 1 + value % (width - 1)] = 255
    return frame


def recorded(frames: list[np.ndarray], fps: float = 20) -> GifRecorder:
    recorder = GifRecorder(fps)
    for frame in frames:
        assert recorder.wants_frame()
        recorder.show(frame)
    return recorder


def durations(path: Path) -> list[int]:
    with Image.open(path) as image:
        return [frame.info["duration"] for frame in ImageSequence.Iterator(image)]


def pixels(path: Path, index: int) -> np.ndarray:
    with Image.open(path) as image:
        image.seek(index)
        return np.asarray(image.convert("RGB"))


def test_frames_and_pace(tmp_path: Path) -> None:
    path = recorded([gradient(value) for value in range(6)]).save(tmp_path / "gif", "Ant-12")
    assert path == tmp_path / "gif" / "Ant-12.gif"
    assert durations(path) == [50] * 6
    assert (pixels(path, 4) == gradient(4)).all()


def test_never_overwrites(tmp_path: Path) -> None:
    recorder = recorded([gradient(0)])
    assert [recorder.save(tmp_path, "a").name for _ in range(3)] == ["a.gif", "a-2.gif", "a-3.gif"]


def test_equal_frames_are_one_that_stands_longer(tmp_path: Path) -> None:
    path = recorded([gradient(value) for value in (0, 0, 0, 5, 5, 9)]).save(tmp_path, "still")
    assert durations(path) == [150, 100, 50]


def test_thirty_frames_a_second_last_a_second(tmp_path: Path) -> None:
    path = recorded([gradient(value) for value in range(30)], fps=30).save(tmp_path, "pace")
    assert sum(durations(path)) == 1000


def test_a_long_episode_keeps_its_duration_not_its_frames(tmp_path: Path) -> None:
    recorder = GifRecorder(fps=50)
    drawn = 0
    for value in range(5001):
        if recorder.wants_frame():
            recorder.show(gradient(value))
            drawn += 1
        assert len(recorder._frames) <= 300
    assert drawn < 1500
    path = recorder.save(tmp_path, "long")
    assert 100 < len(durations(path)) <= 300
    assert sum(durations(path)) == 5001 * 20
    assert (pixels(path, 1) == gradient(32)).all()


def test_a_fast_environment_loses_frames_not_its_pace(tmp_path: Path) -> None:
    recorder = GifRecorder(fps=100)
    for value in range(200):
        if recorder.wants_frame():
            recorder.show(gradient(value))
    assert sum(durations(recorder.save(tmp_path, "fast"))) == 2000


def test_only_the_first_seconds(tmp_path: Path) -> None:
    recorder = GifRecorder(fps=10, seconds=1.5)
    wanted = [recorder.wants_frame() for _ in range(40)]
    assert wanted == [True] * 15 + [False] * 25


def test_only_the_first_episode() -> None:
    recorder = GifRecorder(30)
    assert recorder.wants_frame()
    recorder.end_episode()
    assert not recorder.wants_frame()


def test_noise_is_narrowed_and_thinned_until_it_fits(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (240, 640, 3), np.uint8) for _ in range(90)]
    path = recorded(frames).save(tmp_path, "noise")
    with Image.open(path) as image:
        assert image.width <= 320
        assert image.width / image.height == pytest.approx(640 / 240, rel=0.03)
    assert path.stat().st_size <= MOST_BYTES
    assert sum(durations(path)) == 90 * 50


def test_failures_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No frame"):
        GifRecorder(30).save(tmp_path, "empty")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        recorded([gradient(0)]).save(tmp_path / "file", "a")


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL", "SDL_VIDEODRIVER"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("working", "chosen"), [(("egl", "osmesa"), "egl"), (("osmesa",), "osmesa"), ((), None)])
def test_headless_takes_what_works(
    no_display: None, working: tuple[str, ...], chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], env: dict[str, str], **_: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, 0 if env["MUJOCO_GL"] in working else 1)

    monkeypatch.setattr(render.subprocess, "run", run)
    prepare_headless()
    assert os.environ.get("MUJOCO_GL") == chosen
    assert os.environ["SDL_VIDEODRIVER"] == "dummy"


def test_headless_leaves_what_the_user_set(no_display: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    prepare_headless()
    assert (os.environ["MUJOCO_GL"], os.environ["SDL_VIDEODRIVER"]) == ("glfw", "x11")
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setenv("DISPLAY", ":0")
    prepare_headless()
    assert "MUJOCO_GL" not in os.environ


def test_window_without_a_display(no_display: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"cannot open a window here \(DISPLAY is not set\): use --render_gif"):
        Window("Ant")


def test_window_on_a_display_that_does_not_answer(no_display: None) -> None:
    code = (
        "from ppo_and_friends.render import Window\ntry:\n    Window('Ant')\nexcept Exception as e:\n    print(repr(e))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | {"DISPLAY": ":987"}, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("UserError('--render cannot open a window here"), done


def test_window_shows_frames_and_can_be_closed(no_display: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    window = Window("Ant")
    window.show(gradient(5, 30, 40))
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    assert (shown == gradient(5, 30, 40)).all()
    assert window.wants_frame()
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    window.show(gradient(6, 30, 40))
    assert not window.wants_frame()


class Numbered:
    """A `VecEnv` of which each row is one colour."""

    def __init__(self, rows: int, height: int = 30, width: int = 40) -> None:
        self._env = Toy().make(rows)
        self.spec = self._env.spec
        self.reset, self.step, self.state = self._env.reset, self._env.step, self._env.state
        self.load_state, self.close = self._env.load_state, lambda: None
        self._shape = (height, width, 3)

    def frame(self, row: int) -> np.ndarray:
        return np.full(self._shape, 10 * (row + 1), np.uint8)


@pytest.mark.parametrize(
    ("rows", "asked", "cells"), [(4, 4, [[10, 20], [30, 40]]), (3, 9, [[10, 20], [30, 0]]), (5, 2, [[10, 20]])]
)
def test_rows_are_tiles(rows: int, asked: int, cells: list[list[int]]) -> None:
    picture = mosaic(Numbered(rows), asked).frame(0)
    assert picture.shape == (30 * len(cells), 40 * len(cells[0]), 3)
    assert picture[15::30, 20::40, 0].tolist() == cells


def test_many_rows_are_scaled_down() -> None:
    assert mosaic(Numbered(9, 300, 400), 9).frame(0).shape == (360, 480, 3)
    single = Numbered(9)
    assert mosaic(single, 1) is single


def trained(directory: Path, **run: Any) -> PPO:
    experiment = replace(registry.build("InvertedPendulum"), envs_per_proc=2, compile="off")
    experiment = replace(experiment, ppo=replace(experiment.ppo, steps_total=64, epochs=1))
    settings = RunConfig(state_path=str(directory), max_iterations=4, gif_seconds=0.3, **run)
    return PPO(experiment, settings, reference="InvertedPendulum").learn()


def test_recording_leaves_training_as_it_is(tmp_path: Path) -> None:
    """Parameters, normalisers, generators and rows, bit for bit; and the files are there."""
    plain, filmed = trained(tmp_path / "plain"), trained(tmp_path / "filmed", gif_every=2, gif_rows=4)
    assert unlike(plain.shared_state(), filmed.shared_state()) == []
    assert unlike(plain.own_state(), filmed.own_state()) == []
    run = tmp_path / "filmed" / "InvertedPendulum"
    gifs = sorted((run / "gifs").iterdir())
    assert [path.name for path in gifs] == ["iteration_000002.gif", "iteration_000004.gif"]
    with Image.open(gifs[0]) as image:
        assert image.size == (480, 480) and image.n_frames > 1
    assert not (tmp_path / "plain" / "InvertedPendulum" / "gifs").exists()
    with open(run / "progress.csv", newline="") as file:
        assert [bool(row["seconds_recording"]) for row in csv.DictReader(file)] == [False, True, False, True]
    assert shown_by_tensorboard(run) == {192: gifs[0].read_bytes(), 320: gifs[1].read_bytes()}


def shown_by_tensorboard(run: Path) -> dict[int, bytes]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    return {event.step: event.encoded_image_string for event in events.Images("episode")}


def test_a_recording_that_fails_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise EnvironmentFailure("row 0 became infinite")

    monkeypatch.setattr(recording, "evaluate", fail)
    assert trained(tmp_path, gif_every=3).iteration == 4
    assert "No GIF of iteration 3: row 0 became infinite\n" in capsys.readouterr().out


def test_what_cannot_be_drawn_is_said_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(self: TaskEnv, row: int) -> np.ndarray:
        raise RuntimeError("no EGL")

    monkeypatch.setattr(TaskEnv, "frame", blind)
    with pytest.raises(UserError, match="no EGL.*go without.*--gif_every"):
        trained(tmp_path, gif_every=3)
    assert not any(tmp_path.iterdir())
