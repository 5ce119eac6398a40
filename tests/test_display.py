"""What is shown of a run where nothing can be drawn: its first line, numbers, and lines now and then."""

from __future__ import annotations

import io
import re

import pytest
from metrics_shown import METRICS, NAN, NONE, Clock, metrics

from ppo_and_friends.comm import SoloComm
from ppo_and_friends.display import LineDisplay, first_lines, make_display, number
from ppo_and_friends.schedules import Progress
from ppo_and_friends.types import ActionSpace, GroupSpec, Spec, TensorSpec


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (NAN, "-"),
        (NONE, "-"),
        (0.0, "0.00"),
        (0.00123456, "0.00123"),
        (-99.94, "-99.9"),
        (99.96, "100.0"),
        (-1234.56, "-1,234.6"),
        (1234567.0, "1.23e+06"),
        (1234567, "1,234,567"),
    ],
)
def test_numbers_keep_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_lines_now_and_then_and_at_the_end(clock: Clock) -> None:
    stream = io.StringIO()
    lines = make_display(Progress(0, 10_000), NONE, False, stream)
    assert isinstance(lines, LineDisplay)
    for iteration in range(1, 12):
        clock.now += 1
        lines.update(metrics(iteration))
    lines.close()
    shown = stream.getvalue().splitlines()
    assert [line.split()[0] for line in shown] == ["1%", "6%", "11%"]
    assert shown[1] == (
        "  6% 600/10,000 steps, 100 steps/s, ETA 0:01:34, return 12.3, length 7.00, KL 0.0123, EV -, "
        "entropy 0.500, clip 0.100, lr 0.000300"
    )
    lines.update(metrics(12))
    lines.close()
    assert "1,200/10,000" in stream.getvalue().splitlines()[-1]


def test_resumed_pace_counts_only_new_steps_of_the_window(clock: Clock) -> None:
    stream = io.StringIO()
    lines = LineDisplay(Progress(5000, 100_000), NONE, False, stream)
    for iteration in range(51, 151):
        clock.now += 2 if iteration > 90 else 100
        lines.update(metrics(iteration))
    assert "15% 15,000/100,000 steps, 50 steps/s, ETA 0:28:20" in stream.getvalue()


def test_pace_leaves_the_first_iteration_out(clock: Clock) -> None:
    stream = io.StringIO()
    lines = LineDisplay(Progress(0, 1000), NONE, False, stream)
    for clock.now in (300, 310, 320):  # the first one compiles
        lines.update(metrics(int(clock.now / 10) - 29))
    paces = [re.search(r"steps, (.*) steps/s, ETA (.*?),", line) for line in stream.getvalue().splitlines()]
    assert [pace and pace.groups() for pace in paces] == [("-", "-"), ("10", "0:01:20"), ("10", "0:01:10")]


def test_an_evaluation_has_a_line_with_the_best_of_earlier_calls(clock: Clock) -> None:
    stream = io.StringIO()
    lines = LineDisplay(Progress(0, 1000), 15.0, False, stream)
    for iteration, score in enumerate((10.0, 20.0, NAN), 1):
        lines.update(metrics(iteration, evaluation_return=score))
    told = [line.strip() for line in stream.getvalue().splitlines() if "evaluation" in line]
    assert told == [
        "evaluation at 100: 10.0, best 15.0",
        "evaluation at 200: 20.0, best 20.0",
        "evaluation at 300: -, best 20.0",
    ]


def test_a_line_is_short_and_in_the_streams_own_characters(clock: Clock) -> None:
    raw = io.BytesIO()
    lines = LineDisplay(Progress(0, 100_000_000), NONE, True, io.TextIOWrapper(raw, "ascii"))
    clock.now = 400
    lines.update(
        METRICS | {"timesteps": 50_000_000, "mean_return": -1234.5, "explained_variance": -0.123, "größe": 1.0}
    )
    shown = raw.getvalue().decode().splitlines()
    assert len(shown[0]) <= 160
    assert "gr??e 1.00" in shown[1]


def test_verbose_lines_say_where_the_time_goes(clock: Clock) -> None:
    """Slow ones, then a window of 50 iterations of 2 s: 0.5 s each of one phase, 25 s once of another."""
    stream = io.StringIO()
    lines = LineDisplay(Progress(0, 10_000), NONE, True, stream)
    for iteration in range(1, 56):
        clock.now += 2 if iteration > 5 else 100
        rare = {"seconds_evaluating": 25.0} if iteration in (5, 7) else {}
        lines.update(metrics(iteration, seconds_acting=0.5, grad_norm=2.0, **rare))
    lines.close()
    _, phases, rest = stream.getvalue().splitlines()[-3:]
    assert phases.strip() == "acting 25% 500.0 ms, evaluating 25% 500.0 ms, other 50% 1,000.0 ms"
    assert rest.strip() == "iteration 55, episodes 30, grad_norm 2.00"


def test_first_lines() -> None:
    group = GroupSpec(8, (TensorSpec((4,)),), (TensorSpec((4,)),), ActionSpace("discrete", (2,)))
    spec, comm = Spec((group,), "CartPole-v1", "gymnasium in process"), SoloComm()
    line = "CartPole-v1 on gymnasium in process: device cpu, 4 ranks of 8 rows and 1 thread each"
    comm.size, comm.local_size, comm.local_cores = 4, 2, 2  # two nodes
    assert first_lines(spec, "cpu", comm, 1) == line
    comm.local_size = 4
    warning = "Warning: 4 ranks share 2 cores of this node: 2 would usually be faster."
    assert first_lines(spec, "cpu", comm, 1).splitlines() == [line, warning]
