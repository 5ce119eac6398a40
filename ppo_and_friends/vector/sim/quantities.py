"""What may differ between the worlds of one model: physical quantities, and which of the model's fields they are."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ppo_and_friends.errors import UserError
from ppo_and_friends.vector.sim.chance import Chance, Operation
from ppo_and_friends.vector.sim.tensors import beside

LEAST = 0.01  # of its original, what must be positive keeps at least: a normal distribution has no end
JOINT_TRANSMISSIONS = (0, 1)  # mjTRN_JOINT, mjTRN_JOINTINPARENT


class Quantity(NamedTuple):
    """What is varied together.

    fields    of mjModel. The first one's numbers are drawn
    owner     the field of mjModel with each element's body; "" where each is its own, or no body's
    coupled   one number an element; all its columns, in all fields, change in the proportion of the first
    positive  kept above `LEAST` of the original
    derives   constants of mjModel follow from it
    """

    fields: tuple[str, ...]
    owner: str
    coupled: bool = False
    positive: bool = True
    derives: bool = False


QUANTITIES = {
    "mass": Quantity(("body_mass", "body_inertia"), "", coupled=True, derives=True),
    "friction": Quantity(("geom_friction",), "geom_bodyid", coupled=True),
    "damping": Quantity(("dof_damping",), "dof_bodyid"),
    "armature": Quantity(("dof_armature",), "dof_bodyid", derives=True),
    "stiffness": Quantity(("jnt_stiffness",), "jnt_bodyid"),
    "limits": Quantity(("jnt_range",), "jnt_bodyid", positive=False),
    "gain": Quantity(("actuator_gainprm", "actuator_biasprm"), "", coupled=True, positive=False),
    "gravity": Quantity(("opt.gravity",), "", positive=False),
}


@dataclass(frozen=True, kw_only=True)
class Vary(Chance):
    """A physical quantity that differs between worlds, drawn independently for each of its elements.

    mass       of each body, inertia in proportion
    friction   of each geom: sliding as drawn, torsional and rolling in proportion. A contact takes the larger of two
    damping    of each degree of freedom
    armature   of each degree of freedom
    stiffness  of each joint's spring
    limits     of each joint's range, both ends
    gain       of each actuator, gain and bias in proportion: a motor's strength, a servo's stiffness with its damping
    gravity    each component

    bodies     names of the bodies whose masses, geoms, joints and actuators are meant; none means all
    """

    quantity: Literal["mass", "friction", "damping", "armature", "stiffness", "limits", "gain", "gravity"]
    operation: Operation = "scaling"
    bodies: tuple[str, ...] = ()

    def lead(self, field: Tensor) -> Tensor:
        """What is drawn of the first field: [*, elements]."""
        return field.unflatten(1, (-1, 1)).flatten(2)[..., 0] if QUANTITIES[self.quantity].coupled else field.flatten(1)

    def chosen(self, model: Any, lead: Tensor) -> Tensor:
        """[1, elements] bool, those of `bodies`.

        Raises:
            UserError: a body is unknown, or there is nothing to vary.
        """
        chosen = torch.ones_like(lead, dtype=torch.bool)
        if self.bodies:
            owners = self._owners(model)
            known = {model.body(index).name: index for index in range(model.nbody)}
            for name in self.bodies:
                if name not in known:
                    near = difflib.get_close_matches(name, known, 1) or [", ".join(filter(None, known))]
                    raise UserError(f"The model has no body {name!r} whose {self.quantity} could vary: {near[0]}?")
            wanted = [owner in [known[name] for name in self.bodies] for owner in owners]
            each = lead.shape[1] // max(len(wanted), 1)
            chosen = torch.tensor(wanted, device=lead.device).repeat_interleave(each)[None]
        if not (chosen & ((lead != 0) | (self.operation == "additive"))).any():
            whose = f"of {', '.join(self.bodies)}" if self.bodies else "in this model"
            raise UserError(f"There is no {self.quantity} {whose} that {self.operation} could change: leave it out.")
        return chosen

    def change(self, fields: dict[str, Tensor], number: Tensor, chosen: Tensor) -> None:
        """Put changed values in the place of those in `fields`."""
        names, _, coupled, positive, _ = QUANTITIES[self.quantity]
        lead = self.lead(fields[names[0]])
        changed = self.combine(lead, number)
        if positive:
            changed = torch.maximum(changed, LEAST * lead)
        changed = torch.where(chosen, changed, lead)
        if not coupled:
            fields[names[0]] = changed.view(-1, *fields[names[0]].shape[1:])
            return
        ratio = torch.where(lead == 0, 1.0, changed / lead)
        for name in names:
            fields[name] = fields[name] * beside(ratio, fields[name])

    def _owners(self, model: Any) -> list[int]:
        """The body of each element, -1 for none."""
        owner = QUANTITIES[self.quantity].owner
        if owner:
            return getattr(model, owner).tolist()
        if self.quantity == "mass":
            return list(range(model.nbody))
        if self.quantity == "gravity":
            raise UserError(f"gravity is that of the whole world, so it takes no bodies, but got {self.bodies}.")
        pairs = zip(model.actuator_trntype.tolist(), model.actuator_trnid[:, 0].tolist(), strict=True)
        return [int(model.jnt_bodyid[joint]) if kind in JOINT_TRANSMISSIONS else -1 for kind, joint in pairs]
