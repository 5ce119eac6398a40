"""Thousands of MuJoCo worlds on a GPU: `mujoco_warp`, whose arrays torch shares."""

# mujoco, warp and mujoco_warp ship no types
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import mujoco_warp
import torch
import warp
from torch import Tensor

from ppo_and_friends.errors import UserError
from ppo_and_friends.vector.sim.tensors import beside, write_rows
from ppo_and_friends.vector.sim.warp_kernels import load_kernels
from ppo_and_friends.vector.sim.warp_limits import Limits, bytes_per_world, check_memory, choose_limits

CONTACT_FORCES = "cfrc_ext"
STATE = (  # what one step takes over from the one before: mjSTATE_INTEGRATION
    "time",
    "qpos",
    "qvel",
    "act",
    "history",
    "plastic",
    "qacc_warmstart",
    "ctrl",
    "qfrc_applied",
    "xfrc_applied",
    "eq_active",
    "mocap_pos",
    "mocap_quat",
    "userdata",
)
CONSTANTS = ("body_subtreemass", "dof_invweight0", "body_invweight0", "tendon_invweight0", "actuator_acc0")
LOST = sum(  # overflows that cost contacts or constraints; the others tell of solver iterations
    int(mujoco_warp.OverflowType[kind]) for kind in ("NEFC", "NJMAX_NNZ", "BROADPHASE", "NARROWPHASE", "CCD", "HFIELD")
)
NO_SENSORS = int(mujoco.mjtDisableBit.mjDSBL_SENSOR)
FEW = 4  # iterations of the solver that cost less than asking after each whether all worlds are done
warp.config.log_level = warp.LOG_WARNING  # else one line for each of some fifty kernels


class WarpSim:
    """`Simulation` over `mujoco_warp`: float32, one world a row, on a GPU; on the CPU for tests.

    Derived fields (xpos, cinert, ...) are, as after `mj_step`, those of the last substep's start. Contact forces
    (`cfrc_ext`) are those that `mj_rnePostConstraint` gives after a step, and zero after a reset. Nothing here waits
    for the GPU. A world that becomes unstable stays so until it is reset, and leaves the others alone.

    One step agrees with MuJoCo's to float32's precision, with two exceptions: PGS becomes Newton's solver, and where a
    capsule stands steeply on a plane the friction pyramid is turned about the normal (cones are not affected).

    The first call of `step` and of `forward` loads their kernels (which are compiled once on each machine, on all
    cores) and records a graph, which later calls launch: in torch's current stream, or as a part of what torch is
    itself recording there.

    Args:
        model: a compiled `mujoco.MjModel`. Solvers that mujoco_warp lacks are replaced by Newton's.
        rows: N, the number of worlds.
        name: what errors call it.
        device: "cpu" or "cuda:k".
        limits: room for contacts and constraints; 0 has it measured.
    Raises:
        UserError: the model uses what mujoco_warp lacks, the limits are too small, or so many worlds do not fit.
    """

    dtype = torch.float32

    def __init__(
        self, model: Any, rows: int, name: str, device: torch.device | str = "cuda:0", limits: Limits | None = None
    ) -> None:
        self.rows, self.device = rows, torch.device(device)
        warp.init()
        self._place = warp.device_from_torch(self.device)
        model = supported(model)
        self.limits = choose_limits(model, limits or Limits(), name)
        with warp.ScopedDevice(self._place):
            try:
                self._model: Any = mujoco_warp.put_model(model)
            except (NotImplementedError, ValueError) as error:
                raise UserError(
                    f"{name}: mujoco_warp cannot simulate this model ({error}); use --simulator cpu."
                ) from error
            self._check_memory(model, name)
            room = {"nconmax": self.limits.contacts, "njmax": self.limits.constraints}
            self._data: Any = mujoco_warp.make_data(model, nworld=rows, **room)
        self._model.opt.warn_overflow = 0  # it would print from the GPU; see `overflowed`
        self._model.opt.graph_conditional = model.opt.iterations > FEW
        self._shapes = mujoco.MjData(model)
        self._flags = self._model.opt.disableflags
        delayed = self._data.history.size > 0  # sensors or controls of earlier steps
        self._unseen_flags = self._flags if delayed else self._flags | NO_SENSORS
        self._state = {field: self._shared(field) for field in STATE if getattr(self._data, field).size}
        self._start = {field: tensor[:1].clone() for field, tensor in self._state.items()}
        self._overflow = warp.to_torch(self._data.overflow)
        self._fields: dict[str, Tensor] = {}
        self._expanded: dict[str, Tensor] = {}
        self._graphs: dict[tuple[Callable[..., None], int], Any] = {}

    def bind(self, field: str) -> Tensor:
        """The live `[N, ...]` tensor of a field of mjData.

        Raises:
            AttributeError: mujoco_warp has no such field.
        """
        if field not in self._fields:
            self._fields[field] = self._state[field] if field in self._state else self._shared(field)
            if field == CONTACT_FORCES:
                self._graphs.clear()  # they do not compute it
        return self._fields[field]

    def expand(self, field: str) -> Tensor:
        """The live `[N, ...]` tensor of a field of mjModel (of mjOption: "opt.NAME"). Constants derived from it are
        not recomputed.

        Raises:
            UserError: mujoco_warp has this field for all worlds alike.
        """
        if field not in self._expanded:
            owner, name = (self._model.opt, field.removeprefix("opt.")) if "." in field else (self._model, field)
            shared: Any = getattr(owner, name, None)
            if not getattr(shared, "_is_batched", False):
                raise UserError(f"mujoco_warp has no values of {field!r} for each world: use --simulator cpu.")
            own = warp.empty((self.rows, *shared.shape[1:]), dtype=shared.dtype, device=self._place)
            own._is_batched = True
            setattr(owner, name, own)
            self._graphs.clear()  # they read the shared values
            self._expanded[field] = warp.to_torch(own).copy_(warp.to_torch(shared))
        return self._expanded[field]

    def set_const(self, rows: Tensor) -> None:
        """Recompute the constants that follow from masses, inertias and armatures, where `rows` ([N] bool).

        The kernels do it for all rows; where nothing was written the result is what was there. They pass through the
        kinematics of the model's start, so the fields handed out get back what they had."""
        for name in CONSTANTS:
            if getattr(self._model, name).size:
                self.expand(name)
        before = {field: tensor.clone() for field, tensor in self._fields.items() if field not in self._state}
        self._launch(self._set_const, 1)
        for field, values in before.items():
            self._fields[field].copy_(values)

    def _set_const(self, _: int) -> None:
        groups = mujoco_warp.SetConstGroup.FIXED | mujoco_warp.SetConstGroup.INERT0
        mujoco_warp.set_const(self._model, self._data, groups, restore=False)

    @property
    def overflowed(self) -> Tensor:
        """[N] bool: contacts or constraints were lost in the last step, for lack of room."""
        return (self._overflow & LOST) != 0

    def step(self, substeps: int) -> None:
        """Advance every world."""
        self._launch(self._step, substeps)

    def reset(self, rows: Tensor) -> None:
        """Put `rows` ([N] bool) back to the model's start: warm start, activations, forces and time too."""
        for field, live in self._state.items():
            write_rows(live, rows, self._start[field])
        if CONTACT_FORCES in self._fields:
            self._fields[CONTACT_FORCES].masked_fill_(beside(rows, self._fields[CONTACT_FORCES]), 0.0)

    def forward(self, rows: Tensor) -> None:
        """Recompute the derived fields of `rows` ([N] bool), contact forces excepted.

        The kernels do it for all rows: the others get back what they had. No next step reads it.
        """
        derived = {field: tensor for field, tensor in self._fields.items() if field not in self._state}
        before = {field: tensor.clone() for field, tensor in derived.items()}
        self._launch(self._forward, 1)
        for field, live in derived.items():
            fresh = beside(rows, live) if field != CONTACT_FORCES else torch.zeros_like(live, dtype=torch.bool)
            torch.where(fresh, live, before[field], out=live)

    def state(self) -> dict[str, Any]:
        """All that the next step reads, and the fields handed out, which tasks read before it."""
        return {
            "integration": {name: tensor.clone() for name, tensor in self._state.items()},
            "fields": {name: tensor.clone() for name, tensor in self._fields.items()},
            "model": {name: tensor.clone() for name, tensor in self._expanded.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        for name, tensor in self._state.items():
            tensor.copy_(state["integration"][name])
        for name, tensor in state["fields"].items():
            self.bind(name).copy_(tensor)
        for name, tensor in state["model"].items():
            self.expand(name).copy_(tensor)

    def _shared(self, field: str) -> Tensor:
        """As mjData has it: a rotation is 9 numbers, not 3 x 3."""
        array = getattr(self._data, field)
        shape = getattr(self._shapes, field).shape if field != "time" else ()
        return warp.to_torch(array).view(self.rows, *shape)

    def _check_memory(self, model: Any, name: str) -> None:
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            check_memory(name, self.rows, bytes_per_world(model, self.limits), free, str(self.device))

    # ---- what the GPU does

    def _step(self, substeps: int) -> None:
        self._data.overflow.zero_()
        for left in reversed(range(substeps)):  # nobody sees what sensors measure before the last one
            self._model.opt.disableflags = self._unseen_flags if left else self._flags
            mujoco_warp.step(self._model, self._data)
        if CONTACT_FORCES in self._fields:
            mujoco_warp.rne_postconstraint(self._model, self._data)

    def _forward(self, _: int) -> None:
        mujoco_warp.forward(self._model, self._data)

    def _launch(self, work: Callable[[int], None], times: int) -> None:
        """`work(times)` in torch's stream: at first as it is, its kernels loaded; then by a graph made of it."""
        graph = self._graphs.get((work, times))
        on_gpu = self.device.type == "cuda"
        stream = warp.stream_from_torch(torch.cuda.current_stream(self.device)) if on_gpu else None
        if stream is not None and stream.is_capturing:  # torch records: become a part of its graph
            with warp.ScopedStream(stream, sync_enter=False), warp.ScopedCapture(stream=stream, external=True):
                work(times)
        elif graph is not None:
            warp.capture_launch(graph, stream)
        else:
            with warp.ScopedDevice(self._place):
                load_kernels(lambda: work(times))
                with warp.ScopedStream(stream):
                    work(times)
                with warp.ScopedCapture() as capture:  # in Warp's own stream: torch's default one cannot be recorded
                    work(times)
            self._graphs[work, times] = capture.graph


def supported(model: Any) -> Any:
    """The model, or a copy with Newton's solver where it asks for one that mujoco_warp lacks.

    Both minimise the same cost; Newton's reaches the minimum, of which Gauss-Seidel's (PGS) stops short."""
    if model.opt.solver != mujoco.mjtSolver.mjSOL_PGS:
        return model
    model = copy.copy(model)
    model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    return model


def describe(model: Any) -> str:
    """What the user is told steps the worlds."""
    replaced = ", Newton's solver for PGS" if supported(model) is not model else ""
    compiled = any(Path(str(warp.config.kernel_cache_dir)).glob("wp_mujoco_warp*"))
    return f"mujoco_warp{replaced}" + ("" if compiled else " (its kernels compile now, once: some seconds to a minute)")
