"""rsl_rl 5.5.1 on this project's own environment, with the launcher's settings as far as it has them.

There actor and critic are apart, KL is measured from the rollout and the step size stays within 1e-5 and 1e-2, values
are not normalised, means outside the bounds cost nothing; returns are those of the last iteration with ended episodes.
"""

import math
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import torch
from curves import Recorder

NAME = "rsl_rl"


def settings(made: Any) -> dict[str, Any]:
    """What `OnPolicyRunner` takes, from an `Experiment`. Its value loss has no factor of a half."""
    ppo, (rate,) = made.ppo, set(made.ppo.lr.values())
    body = {"class_name": "MLPModel", "hidden_dims": list(made.net.actor.hidden)}
    body |= {"activation": made.net.actor.activation, "obs_normalization": ppo.normalize_observations}
    algorithm = {"class_name": "PPO", "num_learning_epochs": ppo.epochs, "num_mini_batches": ppo.minibatches}
    algorithm |= {"gamma": ppo.gamma, "lam": ppo.gae_lambda, "learning_rate": rate, "desired_kl": ppo.target_kl}
    algorithm |= {"max_grad_norm": ppo.max_grad_norm, "value_loss_coef": ppo.value_weight / 2, "entropy_coef": 0.0}
    actor = body | {"distribution_cfg": {"class_name": "GaussianDistribution", "init_std": 1.0, "std_type": "log"}}
    runner = {"num_steps_per_env": ppo.steps_per_row, "obs_groups": {"actor": ["obs"], "critic": ["obs"]}}
    return runner | {"save_interval": 10**9, "algorithm": algorithm, "actor": actor, "critic": body}


def train(env: Any, made: Any, seed: int, recorder: Recorder) -> None:
    from rsl_rl.runners import OnPolicyRunner  # pyright: ignore[reportMissingImports]
    from tensordict import TensorDict  # pyright: ignore[reportMissingImports]

    rows, device = made.envs_per_proc, env.spec.device
    running, total, count = (torch.zeros(size, device=device) for size in (rows, 1, 1))
    seen, mean = [env.reset(seed)[0].actor], [math.nan]

    def step(actions: torch.Tensor) -> tuple[Any, ...]:
        (result,) = env.step((actions.clamp(-1.0, 1.0),))
        ended, seen[0] = result.terminated | result.truncated, result.obs.actor
        running.add_(result.reward)
        total.add_((running * ended).sum())
        count.add_(ended.sum())
        running.mul_(~ended)
        return observe(), result.reward * made.ppo.reward_scale, ended, {"time_outs": result.truncated}

    def observe() -> Any:
        return TensorDict({"obs": seen[0]}, batch_size=[rows])

    def log(it: int, **_: Any) -> None:
        if count:
            mean[0] = float(total / count)
            total.zero_()
            count.zero_()
        if recorder.add((it + 1) * rows * made.ppo.steps_per_row, mean[0]):
            raise StopIteration

    torch.manual_seed(seed)
    sizes = {"num_envs": rows, "num_actions": env.spec.groups[0].action.columns}
    adapter: Any = SimpleNamespace(**sizes, device=device, cfg={}, step=step, get_observations=observe, unwrapped=env)
    runner = OnPolicyRunner(adapter, settings(made), device=str(device))
    runner.logger.log = log
    recorder.begin()
    with suppress(StopIteration):
        runner.learn(10**9)
