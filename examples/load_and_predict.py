"""Play one episode with a trained policy: `python examples/load_and_predict.py saved_states/CartPole`."""

import sys

import gymnasium

from ppo_and_friends.errors import UserError
from ppo_and_friends.ppo import PPO


def main(path: str, environment: str = "CartPole-v1") -> float:
    """The return of one episode. `path` is a state file or a state directory."""
    policy = PPO.load(path)
    env = gymnasium.make(environment)
    observation, _ = env.reset(seed=0)
    score, done = 0.0, False
    while not done:
        action = policy.predict(observation)
        observation, reward, terminated, truncated, _ = env.step(action)
        score, done = score + float(reward), terminated or truncated
    return score


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit("Name a trained run: python examples/load_and_predict.py saved_states/CartPole")
    try:
        print(main(*sys.argv[1:]))
    except UserError as error:
        sys.exit(f"error: {error}")
