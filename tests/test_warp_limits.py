"""Room for contacts and constraints of a world on a GPU, and the memory that it needs."""

from __future__ import annotations

import pytest
import torch
import warp
from worlds import random_actions

from environments.tasks.ant import Ant
from environments.tasks.half_cheetah import HalfCheetah
from ppo_and_friends.errors import UserError
from ppo_and_friends.vector.sim import warp_limits
from ppo_and_friends.vector.sim.warp_gpu import WarpSim
from ppo_and_friends.vector.sim.warp_limits import Limits, bytes_per_world, check_memory, choose_limits, measure

ROWS = 4


pytestmark = pytest.mark.usefixtures("elsewhere")


def test_limits_are_measured_and_ample() -> None:
    model = Ant().model()
    needed = measure(model)
    assert needed == measure(model) and needed.contacts > 1 and needed.constraints > 8
    limits = choose_limits(model, Limits(), "Ant")
    assert limits.contacts >= 2 * needed.contacts and limits.constraints >= 1.5 * needed.constraints
    assert choose_limits(model, Limits(50, 120), "Ant") == Limits(50, 120)


@pytest.mark.parametrize(
    ("limits", "what"),
    [(Limits(contacts=1), "--env.max_contacts is 1"), (Limits(constraints=2), "--env.max_constraints is 2")],
)
def test_limits_that_random_controls_exceed_are_refused(limits: Limits, what: str) -> None:
    with pytest.raises(UserError, match=rf"Ant: {what}, but random controls already make \d+ c\w+ in one world: ask"):
        WarpSim(Ant().model(), ROWS, "Ant", "cpu", limits)


@pytest.mark.parametrize("limits", [Limits(1, 40), Limits(16, 2)])
def test_lost_contacts_are_reported(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp_limits, "measure", lambda model: Limits())
    task = HalfCheetah()
    sim = WarpSim(task.model(), ROWS, "HalfCheetah", "cpu", limits)
    lost = torch.zeros(ROWS, dtype=torch.bool)
    for action in random_actions(task, ROWS, 20):
        sim.bind("ctrl").copy_(action)
        sim.step(task.substeps)
        lost |= sim.overflowed
    assert lost.any()
    sim.reset(torch.ones(ROWS, dtype=torch.bool))
    sim.bind("qpos")[:, 1] = 5.0  # in the air, with legs straight
    sim.bind("ctrl").zero_()
    sim.step(task.substeps)
    assert not sim.overflowed.any()  # of the last step alone


def test_memory_that_is_not_there_is_one_sentence() -> None:
    model = Ant().model()
    small, large = (bytes_per_world(model, Limits(24, constraints)) for constraints in (64, 256))
    assert 10_000 < small < large < 1_000_000
    check_memory("Ant", 1000, small, 1000 * small, "cuda:0")
    with pytest.raises(
        UserError, match=r"Ant: 1000 rows need about .* cuda:0 has .* about 999 rows fit.* 999 or fewer"
    ):
        check_memory("Ant", 1000, small, 1000 * small - 1, "cuda:0")


def test_memory_has_what_a_step_makes_and_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    model, limits = HalfCheetah().model(), Limits(16, 40)
    of = []
    for graphs in (0, 1, 3):
        monkeypatch.setattr(warp_limits, "GRAPHS", graphs)
        of.append(bytes_per_world(model, limits))
    made = of[1] - of[0]
    assert of[2] == of[0] + 3 * made
    made_by_steps = []
    for rows in (1, 2):
        sim = WarpSim(model, rows, "HalfCheetah", "cpu", limits)
        sim.bind("cfrc_ext")
        with warp.ScopedDevice("cpu"), warp_limits._sizes_made() as sizes:
            sim._step(1)
        made_by_steps.append(sum(sizes))
    assert made == made_by_steps[1] - made_by_steps[0] > 20 * limits.constraints  # the solver's residuals and squares
