"""Tasks that a policy without memory cannot solve: what it needs to know is not in what it sees."""

from __future__ import annotations

from dataclasses import replace

from environments.settings import net
from ppo_and_friends.config import EvaluationConfig, Experiment, PPOConfig
from ppo_and_friends.registry import experiment
from ppo_and_friends.schedules import linear


@experiment("CartPoleNoVel")
def cart_pole_without_velocities() -> Experiment:
    """CartPole that hides its velocities: a GRU infers them; 500 is perfect.

    Settings: CartPole's, with observations normalised, twice the step size and half the minibatches. Three seeds scored
    494.6 +- 7.7 in 100 test episodes after 150 000 steps (500, 484, 500), a minute of one core; without the core
    (`--net.core identity`) one scored 43. With a step size of 3e-3 one seed in three came down to 202.
    """
    from environments.partial import cart_pole_without_velocities as factory
    from ppo_and_friends.vector.gym_vec import GymEnv

    return Experiment(
        env=GymEnv(id="CartPoleNoVel", factory=factory),
        num_timesteps=150_000,
        envs_per_proc=8,
        ppo=PPOConfig(
            lr=linear(2e-3, 0.0),
            clip_range=linear(0.2, 0.0),
            gamma=0.98,
            gae_lambda=0.8,
            epochs=10,
            minibatches=2,
            steps_total=1024,
            normalize_rewards=False,
        ),
        net=replace(net(64), core="gru", core_size=64, chunk_length=16),
        evaluation=EvaluationConfig(every=2),
    )


@experiment("PendulumNoVel")
def pendulum_without_velocity() -> Experiment:
    """Pendulum that hides its velocity: a GRU infers it; about -150 at best, as where it is shown.

    Settings: Pendulum's, with plain Gaussian noise, 8 rows and parts of 256. Three seeds scored -186.0 +- 3.9 in 100
    test episodes after 200 000 steps, about two minutes of one core; without the core (`--net.core identity`) one
    scored -1119.
    """
    from environments.partial import pendulum_without_velocity as factory
    from ppo_and_friends.vector.gym_vec import GymEnv

    return Experiment(
        env=GymEnv(id="PendulumNoVel", factory=factory),
        num_timesteps=200_000,
        envs_per_proc=8,
        ppo=PPOConfig(
            lr=linear(1e-3, 1e-4),
            gamma=0.95,
            epochs=10,
            minibatches=16,
            steps_total=4096,
            normalize_observations=False,
        ),
        net=replace(net(64), core="gru", core_size=64, chunk_length=16, log_std_init=-0.5),
    )


@experiment("PendulumPrivileged")
def pendulum_privileged() -> Experiment:
    """Pendulum that hides its velocity from the policy, not from the critic.

    Settings: PendulumNoVel's; the critic sees all there is, and has a second layer in the place of memory.
    Three seeds scored -178.0 +- 5.4 in 100 test episodes after 200 000 steps, a minute each.
    """
    from environments.partial import pendulum_with_velocity_apart as factory
    from ppo_and_friends.vector.gym_vec import GymEnv

    blind = pendulum_without_velocity()
    env = GymEnv(id="PendulumPrivileged", factory=factory, privileged=("velocity",))
    return replace(blind, env=env, net=replace(blind.net, critic=net(64, 64).critic, critic_core="identity"))


@experiment("RecallCue")
def recall_cue() -> Experiment:
    """Say after 20 steps which of four cues came first: 1 is always right, chance has 0.25.

    Settings: few epochs, an entropy bonus that falls to 0, chunks of 32 steps where an episode has 21. Three seeds were
    right in all of 100 test episodes after 100 000 steps, 20 s of one core; without the core (`--net.core identity`)
    they stayed at chance, 0.25 +- 0.07.
    """
    from environments.partial import RecallCue
    from ppo_and_friends.vector.gym_vec import GymEnv

    return Experiment(
        env=GymEnv(id="RecallCue", factory=RecallCue),
        num_timesteps=100_000,
        envs_per_proc=16,
        ppo=PPOConfig(
            lr=linear(3e-3, 0.0),
            epochs=4,
            minibatches=4,
            steps_total=2048,
            entropy_weight=linear(0.01, 0.0),
            normalize_observations=False,
            normalize_rewards=False,
        ),
        net=replace(net(32), core="gru", core_size=32, chunk_length=32),
        evaluation=EvaluationConfig(every=2, episodes=20),
    )
