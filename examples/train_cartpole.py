"""Train from Python: settings from a launcher, a callback that stops the run once the pole stays up."""

import dataclasses

from ppo_and_friends import registry
from ppo_and_friends.config import RunConfig
from ppo_and_friends.ppo import PPO


def stop_when_solved(ppo: PPO, metrics: dict[str, float]) -> bool:
    """Called after each iteration and evaluation, on every rank with the same numbers."""
    print(f"{metrics['timesteps']:8.0f} steps, mean return {metrics['mean_return']:6.1f}")
    return metrics["mean_return"] > 475


def main(num_timesteps: int = 100_000, state_path: str = "saved_states") -> None:
    experiment = dataclasses.replace(registry.build("CartPole"), num_timesteps=num_timesteps)
    PPO(experiment, RunConfig(name="cartpole_example", state_path=state_path)).learn(callback=stop_when_solved)


if __name__ == "__main__":
    main()
