"""Action distributions as functions over a tensor of parameters.

Each distribution turns features `[..., F]` into parameters `[..., P]` once; everything else (sampling,
log-probability, entropy, divergence) is a function of those parameters. They are stored in the rollout,
so that the divergence from the rollout's policy has a closed form.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from ppo_and_friends.config import NetConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.types import ActionSpace

ILLEGAL = -1e9  # logit of an action that cannot be taken; finite, so that 0 * log 0 is 0 and not NaN
LOG_STD_BOUNDS = (-7.0, 3.0)


class Distribution(nn.Module):
    """What the collector and the loss ask of a distribution. A custom one fulfils the same.

    `forward`, `sample`, `mode`, `log_prob`, `entropy` and `kl` must be written; leading axes are `[N]` when acting and
    `[L, B]` when learning.
    """

    anchor: Tensor  # says device and dtype

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("anchor", torch.zeros(0), persistent=False)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Parameters `[..., P]` from features `[..., F]` and legal actions `[..., K]` bool (K may be 0)."""
        raise NotImplementedError

    def start(self, rows: int) -> Tensor:
        """Exploration noise that outlives a step, `[rows, ...]`; empty for most."""
        return self.anchor.new_zeros(rows, 0)

    def refresh(self, noise: Tensor, step: int, generator: Generator) -> None:
        """Draw `noise` anew in place where its time is up; `step` counts the collector's steps."""

    def draws(self, steps: int, rows: int, generator: Generator) -> Tensor:
        """All that chance adds to `steps` steps, `[steps, rows, D]`: `sample` itself is a plain function."""
        return self.anchor.new_zeros(steps, rows, 0)

    def sample(self, parameters: Tensor, features: Tensor, noise: Tensor, draw: Tensor) -> Tensor:
        """Actions `[N, columns]`; `draw` `[N, D]` is one step of `draws`."""
        raise NotImplementedError

    def mode(self, parameters: Tensor) -> Tensor:
        """The most likely actions `[..., columns]`."""
        raise NotImplementedError

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        """`[...]`, summed over columns."""
        raise NotImplementedError

    def entropy(self, parameters: Tensor) -> Tensor:
        """`[...]`, summed over columns."""
        raise NotImplementedError

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """KL(old || new), `[...]`."""
        raise NotImplementedError

    def to_environment(self, actions: Tensor) -> Tensor:
        """Actions in the environment's own units and bounds."""
        return actions

    def bounds_loss(self, parameters: Tensor, limit: float) -> Tensor:
        """Squared distance by which means leave `limit` times the bounds, `[...]`; 0 where there are none."""
        return parameters.new_zeros(parameters.shape[:-1])


class Categoricals(Distribution):
    """One categorical a column: Discrete, MultiDiscrete and MultiBinary are all this.

    Parameters are log-probabilities `[..., columns * K]`, padded to the widest column K.
    """

    exists: Tensor
    slots: Tensor

    def __init__(self, features: int, space: ActionSpace) -> None:
        super().__init__()
        self.columns, self.widest = len(space.sizes), max(space.sizes)
        self.head = nn.Linear(features, self.columns * self.widest)
        index = torch.arange(self.widest).expand(self.columns, self.widest)
        exists = index < torch.tensor(space.sizes).unsqueeze(1)
        self.register_buffer("exists", exists, persistent=False)
        self.register_buffer("slots", exists.flatten().nonzero().squeeze(1), persistent=False)
        self.padded = not bool(exists.all())

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        logits = self.head(features)
        if mask.shape[-1]:
            legal = logits.new_zeros(logits.shape, dtype=torch.bool)
            legal[..., self.slots] = mask
            logits = logits.masked_fill(~legal, ILLEGAL)
        logits = logits.unflatten(-1, (self.columns, self.widest))
        if self.padded:
            logits = logits.masked_fill(~self.exists, 2 * ILLEGAL)  # below illegal: a row may have no legal action
        return torch.log_softmax(logits, -1).flatten(-2)

    def _split(self, parameters: Tensor) -> Tensor:
        return parameters.unflatten(-1, (self.columns, self.widest))

    def draws(self, steps: int, rows: int, generator: Generator) -> Tensor:
        waits = self.anchor.new_empty(steps, rows, self.columns * self.widest).exponential_(generator=generator)
        return waits.clamp_min_(1e-30).log_()

    def sample(self, parameters: Tensor, features: Tensor, noise: Tensor, draw: Tensor) -> Tensor:
        # The minimum of exponentials with rates p is at k with probability p_k.
        return self._split(parameters - draw).argmax(-1)

    def mode(self, parameters: Tensor) -> Tensor:
        return self._split(parameters).argmax(-1)

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        return self._split(parameters).gather(-1, actions.unsqueeze(-1)).squeeze(-1).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        return -(parameters.exp() * parameters).sum(-1)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        return (old.exp() * (old - new)).sum(-1)


class Gaussian(Distribution):
    """A diagonal Gaussian over raw actions, in units where the environment's bounds are -1 and 1.

    Parameters are means and log-stds, `[..., 2 * columns]`. Raw actions are stored; `to_environment` clips them
    (or, with `squash`, passes them through tanh) and stretches them to the bounds. Columns without two finite
    bounds are passed on as they are, clipped at the one they have. With `squash` the log-probability carries the
    change of variables; the entropy is that of the raw Gaussian, and the divergence is exact, being the same before
    and after an invertible map.
    """

    bounded: Tensor
    low: Tensor
    high: Tensor
    start_of_range: Tensor
    half_range: Tensor

    def __init__(self, features: int, space: ActionSpace, config: NetConfig) -> None:
        super().__init__()
        columns = space.columns
        self.columns, self.squash = columns, config.squash
        low, high = torch.tensor(space.low), torch.tensor(space.high)
        bounded = (high - low).isfinite()  # not where one is infinite, or both so large that they mean no bound
        self.register_buffer("bounded", bounded, persistent=False)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)
        self.register_buffer("start_of_range", torch.where(bounded, low, -1.0), persistent=False)
        self.register_buffer("half_range", torch.where(bounded, (high - low) * 0.5, 1.0), persistent=False)
        self.all_bounded = bool(bounded.all())
        self.head = nn.Linear(features, columns)
        self._make_std(features, config)

    def _make_std(self, features: int, config: NetConfig) -> None:
        self.state_dependent = config.state_dependent_std
        if self.state_dependent:
            self.log_std_head = nn.Linear(features, self.columns)
            self.log_std_offset = config.log_std_init
        else:
            self.log_std = nn.Parameter(torch.full((self.columns,), config.log_std_init))

    def _log_std(self, features: Tensor, mean: Tensor) -> Tensor:
        if self.state_dependent:
            return soft_clamp(self.log_std_head(features) + self.log_std_offset)
        return soft_clamp(self.log_std).expand_as(mean)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        mean = self.head(features)
        return torch.cat((mean, self._log_std(features, mean)), -1)

    def draws(self, steps: int, rows: int, generator: Generator) -> Tensor:
        return self.anchor.new_empty(steps, rows, self.columns).normal_(generator=generator)

    def sample(self, parameters: Tensor, features: Tensor, noise: Tensor, draw: Tensor) -> Tensor:
        mean, log_std = parameters.chunk(2, -1)
        return torch.addcmul(mean, log_std.exp(), draw)

    def mode(self, parameters: Tensor) -> Tensor:
        return parameters[..., : self.columns]

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        mean, log_std = parameters.chunk(2, -1)
        standard = (actions - mean) * torch.exp(-log_std)
        density = (standard.square() * -0.5 - log_std).sum(-1) - 0.5 * math.log(2 * math.pi) * self.columns
        if self.squash:  # log(1 - tanh(u)^2), written so that it does not underflow
            slope = 2 * (math.log(2) - actions - functional.softplus(-2 * actions))
            density = density - (slope * self.bounded).sum(-1)
        return density

    def entropy(self, parameters: Tensor) -> Tensor:
        return parameters[..., self.columns :].sum(-1) + 0.5 * (1 + math.log(2 * math.pi)) * self.columns

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        (old_mean, old_log_std), (mean, log_std) = old.chunk(2, -1), new.chunk(2, -1)
        squares = torch.exp(2 * (old_log_std - log_std)) + ((old_mean - mean) * torch.exp(-log_std)).square()
        return (log_std - old_log_std + 0.5 * (squares - 1)).sum(-1)

    def to_environment(self, actions: Tensor) -> Tensor:
        unit = actions.tanh() if self.squash else actions.clamp(-1, 1)
        stretched = torch.addcmul(self.start_of_range, unit + 1, self.half_range)
        wanted = stretched if self.all_bounded else torch.where(self.bounded, stretched, actions)
        # Rounding, and a column with one bound, must not leave the space: environments may assert it.
        return torch.minimum(torch.maximum(wanted, self.low), self.high)

    def bounds_loss(self, parameters: Tensor, limit: float) -> Tensor:
        outside = (parameters[..., : self.columns].abs() - limit).clamp_min(0)
        return (outside.square() * self.bounded).sum(-1)


class StateDependentExploration(Gaussian):
    """gSDE (arXiv:2005.05719): noise is a linear function of the features, held for several steps.

    The log-std is `[F, columns]`; the variance of an action is features^2 @ std^2. Features pass no gradient
    into the variance, as in the paper's reference implementation. `start` holds `[rows, F, columns]` standard noise.
    """

    def _make_std(self, features: int, config: NetConfig) -> None:
        self.features, self.every = features, config.sde_sample_every
        self.log_std = nn.Parameter(torch.full((features, self.columns), config.log_std_init))

    def _log_std(self, features: Tensor, mean: Tensor) -> Tensor:
        variance = features.detach().square() @ torch.exp(2 * soft_clamp(self.log_std))
        return 0.5 * torch.log(variance + 1e-6)

    def start(self, rows: int) -> Tensor:
        return self.log_std.new_zeros(rows, self.features, self.columns)

    def refresh(self, noise: Tensor, step: int, generator: Generator) -> None:
        if step % self.every == 0:
            noise.normal_(generator=generator)

    def draws(self, steps: int, rows: int, generator: Generator) -> Tensor:
        return self.anchor.new_zeros(steps, rows, 0)  # `refresh` has drawn already

    def sample(self, parameters: Tensor, features: Tensor, noise: Tensor, draw: Tensor) -> Tensor:
        matrix = noise * torch.exp(soft_clamp(self.log_std))
        return parameters[..., : self.columns] + torch.bmm(features.unsqueeze(1), matrix).squeeze(1)


def soft_clamp(log_std: Tensor) -> Tensor:
    """Log-std within LOG_STD_BOUNDS: the identity well inside, and never without a gradient (a hard clamp is stuck)."""
    low, high = LOG_STD_BOUNDS
    log_std = high - functional.softplus(high - log_std, beta=10)
    return low + functional.softplus(log_std - low, beta=10)


def make_distribution(features: int, space: ActionSpace, config: NetConfig) -> Distribution:
    """The distribution for an action space."""
    if space.kind == "box":
        return (StateDependentExploration if config.distribution == "gsde" else Gaussian)(features, space, config)
    if config.distribution == "gsde":
        raise UserError(f"net.distribution is gsde, which needs a Box, but actions are {space.kind}: leave it at auto.")
    return Categoricals(features, space)
