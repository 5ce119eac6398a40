"""Bodies and distributions of the user's own: what is wrong with one is said before anything is trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import BOX, DISCRETE, IMAGE, VECTOR

from ppo_and_friends.config import BodyConfig, NetConfig, PPOConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.networks.distributions import Distribution, Gaussian
from ppo_and_friends.networks.net import Net
from ppo_and_friends.types import ActionSpace, GroupSpec, leaves


def net(body: Any = "", distribution: Any = "", parts: Any = (VECTOR,), action: ActionSpace = BOX) -> Net:
    bodies = BodyConfig((8,), custom=body), BodyConfig((8,), ((4, 4, 4),))
    config = NetConfig(*bodies, custom_distribution=distribution)
    return Net(GroupSpec(4, parts, parts, action), config, PPOConfig())


class Good(nn.Module):
    """Right in all, and keeps statistics of what it sees."""

    features: Any = 5

    def __init__(self, specs: Any, config: BodyConfig) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(5, momentum=1.0)

    def forward(self, observation: Any) -> Tensor:
        first = leaves(observation)[0]
        return self.norm(first.flatten(0, -2)).view_as(first)


class NoModule:
    features = 5

    def __init__(self, specs: Any, config: BodyConfig) -> None: ...


class Nameless(Good):
    features = None


class Text(Good):
    features = "5"


class Wide(Good):
    features = 6


class Flat(Good):
    def forward(self, observation: Tensor) -> Tensor:
        return observation.flatten(0, -2)


class OneArgument(Good):
    def __init__(self, specs: Any) -> None:
        super().__init__(specs, BodyConfig())


class Several(Good):
    def forward(self, observation: Tensor) -> Tensor:
        return torch.cat(observation, -1)  # type: ignore[call-overload]


class Pairs(Good):
    def forward(self, observation: Tensor) -> Any:
        return observation, observation


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (NoModule, "NoModule gives a NoModule, but a body must be a torch.nn.Module"),
        (Nameless, "Nameless has features None, but it must be the width of its output"),
        (Text, "Text has features '5'"),
        (Wide, r"Wide for an observation of shape \[5, 5\] gives .* \[5, 5\], but it must be \[5, 6\]"),
        (Flat, r"Flat for an observation of shape \[2, 5, 5\] gives .* \[10, 5\], but it must be \[2, 5, 5\]"),
        (OneArgument, r"OneArgument\(specs, config\) raises TypeError: .*3 were given"),
        (Several, r"Several for an .* raises TypeError \(.*test_own.py, line \d+\): "),
        (Pairs, "Pairs for an .* gives a tuple, but must give a tensor"),
        ("no_such_module:Body", "no_such_module"),
    ],
)
def test_bodies_that_cannot_be_used(body: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        net(body)


def test_a_body_is_tried_without_a_trace_and_gets_all_parts() -> None:
    made = net(Good)
    assert isinstance(made.actor_body, Good) and bool((made.actor_body.norm.running_var == 1).all())
    assert isinstance(net(Good, parts=(VECTOR, IMAGE)).actor_body, Good)


class Line(Gaussian):
    """Right in all."""


class Unfinished(Distribution):
    def __init__(self, features: int, space: ActionSpace, config: NetConfig) -> None:
        super().__init__()

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        return features[..., :1] + 0

    def sample(self, parameters: Tensor, features: Tensor, noise: Tensor, draw: Tensor) -> Tensor:
        return torch.zeros(len(parameters), 2)

    def mode(self, parameters: Tensor) -> Tensor:
        return torch.zeros(len(parameters), 2)


class Kept(Line):
    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        return super().log_prob(parameters, actions).unsqueeze(-1)


class One(Line):
    def to_environment(self, actions: Tensor) -> Tensor:
        return actions[:1]


class Halves(Line):
    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        return super().forward(features, mask).flatten(0, -2)


class Fixed(Line):
    def draws(self, steps: int, rows: int, generator: Any) -> Tensor:
        return torch.zeros(rows, self.columns)


class Few(Line):
    def __init__(self, features: int, space: ActionSpace) -> None:
        super().__init__(features, space, NetConfig())


@pytest.mark.parametrize(
    ("distribution", "said"),
    [
        (
            nn.Identity,
            "Identity gives a Identity, but must derive from ppo_and_friends.networks.distributions.Distribution",
        ),
        (Unfinished, "Unfinished.log_prob is not implemented"),
        (Kept, r"Kept.log_prob gives a tensor of shape \[2, 5, 1\], but it must be \[2, 5\]"),
        (One, r"One.to_environment gives a tensor of shape \[1, 2\], but it must be \[5, 2\]"),
        (Halves, r"Halves.forward gives a tensor of shape \[10, 4\], but it must be \[2, 5, 4\]"),
        (Fixed, r"Fixed.draws gives a tensor of shape \[5, 2\], but it must be \[2, 5, any\]"),
        (Few, r"Few\(features, space, config\) raises TypeError"),
    ],
)
def test_distributions_that_cannot_be_used(distribution: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        net(distribution=distribution)


def test_a_distribution_for_other_actions() -> None:
    class Half(Line):
        def __init__(self, features: int, space: ActionSpace, config: NetConfig) -> None:
            super().__init__(features, ActionSpace("box", (), (0.0,), (1.0,)), config)

    with pytest.raises(UserError, match="gives actions of torch.float32, but discrete actions are torch.int64"):
        net(distribution=Half, action=DISCRETE)


def test_a_distribution_that_is_right() -> None:
    assert isinstance(net(distribution=Line).distribution, Line)
