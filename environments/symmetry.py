"""What is the same from another side: more samples of each step, or a policy that is asked to be symmetric."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from environments.mujoco import walker2d
from environments.settings import net
from ppo_and_friends.config import EvaluationConfig, Experiment, PPOConfig
from ppo_and_friends.registry import experiment
from ppo_and_friends.schedules import constant, linear


@experiment("Compass")
def compass() -> Experiment:
    """Find a mark with a map whose north is anywhere."""
    return _compass()


@experiment("CompassViews")
def compass_views() -> Experiment:
    """Find a mark with a map whose north is anywhere, learning from eight turned maps of each step."""
    from ppo_and_friends.addons.augment import Augment

    return _compass(Augment())


def _compass(*addons: Any) -> Experiment:
    from environments.compass import Compass
    from ppo_and_friends.vector.gym_vec import GymEnv

    return Experiment(
        env=GymEnv(id="Compass", factory=Compass, max_episode_steps=60),
        num_timesteps=40_000,
        envs_per_proc=8,
        ppo=PPOConfig(
            lr=linear(1e-3, 0.0),
            gamma=0.95,
            epochs=8,
            minibatches=4,
            steps_total=512,
            entropy_weight=constant(0.005),
            normalize_rewards=False,
        ),
        net=net(64, 64),
        addons=addons,
        evaluation=EvaluationConfig(every=10, episodes=50),
    )


@experiment("Walker2dMirror")
def walker2d_mirror() -> Experiment:
    """Walker2d, learning from each step and from the same with its legs exchanged.

    One seed scored 3703 in 100 test episodes after 3 M steps, less than Walker2d without it.
    """
    from ppo_and_friends.addons.symmetry import MirrorCopies

    return replace(walker2d(), addons=(MirrorCopies(),))


@experiment("Walker2dMirrorLoss")
def walker2d_mirror_loss() -> Experiment:
    """Walker2d, with a policy that is asked to do with either leg what it does with the other.

    Two seeds scored 3831 +- 266 in 100 test episodes after 3 M steps, where Walker2d scored 6672 +- 790: on this task
    symmetry costs more than it gives.
    """
    from ppo_and_friends.addons.symmetry import MirrorLoss

    return replace(walker2d(), addons=(MirrorLoss(),))
