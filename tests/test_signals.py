"""Requests to stop: the flag, the second Ctrl-C, a rank that waits in a collective, forked workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from ranks import FAILURE_LIMIT, command, environment, needs_mpirun

from ppo_and_friends.signals import STOP_SIGNALS, NoSignals, StopSignal, exit_code, stop_signals


def never(message: str, code: int) -> None:
    raise AssertionError(message)


def end_of(child: subprocess.Popen[str]) -> str:
    """What the process wrote to stderr by its end; it is killed if it does not come to one."""
    try:
        return child.communicate(timeout=FAILURE_LIMIT)[1]
    finally:
        child.kill()


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_sets_the_flag_and_the_old_handler_returns(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopSignal(never) as stop:
        assert stop.wanted == 0
        os.kill(os.getpid(), number)
        assert stop.wanted == number
        stop.acknowledge()
    assert signal.getsignal(number) is before
    assert signal.set_wakeup_fd(-1) == -1


def test_the_first_signal_is_the_one_reported() -> None:
    with StopSignal(never) as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wanted == signal.SIGUSR1


def test_exit_codes() -> None:
    assert [exit_code(n) for n in (0, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == [0, 143, 130, 138]


def test_an_unanswered_signal_aborts() -> None:
    said, aborted = [], threading.Event()

    def abort(message: str, code: int) -> None:
        said.append((message.split()[0], code))
        aborted.set()

    with StopSignal(abort, patience=0.0) as stop:
        os.kill(os.getpid(), signal.SIGUSR1)  # a notice in advance: no deadline
        os.kill(os.getpid(), signal.SIGTERM)
        assert aborted.wait(FAILURE_LIMIT)
    assert stop.wanted == signal.SIGUSR1
    assert said == [("SIGTERM", 143)]


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_where_nothing_is_unsaved_a_signal_ends_the_process_at_once(number: signal.Signals) -> None:
    """Before its next instruction in Python, which could be one that reports what the signal did to a compiler."""
    script = f"""if True:
        import os
        from ppo_and_friends.comm import SoloComm
        from ppo_and_friends.signals import StopSignal
        with StopSignal(SoloComm().abort, saved=True):
            os.kill(os.getpid(), {int(number)})
            print("went on")
    """
    child = subprocess.Popen(
        [sys.executable, "-c", script], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    out, err = child.communicate(timeout=FAILURE_LIMIT)
    assert (child.returncode, out) == (128 + number, "")
    assert (
        err
        == f"{number.name} came before the first iteration had ended: nothing was learned, and what is on disk stands\n"
    )


def test_an_answered_signal_does_not_abort() -> None:
    class Asked(threading.Event):
        """Tells when the deadline has passed and the watcher looks whether it was answered."""

        def __init__(self) -> None:
            super().__init__()
            self.looked = threading.Event()

        def is_set(self) -> bool:
            self.looked.set()
            return super().is_set()

    said: list[str] = []
    with StopSignal(lambda message, code: said.append(message), patience=0.0) as stop:
        stop._acknowledged = asked = Asked()
        stop.acknowledge()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked.looked.wait(FAILURE_LIMIT)
    assert said == []


def test_a_second_interrupt_ends_at_once() -> None:
    script = """if True:
        import threading
        from ppo_and_friends.signals import StopSignal
        with StopSignal(print) as stop:
            print("ready", flush=True)
            while not stop.wanted:
                threading.Event().wait(0.01)
            stop.acknowledge()
            print("saving", flush=True)
            threading.Event().wait()
    """
    child = subprocess.Popen(
        [sys.executable, "-c", script], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == "saving\n"
    child.send_signal(signal.SIGINT)
    errors = end_of(child)
    assert child.returncode == 130
    assert errors.count("\n") == 1 and "interrupted twice" in errors


@needs_mpirun
def test_a_rank_that_waits_in_a_collective_still_ends() -> None:
    """Rank 1 never comes to the reduction, so rank 0's Python handlers cannot run; its watcher ends both."""
    body = """
        import threading
        from ppo_and_friends.signals import StopSignal
        def main(comm):
            patient = 0.0 if comm.rank == 0 else 1e6
            with StopSignal(comm.abort, patient):
                comm.gather_bytes(b"")
                if comm.rank == 0:
                    print("ready", flush=True)
                    comm.gather_bytes(b"")
                threading.Event().wait()
    """
    child = subprocess.Popen(
        command(2, body), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGTERM)
    errors = end_of(child)
    assert child.returncode == 143
    assert "rank 0: SIGTERM was not answered within 0 s" in errors


def test_forked_workers_leave_signals_to_their_parent() -> None:
    with StopSignal(never) as stop:
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGINT)
            ignored = stop.wanted == 0 and signal.set_wakeup_fd(-1) == -1
            os.kill(os.getpid(), signal.SIGTERM if ignored else signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        assert stop.wanted == 0


def test_elsewhere_than_in_the_main_thread_nobody_asks() -> None:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(stop_signals(never)))
    thread.start()
    thread.join()
    assert isinstance(found[0], NoSignals)
    assert isinstance(stop_signals(never), StopSignal)
