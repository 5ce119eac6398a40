"""Atari games in batch, by their screens and by the console's memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ppo_and_friends.errors import UserError
from ppo_and_friends.types import CONTINUES, Obs, Step
from ppo_and_friends.vector.atari import AtariEnv, AtariVec
from ppo_and_friends.vector.gym_vec import GymEnv

pytest.importorskip("ale_py")

ROWS = 3


def seen(obs: Obs) -> Tensor:
    assert isinstance(obs.actor, Tensor)
    return obs.actor


def played(vec: AtariVec, steps: int, seed: int = 0) -> list[Step]:
    """Random actions; what each step gave, copied."""
    generator = torch.Generator().manual_seed(seed)
    count = vec.spec.groups[0].action.sizes[0]
    vec.reset(7)
    return [vec.step((torch.randint(count, (ROWS, 1), generator=generator),))[0] for _ in range(steps)]


def test_lost_lives_end_trajectories_but_no_games() -> None:
    whole, lives = AtariEnv("breakout", life_loss_ends=False).make(ROWS), AtariEnv("breakout").make(ROWS)
    games, parts = played(whole, 400), played(lives, 400)
    assert all(torch.equal(one.reward, other.reward) for one, other in zip(games, parts, strict=True))
    ends = torch.stack([step.terminated for step in games])
    cuts, goes_on = (
        torch.stack([part(step) for step in parts]) for part in (lambda s: s.terminated, lambda s: s.log[CONTINUES])
    )
    assert ends.sum() >= ROWS and goes_on.sum() >= 4 * ends.sum()
    assert torch.equal(ends, cuts & (goes_on == 0)) and not (goes_on.bool() & ~cuts).any()
    over = int(ends[:, 0].nonzero()[0])
    assert not torch.equal(seen(parts[over].final)[0], seen(parts[over].obs)[0])  # the last screens, and a new start
    lost = int(goes_on[:, 0].nonzero()[0])
    assert torch.equal(seen(parts[lost].final)[0], seen(parts[lost].obs)[0])  # the same game goes on
    both = [step for step in parts if step.final is not step.obs]
    assert all(torch.equal(seen(s.final)[s.log[CONTINUES] == 1], seen(s.obs)[s.log[CONTINUES] == 1]) for s in both)


def test_rows_are_seeded_apart_and_again_alike() -> None:
    vec = AtariEnv("breakout").make(8)
    first, other, again = (seen(vec.reset(number)[0]).clone() for number in (1, 2, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len({part.numpy().tobytes() for part in first}) > 1
    assert first.shape == (8, 4, 84, 84) and first.dtype == torch.uint8 and vec.state() is None


def test_a_picture_is_the_game_in_colour() -> None:
    vec = AtariEnv("breakout").make(2, render=True)
    vec.reset(3)
    for action in (1, 3, 3, 3, 0):
        step = vec.step((torch.full((2, 1), action),))[0]
    picture = vec.frame(1)
    assert picture.shape == (210, 160, 3) and len(np.unique(picture.reshape(-1, 3), axis=0)) > 5
    grey = picture.mean(2)[::2, ::2]
    watched = seen(step.obs)[1, -1].float()
    shrunk = torch.nn.functional.interpolate(torch.from_numpy(grey)[None, None].float(), (84, 84), mode="area")[0, 0]
    assert torch.corrcoef(torch.stack((shrunk.flatten(), watched.flatten())))[0, 1] > 0.9


def test_a_game_is_cut_at_its_frames() -> None:
    vec = AtariEnv("pong", max_frames=80, noops=0).make(ROWS)
    steps = played(vec, 40)
    cut = torch.stack([step.truncated for step in steps])
    assert cut.any() and not torch.stack([step.terminated for step in steps]).any()
    assert not torch.stack([step.log[CONTINUES] for step in steps]).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"game": "brekout"}, "did you mean breakout"),
        ({"game": "pong", "stack": 0}, "env.stack is 0"),
        ({"game": "pong", "sticky": 1.5}, "env.sticky is 1.5"),
    ],
)
def test_bad_settings_are_one_sentence(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AtariEnv(**settings).make(1)  # type: ignore[arg-type]


def test_memory_of_the_same_game() -> None:
    from environments.atari_ram import RamGame

    vec = GymEnv("memory", {"game": "breakout", "noops": 0}, factory=RamGame).make(1)
    (obs,) = vec.reset(0)
    assert seen(obs).shape == (1, 512) and 0 <= seen(obs).min() < seen(obs).max() == 1
    ends, lives, earned = 0, 0, 0.0
    for index in range(600):
        step = vec.step((torch.tensor([[(1, 2, 3, 3)[index % 4]]]),))[0]
        newest, before = seen(step.final)[0, -128:], seen(step.final)[0, -256:-128]
        assert not torch.equal(newest, before)
        earned += float(step.reward)
        goes_on = bool(step.log.get(CONTINUES, torch.zeros(1)))
        lives, ends = lives + goes_on, ends + (bool(step.terminated) and not goes_on)
    assert ends >= 1 and lives >= 4 * ends and earned > 0
