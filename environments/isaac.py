"""The tasks of NVIDIA's Isaac Gym (arXiv:2108.10470), re-created on MuJoCo, with rl_games' settings for each.

Their rewards are not those of Gymnasium's tasks of the same names. Thousands of rows with short rollouts: on the CPU
ask for fewer (`--envs_per_proc 256`). What rl_games does otherwise: the minibatches of a rollout are always the same,
a policy that has not moved yet raises the step size, observation moments move within the first epoch, and IsaacAnt,
IsaacHumanoid and IsaacAnymal compute in half precision.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

from environments.settings import many_worlds, net
from ppo_and_friends.config import Experiment, NetConfig, PPOConfig
from ppo_and_friends.registry import experiment
from ppo_and_friends.schedules import constant

RL_GAMES = PPOConfig(
    lr=constant(3e-4),
    target_kl=0.008,
    kl_reference="previous_visit",
    timeout_value="none",
    lr_bounds=(1e-6, 1e-2),
    value_clip=0.2,
    bounds_weight=1e-4,
    max_grad_norm=1.0,
    normalize_rewards=False,
    normalize_values=True,
    observation_clip=5.0,
    adam_eps=1e-8,
)
"""What its configurations for these tasks share."""


def elu(*hidden: int) -> NetConfig:
    """One body for actor and critic, with biases that start at 0 and so does the log-std."""
    return replace(net(*hidden, activation="elu"), shared=True, initialization="zero_biases")


@experiment("IsaacCartpole")
def isaac_cartpole() -> Experiment:
    """Balance a pole on a cart that is pushed with up to 400 N; 500 is perfect."""
    from environments.tasks.isaac_cartpole import IsaacCartpole

    ppo = replace(RL_GAMES, steps_per_row=16, minibatches=1, epochs=8, reward_scale=0.1, value_weight=4.0)
    return many_worlds(IsaacCartpole(), 819_200, 512, ppo, elu(32, 32))


@experiment("IsaacAnt")
def isaac_ant() -> Experiment:
    """Run with four legs of two joints towards a far point; 5873 is rl_games' score on Isaac Gym.

    The gradient is not clipped, as rl_games has it for this task. Its KL divergence of 0.008 learned more slowly than
    0.012 over five seeds of an older integrator; 6 epochs or 4 minibatches gained nothing over three."""
    from environments.tasks.isaac_ant import IsaacAnt

    ppo = replace(
        RL_GAMES,
        target_kl=0.012,
        steps_per_row=16,
        minibatches=2,
        epochs=4,
        reward_scale=0.01,
        value_weight=2.0,
        max_grad_norm=inf,
        timeout_value="acted_on",
    )
    return many_worlds(IsaacAnt(), 32_768_000, 4096, ppo, elu(256, 128, 64))


@experiment("IsaacHumanoid")
def isaac_humanoid() -> Experiment:
    """Run on two legs with 21 joints towards a far point; 6255 is rl_games' score on Isaac Gym."""
    from environments.tasks.isaac_humanoid import IsaacHumanoid

    ppo = replace(
        RL_GAMES,
        lr=constant(5e-4),
        steps_per_row=32,
        minibatches=4,
        epochs=5,
        reward_scale=0.01,
        value_weight=4.0,
        timeout_value="acted_on",
    )
    return many_worlds(IsaacHumanoid(), 131_072_000, 4096, ppo, elu(400, 200, 100))


@experiment("IsaacBallBalance")
def isaac_ball_balance() -> Experiment:
    """Catch a ball on a tray with three legs, and hold it; 320 is rl_games' score on Isaac Gym."""
    from environments.tasks.isaac_ball_balance import IsaacBallBalance

    ppo = replace(RL_GAMES, steps_per_row=16, minibatches=8, epochs=8, reward_scale=0.1, value_weight=4.0)
    return many_worlds(IsaacBallBalance(), 16_384_000, 4096, ppo, elu(128, 64, 32))


@experiment("IsaacAnymal")
def isaac_anymal() -> Experiment:
    """Walk at commanded velocities on four legs; 62.8 is rl_games' score on Isaac Gym, 75 the bound."""
    from environments.tasks.isaac_anymal import IsaacAnymal

    ppo = replace(
        RL_GAMES,
        steps_per_row=24,
        minibatches=3,
        epochs=5,
        value_weight=2.0,
        bounds_weight=1e-3,
        timeout_value="acted_on",
    )
    return many_worlds(IsaacAnymal(), 98_304_000, 4096, ppo, elu(256, 128, 64))


FLIGHT = replace(
    RL_GAMES,
    lr=constant(1e-3),
    target_kl=0.016,
    steps_per_row=16,
    minibatches=4,
    epochs=8,
    reward_scale=0.01,
    value_weight=2.0,
)
HANDS = replace(
    RL_GAMES,
    lr=constant(5e-4),
    target_kl=0.016,
    kl_schedule="epoch",
    timeout_value="acted_on",
    steps_per_row=8,
    minibatches=4,
    epochs=5,
    reward_scale=0.01,
    value_weight=4.0,
)


@experiment("IsaacQuadcopter")
def isaac_quadcopter() -> Experiment:
    """Hover at a point with four rotors that tilt; 1500 is the bound."""
    from environments.tasks.isaac_quadcopter import IsaacQuadcopter

    ppo = replace(FLIGHT, steps_per_row=8, reward_scale=0.1)
    return many_worlds(IsaacQuadcopter(), 32_768_000, 8192, ppo, elu(256, 256, 128))


@experiment("IsaacIngenuity")
def isaac_ingenuity() -> Experiment:
    """Fly the Mars helicopter to one target after another; 14 000 is the bound."""
    from environments.tasks.isaac_ingenuity import IsaacIngenuity

    return many_worlds(IsaacIngenuity(), 32_768_000, 4096, FLIGHT, elu(256, 256, 128))


@experiment("IsaacCrazyflie")
def isaac_crazyflie() -> Experiment:
    """Rise a metre and hover with four rotors that lag and are noisy."""
    from environments.tasks.isaac_crazyflie import IsaacCrazyflie

    ppo = replace(FLIGHT, lr=constant(1e-4))
    networks = replace(net(256, 256, 128), shared=True, initialization="zero_biases")
    return many_worlds(IsaacCrazyflie(), 65_536_000, 4096, ppo, networks)


@experiment("IsaacShadowHand")
def isaac_shadow_hand() -> Experiment:
    """Turn a cube to one goal after another in the hand of 24 joints; all of the state is seen."""
    from environments.tasks.isaac_shadow_hand import IsaacShadowHand

    return many_worlds(IsaacShadowHand(), 655_360_000, 16384, HANDS, elu(512, 512, 256, 128))


@experiment("IsaacShadowHandAsymmetric")
def isaac_shadow_hand_asymmetric() -> Experiment:
    """IsaacShadowHand at 20 Hz from fingertips and the cube's place; the critic sees everything.

    OpenAI's variant (arXiv:1808.00177) with feed-forward networks. rl_games trains the critic before the policy, and a
    second value head on the policy's layers.
    """
    from environments.tasks.isaac_shadow_hand import openai_shadow_hand

    actor, critic = elu(400, 400, 200, 100).actor, elu(512, 512, 256, 128).actor
    networks = NetConfig(actor=actor, critic=critic, initialization="zero_biases")
    ppo = replace(
        HANDS,
        critic_lr=constant(5e-4),
        value_weight=2.0,  # there the critic's loss has no coefficient, and ours is half of it
        minibatches=8,
        epochs=8,
        timeout_value="none",
    )
    return many_worlds(openai_shadow_hand(), 1_310_720_000, 16384, ppo, networks)


@experiment("IsaacAllegroHand")
def isaac_allegro_hand() -> Experiment:
    """Turn a cube to one goal after another in the hand of 16 joints."""
    from environments.tasks.isaac_allegro_hand import IsaacAllegroHand

    return many_worlds(IsaacAllegroHand(), 655_360_000, 16384, HANDS, elu(512, 256, 128))
