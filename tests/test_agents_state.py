"""Exact state of environments that are made of objects, and training of several agents on two ranks."""

from __future__ import annotations

import enum
import io
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import numpy as np
import pytest
import torch
from agent_toys import FOREVER, Crew, crew
from ranks import needs_mpirun, run
from toys import experiment

from ppo_and_friends.errors import UserError
from ppo_and_friends.ppo import PPO
from ppo_and_friends.vector import object_state
from ppo_and_friends.vector.gym_state import CannotSave
from ppo_and_friends.vector.multi_agent import MultiAgentEnv

DEATHS = {"ann": (0, FOREVER), "bob": (0, 2), "late": (3, 5)}
REAL = [
    MultiAgentEnv("lbforaging:Foraging-8x8-3p-2f-v3"),
    MultiAgentEnv("rware:rware-tiny-3ag-v2", {"max_steps": 0}, "agent_state", True, max_episode_steps=7),
    MultiAgentEnv("mpe2.simple_tag_v3", groups={"adversary_*": "hunters", "*": "prey"}, critic="state"),
]


class Mood(enum.Enum):
    GOOD = 1
    BAD = 2


class Robot:
    def __init__(self, number: int) -> None:
        self.number, self.mood, self.friend = number, Mood.GOOD, None
        self.speak = print


class Fleet(Crew):
    """Holds objects in several places, of which one holds itself."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.robots: Any = [Robot(0), Robot(1)]
        self.robots[0].friend, self.robots[1].friend = self.robots[1], self.robots[0]
        self.moves = {self.robots[0]: [1], "many": defaultdict(int, {3: 4})}
        self.recent = deque([(1, 2.5)], maxlen=3)
        self.chance, self.names = np.random.default_rng(5), {"a", "b"}


def through_a_file(value: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


def test_objects_come_back_as_they_were_held() -> None:
    one, other = Fleet(), Fleet()
    one.robots[1].mood, one.recent = Mood.BAD, deque([(3, 4.5), (5, 6)], maxlen=2)
    one.robots.append(Robot(7))
    one.robots[2].speak = None
    one.chance.random(3)
    object_state.load(other, through_a_file(object_state.save(one)))
    assert [(robot.number, robot.mood) for robot in other.robots] == [(0, Mood.GOOD), (1, Mood.BAD), (7, Mood.GOOD)]
    assert other.robots[0].friend is other.robots[1] and other.robots[1].friend is other.robots[0]
    assert list(other.moves) == [other.robots[0], "many"] and other.moves["many"] == {3: 4}
    assert other.recent == one.recent and other.recent.maxlen == 2 and other.names == {"a", "b"}
    assert other.chance.random() == one.chance.random() and other.robots[0].speak is print


@pytest.mark.parametrize("what", [threading.Lock(), type("Numbers", (list,), {})(), io.BytesIO(b"")])
def test_what_is_not_its_attributes_has_no_exact_state(what: Any) -> None:
    fleet = Fleet()
    fleet.robots.append(what)
    with pytest.raises(CannotSave):
        object_state.save(fleet)


def made_anew() -> str:
    return "new"


def test_containers_keep_their_kind() -> None:
    """Those that another environment has in their place already, and those that it has not."""
    one, other = Fleet(), Fleet()
    shared = one.robots
    one.seen, other.seen = defaultdict(made_anew, {1: "a"}), defaultdict(made_anew)  # type: ignore[attr-defined]
    one.kept, other.kept = [{"plain": 1}], [defaultdict(int)]  # type: ignore[attr-defined]
    one.apart, alike = (defaultdict(list), defaultdict(list, {1: [2]})), defaultdict(list)  # type: ignore[attr-defined]
    other.apart = (alike, alike)  # type: ignore[attr-defined]
    one.robots += [defaultdict(Mood), defaultdict(set, {1: {2}}), defaultdict(None, {1: 2})]
    one.robots += [OrderedDict(b=1, a=2), Counter("aab"), deque([shared], maxlen=4)]
    object_state.load(other, through_a_file(object_state.save(one)))
    assert other.seen == {1: "a"} and other.seen[2] == "new"  # type: ignore[attr-defined]
    assert type(other.kept[0]) is dict and other.kept == [{"plain": 1}]  # type: ignore[attr-defined]
    assert other.apart == ({}, {1: [2]}) and other.apart[0][5] == []  # type: ignore[attr-defined]
    moods, sets, nothing, ordered, counted, cycle = other.robots[2:]
    assert (moods.default_factory, sets[7], sets[1], nothing.default_factory) == (Mood, set(), {2}, None)
    assert ordered == OrderedDict(b=1, a=2) and list(ordered) == ["b", "a"] and type(ordered) is OrderedDict
    assert type(counted) is Counter and counted.most_common(1) == [("a", 2)] and counted["z"] == 0
    assert cycle[0] is other.robots and cycle.maxlen == 4


@pytest.mark.parametrize("what", [defaultdict(made_anew), defaultdict(threading.Lock), defaultdict(io.BytesIO)])
def test_what_a_container_makes_anew_is_known_or_refused(what: Any) -> None:
    fleet = Fleet()
    fleet.robots.append(what)
    with pytest.raises(CannotSave):
        object_state.load(Fleet(), object_state.save(fleet))


@pytest.mark.parametrize("kind", [deque, Counter, OrderedDict, defaultdict, frozenset, dict, tuple, bool])
def test_a_default_dict_goes_on_making_what_it_made(kind: Any) -> None:
    one, other = Fleet(), Fleet()
    one.robots.append(defaultdict(kind))
    object_state.load(other, through_a_file(object_state.save(one)))
    assert other.robots[-1]["new"] == kind() and type(other.robots[-1]["new"]) is kind


@pytest.mark.parametrize("kind", [io.BytesIO, threading.Event])
def test_a_default_dict_of_what_is_not_the_environments_is_refused_when_it_is_saved(kind: Any) -> None:
    fleet = Fleet()
    fleet.robots.append(defaultdict(kind))
    with pytest.raises(CannotSave, match="a defaultdict that makes"):
        object_state.save(fleet)


def test_a_tuple_that_holds_itself_has_no_exact_state() -> None:
    fleet = Fleet()
    fleet.robots[0].friend = (fleet.robots[0], fleet.robots)
    fleet.robots.append([fleet.robots[0].friend])
    object_state.load(Fleet(), object_state.save(fleet))
    inner: list[Any] = []
    inner.append((inner,))
    fleet.robots = inner[0]
    with pytest.raises(CannotSave, match="a tuple that holds itself"):
        object_state.load(Fleet(), object_state.save(fleet))


def test_arrays_that_share_memory_have_no_exact_state() -> None:
    fleet = Fleet()
    grid = np.zeros((2, 3))
    fleet.robots += [grid, grid[0]]
    with pytest.raises(CannotSave, match="share memory"):
        object_state.save(fleet)


def test_a_state_names_no_class_of_others() -> None:
    fleet = Fleet()
    saved = object_state.save(fleet)
    saved["nodes"][0]["class"] = "subprocess:Popen"
    with pytest.raises(CannotSave, match="subprocess:Popen, which is not the environment's"):
        object_state.load(fleet, saved)


def test_resuming_is_exact() -> None:
    def made() -> PPO:
        return PPO(experiment(crew(DEATHS, critic="agent_state", masks="info"), rows=3, steps_per_row=16))

    whole, half = made(), made()
    for ppo in (whole, half):
        ppo.iterate()
    saved = through_a_file({"shared": half.shared_state(), "own": half.own_state()})
    resumed = made()
    resumed.load_shared_state(saved["shared"])
    assert resumed.load_own_state(saved["own"])
    one, other = whole.iterate(), resumed.iterate()
    assert {k: v for k, v in one.items() if "seconds" not in k} == {
        k: v for k, v in other.items() if "seconds" not in k
    }
    assert whole.groups[0].learner.flat.values.equal(resumed.groups[0].learner.flat.values)


def test_an_environment_without_exact_state_starts_anew() -> None:
    ppo, other = (PPO(experiment(crew())) for _ in range(2))
    ppo.iterate()
    ppo.env._backend.envs[0].lock = threading.Lock()  # type: ignore[attr-defined]
    state = ppo.own_state()
    assert state["collector"]["env"] is None and not other.load_own_state(state)
    with pytest.raises(UserError, match="2 environments of Crew, not 1"):
        crew().make(1).load_state({"envs": [{}, {}]})


@pytest.mark.parametrize("config", REAL, ids=lambda config: config.id)
def test_real_environments_go_on_exactly(config: MultiAgentEnv) -> None:
    pytest.importorskip(config.id.partition(":")[0].partition(".")[0])
    one, other = config.make(2), config.make(2)
    one.reset(3)
    generator = torch.Generator().manual_seed(0)
    columns = [(group.rows, 1) for group in one.spec.groups]
    drawn = [tuple(torch.randint(0, 5, shape, generator=generator) for shape in columns) for _ in range(40)]
    for actions in drawn[:11]:
        one.step(actions)
    other.load_state(through_a_file(one.state()))
    for actions in drawn[11:]:
        for mine, theirs in zip(one.step(actions), other.step(actions), strict=True):
            assert torch.equal(mine.reward, theirs.reward) and torch.equal(mine.truncated, theirs.truncated)
            assert torch.equal(mine.obs.actor, theirs.obs.actor) and torch.equal(mine.final.critic, theirs.final.critic)  # type: ignore[arg-type]


@needs_mpirun
def test_two_ranks_stay_one() -> None:
    """Two groups, deaths and late comers: the same parameters and the same scores on both."""
    body = """
    def main(comm):
        import torch
        from agent_toys import crew
        from toys import experiment
        from ppo_and_friends.comm import SoloComm
        from ppo_and_friends.ppo import PPO
        from ppo_and_friends.evaluate import evaluate
        torch.set_num_threads(1)
        three = {"wolf_0": (0, 99), "wolf_1": (0, 3), "hare": (2, 5)}
        ppo = PPO(experiment(crew(three, groups={"wolf_*": "wolves", "*": "prey"}, critic="joined"), rows=2), comm=comm)
        for _ in range(2):
            metrics = ppo.iterate()
        found = evaluate(ppo.evaluation_env(2), ppo.policies(), 5, 0, comm, 100)
        means = {k: v for k, v in metrics.items() if "seconds" not in k}
        sums = [float(group.learner.flat.values.double().sum()) for group in ppo.groups]
        told = comm.gather_bytes(repr((means, sums, found)).encode())
        if comm.rank == 0:
            print(len(told), told[0] == told[1], metrics["timesteps"], metrics["wolves/mean_return"], metrics["prey/mean_return"])
        return 0
    """
    done = run(2, body)
    assert done.returncode == 0, done.stderr
    # wolf_0 earns 1 to 6, wolf_1 10 and 1 to 3; the hare 20 and 3 to 5
    assert done.stdout.split() == ["2", "True", str(2 * 2 * 48), f"{21 + 36:.1f}", f"{3 * 20 + 12:.1f}"]
