"""Rows of one model side by side in one scene, which has a single world."""

# mujoco ships no types
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import copy
from typing import Any

import mujoco
import numpy as np

SPACING = 1.25  # between rows, in horizontal diagonals of what moves
PLANE = mujoco.mjtGeom.mjGEOM_PLANE.value


class Stage:
    """Where the bodies of each row are drawn.

    The first row is where it is, and the others stand beside it, in turn to one side and to the other. Robots
    that move about are brought back to its side as they walk: their heights and poses are true, and how far they are
    from one another is not. Where a part of the scene is fixed to the world, such as a rail, rows keep their places,
    and each has that part.

    Args:
        model: a `mujoco.MjModel`; the stage keeps a copy, in `model`.
        rows: K.
    """

    def __init__(self, model: Any, rows: int) -> None:
        self.model, self.rows = copy.copy(model), rows
        self.data = [mujoco.MjData(self.model) for _ in range(rows)]
        """An mjData for each row, with the kinematics of what was set last."""
        self.set(np.repeat(self.model.qpos0[None], rows, axis=0))
        moving = self.model.body_weldid[self.model.geom_bodyid] > 0
        self.fixed = np.flatnonzero(~moving & (self.model.geom_type != PLANE))
        """Geoms that are part of the world, planes excepted: one plane is enough for all."""
        self.trunk = 0 if len(self.fixed) else int(self.model.geom_bodyid[moving].min())
        """The body at which rows stand side by side; 0 is the world."""
        low, high = self._box(np.arange(self.model.ngeom)[moving])
        self.distance = 1.6 * float(np.linalg.norm(high - low))
        """Of a camera that sees all rows, in metres."""
        spread = np.full(2, np.linalg.norm((high - low)[:2]))  # whichever way they turn
        if not self.trunk:
            spread = np.ptp(self._box(np.append(self.fixed, np.flatnonzero(moving))), axis=0)[:2]
        axis = 1 if (high - low)[1] <= 1.01 * (high - low)[0] and not spread[1] > 1.01 * spread[0] else 0
        width = SPACING * float(spread[axis])
        self.distance += 0.8 * width * (rows - 1)
        self.azimuth = 130.0 if axis else 40.0  # degrees: between from the side and from ahead
        sides = [(number + 1) // 2 * (1 if number % 2 == 0 else -1) for number in range(rows)]
        self._lanes = np.zeros((rows, 3))
        self._lanes[:, axis] = width * np.array(sides)
        self.centre = (low + high) / 2 + self._lanes.mean(0)

    def set(self, qpos: np.ndarray) -> None:
        """Take the positions of all rows, `[K, nq]`."""
        for data, positions in zip(self.data, qpos, strict=True):
            data.qpos[:] = positions
            mujoco.mj_kinematics(self.model, data)  # not mj_forward, which complains of a world that has failed
            mujoco.mj_comPos(self.model, data)
            mujoco.mj_camlight(self.model, data)
            mujoco.mj_tendon(self.model, data)

    def shifts(self) -> np.ndarray:
        """`[K, 3]`: how far from its own place each row is drawn."""
        trunks = np.stack([data.xpos[self.trunk] for data in self.data])
        beside = trunks[:1] - trunks
        beside[:, 2] = 0.0
        return self._lanes + beside

    def _box(self, geoms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and highest x, y and z of some geoms, planes not among them, at the model's start."""
        data, boxes = self.data[0], self.model.geom_aabb[geoms]
        turned = data.geom_xmat[geoms].reshape(-1, 3, 3)
        centres = data.geom_xpos[geoms] + np.einsum("gij,gj->gi", turned, boxes[:, :3])
        halves = np.einsum("gij,gj->gi", np.abs(turned), boxes[:, 3:])
        return (centres - halves).min(0), (centres + halves).max(0)
