"""Settings: bounds, what fits together, and the way to plain values and back."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

import pytest

from ppo_and_friends.config import (
    BodyConfig,
    Experiment,
    NetConfig,
    PPOConfig,
    RunConfig,
    check_experiment,
    steps_per_row,
)
from ppo_and_friends.errors import UserError
from ppo_and_friends.schedules import Schedule, constant, linear
from ppo_and_friends.serialize import from_plain, read_config, to_plain


@dataclass(frozen=True)
class Task:
    weight: float = 0.5
    limits: tuple[float, float] = (-math.inf, 1.0)


@dataclass(frozen=True)
class Environment:
    task: Any = Task()
    kwargs: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("gamma", 1.1), ("gamma", -0.1), ("gae_lambda", 2.0), ("epochs", 0), ("minibatches", -4), ("steps_total", 0),
        ("steps_per_row", -1), ("max_ts_per_ep", -1), ("max_grad_norm", 0.0), ("stop_kl", -1.0), ("adam_eps", 0.0),
        ("lr", constant(-1.0)), ("critic_lr", constant(-1.0)), ("soft_bound", -0.1), ("clip_range", linear(0.2, -0.1)), ("reward_clip", (1.0, -1.0)), ("reward_scale", math.inf),
    ],
)  # fmt: skip
def test_numbers_out_of_bounds_are_named(setting: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"^ppo\.{setting} is .*, but must be "):
        PPOConfig(**{setting: value})


@pytest.mark.parametrize("setting", ["num_test_runs", "random_seed", "max_iterations", "save_every", "gif_fps"])
def test_run_numbers_out_of_bounds_are_named(setting: str) -> None:
    with pytest.raises(UserError, match=f"^{setting} is -7, but must be "):
        RunConfig(**{setting: -7})


def test_a_rollout_is_rounded_up_to_whole_rows() -> None:
    experiment = Experiment(env=None, ppo=PPOConfig(steps_total=100))
    assert [steps_per_row(experiment, rows) for rows in (1, 3, 8, 200)] == [100, 34, 13, 1]
    per_row = Experiment(env=None, ppo=PPOConfig(steps_per_row=7))
    assert [steps_per_row(per_row, rows) for rows in (1, 8)] == [7, 7]


def test_settings_that_do_not_fit_together() -> None:
    fits = Experiment(env=None, ppo=PPOConfig(steps_total=10, minibatches=16))
    check_experiment(fits, 16)  # 16 rows make 16 samples
    with pytest.raises(UserError, match="minibatches is 16, but a rollout has only 10 samples"):
        check_experiment(fits, 1)
    two_rates = dataclasses.replace(fits, ppo=dataclasses.replace(fits.ppo, critic_lr=linear(1e-3, 0.0)))
    check_experiment(two_rates, 16)
    with pytest.raises(UserError, match="critic_lr is linear:0.001,0.0, but with net.shared the critic has no body"):
        check_experiment(dataclasses.replace(two_rates, net=NetConfig(shared=True)), 16)
    with pytest.raises(UserError, match="envs_per_proc is 0"):
        check_experiment(dataclasses.replace(fits, envs_per_proc=0), 0)


def test_plain_values_survive_json() -> None:
    experiment = Experiment(
        env=Environment(Task(limits=(-1.0, math.inf)), {"continuous": True}, 5),
        ppo=PPOConfig(lr=linear(1e-3, 0.0), reward_clip=(-1.0, math.inf)),
        net=NetConfig(actor=BodyConfig(hidden=(), convolutions=((8, 3, 1),))),
        addons=(Task(weight=2.0),),
    )
    text = json.dumps(to_plain(experiment), allow_nan=False)
    base = Experiment(env=Environment(), addons=(Task(),))
    assert from_plain(base, json.loads(text)) == experiment


def test_what_a_config_lacks_stays() -> None:
    base = Experiment(env=Environment(), num_timesteps=7, ppo=PPOConfig(gamma=0.5))
    changed = from_plain(base, {"ppo": {"lr": 0.01, "max_grad_norm": "inf"}, "env": {"limit": 3}})
    assert (changed.num_timesteps, changed.ppo.gamma, changed.ppo.lr) == (7, 0.5, Schedule("0.01"))
    assert changed.ppo.max_grad_norm == math.inf and changed.env.limit == 3 and changed.env.task == Task()


def body(specs: Any, config: Any) -> None:
    """A callable that a launcher might give."""


def test_a_callable_stays_where_the_config_names_the_same_one() -> None:
    base = Experiment(env=None, net=NetConfig(actor=BodyConfig(custom=body)))
    plain = to_plain(base)
    assert plain["net"]["actor"]["custom"] == f"{__name__}:body"
    assert from_plain(base, plain).net.actor.custom is body


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"ppo": {"gama": 1}}, "no setting 'ppo.gama': did you mean 'ppo.gamma'"),
        ({"env": {"task": {"wieght": 1}}}, "'env.task.wieght': did you mean 'env.task.weight'"),
        ({"ppo": {"gamma": "x"}}, "ppo.gamma is 'x', but must be a number"),
        ({"ppo": {"gamma": 3}}, "ppo.gamma is 3.0, but must be between 0 and 1"),
        ({"ppo": {"epochs": 1.5}}, "ppo.epochs is 1.5, but must be a whole number"),
        ({"ppo": {"soft_resets": "no"}}, "ppo.soft_resets is 'no', but must be true or false"),
        ({"ppo": {"lr": "fast"}}, "'fast' is not a schedule"),
        ({"ppo": {"kl_reference": "x"}}, "one of rollout, previous_visit"),
        ({"ppo": {"lr_bounds": [1]}}, "a list of 2"),
        ({"net": {"actor": {"hidden": 64}}}, "net.actor.hidden is 64, but must be a list"),
        ({"ppo": 3}, "ppo is 3, but must be an object"),
        ({"addons": []}, "addons is .*a list of 1"),
    ],
)
def test_mistakes_in_a_config_are_named(plain: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_plain(Experiment(env=Environment(), addons=(Task(),)), plain)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("[]", "must be an object with"), ('{"experiment": {}}', "must be an object with")],
)
def test_files_that_are_no_config(tmp_path: Any, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_config(str(tmp_path / "config.json"))
    with pytest.raises(UserError, match="cannot be read"):
        read_config(str(tmp_path / "absent.json"))
