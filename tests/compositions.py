"""Every combination of friends: which there are, which of them cover all pairs, and what each must do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from test_ppo import assert_same, numbers
from torch import Tensor
from toys import BOX, DISCRETE, MULTI_DISCRETE, Toy, Toys, experiment

from ppo_and_friends.addons.augment import Augment
from ppo_and_friends.addons.icm import ICM
from ppo_and_friends.addons.rnd import RND
from ppo_and_friends.checkpoint import read_state
from ppo_and_friends.comm import Comm
from ppo_and_friends.config import BodyConfig, Experiment, NetConfig
from ppo_and_friends.group import Group
from ppo_and_friends.minibatch import Batch
from ppo_and_friends.ppo import PPO
from ppo_and_friends.schedules import constant
from ppo_and_friends.types import ActionSpace, TensorSpec

STEPS, ENVIRONMENTS, EPOCHS, MINIBATCHES, CORE_SIZE = 8, 4, 2, 2, 3
SMALL = BodyConfig((8,))
ACTIONS = {"discrete": DISCRETE, "multi_discrete": MULTI_DISCRETE, "box": BOX}
BONUSES: dict[str, Any] = {
    "none": (),
    "icm": (ICM(encoder=SMALL, models=SMALL),),
    "rnd": (RND(body=SMALL, predictor=SMALL, outputs=4),),
}
Pair = tuple[tuple[str, Any], tuple[str, Any]]


class Case(NamedTuple):
    """One value on each axis. The critic shares the actor's body, has its own, or sees something else."""

    core: str
    masked: bool
    bonus: str
    critic: str
    ranks: int
    action: str
    augmented: bool
    groups: int

    @property
    def name(self) -> str:
        masks, views = "masked" if self.masked else "free", "views" if self.augmented else "once"
        words = self.core, masks, self.bonus, self.critic, f"ranks{self.ranks}", self.action, views
        return "-".join((*words, f"groups{self.groups}"))

    def pairs(self) -> set[Pair]:
        return set(combinations(self._asdict().items(), 2))


AXES: dict[str, tuple[Any, ...]] = {
    "core": ("identity", "gru", "lstm"),
    "masked": (False, True),
    "bonus": tuple(BONUSES),
    "critic": ("shared", "own", "asymmetric"),
    "ranks": (1, 2),
    "action": tuple(ACTIONS),
    "augmented": (False, True),
    "groups": (1, 2),
}
REFUSED: set[Pair] = {
    (("core", "gru"), ("augmented", True)),
    (("core", "lstm"), ("augmented", True)),
    (("masked", True), ("action", "box")),
}
EVERY = [case for case in (Case(*values) for values in product(*AXES.values())) if not case.pairs() & REFUSED]


def covering(cases: Iterable[Case]) -> list[Case]:
    """Some of `cases` that have all pairs of values that any of them has: always the one that adds most."""
    left = {case: case.pairs() for case in cases}
    missing, chosen = set().union(*left.values()), []
    while missing:
        best = max(left, key=lambda case: len(left[case] & missing))
        chosen.append(best)
        missing -= left[best]
    return chosen


COVERING = covering(EVERY)


def composed(case: Case, **settings: Any) -> Experiment:
    """Agents that come and go; a second group has two of them in each environment, and sees less."""
    toy = Toy(
        ACTIONS[case.action],
        asymmetric=case.critic == "asymmetric",
        masked=case.masked,
        absent=0.2,
        views=case.augmented,
    )
    second = replace(toy, vector=TensorSpec((3,)), critic=(TensorSpec((4,)),), agents=2)
    env = toy if case.groups == 1 else Toys((toy, second))
    net = NetConfig(
        actor=SMALL,
        critic=SMALL,
        shared=case.critic == "shared",
        core=case.core,  # type: ignore[arg-type]
        core_size=CORE_SIZE,
        chunk_length=4,
    )
    addons = (*((Augment(),) if case.augmented else ()), *BONUSES[case.bonus])
    ppo = {"steps_per_row": STEPS, "epochs": EPOCHS, "minibatches": MINIBATCHES, "lr": constant(0.01), **settings}
    return replace(experiment(env, net, ENVIRONMENTS, addons, **ppo), compile="off")


@dataclass
class Watched:
    """What one group learned from: its batches, and the largest |log ratio| before each step."""

    group: Group
    batches: list[Batch]
    gaps: list[float]


def watch(ppo: PPO) -> list[Watched]:
    return [_watch(group) for group in ppo.groups]


def _watch(group: Group) -> Watched:
    seen = Watched(group, [], [])
    step = group.learner.step

    def watched(batch: Batch) -> Tensor:
        parameters = step(batch)
        gap = group.net.distribution.log_prob(parameters, batch.actions) - batch.log_probs
        seen.batches.append(batch)
        seen.gaps.append(float(gap.abs().max()))
        return parameters

    group.learner.step = watched
    return seen


def check(case: Case, comm: Comm, directory: Path) -> None:
    """Two iterations with all friends at work; and one, saved and resumed by another run, is the same two."""
    ppo = PPO(composed(case), comm=comm)
    before = [_learned(group) for group in ppo.groups]
    seen = watch(ppo)
    check_iteration(case, ppo, seen)
    file = directory / f"{case.name}.pt"
    ppo.save(file)
    comm.sum_(torch.zeros(1))  # the file is there
    expected = check_iteration(case, ppo, seen)
    assert ppo.timesteps == 3 * STEPS * ENVIRONMENTS * comm.size, "played, and once to seed moments: not copies"
    for group, start in zip(ppo.groups, before, strict=True):
        still = [name for name, value in _learned(group).items() if torch.equal(value, start[name])]
        assert still == [], "all that can be learned moves"
        check_same_on_all(comm, group)

    state = read_state(file)
    torch.manual_seed(999)
    resumed = PPO(composed(case), comm=comm)
    resumed.load_shared_state(state["shared"])
    assert resumed.load_own_state(state["ranks"][comm.rank])
    assert_same(check_iteration(case, resumed, watch(resumed)), expected)
    assert_same(resumed.shared_state(), ppo.shared_state())
    assert_same(resumed.own_state(), ppo.own_state())


def check_iteration(case: Case, ppo: PPO, seen: list[Watched]) -> dict[str, float]:
    """One iteration, and its metrics."""
    for own in seen:
        own.batches.clear()
        own.gaps.clear()
    metrics = numbers(ppo.iterate())
    for own, name in zip(seen, ppo.players.names, strict=True):
        assert len(own.gaps) == EPOCHS * MINIBATCHES
        assert own.gaps[0] < 2e-6, "before the first step the policy is the one that acted"
        assert own.gaps[1] > 1e-4, "and a step changes it"
        prefix = f"{name}/" if case.groups > 1 else ""
        named = {key.removeprefix(prefix): metrics[key] for key in metrics if key.startswith(prefix)}
        check_friends(case, own, named, scaled=ppo.iteration > 1)
    return metrics


def check_friends(case: Case, seen: Watched, metrics: dict[str, float], scaled: bool) -> None:
    """Each friend of a group had its part in an iteration, and no other."""
    group, batch, rows = seen.group, seen.batches[0], seen.group.rows
    weights = torch.cat([part.weights.flatten() for part in seen.batches[:MINIBATCHES]])
    copies = 2 if case.augmented else 1
    assert weights.numel() == STEPS * rows.spec.rows * copies
    assert weights.sum() == rows.active.sum() * copies < weights.numel(), "of those who were there"
    bonuses = {name: metrics[name] for name in metrics if name.endswith("_bonus")}
    assert list(bonuses) == ([] if case.bonus == "none" else [f"rollout_{case.bonus}_bonus"])
    assert all((value > 0) == scaled for value in bonuses.values()), "the first rollout measures their scale"
    assert (batch.critic is batch.actor) == (case.critic != "asymmetric")
    assert (group.net.critic_body is group.net.actor_body) == (case.critic == "shared")
    remembers = case.core != "identity"
    assert len(batch.weights) == (4 if remembers else 1)
    assert any(bool(part.actor_states.any()) for part in seen.batches) == remembers
    assert any(bool(part.critic_states.any()) for part in seen.batches) == remembers
    legal = rows.obs.mask[:-1]
    assert legal.shape[-1] == (sum(rows.spec.action.sizes) if case.masked else 0)
    if case.masked:
        assert not legal.all() and chosen_flags(rows.spec.action, legal, rows.actions).all()


def chosen_flags(action: ActionSpace, legal: Tensor, actions: Tensor) -> Tensor:
    """The flags `[T, N, columns]` of the actions that were taken."""
    columns = zip(legal.split(list(action.sizes), -1), actions.unbind(-1), strict=True)
    return torch.stack([flags.gather(-1, taken.unsqueeze(-1)).squeeze(-1) for flags, taken in columns], -1)


def check_same_on_all(comm: Comm, group: Group) -> None:
    """Ranks know the same, and learned it from rows of their own."""
    firsts = group.learner.flat.values.clone()
    comm.broadcast_(firsts)
    assert torch.equal(firsts, group.learner.flat.values)
    rewards = torch.zeros(comm.size, STEPS * group.rows.spec.rows)
    rewards[comm.rank] = group.rows.rewards.flatten()
    comm.sum_(rewards)
    assert len(rewards.unique(dim=0)) == comm.size


def _learned(group: Group) -> dict[str, Tensor]:
    named = group.learner.objective.named_parameters()
    return {name: parameter.detach().clone() for name, parameter in named if parameter.requires_grad}
