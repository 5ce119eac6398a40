"""Gymnasium environments in batch, against toy environments whose every number is known."""

from __future__ import annotations

import io
import multiprocessing
import os
from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.types import Obs
from ppo_and_friends.vector.base import EnvConfig, VecEnv
from ppo_and_friends.vector.gym_vec import GymEnv, GymVec

STAY, END, CUT, SOFT, GO_ON, RAISE, NAN_OBS, NAN_REWARD, WRONG_SHAPE, DIE = range(10)


def by_value() -> type[gymnasium.Env]:
    """A class that pickles by value: worker processes need not import this file, and torch with it."""

    class Toy(gymnasium.Env):
        """Counts its steps; the action says what happens. Observes [steps, 0], or [0, 0] after a reset."""

        def __init__(self, render_mode: str | None = None) -> None:
            self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
            self.action_space = spaces.Discrete(10)
            self.steps = 0

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.steps = 0
            return np.zeros(2, np.float32), {}

        def step(self, action):
            self.steps += 1
            if action == RAISE:
                raise ValueError("the toy broke")
            if action == DIE:
                os._exit(3)
            observation = np.array([self.steps, np.nan if action == NAN_OBS else 0.0], np.float32)
            reward = float("nan") if action == NAN_REWARD else 10.0 * self.steps
            info = {"is_success": True, "distance": 0.5, "note": "text"} if action == END else {}
            if action in (SOFT, GO_ON):
                info["non-terminal done"] = True
            if action == WRONG_SHAPE:
                observation = np.zeros(1, np.float32)
            return observation, reward, action in (END, SOFT), action == CUT, info

    return Toy


Toy = by_value()


class Echo(gymnasium.Env):
    """Observes what it is told to, and keeps the actions that it was given."""

    def __init__(self, observation_space=None, observation=None, action_space=None, info=None) -> None:
        self.observation_space = observation_space or spaces.Box(0, 1, (1,))
        self.action_space = action_space or spaces.Discrete(2)
        self.observation = np.zeros(1, np.float32) if observation is None else observation
        self.info, self.taken = info or {}, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation, dict(self.info)

    def step(self, action):
        self.taken.append(action)
        assert self.action_space.contains(action)
        return self.observation, 0.0, False, False, dict(self.info)


def toys(rows: int = 3, workers: int = 0):
    env = GymEnv("Toy", factory=Toy, workers=workers).make(rows)
    env.reset(0)
    return env


def take(env, *actions: int):
    (step,) = env.step((torch.tensor(actions)[:, None],))
    return step


@pytest.fixture(params=[0, 2], ids=["in process", "workers"])
def three(request) -> Iterator[GymVec]:
    env = toys(3, request.param)
    yield env
    env.close()


def test_contracts() -> None:
    config = GymEnv("CartPole-v1")
    env = config.make(2)
    assert isinstance(config, EnvConfig) and isinstance(env, VecEnv)
    (group,) = env.spec.groups
    assert (group.rows, group.actor[0].shape, group.action.sizes, group.mask) == (2, (4,), (2,), 0)
    (obs,) = env.reset(0)
    assert obs.actor is obs.critic and obs.mask.shape == (2, 0) and env.spec.task == "CartPole-v1"


def test_ends_keep_the_last_observation(three) -> None:
    take(three, STAY, STAY, STAY)
    step = take(three, END, CUT, STAY)
    assert step.final.actor[:, 0].tolist() == [2, 2, 2]
    assert step.obs.actor[:, 0].tolist() == [0, 0, 2]
    assert step.reward.tolist() == [20, 20, 20]
    assert step.terminated.tolist() == [True, False, False] and step.truncated.tolist() == [False, True, False]
    step = take(three, STAY, STAY, END)  # the next step is a real one, and old ends are forgotten
    assert step.final.actor[:, 0].tolist() == [1, 1, 3] and step.obs.actor[:, 0].tolist() == [1, 1, 0]
    assert step.terminated.tolist() == [False, False, True] and not step.truncated.any()
    step = take(three, STAY, STAY, STAY)
    assert torch.equal(step.final.actor, step.obs.actor) and step.active.all()


def test_non_terminal_done(three) -> None:
    step = take(three, SOFT, GO_ON, STAY)
    assert not step.terminated.any() and step.truncated.tolist() == [True, True, False]
    assert step.obs.actor[:, 0].tolist() == [0, 1, 1] and step.final.actor[:, 0].tolist() == [1, 1, 1]
    assert step.log["episode_continues"].tolist() == [0, 1, 0]
    step = take(three, STAY, STAY, STAY)
    assert step.obs.actor[:, 0].tolist() == [1, 2, 2] and step.log["episode_continues"].tolist() == [0, 0, 0]
    assert not step.truncated.any()


def test_numbers_of_info_reach_the_log(three) -> None:
    assert not take(three, STAY, STAY, STAY).log
    step = take(three, STAY, STAY, END)
    assert step.log.keys() == {"is_success", "distance"}
    assert step.log["is_success"][2] == 1 and step.log["distance"][2] == 0.5
    assert step.log["distance"].isnan().tolist() == [True, True, False]
    assert take(three, STAY, STAY, STAY).log["is_success"].isnan().all()


def test_time_limit_truncates() -> None:
    env = GymEnv("Toy", factory=Toy, max_episode_steps=2).make(1)
    env.reset(0)
    assert not take(env, STAY).truncated.any()
    step = take(env, STAY)
    assert step.truncated.all() and not step.terminated.any() and vector(step.final)[0, 0] == 2
    env = GymEnv("CartPole-v1", max_episode_steps=1).make(1)
    env.reset(0)
    assert take(env, 0).truncated.all()


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (RAISE, "ValueError: the toy broke"),
        (NAN_OBS, "observation is not finite"),
        (NAN_REWARD, "reward is not finite"),
        (WRONG_SHAPE, r"shape \(1,\) where its space says \(2,\)"),
    ],
)
def test_guards_name_environment_row_and_step(action: int, said: str) -> None:
    env = toys(2)
    take(env, STAY, END)
    take(env, STAY, STAY)
    with pytest.raises(EnvironmentFailure, match=f"Toy, row 1, step 2 of its episode: .*{said}"):
        take(env, STAY, action)


def test_guards_name_the_key() -> None:
    space = spaces.Dict({"b": spaces.Box(-9, 9, (2,)), "a": spaces.Discrete(3)})
    bad = {"a": 1, "b": np.array([0, np.inf])}
    with pytest.raises(EnvironmentFailure, match="step 0 of its episode: b is not finite"):
        GymEnv("Echo", {"observation_space": space, "observation": bad}, factory=Echo).make(1).reset(0)
    out = {"a": 3, "b": np.zeros(2)}
    with pytest.raises(EnvironmentFailure, match="a is 3, which is not in its space"):
        GymEnv("Echo", {"observation_space": space, "observation": out}, factory=Echo).make(1).reset(0)


@pytest.mark.filterwarnings("ignore::UserWarning")  # gymnasium warns of what it raises
def test_worker_failures_tell_their_own_story() -> None:
    env = toys(3, workers=2)
    with pytest.raises(EnvironmentFailure, match=r"(?s)Toy, row 2, step 1 .*Traceback.*in step.*the toy broke"):
        take(env, STAY, STAY, RAISE)
    env = toys(3, workers=2)
    with pytest.raises(EnvironmentFailure, match="Toy: a worker process died without a word .*exit code 3"):
        take(env, DIE, STAY, STAY)
    env = toys(3, workers=2)
    assert env.state() is None and len(multiprocessing.active_children()) == 2
    env.close()
    env.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("rows", [1, 5])
def test_workers_equal_in_process(rows: int) -> None:
    alone, shared = GymEnv("CartPole-v1").make(rows), GymEnv("CartPole-v1", workers=3).make(rows)
    assert torch.equal(vector(alone.reset(7)[0]), vector(shared.reset(7)[0]))
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        actions = (torch.randint(2, (rows, 1), generator=generator),)
        assert_same(alone.step(actions)[0], shared.step(actions)[0])
    shared.close()


def vector(obs: Obs) -> torch.Tensor:
    """The one tensor of an observation without images."""
    assert isinstance(obs.actor, torch.Tensor)
    return obs.actor


def assert_same(one, other) -> None:
    for name in ("reward", "terminated", "truncated"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert torch.equal(one.obs.actor, other.obs.actor) and torch.equal(one.final.actor, other.final.actor)
    assert torch.equal(one.obs.mask, other.obs.mask)


def test_unimportable_launcher_file_works_with_workers(tmp_path) -> None:
    code = "import gymnasium\nclass Mine(gymnasium.Wrapper):\n    pass\n"
    code += "def produce(**kwargs):\n    return Mine(gymnasium.make('CartPole-v1', **kwargs))\n"
    (tmp_path / "launcher_of_a_user.py").write_text(code)
    import importlib.util
    import sys

    spec = importlib.util.spec_from_file_location("launcher_of_a_user", tmp_path / "launcher_of_a_user.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        env = GymEnv("Mine", factory=module.produce, workers=1).make(1)
        assert vector(env.reset(0)[0]).shape == (1, 4)
        env.close()
    finally:
        del sys.modules[spec.name]


OBSERVATIONS = [
    (spaces.Box(-1, 1, ()), np.float32(0.5), [0.5]),
    (spaces.Box(-1, 1, (2, 2)), np.array([[1, 0], [0, -1]], np.float32), [1, 0, 0, -1]),
    (spaces.Box(0, 9, (2,), np.int64), np.array([3, 9]), [3, 9]),
    (spaces.Box(0, 255, (2, 2), np.uint8), np.array([[1, 2], [3, 255]], np.uint8), [1, 2, 3, 255]),
    (spaces.Discrete(3, start=-1), -1, [1, 0, 0]),
    (spaces.MultiDiscrete([2, 3]), np.array([1, 2]), [0, 1, 0, 0, 1]),
    (spaces.MultiDiscrete(np.array([[2], [3]]), start=np.array([[1], [1]])), np.array([[1], [3]]), [1, 0, 0, 0, 1]),
    (spaces.MultiBinary(3), np.array([1, 0, 1], np.int8), [1, 0, 1]),
    (spaces.Tuple((spaces.Discrete(2), spaces.Box(-5, 5, (1,)))), (1, np.array([4.0])), [0, 1, 4]),
    (
        spaces.Dict(
            {"z": spaces.Discrete(2), "a": spaces.Dict({"y": spaces.Box(0, 9, (1,)), "x": spaces.MultiBinary(1)})}
        ),
        {"z": 0, "a": {"y": np.array([7.0]), "x": np.array([1])}},
        [1, 7, 1, 0],
    ),
]


@pytest.mark.parametrize(("space", "value", "expected"), OBSERVATIONS, ids=lambda case: str(case)[:40])
def test_observations(space, value, expected) -> None:
    env = GymEnv("Echo", {"observation_space": space, "observation": value}, factory=Echo).make(2)
    actor = vector(env.reset(0)[0])
    assert actor.dtype == torch.float32 and actor.tolist() == [expected, expected]
    (part,) = env.spec.groups[0].actor
    assert part.shape == (len(expected),) and part.dtype == torch.float32
    (step,) = env.step((torch.zeros(2, 1, dtype=torch.int64),))
    assert vector(step.obs).tolist() == [expected, expected]


def test_fields_name_the_columns() -> None:
    space, value, _ = OBSERVATIONS[-1]
    (part,) = GymEnv("E", {"observation_space": space, "observation": value}, factory=Echo).make(1).spec.groups[0].actor
    assert part.fields == (("a.x", 0, 1), ("a.y", 1, 2), ("z", 2, 4)) and part.key_of(3) == "z"


@pytest.mark.parametrize("workers", [0, 1])
def test_images_are_parts_of_their_own(workers: int) -> None:
    last = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    first = np.ones((2, 4, 4), np.float32)
    space = spaces.Dict(
        {
            "camera": spaces.Box(0, 255, last.shape, np.uint8),
            "map": spaces.Box(0, 1, first.shape),
            "speed": spaces.Box(0, 9, (2,)),
        }
    )
    value = {"camera": last, "map": first, "speed": np.array([1.0, 2.0])}
    env = GymEnv("E", {"observation_space": space, "observation": value}, factory=Echo, workers=workers).make(1)
    (obs,) = env.reset(0)
    env.close()
    vector, camera, chart = obs.actor
    assert [part.name for part in env.spec.groups[0].actor] == ["observation", "camera", "map"]
    assert vector.tolist() == [[1, 2]] and chart.dtype == torch.float32 and tuple(chart.shape) == (1, 2, 4, 4)
    assert camera.dtype == torch.uint8 and np.array_equal(camera[0].numpy(), last.transpose(2, 0, 1))


ACTIONS = [
    (spaces.Discrete(3, start=5), [2], 7),
    (spaces.MultiDiscrete([2, 3], start=[0, 10]), [1, 2], [1, 12]),
    (spaces.MultiDiscrete(np.array([[2], [3]])), [1, 2], [[1], [2]]),
    (spaces.MultiBinary(2), [1, 0], [1, 0]),
    (spaces.Box(-2, 2, (2, 1), np.float64), [0.5, -2.0], [[0.5], [-2.0]]),
    (spaces.Box(-2, 2, ()), [0.5], 0.5),
    (spaces.Box(0, 4, (3,), np.uint8), [1.6, -3.0, 9.0], [2, 0, 4]),
]


@pytest.mark.parametrize(("space", "given", "expected"), ACTIONS, ids=lambda case: str(case)[:40])
def test_actions(space, given, expected) -> None:
    echo = Echo(action_space=space)
    env = GymEnv("Echo", factory=lambda: echo).make(1)
    env.reset(0)
    action = env.spec.groups[0].action
    assert action.columns == len(given)
    env.step((torch.tensor([given], dtype=action.dtype),))
    assert np.array_equal(echo.taken[0], expected)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"observation_space": spaces.Text(5)},
        {"observation_space": spaces.Dict({"deep": spaces.Sequence(spaces.Discrete(2))})},
        {"action_space": spaces.Dict({"a": spaces.Discrete(2)})},
    ],
    ids=["Text", "Sequence", "Dict action"],
)
def test_other_spaces_are_refused_by_name(kwargs) -> None:
    (space,) = kwargs.values()
    with pytest.raises(UserError, match=r"Echo .*(Text|Sequence|Dict)\(.*wrap it"):
        GymEnv("Echo", kwargs, factory=Echo).make(1)
    assert space is not None


def test_masks_from_info_and_from_a_method() -> None:
    env = GymEnv("Taxi-v4").make(2)
    (obs,) = env.reset(0)
    assert env.spec.groups[0].mask == 6 and obs.mask.dtype == torch.bool
    for row, one in enumerate(env._backend.envs):
        assert obs.mask[row].tolist() == one.unwrapped.action_mask(one.unwrapped.s).astype(bool).tolist()

    class Methodical(Echo):
        def action_masks(self):
            return [np.array([True, False]), np.array([len(self.taken) % 2 == 1, True, False])]

    env = GymEnv("Methodical", {"action_space": spaces.MultiDiscrete([2, 3])}, factory=Methodical).make(1)
    assert env.reset(0)[0].mask.tolist() == [[True, False, False, True, False]]
    assert env.step((torch.tensor([[0, 1]]),))[0].obs.mask.tolist() == [[True, False, True, True, False]]


@pytest.mark.parametrize(
    ("mask", "said"), [([0, 0], "no legal action"), ([1, 1, 1], "3 flags where the action space has 2")]
)
def test_impossible_masks_are_refused(mask, said) -> None:
    env = GymEnv("Echo", {"info": {"action_mask": np.array(mask)}}, factory=Echo).make(1)
    with pytest.raises(EnvironmentFailure, match=said):
        env.reset(0)
        take(env, 0)


def test_seeds_differ_by_row_and_repeat_by_seed() -> None:
    env = GymEnv("CartPole-v1").make(3)
    first = vector(env.reset(1)[0]).clone()
    assert len({tuple(row) for row in first.tolist()}) == 3
    assert not torch.equal(vector(env.reset(2)[0]), first)
    assert torch.equal(vector(env.reset(1)[0]), first)
    assert torch.equal(vector(GymEnv("CartPole-v1").make(2).reset(1)[0]), first[:2])


CLASSIC = ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0"]


@pytest.mark.parametrize("name", [*CLASSIC, "FrozenLake-v1", "Taxi-v4"])
def test_exact_state(name: str) -> None:
    limit = 40  # so that time limits and resets lie on both sides of the save
    env, other = (GymEnv(name, max_episode_steps=limit).make(2) for _ in range(2))
    env.reset(5)
    other.reset(6)
    space = gymnasium.make(name).action_space
    space.seed(0)
    draws = [torch.from_numpy(np.stack([np.atleast_1d(space.sample()) for _ in range(2)])) for _ in range(150)]
    for actions in draws[:50]:
        env.step((actions,))
    stored = io.BytesIO()
    torch.save(env.state(), stored)
    stored.seek(0)
    other.load_state(torch.load(stored, weights_only=True))
    cuts = 0
    for actions in draws[50:]:
        one, two = env.step((actions,))[0], other.step((actions,))[0]
        assert_same(one, two)
        cuts += int((one.terminated | one.truncated).sum())
    assert cuts > 0


class Sampling(Echo):
    """Draws its observations from its own space, whose generator is state too."""

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


def test_generators_of_spaces_are_state() -> None:
    env, other = (GymEnv("Sampling", factory=Sampling).make(1) for _ in range(2))
    env.reset(0)
    other.reset(0)
    take(env, 0)
    state = env.state()
    assert state is not None
    other.load_state(state)
    for _ in range(3):
        assert_same(take(env, 0), take(other, 0))


class Restless(Toy):
    """Keeps something that cannot be saved, or that is held in two places."""

    def __init__(self, kept) -> None:
        super().__init__()
        self.kept = kept


def test_no_state_rather_than_a_wrong_one() -> None:
    array = np.zeros(4)
    for kept in (object(), [array, array], (array[:2], array[2:]), lambda: 0, {"set": {"a"}}):
        assert GymEnv("Restless", {"kept": kept}, factory=Restless).make(1).state() is None
    for kept in ([array, array.copy()], {"a": (1, np.float32(2))}, np.random.default_rng(0), np.array(["x"])):
        assert GymEnv("Restless", {"kept": kept}, factory=Restless).make(1).state() is not None
    pytest.importorskip("Box2D")
    env = GymEnv("LunarLander-v3").make(1)
    env.reset(0)
    assert env.state() is None
    state = GymEnv("CartPole-v1").make(2).state()
    assert state is not None
    with pytest.raises(UserError, match="2 rows of CartPole-v1, not 1"):
        GymEnv("CartPole-v1").make(1).load_state(state)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (GymEnv("CartPol-v1"), "CartPol-v1.* did you mean CartPole-v1"),
        (GymEnv("CartPole-v1", {"gravitty": 3}), "gravitty.* correct env.kwargs or"),
        (GymEnv("GymV21Environment-v0"), r'pip install "ppo_and_friends\[gym\]"'),
        (GymEnv("CartPole-v1", workers=-1), "env.workers is -1"),
        (GymEnv("no_such_module:Mine-v0"), "no_such_module, which cannot be imported"),
    ],
)
def test_user_errors(config: GymEnv, said: str) -> None:
    with pytest.raises(UserError, match=said):
        config.make(1)


def test_missing_packages_name_their_installation() -> None:
    def needs_box2d():
        raise gymnasium.error.DependencyNotInstalled("no Box2D") from ModuleNotFoundError("no", name="Box2D.b2")

    def breaks():
        raise RuntimeError("no licence file")

    with pytest.raises(UserError, match=r'Lander needs the package Box2D; .*pip install "gymnasium\[box2d\]"'):
        GymEnv("Lander", factory=needs_box2d).make(1)
    with pytest.raises(UserError, match="Breaks raises RuntimeError .*no licence file; mend it there"):
        GymEnv("Breaks", factory=breaks).make(1)


def test_frame() -> None:
    env = GymEnv("CartPole-v1").make(2, render=True)
    env.reset(0)
    frame = env.frame(1)
    assert frame.dtype == np.uint8 and frame.shape == (400, 600, 3) and frame.std() > 0
    env.close()
