"""Schedules: what each text gives, and which texts are refused."""

from __future__ import annotations

import math

import pytest

from ppo_and_friends.errors import UserError
from ppo_and_friends.schedules import Progress, Schedule, constant, linear


@pytest.mark.parametrize(
    ("text", "timesteps", "score", "value"),
    [
        ("3e-4", 77, 0.0, 3e-4),
        ("linear:1,0", 0, 0.0, 1.0),
        ("linear:1,0", 250, 0.0, 0.75),
        ("linear:1,0", 2000, 0.0, 0.0),  # past the end it stays
        ("linear:1,0,500", 250, 0.0, 0.5),
        ("step:3,100:2,1e3:1", 99, 0.0, 3.0),
        ("step:3,100:2,1e3:1", 100, 0.0, 2.0),
        ("step:3,100:2,1e3:1", 1000, 0.0, 1.0),
        ("score:0.02,200:0.001", 0, -math.inf, 0.02),
        ("score:0.02,200:0.001", 0, 200.0, 0.001),
        ("score:0.02,-150:0.001", 0, -149.0, 0.001),
    ],
)
def test_value(text: str, timesteps: int, score: float, value: float) -> None:
    assert Schedule(text)(Progress(timesteps, 1000, score)) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    ["", "x", "linear:1", "linear:1,2,3,4", "linear:1,inf", "step:1,2", "step:1,a:2", "cosine:1,0", "1,2", "score:1:2"],
)
def test_mistakes_say_what_may_be_written(text: str) -> None:
    with pytest.raises(UserError, match="is not a schedule: write a number, linear:"):
        Schedule(text)


def test_only_a_line_over_the_whole_run_depends_on_its_total() -> None:
    texts = ["1", "linear:1,0", "linear:1,0,500", "step:1,5:0", "score:1,5:0"]
    assert [Schedule(text).depends_on_total for text in texts] == [False, True, False, False, False]


def test_builders_write_the_same_text() -> None:
    assert constant(3e-4) == Schedule("0.0003")
    assert linear(1e-3, 0.0) == Schedule("linear:0.001,0.0")
    assert linear(1e-3, 0.0, 500).text == "linear:0.001,0.0,500"
    assert Schedule("linear:3,1,200").values() == [3.0, 1.0]  # 200 is a length, not a value
