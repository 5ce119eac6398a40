"""Friends together: each pair of them in the suite, all of them with `pytest -m full`, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
from compositions import AXES, COVERING, EVERY, REFUSED, Case, check, composed
from gym_toys import Echo
from gymnasium import spaces
from ranks import needs_mpirun, run
from toys import BOX, NET, Toy, Toys, ToyVec, experiment

from ppo_and_friends.addons.augment import Augment
from ppo_and_friends.comm import SoloComm
from ppo_and_friends.errors import UserError
from ppo_and_friends.ppo import PPO
from ppo_and_friends.vector.gym_vec import GymEnv

RANKS_RUN = """
    import os
    from pathlib import Path
    from compositions import EVERY, check

    def main(comm):
        wanted = os.environ["CASES"].split()
        for case in EVERY:
            if case.name in wanted:
                try:
                    check(case, comm, Path(os.environ["STATES"]))
                except BaseException as error:
                    error.add_note(f"in {case.name}")
                    raise
                print(f"rank {comm.rank}: {case.name} ", flush=True)
"""


def on_two_ranks(cases: list[Case], directory: Path) -> None:
    """All of them in one pair of processes."""
    names = [case.name for case in cases]
    assert names
    done = run(2, RANKS_RUN, CASES=" ".join(names), STATES=str(directory))
    assert done.returncode == 0, done.stderr
    assert all(done.stdout.count(f"rank {rank}: {name} ") == 1 for name in names for rank in range(2)), done.stdout


def of_ranks(cases: list[Case], ranks: int) -> list[Case]:
    return [case for case in cases if case.ranks == ranks]


def test_the_suite_has_every_pair() -> None:
    """All values of any two axes meet, but for those that are refused."""
    values = [[(axis, value) for value in choices] for axis, choices in AXES.items()]
    every = {pair for one, other in combinations(values, 2) for pair in product(one, other)}
    assert every - set().union(*(case.pairs() for case in COVERING)) == REFUSED
    assert 9 <= len(COVERING) <= 24 and len(EVERY) == 720


@pytest.mark.parametrize("case", of_ranks(COVERING, 1), ids=lambda case: case.name)
def test_friends_compose(case: Case, tmp_path: Path) -> None:
    check(case, SoloComm(), tmp_path)


@needs_mpirun
def test_friends_compose_on_two_ranks(tmp_path: Path) -> None:
    on_two_ranks(of_ranks(COVERING, 2), tmp_path)


PARTS = [pytest.param(core, bonus, id=f"{core}-{bonus}") for core in AXES["core"] for bonus in AXES["bonus"]]


@pytest.mark.full
@pytest.mark.parametrize(("core", "bonus"), PARTS)
def test_all_friends_compose(core: str, bonus: str, tmp_path: Path) -> None:
    for case in of_ranks(EVERY, 1):
        if (case.core, case.bonus) == (core, bonus):
            check(case, SoloComm(), tmp_path)


@pytest.mark.full
@needs_mpirun
@pytest.mark.parametrize(("core", "bonus"), PARTS)
def test_all_friends_compose_on_two_ranks(core: str, bonus: str, tmp_path: Path) -> None:
    on_two_ranks([case for case in of_ranks(EVERY, 2) if (case.core, case.bonus) == (core, bonus)], tmp_path)


@dataclass(frozen=True)
class Flagged(Toy):
    """A toy that says it gives so many flags of legal actions."""

    flags: int = 2

    def make(self, rows: int, threads: int = 1, render: bool = False) -> ToyVec:
        env = super().make(rows)
        env.spec = replace(env.spec, groups=(replace(env.spec.groups[0], mask=self.flags),))
        return env


BOX_WITH_FLAGS = GymEnv(
    "Echo", factory=Echo, kwargs={"action_space": spaces.Box(-1, 1, (2,)), "info": {"action_mask": [1, 0]}}
)
PLAIN = Case("identity", False, "none", "own", 1, "discrete", True, 2)


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (composed(PLAIN._replace(core="gru")), "net.core remembers, but an add-on learns from copies or mirror images"),
        (composed(PLAIN._replace(core="lstm")), "net.core remembers, but an add-on learns from copies or mirror images"),
        (experiment(Flagged(BOX)), "gives 2 flags of legal actions a row, but box actions have 0 choices"),
        (experiment(Flagged()), "gives 2 flags of legal actions a row, but discrete actions have 4 choices"),
        (experiment(BOX_WITH_FLAGS), r"Echo reports an action_mask, but its actions Box\(.*\) have no choices to forbid"),
        (experiment(Toy(asymmetric=True), replace(NET, shared=True)), "the critic sees another observation than the actor"),
        (experiment(Toys((Toy(views=True), Toy())), addons=(Augment(),)), "needs an environment with a method augment_"),
    ],
    ids=["views and gru", "views and lstm", "flags and box", "too few flags", "flags and a Gymnasium box", "shared and asymmetric", "views of one group"],
)  # fmt: skip
def test_what_does_not_go_together_says_why_in_one_sentence(refused: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        PPO(refused)
    message = str(raised.value)
    assert message.endswith(".") and ". " not in message
