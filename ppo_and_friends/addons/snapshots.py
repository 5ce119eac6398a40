"""Self-play against what the learner was before (arXiv:1710.03748), with an Elo rating.

The learner's weights join a pool now and then, and one of the pool plays the opponent in each rollout: the latest, so
that the opponent grows with the learner, or any, so that the learner does not forget how to beat old ways to play.
All is the same on every rank: the draw is a function of the run's seed and the iteration, and results are summed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ppo_and_friends.addons.base import Addon, Context
from ppo_and_friends.errors import UserError
from ppo_and_friends.functional.returns import discounted_sums
from ppo_and_friends.networks.net import Net
from ppo_and_friends.rollout import Rollout
from ppo_and_friends.types import GroupSpec
from ppo_and_friends.vector.self_play import LEARNER, OPPONENT

if TYPE_CHECKING:
    from ppo_and_friends.ppo import PPO

K, MOST = 20.0, 700.0  # a game's weight, and that of all games of a rating period together (FIDE's handbook, B.02, 8.3)
DRAWS = 0x5E1F  # sets the draw of opponents apart from other uses of the run's seed


@dataclass(frozen=True)
class Snapshots:
    """Who plays the opponent of `SelfPlay`; metrics `rating`, `opponent_rating`, `score` and `games`.

    The first of the pool is the policy as it was made, whose rating is 0. A snapshot keeps the rating that the learner
    had when it was taken.
    """

    every: int = 10
    """Iterations between two snapshots."""
    keep: int = 20
    """Snapshots in the pool; the oldest one leaves it."""
    latest: float = 0.5
    """Probability that the latest plays a rollout; otherwise each of the pool is as likely."""

    def __post_init__(self) -> None:
        if self.every < 1 or self.keep < 1 or not 0 <= self.latest <= 1:
            raise UserError(
                f"Snapshots has every {self.every}, keep {self.keep} and latest {self.latest}: give 1 or more, 1 or "
                "more, and a probability."
            )

    def make(self, spec: GroupSpec) -> Addon:
        """Raises UserError where there is no opponent to play."""
        if spec.name != LEARNER:
            raise UserError(
                f"The add-on Snapshots plays the opponent of SelfPlay, but the group '{spec.name}' has none: wrap the "
                "game, env=SelfPlay(game)."
            )
        return _Pool(self)


class _Pool(Addon):
    plays = True
    rating: Tensor  # the learner's
    ratings: Tensor  # of the snapshots in the pool, [keep]; 0 behind them
    playing: Tensor  # which of them plays the opponent
    results: Tensor  # games since the last rating that this rank's learner won, drew and lost

    def __init__(self, config: Snapshots) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("rating", torch.zeros((), dtype=torch.float64))
        self.register_buffer("ratings", torch.zeros(config.keep, dtype=torch.float64))
        self.register_buffer("playing", torch.zeros((), dtype=torch.int64))
        self.register_buffer("results", torch.zeros(3, dtype=torch.float64), persistent=False)
        self.pool = torch.zeros(0, 0, dtype=torch.uint8)  # the bytes of a net's state in each row

    def get_extra_state(self) -> Tensor:
        """How a pool of any size is saved with the buffers."""
        return self.pool

    def set_extra_state(self, state: Tensor) -> None:
        self.pool = state

    def transform(self, rollout: Rollout, context: Context) -> Rollout:
        """Count the games that began and ended in this rollout: those against the present opponent alone."""
        times = torch.arange(len(rollout.age), device=rollout.age.device).unsqueeze(1)
        over = rollout.ended & rollout.active & (rollout.age <= times)
        rewards = torch.where(rollout.active, rollout.raw_rewards, 0)
        returns = discounted_sums(rewards, rollout.ended, torch.zeros_like(rewards[0]), 1.0)
        self.results += torch.stack([(over & (returns.sign() == sign)).sum() for sign in (1, 0, -1)])
        return rollout

    def end_iteration(self, ppo: PPO) -> dict[str, float]:
        learner, opponent = ppo.groups[ppo.players.names.index(LEARNER)], ppo.players.frozen[OPPONENT]
        if not len(self.pool):
            self._join(opponent.net)  # which is as the learner was made
        results = self.results.cpu().clone()
        ppo.comm.sum_(results)
        self.results.zero_()
        wins, draws, losses = results.tolist()
        games, rival = wins + draws + losses, float(self.ratings[self.playing])
        self.rating.fill_(elo(float(self.rating), rival, wins, draws, losses))
        done = ppo.iteration + 1
        if done % self.config.every == 0:
            self._join(learner.net)
        self.playing.fill_(self._draw(ppo.seed, done))
        opponent.play(_unpacked(self.pool[self.playing], opponent.net))
        score = (wins + draws / 2) / games if games else float("nan")
        return {"rating": float(self.rating), "opponent_rating": rival, "score": score, "games": games}

    def _join(self, net: Net) -> None:
        packed = _packed(net).unsqueeze(0)
        kept = self.pool[max(0, len(self.pool) + 1 - self.config.keep) :]
        self.ratings[: len(kept)] = self.ratings[len(self.pool) - len(kept) : len(self.pool)].clone()
        self.ratings[len(kept)] = self.rating
        self.pool = torch.cat((kept, packed)) if len(kept) else packed

    def _draw(self, seed: int, iteration: int) -> int:
        """Of the pool, for the rollout after so many iterations."""
        chance = np.random.default_rng((seed, iteration, DRAWS))
        newest = len(self.pool) - 1
        return newest if chance.random() < self.config.latest else int(chance.integers(newest + 1))


def elo(rating: float, rival: float, wins: float, draws: float, losses: float) -> float:
    """A rating after games against one rival: R + K (points - expected points), 400 apart being odds of 10 to 1.

    K falls with the number of games, so that K times games is at most MOST."""
    games = wins + draws + losses
    expected = games / (1 + 10 ** ((rival - rating) / 400))
    return rating + min(K, MOST / max(games, 1)) * (wins + draws / 2 - expected)


def _packed(net: Net) -> Tensor:
    """All weights and statistics of a net as bytes, `[bytes]` uint8."""
    return torch.cat([part.detach().cpu().reshape(-1).view(torch.uint8) for part in net.state_dict().values()])


def _unpacked(packed: Tensor, net: Net) -> dict[str, Tensor]:
    """The state dict of a net like `net`."""
    like = net.state_dict()
    parts = packed.split([part.numel() * part.element_size() for part in like.values()])
    return {
        name: own.clone().view(part.dtype).view(part.shape)
        for (name, part), own in zip(like.items(), parts, strict=True)
    }
