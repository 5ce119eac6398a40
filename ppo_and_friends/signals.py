"""Stopping on request: SIGTERM, SIGINT and SIGUSR1 ask the training loop to save and end.

Python runs a signal's handler in the main thread, between two of its instructions, so a rank that waits inside an MPI
call or a compiler never runs it. The interpreter's wakeup descriptor is written at once, though: a thread reads it, and
ends the run where the loop does not come round in time, or where nothing was learned that could be saved.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

Abort = Callable[[str, int], object]

PATIENCE = 20.0  # seconds; Slurm and container managers kill 30 s after their SIGTERM
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
)  # Windows has no SIGUSR1


def exit_code(signal_number: int) -> int:
    """What a run stopped by this signal returns after it has saved: 143, 130 or 138, as shells write it; 0 for none.

    A script that starts the run again can so tell "stopped" from "finished"."""
    return 128 + signal_number if signal_number else 0


class NoSignals:
    """For a thread that receives no signals: nobody asks it to stop."""

    wanted = 0
    saved = False

    def __enter__(self) -> NoSignals:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def acknowledge(self) -> None:
        """Nothing to answer."""


class StopSignal:
    """Context manager that turns the stop signals into a number for the loop to read; the old handlers return after.

    `wanted` is the first signal's number, 0 before. The loop calls `acknowledge()` once every rank has agreed to stop;
    until then a SIGTERM or SIGINT that has waited for `patience` seconds calls `abort(message, exit code)`, because
    whoever sent it will soon kill the process anyway. SIGUSR1 is a notice in advance and waits as long as an iteration
    takes. A second SIGINT ends this process at once with exit code 130, whatever it is doing.

    While `saved` is True, all there is is on disk: any of the three calls `abort` at once, and the main thread does
    nothing more, so that it cannot report what the same signal did to a compiler that it had started.

    Worker processes forked meanwhile ignore Ctrl-C, since the parent decides, and die of the other two.
    """

    wanted: int

    def __init__(self, abort: Abort, patience: float = PATIENCE, saved: bool = False) -> None:
        self.wanted, self.saved = 0, saved
        self._abort, self._patience = abort, patience
        self._acknowledged = threading.Event()

    def __enter__(self) -> StopSignal:
        global _active
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._old_wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._old_handlers: dict[int, Any] = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        self._watcher = threading.Thread(target=self._watch, name="stop signals", daemon=True)
        self._watcher.start()
        _active = self
        return self

    def __exit__(self, *_: object) -> None:
        global _active
        _active = None
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._writer.send(b"\0")  # signal 0 does not exist: the watcher's end
        self._watcher.join()
        self._reader.close()
        self._writer.close()

    def acknowledge(self) -> None:
        """The loop has seen the signal and is saving: the run may take the time it needs."""
        self._acknowledged.set()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.wanted = self.wanted or number
        if self.saved:
            threading.Event().wait(self._patience)  # for the end, which the watcher brings

    def _watch(self) -> None:
        deadline, interrupts, urgent = None, 0, 0
        while True:
            waiting = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._reader], [], [], waiting)[0]:
                deadline = None
                if not self._acknowledged.is_set():
                    late = f"was not answered within {self._patience:g} s; the last checkpoint stands"
                    self._abort(f"{signal.Signals(urgent).name} {late}", exit_code(urgent))
                continue
            for number in self._reader.recv(4096):
                if number == 0:
                    return
                interrupts += number == signal.SIGINT
                if interrupts > 1:
                    leave("interrupted twice: ending at once, without saving")
                if self.saved:
                    early = "came before the first iteration had ended: nothing was learned, and what is on disk stands"
                    self._abort(f"{signal.Signals(number).name} {early}", exit_code(number))
                if deadline is None and number in (signal.SIGTERM, signal.SIGINT):
                    urgent, deadline = number, time.monotonic() + self._patience


def stop_signals(abort: Abort, saved: bool = False) -> StopSignal | NoSignals:
    """A `StopSignal` in the main thread, the only one that may install handlers; elsewhere `NoSignals`."""
    return StopSignal(abort, saved=saved) if threading.current_thread() is threading.main_thread() else NoSignals()


def leave(message: str) -> None:
    """End this process now, from any thread, as an interrupted one."""
    print(message, file=sys.stderr, flush=True)
    os._exit(exit_code(signal.SIGINT))


_active: StopSignal | None = None


def _in_forked_child() -> None:
    """A fork inherits the handlers and the descriptor, but not the thread: its signals would count as its parent's."""
    if _active is None:
        return
    signal.set_wakeup_fd(-1)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)
