"""Our distributions against torch.distributions, enumeration and sampling."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Generator, Tensor, distributions, nn
from toys import BOX, DISCRETE, MULTI_BINARY, MULTI_DISCRETE

from ppo_and_friends.config import NetConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.networks.distributions import (
    LOG_STD_BOUNDS,
    Categoricals,
    Distribution,
    Gaussian,
    StateDependentExploration,
    make_distribution,
    soft_clamp,
)
from ppo_and_friends.types import ActionSpace

NO_MASK = torch.zeros(6, 0, dtype=torch.bool)


def made(space: ActionSpace, **config: object) -> tuple[Distribution, Tensor, Tensor]:
    """A distribution with random weights, features `[6, 8]` and its parameters."""
    torch.manual_seed(0)
    distribution = make_distribution(8, space, NetConfig(**config))  # type: ignore[arg-type]
    for parameter in distribution.parameters():
        nn.init.normal_(parameter, std=0.4)
    features = torch.randn(6, 8)
    return distribution, features, distribution(features, NO_MASK).detach()


def test_one_categorical_equals_torchs() -> None:
    distribution, features, parameters = made(DISCRETE)
    assert isinstance(distribution, Categoricals)
    theirs, actions = distributions.Categorical(logits=distribution.head(features)), torch.randint(4, (6, 1))
    torch.testing.assert_close(distribution.log_prob(parameters, actions), theirs.log_prob(actions[:, 0]))
    torch.testing.assert_close(distribution.entropy(parameters), theirs.entropy())
    other = torch.log_softmax(torch.randn(6, 4), -1)
    expected = distributions.kl_divergence(distributions.Categorical(logits=other), theirs)
    torch.testing.assert_close(distribution.kl(other, parameters), expected)


@pytest.mark.parametrize("space", [MULTI_DISCRETE, MULTI_BINARY])
def test_unequal_columns_equal_an_enumeration_of_all_actions(space: ActionSpace) -> None:
    distribution, _, parameters = made(space)
    every = torch.tensor(list(itertools.product(*map(range, space.sizes))))
    log_probs = torch.stack([distribution.log_prob(parameters, action.expand(6, -1)) for action in every])
    torch.testing.assert_close(log_probs.exp().sum(0), torch.ones(6))
    torch.testing.assert_close(distribution.entropy(parameters), -(log_probs.exp() * log_probs).sum(0))
    other = parameters.roll(1, 0)
    others = torch.stack([distribution.log_prob(other, action.expand(6, -1)) for action in every])
    expected = (log_probs.exp() * (log_probs - others)).sum(0)
    torch.testing.assert_close(distribution.kl(parameters, other), expected)
    best = every[log_probs.argmax(0)]
    assert torch.equal(distribution.mode(parameters), best)


def test_categorical_samples_have_the_frequencies_of_their_probabilities() -> None:
    distribution, features, parameters = made(MULTI_DISCRETE)
    many = parameters[:1].expand(40_000, -1)
    noise, generator = distribution.start(40_000), Generator().manual_seed(1)
    samples = distribution.sample(many, features, noise, distribution.draws(1, 40_000, generator)[0])
    probabilities = parameters[0].exp().view(3, 5)
    for column, size in enumerate(MULTI_DISCRETE.sizes):
        frequencies = torch.bincount(samples[:, column], minlength=5) / 40_000
        torch.testing.assert_close(frequencies, probabilities[column], rtol=0, atol=0.01)
        assert samples[:, column].max() < size


@pytest.mark.parametrize("space", [DISCRETE, MULTI_DISCRETE, MULTI_BINARY])
def test_illegal_actions_are_never_sampled_and_have_no_gradient(space: ActionSpace) -> None:
    distribution, features, _ = made(space)
    assert isinstance(distribution, Categoricals)
    starts = torch.tensor([0, *itertools.accumulate(space.sizes)][:-1])
    mask = torch.zeros(6, sum(space.sizes), dtype=torch.bool)
    mask[:, starts + 1] = True  # in each column, the second action is legal
    mask[:3, starts] = True  # and in some rows the first
    parameters = distribution(features, mask)
    generator = Generator().manual_seed(2)
    noise = distribution.start(6)
    draws = distribution.draws(300, 6, generator)
    samples = torch.stack([distribution.sample(parameters, features, noise, draw) for draw in draws])
    assert bool((samples[:, 3:] == 1).all()) and samples[:, :3].unique().tolist() == [0, 1]
    loss = distribution.log_prob(parameters, samples[0]) + distribution.entropy(parameters)
    (loss + distribution.kl(parameters.detach(), parameters)).sum().backward()
    gradient = distribution.head.weight.grad
    assert gradient is not None and bool(gradient.isfinite().all())
    gradient = gradient.view(len(space.sizes), -1, 8)
    assert not gradient[:, 2:].any() and bool(gradient[:, 0].any())
    torch.testing.assert_close(distribution.entropy(parameters)[3:], torch.zeros(3))


def test_a_row_without_a_legal_action_still_gets_one_that_exists() -> None:
    distribution, features, _ = made(MULTI_DISCRETE)
    parameters = distribution(features, torch.zeros(6, 10, dtype=torch.bool))
    generator = Generator().manual_seed(0)
    for draw in distribution.draws(100, 6, generator):
        samples = distribution.sample(parameters, features, distribution.start(6), draw)
        assert bool((samples < torch.tensor(MULTI_DISCRETE.sizes)).all())


@pytest.mark.parametrize("state_dependent", [False, True])
@pytest.mark.parametrize("squash", [False, True])
def test_gaussians_equal_torchs(squash: bool, state_dependent: bool) -> None:
    distribution, features, parameters = made(BOX, squash=squash, state_dependent_std=state_dependent)
    mean, log_std = parameters.chunk(2, -1)
    normal = distributions.Normal(mean, log_std.exp())
    draw = distribution.draws(1, 6, Generator().manual_seed(0))[0]
    actions = distribution.sample(parameters, features, distribution.start(6), draw)
    expected = distributions.Independent(normal, 1).log_prob(actions)
    if squash:
        tanh = distributions.TransformedDistribution(normal, distributions.TanhTransform(cache_size=1))
        expected = tanh.log_prob(tanh.transforms[0](actions)).sum(-1)  # type: ignore[operator]
    torch.testing.assert_close(distribution.log_prob(parameters, actions), expected)
    torch.testing.assert_close(distribution.entropy(parameters), normal.entropy().sum(-1))
    other = parameters.roll(1, 0) * 0.9
    theirs = distributions.Normal(other[:, :2], other[:, 2:].exp())
    torch.testing.assert_close(
        distribution.kl(other, parameters), distributions.kl_divergence(theirs, normal).sum(-1), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("squash", [False, True])
def test_actions_stay_within_bounds_and_columns_without_two_pass(squash: bool) -> None:
    inf, huge = math.inf, torch.finfo(torch.float32).max
    low, high = (-2.0, 0.1, -inf, 0.0, -inf, -huge), (2.0, 0.3, inf, inf, 1.0, huge)
    distribution, *_ = made(ActionSpace("box", (), low, high), squash=squash)
    assert isinstance(distribution, Gaussian)
    raw = torch.tensor([-50.0, -1.0, -0.5, 0.0, 0.5, 1.0, 50.0]).unsqueeze(1).expand(-1, 6)
    actions = distribution.to_environment(raw)
    assert bool(((actions >= torch.tensor(low)) & (actions <= torch.tensor(high))).all())
    assert torch.equal(actions[:, 2], raw[:, 2]) and torch.equal(actions[:, 5], raw[:, 5])
    assert torch.equal(actions[:, 3], raw[:, 3].clamp(min=0)) and torch.equal(actions[:, 4], raw[:, 4].clamp(max=1))
    torch.testing.assert_close(actions[[0, 3, 6], 0], torch.tensor([-2.0, 0.0, 2.0]))
    torch.testing.assert_close(actions[3, 1], torch.tensor(0.2))
    means = torch.full((3, 6), 1.0) * torch.tensor([[2.1], [-0.6], [-1.6]])
    for limit, expected in ((1.1, [2.0, 0.0, 0.5]), (0.0, [8.82, 0.72, 5.12])):  # two columns are bounded
        bounds = distribution.bounds_loss(torch.cat((means, torch.zeros(3, 6)), -1), limit)
        torch.testing.assert_close(bounds, torch.tensor(expected))


def test_squash_corrects_only_columns_that_are_squashed() -> None:
    distribution, _, parameters = made(ActionSpace("box", (), (-math.inf,), (math.inf,)), squash=True)
    actions = torch.randn(6, 1)
    expected = distributions.Normal(parameters[:, :1], parameters[:, 1:].exp()).log_prob(actions).squeeze(1)
    torch.testing.assert_close(distribution.log_prob(parameters, actions), expected)


def test_soft_clamp_is_the_identity_inside_and_keeps_a_gradient_outside() -> None:
    inside = torch.linspace(-5.0, 1.0, 20)
    torch.testing.assert_close(soft_clamp(inside), inside)
    outside = torch.tensor([LOG_STD_BOUNDS[0] - 1, LOG_STD_BOUNDS[1] + 1], requires_grad=True)
    clamped = soft_clamp(outside)
    torch.testing.assert_close(clamped, torch.tensor(LOG_STD_BOUNDS), rtol=0, atol=1e-4)
    clamped.sum().backward()
    assert outside.grad is not None and bool((outside.grad > 1e-6).all())


def test_state_dependent_exploration_has_the_variance_of_its_noise() -> None:
    distribution, features, parameters = made(BOX, distribution="gsde")
    assert isinstance(distribution, StateDependentExploration)
    generator, rows = Generator().manual_seed(0), 20_000
    noise = distribution.start(rows)
    distribution.refresh(noise, 0, generator)
    feature = features[:1].expand(rows, -1)
    draw = distribution.draws(1, rows, generator)[0]
    samples = distribution.sample(parameters[:1].expand(rows, -1), feature, noise, draw)
    torch.testing.assert_close(samples.mean(0), parameters[0, :2], rtol=0, atol=0.1)
    torch.testing.assert_close(samples.std(0), parameters[0, 2:].exp(), rtol=0.02, atol=0)
    kept = noise.clone()
    for step in range(1, 4):
        distribution.refresh(noise, step, generator)
        assert torch.equal(noise, kept), "one matrix serves four steps"
    distribution.refresh(noise, 4, generator)
    assert not torch.equal(noise, kept)


def test_variance_passes_no_gradient_into_features() -> None:
    distribution, features, _ = made(BOX, distribution="gsde")
    features.requires_grad_()
    distribution(features, NO_MASK)[:, 2:].sum().backward()
    assert features.grad is None or not features.grad.any()


def test_gsde_needs_a_box() -> None:
    with pytest.raises(UserError, match="gsde.*discrete"):
        make_distribution(8, DISCRETE, NetConfig(distribution="gsde"))
