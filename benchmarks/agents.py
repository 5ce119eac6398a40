"""What agents as rows cost: steps of environments by `MultiAgentVec`, beside bare loops over the same environments.

    python benchmarks/agents.py [--env lbforaging:Foraging-8x8-3p-2f-v3] [--rows 8] [--steps 500] [--rounds 9]

Both take the same random actions from the same seeds, and reset what ends. Seconds are those of this process on a
core, so that other processes count less; the ratio is the median over rounds.
"""

from __future__ import annotations

import time
from typing import Any

import common
import numpy as np
import torch

from ppo_and_friends.vector.agents_make import make_agents
from ppo_and_friends.vector.gym_rows import row_seed
from ppo_and_friends.vector.multi_agent import MultiAgentEnv


class Bare:
    """Environments of Gymnasium's tuples, stepped with tuples; nothing is made of what they answer."""

    def __init__(self, name: str, rows: int) -> None:
        self.envs = [make_agents(name, {}).env for _ in range(rows)]

    def reset(self, seed: int) -> None:
        for row, env in enumerate(self.envs):
            env.reset(seed=row_seed(seed, row))

    def run(self, actions: list[list[tuple[Any, ...]]]) -> None:
        for of_all in actions:
            for env, action in zip(self.envs, of_all, strict=True):
                _, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    env.reset()


def measure(name: str, critic: Any, rows: int, steps: int, rounds: int) -> dict[str, list[float]]:
    """Steps of environments in a second of this process."""
    bare, adapter = Bare(name, rows), MultiAgentEnv(name, critic=critic).make(rows)
    (group,) = adapter.spec.groups
    choices, agents = group.action.sizes[0], len(group.agents)
    drawn = np.random.default_rng(0).integers(0, choices, (steps, rows, agents))
    tensors = [(torch.from_numpy(part.reshape(-1, 1)),) for part in drawn]
    tuples = [[tuple(action) for action in part] for part in drawn]

    def environments(index: int) -> float:
        bare.reset(index)
        start = time.process_time()
        bare.run(tuples)
        return rows * steps / (time.process_time() - start)

    def rows_of_agents(index: int) -> float:
        adapter.reset(index)
        start = time.process_time()
        for actions in tensors:
            adapter.step(actions)
        return rows * steps / (time.process_time() - start)

    return common.alternate({"bare environments": environments, "agents as rows": rows_of_agents}, rounds)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--env", default="lbforaging:Foraging-8x8-3p-2f-v3")
    parser.add_argument("--critics", nargs="+", default=["own", "joined"])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    origin = common.origin()
    print(common.describe(origin))
    for critic in options.critics:
        values = measure(options.env, critic, options.rows, options.steps, options.rounds)
        setting = f"{options.env.rpartition(':')[2]}, {options.rows} environments, critic {critic}"
        common.show(setting, values, "bare environments", "steps/s")
        common.append("agents", origin, common.rows(setting, values, "bare environments", "steps/s"), options.results)


if __name__ == "__main__":
    main()
