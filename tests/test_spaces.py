"""What Gymnasium's spaces become: columns, parts, action columns and masks."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gym_toys import Echo, take, vector
from gymnasium import spaces

from ppo_and_friends.config import Experiment
from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.ppo import PPO
from ppo_and_friends.types import leaves
from ppo_and_friends.vector.gym_masks import with_mask
from ppo_and_friends.vector.gym_vec import GymEnv

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


WORLD = {
    "far": spaces.Box(0, 255, (3, 4, 4), np.uint8),
    "force": spaces.Box(-9, 9, (2,)),
    "near": spaces.Box(0, 255, (1, 5, 5), np.uint8),
    "speed": spaces.Box(-9, 9, (1,)),
    "spot": spaces.Dict({"x": spaces.Box(-9, 9, (1,)), "y": spaces.Discrete(2)}),
}
IN_IT = {
    "far": np.full((3, 4, 4), 7, np.uint8),
    "force": np.array([1.0, 2.0]),
    "near": np.full((1, 5, 5), 8, np.uint8),
    "speed": np.array([3.0]),
    "spot": {"x": np.array([4.0]), "y": 1},
}


@pytest.mark.parametrize(
    ("hidden", "seen", "images"),
    [
        (("force", "far"), [3, 4, 0, 1], [8]),
        (("spot",), [1, 2, 3], [7, 8]),
        (("force", "speed", "spot"), [], [7, 8]),
        (("far", "near"), [1, 2, 3, 4, 0, 1], []),
    ],
)
def test_what_is_privileged_is_for_the_critic(hidden: tuple[str, ...], seen: list[int], images: list[int]) -> None:
    settings = {"observation_space": spaces.Dict(WORLD), "observation": IN_IT}
    config = GymEnv("World", settings, factory=Echo, privileged=hidden)
    env = config.make(2)
    (group,), (obs,) = env.spec.groups, env.reset(0)
    shown, whole = list(leaves(obs.actor)), list(leaves(obs.critic))
    assert [tuple(part.shape) for part in shown] == [(2, *part.shape) for part in group.actor] and not group.symmetric
    assert [tuple(part.shape) for part in whole] == [(2, *part.shape) for part in group.critic]
    vectors = [part[1].tolist() for part in shown if part.dim() == 2]
    assert vectors == ([seen] if seen else [])
    assert [int(part[1].flatten()[0]) for part in shown if part.dim() == 4] == images
    assert sorted(whole[0][1].tolist()) == [0, 1, 1, 2, 3, 4] and len(whole) == 3
    everything, _ = env.encode(IN_IT)
    without, _ = env.encode({name: value for name, value in IN_IT.items() if name not in hidden})
    for mine, other, part in zip(leaves(everything), leaves(without), shown, strict=True):
        assert torch.equal(mine, part[:1]) and torch.equal(other, mine), "who acts need not have it"


def test_what_cannot_be_privileged_is_named() -> None:
    with pytest.raises(UserError, match="env.privileged names 'velocity', but the observation of CartPole-v1 is Box"):
        GymEnv("CartPole-v1", privileged=("velocity",)).make(1)
    settings = {"observation_space": spaces.Dict(WORLD), "observation": IN_IT}
    with pytest.raises(UserError, match="names 'velocity', but the observation of World has far, force"):
        GymEnv("World", settings, factory=Echo, privileged=("velocity",)).make(1)
    with pytest.raises(UserError, match=r"env.privileged is the text 'force': give a tuple, \('force',\)\."):
        GymEnv("World", settings, factory=Echo, privileged="force").make(1)  # type: ignore[arg-type]


def test_settings_by_position_stay_where_they_were() -> None:
    given = GymEnv("World", {}, 0, 5, Echo)
    assert (given.max_episode_steps, given.factory, given.privileged) == (5, Echo, ())


def test_flags_and_what_is_privileged_may_be_left_out_when_predicting() -> None:
    whole = {"force": np.array([1.0, 2.0]), "speed": np.array([3.0]), "action_mask": np.array([0, 1], np.int8)}
    space = spaces.Dict({**{name: WORLD[name] for name in ("force", "speed")}, "action_mask": spaces.MultiBinary(2)})
    settings = {"observation_space": space, "observation": whole}
    env = GymEnv("World", settings, factory=lambda **own: with_mask(Echo(**own)), privileged=("speed",)).make(1)
    for left_out in ([], ["speed"], ["action_mask"], ["speed", "action_mask"]):
        seen = {name: value for name, value in whole.items() if name not in left_out}
        tree, batched = env.encode(seen)
        assert next(iter(leaves(tree))).tolist() == [[1, 2]] and not batched
        assert (env.legal(seen) is None) == ("action_mask" in left_out)


@pytest.mark.parametrize("hidden", [(), ("force",)])
@pytest.mark.parametrize("given", [np.zeros(len(WORLD)), [IN_IT], np.zeros(())])
def test_an_array_in_the_place_of_a_dict_is_refused(hidden: tuple[str, ...], given: object) -> None:
    settings = {"observation_space": spaces.Dict(WORLD), "observation": IN_IT}
    env = GymEnv("World", settings, factory=Echo, privileged=hidden).make(1)
    with pytest.raises(UserError, match="World observes a Dict of far, .*speed, spot, but this observation is a"):
        env.encode(given)


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


def test_a_mask_inside_the_observation() -> None:
    class Told(gymnasium.Env):
        observation_space = spaces.Dict({"observation": spaces.Box(-1, 1, (3,)), "action_mask": spaces.MultiBinary(2)})
        action_space = spaces.Discrete(2)

        def told(self, first):
            return {"observation": np.full(3, 0.5, np.float32), "action_mask": np.array([first, 1], np.int8)}

        def reset(self, *, seed=None, options=None):
            return self.told(1), {}

        def step(self, action):
            return self.told(0), 0.0, False, False, {}

    env = GymEnv("Told", factory=Told).make(1)
    assert env.state() is not None
    group = env.spec.groups[0]
    assert group.mask == 2 and group.actor[0].shape == (3,)
    assert env.reset(0)[0].mask.tolist() == [[True, True]]
    step = env.step((torch.tensor([[1]]),))[0]
    assert step.obs.mask.tolist() == [[False, True]] and vector(step.obs).tolist() == [[0.5] * 3]
    ppo = PPO(Experiment(env=GymEnv("Told", factory=Told), envs_per_proc=1))
    assert ppo.predict(Told().told(0)) == 1


@pytest.mark.parametrize(
    ("mask", "said"), [([0, 0], "no legal action"), ([1, 1, 1], "3 flags where the action space has 2")]
)
def test_impossible_masks_are_refused(mask, said) -> None:
    env = GymEnv("Echo", {"info": {"action_mask": np.array(mask)}}, factory=Echo).make(1)
    with pytest.raises(EnvironmentFailure, match=said):
        env.reset(0)
        take(env, 0)
