"""GIFs of bounded size without a screen, and a window with one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from ppo_and_friends import render
from ppo_and_friends.errors import UserError
from ppo_and_friends.gif import MOST_BYTES, GifRecorder
from ppo_and_friends.render import Window, prepare_headless


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
