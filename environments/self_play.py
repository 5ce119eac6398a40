"""Games for two, learned against snapshots of oneself (arXiv:1710.03748): a rating is in the log, and no score."""

from __future__ import annotations

from environments.settings import net
from ppo_and_friends.config import EvaluationConfig, Experiment, PPOConfig
from ppo_and_friends.registry import experiment
from ppo_and_friends.schedules import linear


@experiment("ConnectFour")
def connect_four() -> Experiment:
    """Four in a line, against what the policy was 10, 20, ... iterations ago.

    Three seeds won 94 +- 2 % of 1000 games each against random moves, and 35 +- 6 % against a player that looks one
    move ahead, after four to six minutes of a shared core.
    No evaluations: a return against an opponent that grows says nothing, and the last state is the one to take.
    """
    from environments.connect_four import ConnectFour
    from ppo_and_friends.addons.snapshots import Snapshots
    from ppo_and_friends.vector.self_play import SelfPlay

    return Experiment(
        env=SelfPlay(ConnectFour()),
        num_timesteps=4_000_000,
        envs_per_proc=64,
        ppo=PPOConfig(
            lr=linear(1e-3, 0.0),
            epochs=4,
            minibatches=8,
            steps_per_row=128,
            entropy_weight=linear(0.1, 0.01),
            normalize_observations=False,
            normalize_rewards=False,
        ),
        net=net(128, 128, activation="relu"),
        addons=(Snapshots(),),
        evaluation=EvaluationConfig(every=0),
    )
