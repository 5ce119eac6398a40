"""What is shown while a run goes on: lines, and the live display of a terminal."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from commands import MAIN, TINY
from ranks import FAILURE_LIMIT, environment

from ppo_and_friends.bar import BarDisplay
from ppo_and_friends.comm import SoloComm
from ppo_and_friends.display import LineDisplay, first_lines, make_display, number
from ppo_and_friends.schedules import Progress
from ppo_and_friends.types import ActionSpace, GroupSpec, Spec, TensorSpec

NAN, NONE = float("nan"), float("-inf")
SHOW_CURSOR, HIDE_CURSOR, UP = "\x1b[?25h", "\x1b[?25l", "\x1b[1A"
METRICS = {
    "episodes": 30,
    "mean_return": 12.345,
    "mean_length": 7.0,
    "kl": 0.0123456,
    "entropy": 0.5,
    "clip_fraction": 0.1,
    "lr": 3e-4,
    "explained_variance": NAN,
}


def metrics(iteration: int, **more: float) -> dict[str, float]:
    return {"iteration": iteration, "timesteps": 100 * iteration, **METRICS, **more}


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


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


# ---- lines


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


# ---- the live display


class Terminal(io.TextIOWrapper):
    def __init__(self, encoding: str = "utf-8") -> None:
        self.raw_bytes = io.BytesIO()
        super().__init__(self.raw_bytes, encoding, write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def written(self) -> str:
        return self.raw_bytes.getvalue().decode(self.encoding)


def size(monkeypatch: pytest.MonkeyPatch, columns: int, lines: int = 24) -> None:
    for name, value in (("TERM", "xterm"), ("COLUMNS", columns), ("LINES", lines)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("OMPI_COMM_WORLD_SIZE", raising=False)


def last_drawing(written: str) -> list[str]:
    """Lines of the last block without colours and trailing spaces."""
    block = re.split(r"\x1b\[\?25[hl]", written.rpartition(UP)[2])[0]
    return [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*[A-Za-z]", "", block).splitlines()]


def test_bar_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    size(monkeypatch, 80)
    terminal = Terminal()
    bar = make_display(Progress(0, 1000), 15.0, False, terminal)
    assert isinstance(bar, BarDisplay)
    bar.update(metrics(4, evaluation_return=10.0))
    bar.update(metrics(5))
    bar.close()
    first, *lines = last_drawing(terminal.written)
    assert re.fullmatch(r" 50% ━+╸━+ 500/1,000 steps 0:00:0\d ETA [\d:]+", first) and len(first) == 80
    lines[-1] = re.sub(r"[\d,]+", "?", lines[-1], count=1)  # steps/s
    assert [re.sub(r"\s+", " ", line) for line in lines] == [
        "return 12.3 KL 0.0123 evaluation 10.0",
        "length 7.00 clip fraction 0.100 at step 400",
        "episodes 30 explained variance - best 15.0",
        "steps/s ? entropy 0.500 learning rate 0.000300",
    ]


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (60, " 10% ━ 10,000/100,000 steps 1:00:10 ETA 0:01:30"),
        (45, " 10% 10,000/100,000 steps 1:00:10 ETA 0:01:30"),
        (40, " 10% 10,000/100,000 steps ETA 0:01:30"),
        (16, " 10% ETA 0:01:30"),
        (15, " 10% ━"),
        (4, " 10%"),
        (3, ""),
    ],
)
def test_numbers_are_left_out_rather_than_cut(
    columns: int, shown: str, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    size(monkeypatch, columns)
    terminal = Terminal()
    bar = BarDisplay(Progress(0, 100_000), NONE, False, terminal)
    for clock.now, timesteps in ((3600, 0), (3610, 10_000)):
        bar.update({"iteration": 1, "timesteps": timesteps})
    bar.close()
    first, *_ = last_drawing(terminal.written)
    assert re.sub("[━╸╺]+", "━", first) == shown and len(first) in (columns, len(shown))


def test_verbose_bar_adds_phases_and_everything_else(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    size(monkeypatch, 80)
    terminal = Terminal()
    bar = make_display(Progress(0, 1000), NONE, True, terminal)
    bar.update(metrics(4, seconds_acting=99.0))
    clock.now = 2
    bar.update(metrics(5, seconds_acting=0.5, grad_norm=2.0))
    bar.close()
    assert last_drawing(terminal.written)[-2:] == [
        "acting  25%     500.0 ms   iteration        5",
        "other   75%   1,500.0 ms   grad_norm     2.00",
    ]


def test_bar_is_drawn_ten_times_a_second_at_most(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    size(monkeypatch, 80)
    terminal = Terminal()
    bar = BarDisplay(Progress(0, 10_000), NONE, False, terminal)
    for iteration in range(1, 101):
        clock.now = iteration / 100 + 0.001
        bar.update(metrics(iteration))
    assert terminal.written.count("explained variance") == 10


def test_the_cursor_is_never_left_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    size(monkeypatch, 80)
    terminal = Terminal()
    bar = BarDisplay(Progress(0, 1000), NONE, False, terminal)
    bar.update(metrics(5))
    assert terminal.written.rfind(SHOW_CURSOR) > terminal.written.rfind(HIDE_CURSOR)
    bar.close()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8"])
@pytest.mark.parametrize("columns", [1, 10, 40, 79, 300])
def test_bar_fits_any_terminal(encoding: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    size(monkeypatch, columns, 3)
    terminal = Terminal(encoding)
    bar = BarDisplay(Progress(0, 1000), NONE, True, terminal)
    bar.update({"iteration": 5, "timesteps": 500, "größe 大": NAN, "seconds_größe": 1.0})
    bar.close()
    assert max(map(len, last_drawing(terminal.written))) <= columns


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("OMPI_COMM_WORLD_SIZE", "2")])
def test_terminals_that_get_lines(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    size(monkeypatch, 80)
    monkeypatch.setenv(name, value)
    assert isinstance(make_display(Progress(0, 1000), NONE, False, Terminal()), LineDisplay)


def test_an_interrupted_run_leaves_a_sane_terminal(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    words = (*MAIN, "-e", "CartPole", *TINY, "--state_path", tmp_path)
    quiet = environment(TERM="xterm", COLUMNS="80", LINES="24")
    child = subprocess.Popen([*map(str, words)], env=quiet, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written, interrupted = b"", False
    try:
        while chunk := _read(ours):
            written += chunk
            if not interrupted and b"entropy" in written:
                child.send_signal(signal.SIGINT)
                interrupted = True
        assert child.wait(FAILURE_LIMIT) == 130
    finally:
        child.kill()
        os.close(ours)
    assert written.rfind(SHOW_CURSOR.encode()) > written.rfind(HIDE_CURSOR.encode())
    after = written.decode().rpartition(SHOW_CURSOR)[2]
    assert re.match(r"\s*Stopped at [1-9]\d* timesteps and saved\. To go on: ", after)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux's way of saying that nobody has the other end open any more
        return b""


def test_first_lines() -> None:
    group = GroupSpec(8, (TensorSpec((4,)),), (TensorSpec((4,)),), ActionSpace("discrete", (2,)))
    spec, comm = Spec((group,), "CartPole-v1", "gymnasium in process"), SoloComm()
    line = "CartPole-v1 on gymnasium in process: device cpu, 4 ranks of 8 rows and 1 thread each"
    comm.size, comm.local_size, comm.local_cores = 4, 2, 2  # two nodes
    assert first_lines(spec, "cpu", comm, 1) == line
    comm.local_size = 4
    warning = "Warning: 4 ranks share 2 cores of this node: 2 would usually be faster."
    assert first_lines(spec, "cpu", comm, 1).splitlines() == [line, warning]
