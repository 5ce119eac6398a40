"""Running moments that are the same on every rank, and statistics of whole episodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ppo_and_friends.comm import Comm

TINY = 1e-300  # a divisor where there is nothing to divide


class Moments(nn.Module):
    """Running mean and variance of `[..., *shape]` samples: count, mean and M2 in float64 (Chan et al. 1983).

    A rank measures its samples around their own mean, so that an offset of a thousand spreads costs no precision
    (a million leaves ten digits), and the ranks' measurements are pooled in one reduction. Nothing moves before
    `absorb`:

        measure(x, weight)  ->  .delta  ->  reduce_moments(comm, ...)  ->  absorb()
    """

    live = True  # whether measuring it does anything
    count: Tensor
    mean: Tensor
    m2: Tensor
    delta: Tensor
    shift: Tensor
    inverse_std: Tensor

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("m2", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("delta", torch.zeros(1 + 2 * self.mean.numel(), dtype=torch.float64), persistent=False)
        # What normalisation reads: float32, so that acting and training round alike.
        self.register_buffer("shift", torch.zeros(shape), persistent=False)
        self.register_buffer("inverse_std", torch.ones(shape), persistent=False)
        self.register_load_state_dict_post_hook(lambda module, _: module.refresh())

    def measure(self, samples: Tensor, weight: Tensor) -> None:
        """Set `delta` from samples `[..., *shape]` with weights `[...]`."""
        flat = samples.reshape(weight.numel(), -1).double()
        self.delta.copy_(pool(weight.reshape(-1).double(), flat, torch.zeros_like(flat[0])))

    def absorb(self) -> None:
        """Merge `delta`, already pooled over ranks, and clear it."""
        count, (mean, spread) = self.delta[0], self.delta[1:].reshape(2, *self.shape)
        gap, total = mean - self.mean, (self.count + count).clamp_min(TINY)
        self.m2 += spread + gap.square() * (self.count * count / total)
        self.mean += gap * (count / total)
        self.count += count
        self.delta.zero_()
        self.refresh()

    def refresh(self) -> None:
        """Recompute what normalisation reads."""
        variance = self.m2 / self.count.clamp_min(1)
        known = (self.count > 0) & (variance > 0)
        self.shift.copy_(self.mean)
        self.inverse_std.copy_(torch.where(known, (variance + 1e-8).rsqrt(), torch.ones_like(variance)))

    def normalize(self, samples: Tensor) -> Tensor:
        return (samples - self.shift) * self.inverse_std

    def denormalize(self, samples: Tensor) -> Tensor:
        return samples / self.inverse_std + self.shift


class FixedMoments(Moments):
    """Never moves: normalisation that is switched off."""

    live = False

    def measure(self, samples: Tensor, weight: Tensor) -> None:
        pass


def pool(counts: Tensor, means: Tensor, spreads: Tensor) -> Tensor:
    """Count, mean and M2 `[1 + 2 * D]` of R sets together, from their own: `[R]`, `[R, D]` and `[R, D]` or `[D]`."""
    count = counts.sum()
    mean = counts @ means / count.clamp_min(TINY)
    spread = counts @ (means - mean).square() + spreads.reshape(-1, len(mean)).sum(0)
    return torch.cat((count.unsqueeze(0), mean, spread))


def reduce_moments(comm: Comm, moments: Iterable[Moments], extra: Tensor) -> Tensor:
    """Pool the deltas of all `moments`, and sum `extra` `[K]` float64, over ranks: the one reduction of a rollout.

    Every rank fills a line of its own in one buffer, because what is pooled from centred sums is not a plain sum."""
    moments = list(moments)
    buffer = extra.new_zeros(comm.size, extra.numel() + sum(item.delta.numel() for item in moments))
    buffer[comm.rank] = torch.cat([extra, *(item.delta.to(extra.device) for item in moments)])
    comm.sum_(buffer)
    own, *parts = buffer.split([extra.numel(), *(item.delta.numel() for item in moments)], 1)
    for item, part in zip(moments, parts, strict=True):
        counts, means, spreads = part.split([1, item.mean.numel(), item.mean.numel()], 1)
        item.delta.copy_(pool(counts.squeeze(1), means, spreads))
    return own.sum(0)


class EpisodeTracker:
    """Returns and lengths of whole episodes, unshaped and unscaled, across rollouts. One for each group of rows.

    Agents of one environment are a team: its return is the sum of theirs, its length the steps in which any of them was
    active, and its episode ends in the step in which all of them do (see `Step`)."""

    def __init__(self, environments: int, device: torch.device | str = "cpu") -> None:
        self.returns = torch.zeros(environments, dtype=torch.float64, device=device)  # of the episode under way
        self.lengths = torch.zeros(environments, dtype=torch.float64, device=device)

    def update(self, rewards: Tensor, ended: Tensor, active: Tensor) -> Tensor:
        """Take in one rollout (all `[T, N]`): `[3]` float64, the number of the episodes that ended in it, the sum of
        their returns and that of their lengths."""
        teams = len(rewards), len(self.returns), -1
        rewards = torch.where(active, rewards.double(), 0).reshape(teams).sum(-1)
        ended, active = ended.reshape(teams).all(-1), active.reshape(teams).any(-1)
        times = torch.arange(1, len(ended) + 1, device=ended.device).unsqueeze(1)
        last = torch.where(ended, times, 0).cummax(0).values  # 1 + the time of a row's latest end, 0 before the first
        before = torch.cat((torch.zeros_like(last[:1]), last[:-1]))
        lengths = self._episodes(self.lengths, active.double(), before, last[-1:])
        returns = self._episodes(self.returns, rewards, before, last[-1:])
        whole = ended & (lengths > 0)  # a row that was absent all the time had no episode
        return torch.stack((whole.double(), returns * whole, lengths * whole)).sum((1, 2))

    @staticmethod
    def _episodes(carry: Tensor, values: Tensor, before: Tensor, last: Tensor) -> Tensor:
        """Sums `[T, N]` of `values` since each row's latest end; `carry` goes on from rollout to rollout."""
        totals = torch.cat((torch.zeros_like(values[:1]), torch.cat((carry.unsqueeze(0), values)).cumsum(0)[1:]))
        carry.copy_((totals[-1:] - totals.gather(0, last)).squeeze(0))
        return totals[1:] - totals.gather(0, before)

    def restart(self) -> None:
        """Forget the episodes under way: their rows were reset."""
        self.returns.zero_()
        self.lengths.zero_()


class RecentEpisodes:
    """Mean return and length over about the last `window` episodes of all ranks, from reduced sums."""

    def __init__(self, window: int = 100) -> None:
        self.window = window
        self.sums: deque[tuple[float, float, float]] = deque()  # episodes, sum of returns, sum of lengths
        self.total = 0  # episodes ever

    def add(self, episodes: float, returns: float, lengths: float) -> None:
        if episodes:
            self.sums.append((episodes, returns, lengths))
            self.total += round(episodes)
        while self.sums and sum(item[0] for item in self.sums) - self.sums[0][0] >= self.window:
            self.sums.popleft()

    def means(self) -> tuple[float, float]:
        """(mean return, mean length); NaN before the first episode ended."""
        episodes = sum(item[0] for item in self.sums)
        if not episodes:
            return float("nan"), float("nan")
        return sum(item[1] for item in self.sums) / episodes, sum(item[2] for item in self.sums) / episodes

    def state(self) -> dict:
        return {"sums": [list(item) for item in self.sums], "total": self.total}

    def load_state(self, state: dict) -> None:
        self.sums = deque((item[0], item[1], item[2]) for item in state["sums"])
        self.total = state["total"]
