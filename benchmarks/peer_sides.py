"""One side of `peers.py`, in a process of its own; the last line that it prints is its answer as JSON.

python benchmarks/peer_sides.py steady-ours HalfCheetahPeer [--warmup 30] [--seconds 30]
python benchmarks/peer_sides.py steady-sb3 HalfCheetahPeer [--threads 1] ...
python benchmarks/peer_sides.py train-sb3 HalfCheetahPeer --timesteps 300000 --seed 1 --episodes 20
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import common
from peer_experiments import ATARI, GYMNASIUM_IDS, sb3_normalizer, sb3_settings

from ppo_and_friends import registry

TEST_SEED = 1000  # of the tests' environments: apart from those of training
Stamp = tuple[float, int]  # a moment, and the timesteps until then


def reference(name: str) -> str:
    return f"{common.ROOT / 'benchmarks' / 'peer_experiments.py'}:{name}"


def counted(stamps: list[Stamp], warmup: float) -> list[Stamp]:
    """Those from `warmup` seconds after the first on."""
    return [stamp for stamp in stamps if stamp[0] >= stamps[0][0] + warmup]


def enough(stamps: list[Stamp], warmup: float, seconds: float) -> bool:
    """Whether `seconds` after the warm-up are over, and a whole iteration fell into what counts."""
    return stamps[-1][0] >= stamps[0][0] + warmup + seconds and len(counted(stamps, warmup)) >= 2


def rate(stamps: list[Stamp], warmup: float) -> float:
    """Steps a second from the first stamp after `warmup` seconds to the last; `enough` of them."""
    (began, first), *_, (ended, last) = counted(stamps, warmup)
    return (last - first) / (ended - began)


def steady_ours(options: argparse.Namespace) -> dict[str, float]:
    from ppo_and_friends.accelerate import accelerate
    from ppo_and_friends.ppo import PPO

    ppo = PPO(registry.build(reference(options.name)))
    accelerate(ppo, str)  # as a run from the command line does

    stamps = [(time.perf_counter(), ppo.timesteps)]
    while not enough(stamps, options.warmup, options.seconds):
        ppo.iterate()
        stamps.append((time.perf_counter(), ppo.timesteps))
    return {"rate": rate(stamps, options.warmup), "threads": ppo.threads}


def sb3(options: argparse.Namespace) -> tuple[Any, Any]:
    """The model and its environments."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    torch.set_num_threads(options.threads)
    experiment = registry.build(reference(options.name))
    if options.name in ATARI:
        env = sb3_screens(GYMNASIUM_IDS[options.name], experiment.envs_per_proc, options)
        return PPO("CnnPolicy", env, seed=options.seed, device="auto", **sb3_settings(experiment)), env
    env = make_vec_env(GYMNASIUM_IDS[options.name], experiment.envs_per_proc, seed=options.seed)
    normalizer = sb3_normalizer(experiment)
    env = VecNormalize(env, **normalizer) if normalizer else env
    return PPO("MlpPolicy", env, seed=options.seed, device="cpu", **sb3_settings(experiment)), env


def sb3_screens(gymnasium_id: str, rows: int, options: argparse.Namespace) -> Any:
    """Games with the peer's own preprocessing, one process each with --processes."""
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack

    kind = SubprocVecEnv if options.processes else DummyVecEnv
    return VecFrameStack(make_atari_env(f"ale_py:{gymnasium_id}", rows, options.seed, vec_env_cls=kind), 4)


def steady_sb3(options: argparse.Namespace) -> dict[str, float]:
    from stable_baselines3.common.callbacks import BaseCallback

    stamps: list[Stamp] = []
    model, _ = sb3(options)

    class Clock(BaseCallback):
        def _on_rollout_start(self) -> None:
            stamps.append((time.perf_counter(), self.num_timesteps))
            self.over = enough(stamps, options.warmup, options.seconds)

        def _on_step(self) -> bool:
            return not self.over

    model.learn(10**9, callback=Clock())
    return {"rate": rate(stamps, options.warmup), "threads": options.threads}


def train_sb3(options: argparse.Namespace) -> dict[str, float]:
    """Train, keep the result in a file as ours does, and test it with frozen normalisers."""
    model, env = sb3(options)
    model.learn(options.timesteps)
    model.save(Path(options.directory) / "model")
    if not options.episodes:
        return {}
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecNormalize

    test = make_vec_env(GYMNASIUM_IDS[options.name], env.num_envs, seed=TEST_SEED)
    if isinstance(env, VecNormalize):
        test = VecNormalize(test, training=False, norm_reward=False, clip_obs=env.clip_obs)
        test.obs_rms = env.obs_rms
    mean, spread = evaluate_policy(model, test, options.episodes, deterministic=True)
    return {"mean": float(mean), "spread": float(spread)}


SIDES = {"steady-ours": steady_ours, "steady-sb3": steady_sb3, "train-sb3": train_sb3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("name", choices=GYMNASIUM_IDS)
    parser.add_argument("--warmup", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--timesteps", type=int, default=300_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processes", action="store_true", help="of the peer's Atari games")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--episodes", type=int, default=0)
    parser.add_argument("--directory", default=".")
    options = parser.parse_args()
    print(json.dumps(SIDES[options.side](options)))


if __name__ == "__main__":
    main()
