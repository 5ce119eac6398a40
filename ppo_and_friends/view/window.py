"""Rows in MuJoCo's own viewer."""

# mujoco ships no types
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from ppo_and_friends.render import has_display
from ppo_and_friends.view.stage import PLANE, Stage

PROBE = (  # in another process: MuJoCo's viewer would wait for ever for a display that does not answer
    "import glfw, sys; glfw.init() or sys.exit(1); glfw.window_hint(glfw.VISIBLE, 0); "
    "sys.exit(not glfw.create_window(16, 16, 'probe', None, None))"
)
PATIENCE = 5.0  # seconds for a window to go


def opens() -> bool:
    """Whether MuJoCo's viewer would open. On macOS it needs a Python of its own (mjpython), so never there."""
    if sys.platform == "darwin" or not has_display():
        return False
    try:
        return subprocess.run([sys.executable, "-c", PROBE], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


class Window:
    """A `Screen` that is a window with the first row, and the others drawn beside it.

    Closed, it opens again when the file `again` appears, which is then removed.
    """

    def __init__(self, stage: Stage, again: Path) -> None:
        self._stage, self._again = stage, again
        self._handle: Any = None
        self._thread: threading.Thread | None = None
        self.told = f"in a window; closed, it opens again after: touch {again}"

    def ready(self) -> bool:
        if self._handle is None or (not self._handle.is_running() and self._wanted_again()):
            self._handle = self._opened()
        return self._handle.is_running()

    def show(self, qpos: np.ndarray) -> None:
        handle = self._handle
        with handle.lock():
            self._stage.set(qpos)
            if handle.user_scn is not None:
                self._draw_others(handle)
        handle.sync(state_only=True)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()
        if self._thread is not None:
            self._thread.join(PATIENCE)  # Python must not end before the window has

    def _wanted_again(self) -> bool:
        with contextlib.suppress(OSError):
            self._again.unlink()
            return True
        return False

    def _opened(self) -> Any:
        from mujoco import viewer

        stage, others = self._stage, set(threading.enumerate())
        handle = viewer.launch_passive(stage.model, stage.data[0], show_left_ui=False, show_right_ui=False)
        self._thread = next((one for one in set(threading.enumerate()) - others if one.daemon), None)
        camera = handle.cam
        camera.distance, camera.azimuth, camera.elevation = stage.distance, stage.azimuth, -20.0
        camera.lookat[:] = stage.centre
        if stage.trunk:
            camera.type, camera.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING.value, stage.trunk
        return handle

    def _draw_others(self, handle: Any) -> None:
        """All rows but the first as geoms without physics."""
        stage, scene, shifts = self._stage, handle.user_scn, self._stage.shifts()
        kinds = mujoco.mjtCatBit.mjCAT_DYNAMIC.value
        if len(stage.fixed):
            kinds |= mujoco.mjtCatBit.mjCAT_STATIC.value
        scene.ngeom = 0
        for data, shift in zip(stage.data[1:], shifts[1:], strict=True):
            first = scene.ngeom
            mujoco.mjv_addGeoms(stage.model, data, handle.opt, handle.perturb, kinds, scene)
            for geom in scene.geoms[first : scene.ngeom]:
                geom.pos += shift
                if geom.type == PLANE:
                    geom.rgba[3] = 0.0  # one ground is enough
