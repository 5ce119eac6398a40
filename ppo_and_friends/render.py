"""Pictures with and without a screen."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np

from ppo_and_friends.errors import UserError

INVISIBLE = ("offscreen", "dummy", "evdev")  # what SDL falls back to, without a word, where no screen answers
MUJOCO_PROBE = "import mujoco; context = mujoco.GLContext(16, 16); context.make_current(); context.free()"


def has_display() -> bool:
    """Whether a window could be opened: X or Wayland on Linux, always assumed elsewhere."""
    return sys.platform in ("win32", "darwin") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def prepare_headless() -> None:
    """Let environments draw without a screen. Call before any environment library is imported.

    What the user has set stays. MuJoCo draws by EGL, or by OSMesa where EGL does not work; which, is tried in
    another process, because a failed attempt cannot be taken back. Where neither works nothing is set, and the
    first picture of a MuJoCo task says so.
    """
    if has_display():
        return
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    if "MUJOCO_GL" in os.environ or find_spec("mujoco") is None:
        return
    for platform in ("egl", "osmesa"):
        environment = os.environ | {"MUJOCO_GL": platform}
        command = [sys.executable, "-c", MUJOCO_PROBE]
        try:
            if subprocess.run(command, env=environment, capture_output=True, timeout=60).returncode == 0:
                os.environ["MUJOCO_GL"] = platform
                return
        except (OSError, subprocess.SubprocessError):
            continue


def explain_backend(error: RuntimeError) -> None:
    """Raise UserError where MuJoCo would not be imported for the value of MUJOCO_GL."""
    if "MUJOCO_GL" in str(error):
        raise UserError(
            f"MUJOCO_GL is {os.environ.get('MUJOCO_GL')!r}, which MuJoCo does not know: "
            "set egl, osmesa or glfw, off to draw nothing, or unset it."
        ) from error


class Window:
    """Shows frames as they come. Closing it stops the pictures, not the test.

    Args:
        pause: seconds between frames.
    Raises:
        UserError: there is no screen, or no window can be opened on it.
    """

    def __init__(self, title: str, pause: float = 0.0) -> None:
        if not has_display():
            raise _no_window("DISPLAY is not set")
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
        except ImportError:
            raise UserError("--render needs pygame: pip install pygame, or use --render_gif.") from None
        self._pygame, self._title, self._pause = pygame, title, pause
        self._open = True
        try:
            pygame.display.init()
            self._screen = pygame.display.set_mode((320, 240))
        except pygame.error as error:
            raise _no_window(str(error)) from error
        if pygame.display.get_driver() in INVISIBLE and "SDL_VIDEODRIVER" not in os.environ:
            pygame.display.quit()
            raise _no_window("the display does not answer")
        pygame.display.set_caption(title)

    def wants_frame(self) -> bool:
        """Whether the window is still open."""
        return self._open

    def show(self, frame: np.ndarray) -> None:
        """Draw `[height, width, 3]` uint8, and wait for the pause."""
        pygame = self._pygame
        height, width, _ = frame.shape
        if self._screen.get_size() != (width, height):
            self._screen = pygame.display.set_mode((width, height))
        image = pygame.image.frombuffer(np.ascontiguousarray(frame).tobytes(), (width, height), "RGB")
        self._screen.blit(image, (0, 0))
        pygame.display.flip()
        if any(event.type == pygame.QUIT for event in pygame.event.get()):
            self.close()
        elif self._pause:
            time.sleep(self._pause)

    def end_episode(self) -> None:
        """The next episode follows in the same window."""

    def close(self) -> None:
        self._open = False
        self._pygame.display.quit()


def _no_window(cause: str) -> UserError:
    return UserError(f"--render cannot open a window here ({cause}): use --render_gif, which needs no screen.")
