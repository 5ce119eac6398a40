"""Gymnasium environments in batch, against toy environments whose every number is known."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gym_toys import (
    CUT,
    DIE,
    END,
    GO_ON,
    NAN_OBS,
    NAN_REWARD,
    RAISE,
    SOFT,
    STAY,
    WRONG_SHAPE,
    Echo,
    Toy,
    assert_same,
    spaces,
    take,
    toys,
    vector,
)

from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.vector.base import EnvConfig, VecEnv
from ppo_and_friends.vector.gym_vec import GymEnv, GymVec


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
    assert env.spec.steps_per_second == 50, "gymnasium's render_fps of CartPole"


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


@pytest.mark.parametrize("count", [1, 2, 4])
def test_another_number_of_actions_than_rows_is_refused(three, count: int) -> None:
    with pytest.raises(ValueError, match=rf"Toy needs actions \[3, 1\], not \[{count}, 1\]"):
        take(three, *[STAY] * count)


def test_no_environment_is_left_out_of_a_step() -> None:
    with pytest.raises(EnvironmentFailure, match="shorter"):
        toys(3)._backend.step(np.zeros((2, 1), np.int64))


@pytest.mark.parametrize("rows", [1, 5])
def test_workers_equal_in_process(rows: int) -> None:
    alone, shared = GymEnv("CartPole-v1").make(rows), GymEnv("CartPole-v1", workers=3).make(rows)
    assert torch.equal(vector(alone.reset(7)[0]), vector(shared.reset(7)[0]))
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        actions = (torch.randint(2, (rows, 1), generator=generator),)
        assert_same(alone.step(actions)[0], shared.step(actions)[0])
    shared.close()


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


def test_seeds_differ_by_row_and_repeat_by_seed() -> None:
    env = GymEnv("CartPole-v1").make(3)
    first = vector(env.reset(1)[0]).clone()
    assert len({tuple(row) for row in first.tolist()}) == 3
    assert not torch.equal(vector(env.reset(2)[0]), first)
    assert torch.equal(vector(env.reset(1)[0]), first)
    assert torch.equal(vector(GymEnv("CartPole-v1").make(2).reset(1)[0]), first[:2])


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (GymEnv("CartPol-v1"), "CartPol-v1.* did you mean CartPole-v1"),
        (
            GymEnv("CartPole-v1", {"gravitty": 3}),
            "no setting 'gravitty'.*: leave --env.gravitty out, or correct env.kwargs",
        ),
        (GymEnv("GymV21Environment-v0"), r'pip install "\.\[gym\]"'),
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


class Undrawn(Echo):
    """Takes a render mode, and has no method render."""

    def __init__(self, render_mode=None) -> None:
        super().__init__()


class Grey(Undrawn):
    def render(self):
        return np.zeros((4, 4), np.uint8)


class Silent(Undrawn):
    def render(self):
        return None


@pytest.mark.parametrize(
    ("factory", "cause"),
    [
        (lambda: Echo(), "it takes no render_mode"),
        (Undrawn, "it has no method render"),
        (Grey, r"its render gives shape \(4, 4\) of uint8"),
        (Silent, "its render gives NoneType"),
    ],
)
def test_an_environment_that_cannot_draw_says_so(factory, cause: str) -> None:
    with pytest.raises(UserError, match=rf"^Mine has no rgb_array render mode \({cause}"):
        env = GymEnv("Mine", factory=factory, max_episode_steps=3).make(1, render=True)
        env.reset(0)
        env.frame(0)


def test_frame() -> None:
    env = GymEnv("CartPole-v1").make(2, render=True)
    env.reset(0)
    frame = env.frame(1)
    assert frame.dtype == np.uint8 and frame.shape == (400, 600, 3) and frame.std() > 0
    env.close()


def test_a_class_is_no_id() -> None:
    with pytest.raises(
        UserError, match=r'The id of GymEnv is Cornered, .* give GymEnv\("Cornered", factory=Cornered\)'
    ):
        GymEnv(Cornered).make(1)  # type: ignore[arg-type]


class Cornered(gymnasium.Env):
    """Has no legal action at the start of the episode number `episode`; episodes have one step."""

    observation_space, action_space = spaces.Box(-1, 1, (1,), np.float32), spaces.Discrete(2)

    def __init__(self, episode: int, render_mode: str | None = None) -> None:
        self.episode, self.begun = episode, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.begun += 1
        return np.zeros(1, np.float32), {"action_mask": np.full(2, self.begun != self.episode, np.int8)}

    def step(self, action: Any) -> Any:
        return np.zeros(1, np.float32), 0.0, True, False, {"action_mask": np.ones(2, np.int8)}


def test_an_episode_that_begins_without_a_legal_action_is_refused() -> None:
    for episode in (2, 3):  # the first reset asks whether there are flags
        env = GymEnv("Cornered", factory=Cornered, kwargs={"episode": episode}).make(1)
        with pytest.raises(
            EnvironmentFailure, match="row 0, step 0 of its episode: action_mask leaves no legal action"
        ):
            env.reset(0)
            env.step((torch.zeros(1, 1, dtype=torch.int64),))


def test_flags_that_only_steps_tell_are_refused() -> None:
    class Late(Cornered):
        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            return super().reset(seed=seed)[0], {}

    env = GymEnv("Late", factory=Late, kwargs={"episode": 0}).make(1)
    env.reset(0)
    with pytest.raises(EnvironmentFailure, match="step reports an action_mask, but the first reset reported none"):
        env.step((torch.zeros(1, 1, dtype=torch.int64),))
