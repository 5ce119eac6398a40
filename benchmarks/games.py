"""How often a policy that learned a game by self-play wins it against players that do not learn.

    python main.py -e ConnectFour --name ConnectFour-1 --random_seed 1
    python benchmarks/games.py saved_states/ConnectFour-1 [more states, of other seeds] [--games 1000]

The policy takes its most likely action, and sits in the first seat in every other game. `random` is uniform over legal
actions; `lookahead` wins where it can, blocks where it must, and is random otherwise. Each state is a round.
"""

from __future__ import annotations

from pathlib import Path

import common
import torch

from environments.connect_four import Lookahead
from ppo_and_friends.evaluate import Policy, evaluate
from ppo_and_friends.policy import RandomPolicy
from ppo_and_friends.ppo import PPO
from ppo_and_friends.vector.self_play import SelfPlay

ROWS, SEED = 100, 1000


def play(ppo: PPO, rival: Policy, games: int) -> tuple[float, float]:
    """Shares of games that the learner wins and loses."""
    env = ppo.evaluation_env(min(ROWS, games))
    found = evaluate(env, [ppo.policies()[0], rival], games, SEED, ppo.comm, 10_000)
    return tuple(sum(sign * value > 0 for value in found.returns) / games for sign in (1, -1))  # type: ignore[return-value]


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("states", nargs="+", type=Path)
    parser.add_argument("--games", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    origin = common.origin()
    print(common.describe(origin))
    found: dict[str, dict[str, list[float]]] = {}
    for state in options.states:
        ppo = PPO.load(state)
        assert isinstance(ppo.experiment.env, SelfPlay), f"{state} did not learn by self-play"
        chance = torch.Generator().manual_seed(SEED)
        rivals = {"random": RandomPolicy(ppo.env.spec.groups[1].action, chance), "lookahead": Lookahead(chance)}
        setting = f"{ppo.experiment.name}, {ppo.timesteps:,} steps, {options.games:,} games"
        sides = found.setdefault(setting, {})
        for name, rival in rivals.items():
            for what, share in zip(("won", "lost"), play(ppo, rival, options.games), strict=True):
                sides.setdefault(f"{what} against {name}", []).append(100 * share)
    for setting, sides in found.items():
        common.show(setting, sides, "", "%")
        common.append("games", origin, common.rows(setting, sides, "", "%"), options.results)


if __name__ == "__main__":
    main()
