"""Many MuJoCo worlds on the CPU: `mujoco.batch.Batch`, C++ threads behind one call, shared with torch uncopied."""

# mujoco ships no types
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import torch
from mujoco.batch import Batch, SimulationError
from torch import Tensor

from ppo_and_friends.errors import EnvironmentFailure

CONTACT_FORCES = "cfrc_ext"
BAD_NUMBERS = slice(mujoco.mjtWarning.mjWARN_BADQPOS.value, mujoco.mjtWarning.mjWARN_BADCTRL.value + 1)
BAD_NAMES = ("position", "velocity", "acceleration", "control")  # in the order of mjtWarning


class BatchSim:
    """`Simulation` over `mujoco.batch.Batch`: float64, one world a row.

    Derived fields (xpos, cinert, ...) are, as after `mj_step`, those of the last substep's start. Contact
    forces (`cfrc_ext`) are those that `mj_rnePostConstraint` gives after a step, and zero after a reset.

    Args:
        model: a compiled `mujoco.MjModel`; the batch keeps a copy.
        rows: N, the number of worlds.
        threads: cores that may step them.
        name: what errors call it.
    """

    device = torch.device("cpu")
    dtype = torch.float64

    def __init__(self, model: mujoco.MjModel, rows: int, threads: int, name: str) -> None:
        self.rows = rows
        self._model, self._threads, self._name = model, threads, name
        self._batch = Batch(model, rows, threads)
        self._warnings = self._batch.warning[:, BAD_NUMBERS, 1]
        self._fields: dict[str, Tensor] = {}
        self._expanded: dict[str, Tensor] = {}
        self._begun = False
        self._steps = 0  # for error messages

    def bind(self, field: str) -> Tensor:
        """The live `[N, ...]` tensor of a field of mjData.

        Raises:
            RuntimeError: a derived field is asked for after the simulation began, when it would be zero until
                the next call; or contact forces are after another field. They need a batch that keeps an
                mjData for each world, which only an unused one can still become.
        """
        if field not in self._fields:
            self._fields[field] = self._contact_forces() if field == CONTACT_FORCES else self._shared(field)
        return self._fields[field]

    def expand(self, field: str) -> Tensor:
        """The live `[N, ...]` tensor of a field of mjModel; `set_const` recomputes the constants derived from it."""
        if field not in self._expanded:
            self._expanded[field] = _tensor(self._batch.expand(field))
        return self._expanded[field]

    def set_const(self, rows: Tensor) -> None:
        """Recompute the constants of mjModel that follow from expanded fields, for the worlds of `rows` ([N] bool)."""
        self._batch.set_const(rows.numpy())

    def step(self, substeps: int) -> None:
        """Advance every world.

        Raises:
            EnvironmentFailure: a world became unstable, or MuJoCo refused to go on. MuJoCo itself would put an
                unstable world back to its start and go on as if nothing had happened.
        """
        self._begun = True
        self._steps += 1
        try:
            self._batch.step(nstep=substeps)
        except SimulationError as error:
            row = int(error.ids[0])
            raise self._failure(row, self._batch.error(row)) from error
        if self._warnings.any():
            row, kind = (int(index) for index in np.argwhere(self._warnings)[0])
            raise self._failure(row, f"the {BAD_NAMES[kind]} became infinite, huge or not a number")
        if CONTACT_FORCES in self._fields:
            self._compute_contact_forces()

    def reset(self, rows: Tensor) -> None:
        """Put `rows` ([N] bool) back to the model's start: warm start, activations, forces, time and warnings too."""
        self._begun = True
        self._batch.reset(rows.numpy(), stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        if CONTACT_FORCES in self._fields:
            self._fields[CONTACT_FORCES][rows] = 0.0

    def forward(self, rows: Tensor) -> None:
        """Recompute the derived fields of `rows` ([N] bool), contact forces excepted."""
        self._begun = True
        self._batch.forward(rows.numpy())

    def state(self) -> dict[str, Any]:
        """MuJoCo's whole integration state, and the fields handed out, which tasks read before the next step."""
        return {
            "integration": torch.from_numpy(self._batch.state).clone(),
            "fields": {name: tensor.clone() for name, tensor in self._fields.items()},
            "model": {name: tensor.clone() for name, tensor in self._expanded.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        torch.from_numpy(self._batch.state).copy_(state["integration"])
        for name, tensor in state["fields"].items():
            self.bind(name).copy_(tensor)
        for name, tensor in state["model"].items():
            self.expand(name).copy_(tensor)
        if state["model"]:
            self._batch.set_const()
        self._batch.warning[:] = 0

    def _shared(self, field: str) -> Tensor:
        array = self._batch.bind(field)
        derived = not array.flags.writeable
        if derived and self._begun:
            raise RuntimeError(f"Bind the derived field {field!r} in the task's start, before the first reset.")
        return _tensor(array)

    def _contact_forces(self) -> Tensor:
        if self._fields or self._expanded:
            raise RuntimeError(
                f"Bind {CONTACT_FORCES!r} before any other field: {sorted(self._fields)} are bound already."
            )
        self._batch = Batch(self._model, self.rows, self._threads, persistent=True)
        self._warnings = self._batch.warning[:, BAD_NUMBERS, 1]
        self._scratch = mujoco.MjData(self._model)
        return torch.zeros(self.rows, *self._scratch.cfrc_ext.shape, dtype=self.dtype)

    def _compute_contact_forces(self) -> None:
        """The one loop over rows: the batch has no stage that computes these."""
        forces, scratch = self._fields[CONTACT_FORCES].numpy(), self._scratch
        row_forces = scratch.cfrc_ext
        for row in range(self.rows):
            self._batch.get_data(row, scratch)
            mujoco.mj_rnePostConstraint(self._model, scratch)
            forces[row] = row_forces

    def _failure(self, row: int, reason: str) -> EnvironmentFailure:
        return EnvironmentFailure(f"{self._name}: the simulation of row {row} failed in step {self._steps}: {reason}.")


def _tensor(array: np.ndarray) -> Tensor:
    """Share `array` with torch. Outputs come read-only; `load_state` must write them, tasks must not."""
    array.flags.writeable = True
    return torch.from_numpy(array)
