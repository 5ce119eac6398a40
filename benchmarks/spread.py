"""Returns of policies that learned SimpleSpread, on the worlds of the MAPPO paper and in its counting.

    python main.py -e SimpleSpread --name SimpleSpread-1 --random_seed 1
    python benchmarks/spread.py saved_states/SimpleSpread-1 [more states, of other seeds] [--episodes 400]

The environment that came with the paper (arXiv:2103.01955) has its landmarks within 0.8 of the middle, adds up the
rewards of three agents that each get the same, and counts each of them as touching itself in each of 25 steps: an
episode's return there is twice what it is here, less 75. Policies take their most likely action; each state is a round.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import common
import torch

from ppo_and_friends.evaluate import evaluate
from ppo_and_friends.ppo import PPO

ROWS, SEED, NEARER, STEPS, AGENTS = 100, 1000, 0.8, 25, 3


def nearer_landmarks() -> None:
    """From now on all landmarks are nearer to the middle."""
    from mpe2.simple_spread.simple_spread import Scenario

    reset = Scenario.reset_world

    def reset_world(self: Any, world: Any, np_random: Any) -> None:
        reset(self, world, np_random)
        for landmark in world.landmarks:
            landmark.state.p_pos = NEARER * landmark.state.p_pos

    Scenario.reset_world = reset_world


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("states", nargs="+", type=Path)
    parser.add_argument("--episodes", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    origin = common.origin()
    print(common.describe(origin))
    nearer_landmarks()
    found: dict[str, dict[str, list[float]]] = {}
    for state in options.states:
        ppo = PPO.load(state)
        env = ppo.evaluation_env(min(ROWS, options.episodes))
        returns = evaluate(env, ppo.policies(), options.episodes, SEED, ppo.comm, STEPS + 1).returns
        mean = sum(returns) / len(returns)
        sides = found.setdefault(f"SimpleSpread, {ppo.timesteps:,} steps, {options.episodes:,} episodes", {})
        sides.setdefault("landmarks nearer to the middle", []).append(mean)
        sides.setdefault("the same in the paper's counting", []).append(2 * mean - AGENTS * STEPS)
    for setting, sides in found.items():
        common.show(setting, sides, "", "")
        common.append("spread", origin, common.rows(setting, sides, "", ""), options.results)


if __name__ == "__main__":
    main()
