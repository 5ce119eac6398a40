"""MuJoCo Warp on its CPU backend, beside the CPU engine: alike to float32's precision, rows apart from each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mujoco_warp
import pytest
import torch
import warp
from gymnasium_tasks import TASKS
from torch import Tensor
from worlds import comparable, random_actions, rows_of

from environments.tasks.ant import Ant
from environments.tasks.half_cheetah import HalfCheetah
from environments.tasks.humanoid import Humanoid
from environments.tasks.inverted_pendulum import InvertedPendulum
from environments.tasks.isaac_ant import IsaacAnt
from ppo_and_friends.errors import UserError
from ppo_and_friends.types import Obs
from ppo_and_friends.vector.sim.batch_cpu import BatchSim
from ppo_and_friends.vector.sim.warp_gpu import WarpSim, describe, supported

ROWS = 4
ALL = rows_of(*range(ROWS), of=ROWS)
# Of 1 + the number's size, after one environment step from equal states. Velocities are positions' errors over time,
# and contact forces those of accelerations, in newtons.
TOLERANCE = {"qvel": 1e-3, "cvel": 1e-3, "qfrc_constraint": 1e-3, "cfrc_ext": 5e-2}
each_task = pytest.mark.parametrize("task_class", TASKS, ids=lambda task_class: task_class.__name__)


pytestmark = pytest.mark.usefixtures("elsewhere")


def worlds(task: Any, rows: int = ROWS, seed: int = 0) -> WarpSim:
    """Started, thrown about a little, its derived fields fresh."""
    sim = WarpSim(task.model(), rows, task.name, "cpu")
    task.start(sim)
    throw(sim, seed)
    return sim


def throw(sim: BatchSim | WarpSim, seed: int) -> None:
    everywhere = torch.ones(sim.rows, dtype=torch.bool)
    sim.reset(everywhere)
    chance = torch.Generator().manual_seed(seed)
    for field in ("qpos", "qvel"):
        values = sim.bind(field)
        values.add_(0.05 * torch.randn(values.shape, generator=chance))
    sim.forward(everywhere)


def drive(sim: WarpSim, task: Any, actions: Tensor) -> Tensor:
    """[steps, N, nq + nv]: where it went."""
    seen = []
    for action in actions:
        sim.bind("ctrl").copy_(action)
        sim.step(task.substeps)
        seen.append(torch.cat((sim.bind("qpos"), sim.bind("qvel")), 1))
    return torch.stack(seen)


def vector(obs: Obs) -> Tensor:
    assert isinstance(obs.actor, Tensor)
    return obs.actor


def off(ours: Tensor, theirs: Tensor) -> float:
    return float(((ours.double() - theirs).abs() / (1 + theirs.abs())).max())


@each_task
def test_one_step_is_the_cpu_engines(task_class: Any) -> None:
    task = task_class()
    model = comparable(task)
    cpu, gpu = BatchSim(model, ROWS, 1, "cpu"), WarpSim(model, ROWS, "gpu", "cpu")
    cpu_memory, memory = task.start(cpu), task.start(gpu)
    assert gpu.dtype == torch.float32
    throw(cpu, seed=1)
    throw(gpu, seed=1)
    for step, action in enumerate(random_actions(task, ROWS, 25)):
        for field in ("qpos", "qvel", "qacc_warmstart"):
            gpu.bind(field).copy_(cpu.bind(field))
        gpu.forward(ALL)
        cpu.forward(ALL)  # both tasks read derived positions of before
        task.apply(cpu, cpu_memory, action)
        task.apply(gpu, memory, action)
        cpu.step(task.substeps)
        gpu.step(task.substeps)
        for field in gpu.state()["fields"].keys() - {"ctrl", "qacc_warmstart"}:
            assert gpu.bind(field).shape == cpu.bind(field).shape
            assert off(gpu.bind(field), cpu.bind(field)) < TOLERANCE.get(field, 1e-5), (field, step)
        assert off(vector(task.observe(gpu, memory)), vector(task.observe(cpu, cpu_memory))) < 5e-2
        (reward, ended, _), (cpu_reward, cpu_ended, _) = (
            task.reward_done(sim, kept, action) for sim, kept in ((gpu, memory), (cpu, cpu_memory))
        )
        assert off(reward, cpu_reward) < 1e-2 and torch.equal(ended, cpu_ended)
    assert not gpu.overflowed.any()


@pytest.mark.parametrize(("task_class", "steps"), [(HalfCheetah, 30), (Ant, 20)])
def test_short_random_runs_are_alike_on_average(task_class: Any, steps: int) -> None:
    """Single runs part, by rounding and by the friction pyramid's turn; their means do not."""
    task, rows = task_class(), 48
    cpu, gpu = BatchSim(task.model(), rows, 1, "cpu"), WarpSim(task.model(), rows, "gpu", "cpu")
    measured = []
    for sim in (cpu, gpu):
        memory = task.start(sim)
        throw(sim, seed=2)
        rewards = torch.zeros(rows, dtype=torch.float64)
        for action in random_actions(task, rows, steps, seed=3):
            task.apply(sim, memory, action)
            sim.step(task.substeps)
            rewards += task.reward_done(sim, memory, action)[0]
        heights = sim.bind("qpos")[:, 2 if task_class is Ant else 1].double()
        measured.append(torch.stack((rewards / steps, heights, sim.bind("qvel").double().norm(dim=1))))
    one, other = measured
    error = (one.var(1) / rows + other.var(1) / rows).sqrt()
    assert ((one.mean(1) - other.mean(1)).abs() < 4 * error).all(), (one.mean(1), other.mean(1), error)


def test_masked_reset_leaves_other_rows_alone() -> None:
    task = HalfCheetah()
    sim, twin = worlds(task), worlds(task)
    actions = random_actions(task, ROWS, 8)
    drive(sim, task, actions[:4])
    drive(twin, task, actions[:4])
    before = sim.state()["integration"]
    sim.reset(rows_of(1, of=ROWS))
    after, fresh = sim.state()["integration"], WarpSim(task.model(), ROWS, "fresh", "cpu").state()["integration"]
    assert {"qacc_warmstart", "time", "ctrl", "qfrc_applied", "xfrc_applied"} <= after.keys()
    for field, values in after.items():
        assert torch.equal(values[1], fresh[field][1]), field
        assert torch.equal(values[[0, 2, 3]], before[field][[0, 2, 3]]), field
    one, other = (drive(each, task, actions[4:]) for each in (sim, twin))
    assert torch.equal(one[:, [0, 2, 3]], other[:, [0, 2, 3]]) and not torch.equal(one[:, 1], other[:, 1])


def test_masked_forward_leaves_other_rows_alone() -> None:
    task = Ant()
    sim, twin = worlds(task), worlds(task)
    actions = random_actions(task, ROWS, 30)
    drive(sim, task, actions[:25])
    drive(twin, task, actions[:25])
    before = sim.state()
    assert before["fields"]["cfrc_ext"].any(1).any()
    sim.forward(rows_of(2, of=ROWS))
    after = sim.state()
    for field in ("xpos", "cfrc_ext"):
        assert torch.equal(after["fields"][field][[0, 1, 3]], before["fields"][field][[0, 1, 3]])
    assert not torch.equal(after["fields"]["xpos"][2], before["fields"]["xpos"][2])
    assert torch.equal(after["fields"]["cfrc_ext"], before["fields"]["cfrc_ext"])
    assert torch.equal(drive(sim, task, actions[25:]), drive(twin, task, actions[25:]))


def test_contact_forces_are_zero_after_a_reset() -> None:
    task = Ant()
    sim = worlds(task)
    drive(sim, task, random_actions(task, ROWS, 25))
    struck = sim.bind("cfrc_ext").flatten(1).any(1)
    assert struck.any()
    row = int(struck.nonzero()[0])
    sim.reset(rows_of(row, of=ROWS))
    sim.forward(rows_of(row, of=ROWS))
    struck[row] = False
    assert torch.equal(sim.bind("cfrc_ext").flatten(1).any(1), struck)


def test_state_continues_in_fresh_worlds() -> None:
    task = HalfCheetah()
    sim, fresh = worlds(task), WarpSim(task.model(), ROWS, "fresh", "cpu")
    actions = random_actions(task, ROWS, 12)
    sim.expand("body_mass").mul_(1.5)
    drive(sim, task, actions[:6])
    fresh.load_state(sim.state())
    assert torch.equal(drive(fresh, task, actions[6:]), drive(sim, task, actions[6:]))


def test_a_graph_does_what_the_first_call_did() -> None:
    task = HalfCheetah()
    sim = worlds(task)
    start, action = sim.state(), random_actions(task, ROWS, 1)
    first = drive(sim, task, action)
    sim.load_state(start)
    assert torch.equal(drive(sim, task, action), first)
    sim.bind("cfrc_ext")  # a graph that was made before does not compute it
    drive(sim, task, random_actions(task, ROWS, 10))
    assert sim.bind("cfrc_ext").any()


def test_sensors_are_those_of_the_last_substep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which alone are asked for, also after a step that failed on its way."""
    task = IsaacAnt()
    whole, halves = worlds(task), worlds(task)
    flags: list[int] = []
    step = mujoco_warp.step

    def noted(model: Any, data: Any) -> None:
        flags.append(model.opt.disableflags)
        if len(flags) == 1:  # in the rehearsal, which nobody hears of
            raise RuntimeError
        step(model, data)

    monkeypatch.setattr(mujoco_warp, "step", noted)
    whole.step(2)
    silent, asked = flags[1:3]
    assert silent != asked == task.model().opt.disableflags
    halves.step(1)
    halves.step(1)
    for field in ("qpos", "qvel", "sensordata"):
        assert torch.equal(whole.bind(field), halves.bind(field)) and whole.bind(field).any()


@pytest.mark.parametrize("field", ["body_mass", "opt.gravity"])
def test_expanded_fields_are_each_worlds_own(field: str) -> None:
    task = HalfCheetah()
    sim, twin = worlds(task), worlds(task)
    actions = random_actions(task, ROWS, 6)
    drive(sim, task, actions[:3])  # so that there is a graph, which knows nothing of the new values
    drive(twin, task, actions[:3])
    values = sim.expand(field)
    assert values.shape[0] == ROWS and torch.equal(values[0], values[3])
    values[2] *= 2
    one, other = drive(sim, task, actions[3:]), drive(twin, task, actions[3:])
    assert torch.equal(one[:, [0, 1, 3]], other[:, [0, 1, 3]]) and not torch.equal(one[:, 2], other[:, 2])
    assert sim.expand(field) is values


def test_field_that_all_worlds_share_is_refused() -> None:
    with pytest.raises(UserError, match=r"'body_parentid' for each world: use --simulator cpu"):
        WarpSim(HalfCheetah().model(), 1, "Task", "cpu").expand("body_parentid")


def test_unstable_world_leaves_the_others_alone() -> None:
    task = Ant()
    sim, twin = worlds(task), worlds(task)
    actions = random_actions(task, ROWS, 6)
    sim.bind("qvel")[1, 0] = torch.nan
    one, other = drive(sim, task, actions), drive(twin, task, actions)
    assert torch.equal(one[:, [0, 2, 3]], other[:, [0, 2, 3]]) and one[:, 1].isnan().any()
    sim.reset(rows_of(1, of=ROWS))
    assert drive(sim, task, actions).isfinite().all()


def test_solver_that_is_lacking_is_replaced() -> None:
    model = Humanoid().model()
    solver = model.opt.solver
    assert supported(model).opt.solver != solver and model.opt.solver == solver  # of a copy
    cheetah = HalfCheetah().model()
    assert supported(cheetah) is cheetah


def test_model_that_is_not_supported_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: Any) -> None:
        raise NotImplementedError("Body plugins not supported.")

    monkeypatch.setattr("mujoco_warp.put_model", refuse)
    with pytest.raises(UserError, match=r"Task: .*\(Body plugins not supported.\); use --simulator cpu"):
        WarpSim(InvertedPendulum().model(), 1, "Task", "cpu")


def test_user_is_told_what_steps_the_worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp.config, "kernel_cache_dir", str(tmp_path))
    cold = describe(InvertedPendulum().model())
    assert cold.startswith("mujoco_warp (its kernels compile now")
    (tmp_path / "wp_mujoco_warp._src.smooth_0123456").mkdir()
    assert describe(InvertedPendulum().model()) == "mujoco_warp"
    assert describe(Humanoid().model()) == "mujoco_warp, Newton's solver for PGS"
