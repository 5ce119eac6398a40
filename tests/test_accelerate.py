"""Compiled and eager do the same, alone and over ranks; what cannot be compiled runs as it is."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from ranks import needs_mpirun, run
from test_ppo import assert_same, numbers, saved
from torch import Tensor, nn
from toys import BOX, MULTI_DISCRETE, NET, Toy, experiment

from ppo_and_friends import accelerate as accelerating
from ppo_and_friends.accelerate import accelerate, compiled, repays
from ppo_and_friends.addons.base import Addon, Context
from ppo_and_friends.addons.icm import ICM
from ppo_and_friends.addons.rnd import RND
from ppo_and_friends.comm import Comm, SoloComm
from ppo_and_friends.config import BodyConfig, Experiment, RunConfig
from ppo_and_friends.minibatch import Batch
from ppo_and_friends.networks.net import Net
from ppo_and_friends.ppo import PPO
from ppo_and_friends.rollout import Rollout
from ppo_and_friends.schedules import constant
from ppo_and_friends.types import GroupSpec

ITERATIONS = 4


@dataclass(frozen=True)
class Guess:
    """An add-on with parameters, a learning rate and a clip of its own: it learns to tell the return."""

    def make(self, spec: GroupSpec) -> Addon:
        return _Guess(spec.actor[0].shape[0])


class _Guess(Addon):
    lr, max_grad_norm, needs, reports = 1e-2, 0.1, 1, ("distance",)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head, self.frozen = nn.Linear(width, 1), nn.Linear(width, width).requires_grad_(False)
        self.register_buffer("scale", torch.full((width,), 0.5))

    def extras(self, rollout: Rollout, context: Context) -> tuple[Tensor, ...]:
        assert isinstance(rollout.reached, Tensor)
        return (context.net.actor_norm(rollout.reached),)

    def loss(self, batch: Batch, net: Net) -> tuple[Tensor, ...]:
        assert isinstance(batch.actor, Tensor)
        (reached,) = batch.extras
        error = self.head(self.frozen(batch.actor * self.scale + reached)).squeeze(-1) - batch.returns
        return error.square(), error.abs()


CASES = {
    "box": experiment(
        Toy(BOX, asymmetric=True, absent=0.1),
        addons=(Guess(),),
        normalize_values=True,
        target_kl=0.01,
        kl_reference="previous_visit",
        kl_schedule="epoch",
        critic_lr=constant(1e-3),
        clip_shape="smooth",
        bounds_weight=0.1,
    ),
    "masked": experiment(
        Toy(MULTI_DISCRETE, masked=True),
        replace(NET, shared=True),
        addons=(ICM(), RND()),
        stop_kl=1e3,
        value_clip=0.2,
        minibatches=1,
    ),
    "memory": experiment(Toy(BOX), replace(NET, core="lstm", core_size=4, chunk_length=2)),
}


class Twins(SoloComm):
    """The first of two ranks that do the same."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 2

    def sum_(self, tensor: Tensor) -> None:
        tensor.mul_(2)


COMMS = {"masked": Twins}  # with one machine code on each side of the reduction; else there is one for a step


@pytest.fixture(scope="module", autouse=True)
def code() -> Iterator[None]:
    """Machine code is made once for functions of the same name, of tensors alike: it has all tensors as arguments."""
    made: dict[Any, Any] = {}

    def once(function: Any, inputs: Any) -> Any:
        key = function.__qualname__, tuple((x.shape, x.stride(), x.dtype) for x in inputs)
        if key not in made:
            made[key] = compiled(function, inputs)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accelerating, "compiled", once)
        yield


def made(config: Experiment, fast: bool, comm: type[Comm] = SoloComm) -> PPO:
    ppo = PPO(replace(config, compile="on" if fast else "off"), comm=comm())
    said: list[str] = []
    accelerate(ppo, said.append)
    ppo.said = said  # type: ignore[attr-defined]
    return ppo


def is_compiled(ppo: PPO) -> bool:
    learner, rows = ppo.groups[0].learner, ppo.groups[0].rows
    return learner.step != learner.eager_step and rows.decide != rows.net.act


@pytest.mark.parametrize("case", CASES)
def test_compiled_and_eager_agree_and_resume_is_exact(case: str) -> None:
    config, comm = CASES[case], COMMS.get(case, SoloComm)
    eager, fast = (made(config, on, comm) for on in (False, True))
    halfway: Any = None
    for number in range(ITERATIONS):
        if number == ITERATIONS // 2:
            halfway = copy.deepcopy(saved(fast))
        expected, found = eager.iterate(), fast.iterate()
        assert is_compiled(fast) and not is_compiled(eager) and len(fast.said) == 1  # type: ignore[attr-defined]
        for name, value in numbers(expected).items():
            assert found[name] == pytest.approx(value, rel=1e-3, abs=1e-4, nan_ok=True), name
    for name in ("values", "first", "second"):
        one, other = (getattr(ppo.groups[0].learner.tensors, name) for ppo in (eager, fast))
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    fresh = PPO(config, comm=comm())
    for ppo in (eager, fast):
        pairs = zip(ppo.groups[0].addons.parameters(), fresh.groups[0].addons.parameters(), strict=True)
        assert all(now.requires_grad or torch.equal(now, then) for now, then in pairs)
    second, (shared, own) = made(config, True, comm), halfway
    second.load_shared_state(shared)
    second.load_own_state(own)
    for _ in range(ITERATIONS - ITERATIONS // 2):
        second.iterate()
    assert_same(saved(second), saved(fast))


def test_a_bad_number_is_found_in_compiled_code_and_changes_nothing() -> None:
    ppo = made(CASES["box"], True)
    ppo.iterate()
    learner = ppo.groups[0].learner
    before, step = learner.flat.values.clone(), learner.step

    def spoil(batch: Batch) -> Tensor:
        batch.advantages[0, 0] = torch.inf
        return step(batch)

    fast = learner.step
    learner.step = spoil
    with pytest.raises(FloatingPointError, match="rank 0: the loss or its gradient is not finite in iteration 1"):
        ppo.iterate()
    assert torch.equal(learner.flat.values, before)
    learner.step = fast
    (guess,) = learner.objective.addons
    guess.scale = guess.scale.clone()
    with pytest.raises(RuntimeError, match="The buffer scale was bound anew: write it in place"):
        ppo.iterate()


def test_a_minibatch_of_another_size_runs_as_it_is() -> None:
    ppo = made(CASES["box"], True)
    learner, seen = ppo.groups[0].learner, []

    def keep(batch: Batch) -> Tensor:
        seen.append(batch)
        return learner.eager_step(batch)

    learner.step, fast = keep, learner.step
    ppo.iterate()
    fast(seen[0])  # compiles
    half = seen[0].split(seen[0].weights.shape[1] // 2)[0]
    moving = [*learner.tensors[:-1], *learner.tensors.lrs]
    before, after = [tensor.clone() for tensor in moving], []
    for step in (fast, learner.eager_step):
        for tensor, value in zip(moving, before, strict=True):
            tensor.copy_(value)
        step(half)
        after.append(learner.flat.values.clone())
    assert torch.equal(*after) and not torch.equal(after[0], before[0])


def branching(specs: Any, config: BodyConfig) -> nn.Module:
    """A body that looks at numbers: no graph can be made of it."""

    class Branching(nn.Linear):
        features = 3

        def forward(self, observation: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(observation * (2 if float(observation.sum()) > 0 else 1))

    return Branching(5, 3)


def test_what_cannot_be_traced_runs_as_it_is_and_is_said() -> None:
    body = BodyConfig(custom=branching)
    config = experiment(Toy(BOX), replace(NET, actor=body, critic=body))
    eager, tried = made(config, False), made(config, True)
    for _ in range(2):
        assert numbers(eager.iterate()) == pytest.approx(numbers(tried.iterate()), nan_ok=True)
    assert not is_compiled(tried)
    said = "\n".join(tried.said)  # type: ignore[attr-defined]
    assert "The update is not compiled and runs as it is:" in said and "The policy is not compiled" in said


def test_a_tensor_that_is_neither_parameter_nor_buffer_prevents_compiling() -> None:
    ppo = made(CASES["box"], True)
    ppo.groups[0].learner.objective.addons[0].hidden = torch.tensor(0.2)  # type: ignore[assignment]
    ppo.iterate()
    said = "\n".join(ppo.said)  # type: ignore[attr-defined]
    assert "addons.0.hidden is a tensor, but neither parameter nor buffer" in said


def test_the_faster_tanh_is_within_rounding_of_the_librarys() -> None:
    x = torch.cat((torch.linspace(-20, 20, 10_001), torch.tensor([torch.inf, -torch.inf])))
    torch.testing.assert_close(accelerating._tanh(x), torch.tanh(x), rtol=0, atol=2e-7)


def test_a_tensor_that_is_no_argument_is_not_frozen_into_the_code() -> None:
    hidden = torch.ones(3)
    with pytest.raises(NotImplementedError, match="no argument"):
        compiled(lambda x: (x * hidden,), [torch.ones(3)])


def test_what_was_compiled_before_is_found_on_disk() -> None:
    from torch._dynamo.utils import counters
    from torch._inductor.utils import fresh_cache

    def step(x: Tensor, into: Tensor, plus: Tensor) -> tuple[Tensor]:
        into.add_(x.tanh().sum(0))
        return (x * plus,)

    found = []
    with fresh_cache():
        for case in ("shared", "shared", "apart", "apart", "overlapping"):
            counters.clear()
            results = []
            for fast in (False, True):
                store = torch.arange(5.0)
                into = store[:4] if case == "overlapping" else store[:2]
                plus = into if case == "shared" else store[1:] if case == "overlapping" else store[2:4]
                arguments = [torch.full((3, len(into)), 0.5 + len(found)), into, plus]
                results.append((*(compiled(step, arguments) if fast else step)(*arguments), store))
            torch.testing.assert_close(*results)
            found.append(counters["inductor"]["fxgraph_cache_hit"])
    assert found == [0, 1, 0, 1, 0]


def test_long_runs_compile_and_a_run_keeps_its_choice() -> None:
    def asked(steps: int, compile: Any = "auto") -> Experiment:
        return replace(experiment(Toy(BOX)), num_timesteps=steps, compile=compile)

    per_iteration, rollout = 2 * 3, 4 * 16
    enough = -(-accelerating.REPAYS // per_iteration) * rollout
    assert repays(asked(enough), 1) and not repays(asked(enough - rollout), 1)
    assert not repays(asked(enough), 2), "two ranks collect as much in half the iterations"
    assert PPO(asked(enough), RunConfig(max_iterations=3)).compiled, "a run that was tried before goes on as any"
    assert not PPO(asked(enough - rollout)).compiled and PPO(asked(1, "on")).compiled
    resumed = PPO(asked(enough))
    resumed.load_shared_state(PPO(asked(1)).shared_state())
    assert not resumed.compiled, "num_timesteps grew, but the run began without"
    forced = PPO(asked(enough, "on"))
    forced.load_shared_state(PPO(asked(1)).shared_state())
    assert forced.compiled


RANKS_RUN = """
    import torch
    from dataclasses import replace
    from test_accelerate import CASES
    from torch.fx.experimental.proxy_tensor import make_fx
    from ppo_and_friends import accelerate as accelerating
    from ppo_and_friends.ppo import PPO

    def traced(function, inputs):  # what is compiled, up to there: the code itself is tested above
        return make_fx(function)(*[tensor.clone() for tensor in inputs])

    def main(comm):
        accelerating.compiled = traced
        results = []
        for fast in (False, True):
            ppo = PPO(replace(CASES["box"], compile="on" if fast else "off"), comm=comm)
            said = []
            accelerating.accelerate(ppo, said.append)
            for _ in range(3):
                calls = comm.calls["sum_"]
                ppo.iterate()
            assert comm.calls["sum_"] - calls == 1 + 2 * 3
            assert len(said) == fast, said
            values = ppo.groups[0].learner.flat.values
            everyone = values.clone()
            comm.broadcast_(everyone)
            assert torch.equal(everyone, values)
            results.append(values)
        torch.testing.assert_close(*results, rtol=1e-3, atol=1e-5)
        print(f"rank {comm.rank} agrees")
"""


@needs_mpirun
def test_ranks_compile_together_and_stay_together() -> None:
    done = run(2, RANKS_RUN)
    assert done.returncode == 0 and done.stdout.count("agrees") == 2, done.stderr
