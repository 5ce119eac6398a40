"""Pictures of MuJoCo worlds without a window."""

from __future__ import annotations

import copy
import os
from ctypes.util import find_library
from importlib import import_module
from typing import Any

import numpy as np
from torch import Tensor

PICTURE_SIZE = 480  # pixels, Gymnasium's own
SHADOW_SIZE = 1024  # pixels across at most; the usual 4096 take half of the time where a CPU draws
TRACKING_CAMERA = "track"
PICTURE_WIDTHS = 1.5  # distance of a camera of our own, in diagonals of what moves


class Camera:
    """Pictures of one world of a model, without a window."""

    def __init__(self, model: Any) -> None:
        self._mujoco: Any = import_module("mujoco")
        self._model = model = copy.copy(model)
        model.vis.quality.shadowsize = min(SHADOW_SIZE, model.vis.quality.shadowsize)
        self._data = self._mujoco.MjData(model)
        self._renderer = self._mujoco.Renderer(model, PICTURE_SIZE, PICTURE_SIZE)
        camera = self._mujoco.mj_name2id(model, self._mujoco.mjtObj.mjOBJ_CAMERA, TRACKING_CAMERA)
        self._camera = camera if camera >= 0 else self._follower()

    def picture(self, qpos: Tensor) -> np.ndarray:
        """`[height, width, 3]` uint8 of the world at `qpos` ([nq])."""
        self._data.qpos[:] = qpos.cpu().numpy()
        self._mujoco.mj_forward(self._model, self._data)
        self._renderer.update_scene(self._data, self._camera)
        return self._renderer.render()

    def close(self) -> None:
        self._renderer.close()

    def _follower(self) -> Any:
        """A camera that follows the first body that moves, far enough away to see all that does."""
        mujoco, model, data = self._mujoco, self._model, self._data
        mujoco.mj_forward(model, data)
        moving = model.body_weldid[model.geom_bodyid] > 0
        radius = model.geom_rbound[moving, None]
        size = np.ptp(np.concatenate((data.geom_xpos[moving] - radius, data.geom_xpos[moving] + radius)), axis=0)
        camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, camera)
        camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING.value
        camera.trackbodyid = int(model.geom_bodyid[moving].min())
        camera.distance = PICTURE_WIDTHS * float(np.linalg.norm(size))
        return camera


def choose_gl_backend() -> None:
    """Let MuJoCo draw without a display. It reads `MUJOCO_GL` once, at its first import, so call this before.

    Where no library to draw with is installed nothing is set: training needs none, and MuJoCo would not even be
    imported with a backend that cannot be loaded."""
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return
    if find_library("EGL") and (find_library("OpenGL") or find_library("GL")):
        os.environ.setdefault("MUJOCO_GL", "egl")
    elif find_library("OSMesa"):
        os.environ.setdefault("MUJOCO_GL", "osmesa")
