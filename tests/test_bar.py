"""The live display: a bar and numbers that fit any terminal, and that leave it as they found it."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from commands import MAIN, TINY
from metrics_shown import NAN, NONE, Clock, metrics
from ranks import FAILURE_LIMIT, environment

from ppo_and_friends.bar import BarDisplay
from ppo_and_friends.display import LineDisplay, make_display
from ppo_and_friends.schedules import Progress

SHOW_CURSOR, HIDE_CURSOR, UP = "\x1b[?25h", "\x1b[?25l", "\x1b[1A"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


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
