"""Rows in a browser, by mjviser (viser and trimesh): there is only a page to open, from elsewhere through a tunnel."""

# mjviser and viser are optional
# pyright: reportMissingImports=false

from __future__ import annotations

import copy
import io
from contextlib import redirect_stdout
from typing import Any

import numpy as np

from ppo_and_friends.errors import UserError
from ppo_and_friends.view.stage import Stage

HOST = "127.0.0.1"  # whoever can open the page can load this machine's cores with drawing


class Browser:
    """A `Screen` that serves a page; it may be reloaded, and opened more than once.

    Raises:
        UserError: mjviser is missing.
    """

    def __init__(self, stage: Stage, title: str) -> None:
        try:
            import mjviser
            import viser
            from mjviser.conversions import merge_geoms
        except ImportError as error:
            raise UserError(
                f"--view without a display shows the rows in a browser, which needs mjviser ({error}): "
                'pip install ".[view]".'
            ) from None
        self._stage = stage
        with redirect_stdout(io.StringIO()):  # its own words would break into the display
            self._server: Any = viser.ViserServer(host=HOST, label=title, verbose=False)
        model = copy.copy(stage.model)  # mjviser changes colours and scales
        model.stat.center[:] = stage.centre  # where its camera looks
        self._scene: Any = mjviser.ViserMujocoScene(self._server, model, stage.rows)
        self._scene.camera_tracking_enabled = stage.trunk > 0
        self._scene.create_visualization_gui(camera_distance=stage.distance, camera_azimuth=stage.azimuth)
        for geom in stage.fixed.tolist():  # the scene has those of the first row
            body, mesh = int(model.geom_bodyid[geom]), merge_geoms(model, [geom])
            place, turn = stage.data[0].xpos[body], stage.data[0].xquat[body]
            for row, shift in enumerate(stage.shifts()[1:], 1):
                name = f"/fixed_bodies/row{row}/geom{geom}"
                self._server.scene.add_mesh_trimesh(name, mesh, position=place + shift, wxyz=turn)
        self._scene.update_from_arrays(*self._places())
        self.address = f"http://localhost:{self._server.get_port()}"
        self.told = f"in a browser: {self.address}"

    def ready(self) -> bool:
        return bool(self._server.get_clients())

    def show(self, qpos: np.ndarray) -> None:
        self._stage.set(qpos)
        still = np.zeros((len(qpos), self._stage.model.nv))
        self._scene.update_from_arrays(*self._places(), qpos=qpos, qvel=still)

    def close(self) -> None:
        with redirect_stdout(io.StringIO()):
            self._server.stop()

    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions `[K, bodies, 3]` and rotations `[K, bodies, 3, 3]`."""
        stage = self._stage
        places = np.stack([data.xpos for data in stage.data]) + stage.shifts()[:, None]
        return places, np.stack([data.xmat for data in stage.data]).reshape(stage.rows, -1, 3, 3)
