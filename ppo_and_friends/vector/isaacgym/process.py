"""The server as a process: started, greeted, asked, and ended, with one clear error for every way it can fail."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.vector.isaacgym.failures import remedy
from ppo_and_friends.vector.isaacgym.sharing import TOKEN, VERSION, Channel

SCRIPT = Path(__file__).with_name("server.py")
START_SECONDS = 900.0  # Isaac Gym compiles an extension at its first start, and builds thousands of environments
STEP_SECONDS = 300.0
# what is meant for this Python and this torch: their older relations would fail at it
OURS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
GREETING_SECONDS = 5.0
CLOSING_SECONDS = 2.0
LINES_KEPT = 200  # of what the server and its compiler wrote
SHARED_MEMORY = "/dev/shm"
LOCK = "; where a first start was killed, remove ~/.cache/torch_extensions/*/gymtorch/lock, for which it waits"


class ServerProcess:
    """One server and the connection to it. Nothing of it is left in the file system once it is connected.

    Args:
        python: the interpreter with Isaac Gym, already resolved.
        name: of the task, for messages.
    Raises:
        UserError: the interpreter does not run, lacks something, or speaks another version.
        EnvironmentFailure: it ended before it said hello, for a reason that is not known here.
    """

    def __init__(self, python: str, name: str) -> None:
        self.python, self.name = python, name
        self._said: deque[str] = deque(maxlen=LINES_KEPT)
        self._channel: Channel | None = None
        token = secrets.token_hex(16)
        with tempfile.TemporaryDirectory(prefix="isaacgym-", dir=folder()) as private:
            path = os.path.join(private, "socket")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(path)
                listener.listen()
                self._process = self._spawn(path, token)
                self._reader = threading.Thread(target=self._listen, daemon=True)
                self._reader.start()
                try:
                    self._channel, hello = self._accept(listener, token)
                except BaseException:
                    self.close()
                    raise
        self.python_version = hello.get("python")
        if hello.get("version") != VERSION:
            self.close()
            raise UserError(
                f"The server of Isaac Gym speaks version {hello.get('version')} and this client version {VERSION}: "
                f"start the server.py of this installation, {SCRIPT}."
            )

    def ask(self, message: dict[str, Any], starting: bool = False) -> dict[str, Any]:
        """Send, and wait for the answer.

        Raises:
            UserError: while starting, a failure with a known mend.
            EnvironmentFailure: the server failed, died, or took too long.
        """
        assert self._channel is not None, "the server was closed"
        self._channel.connection.settimeout(START_SECONDS if starting else STEP_SECONDS)
        doing = "starting" if starting else f"its {message.get('do', 'step')}"
        try:
            self._channel.send(message)
            answer = self._channel.receive()
        except TimeoutError:
            seconds = START_SECONDS if starting else STEP_SECONDS
            why = f"gave no answer within {seconds:.0f} s" + (LOCK if starting else "")
            raise self._failed(why, doing) from None
        except (EOFError, ConnectionError, ValueError):
            raise self._failed("", doing) from None
        if "error" in answer:
            raise self._failed(answer["error"], doing, answer["trace"])
        return answer

    def receive_bytes(self, count: int) -> bytes:
        """What follows an answer."""
        assert self._channel is not None, "the server was closed"
        try:
            return self._channel.receive_bytes(count)
        except (EOFError, OSError):
            raise self._failed("", "a picture") from None

    def close(self) -> None:
        """End the server. It ends by itself when this process does."""
        if self._channel is not None:
            self._channel.close()  # which it watches
            self._channel = None
        try:
            self._process.wait(CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _spawn(self, path: str, token: str) -> subprocess.Popen[str]:
        environment = {key: value for key, value in os.environ.items() if key not in OURS}
        try:
            return subprocess.Popen(
                [self.python, "-u", str(SCRIPT), path],
                env=environment | {TOKEN: token},  # not among the arguments, which every user of the machine can read
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise UserError(
                f"The interpreter {self.python} cannot be started ({error.strerror}): name the Python that Isaac Gym "
                "is installed in."
            ) from error

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._said.append(line.rstrip())

    def _accept(self, listener: socket.socket, token: str) -> tuple[Channel, dict[str, Any]]:
        """Wait for the one that knows the token; whoever else connects is sent away."""
        listener.settimeout(0.1)
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                if self._process.poll() is not None:
                    raise self._failed("", "starting") from None
                continue
            connection.settimeout(GREETING_SECONDS)
            channel = Channel(connection)
            with contextlib.suppress(EOFError, OSError, ValueError):
                hello = channel.receive()
                if hmac.compare_digest(str(hello.get("token")), token):
                    return channel, hello
            channel.close()
        raise self._failed(f"did not connect within {START_SECONDS:.0f} s", "starting")

    def _failed(self, why: str, doing: str, trace: str = "") -> UserError | EnvironmentFailure:
        """Close, and make one error of all that is known."""
        died = not why and self._exit()
        self.close()
        self._reader.join(2.0)  # the last words are read until the pipe ends
        said = "\n".join((*self._said, trace, why))
        known = remedy(said, self.python)
        if known and doing == "starting":
            return UserError(f"{self.name} on Isaac Gym cannot start: {known}.")
        details = trace or "\n".join(list(self._said)[-10:])
        reason = known or died or why
        return EnvironmentFailure(
            f"{self.name}: the server of Isaac Gym failed in {doing} ({reason})."
            + (f"\nIt said:\n{details.rstrip()}" if details else "")
        )

    def _exit(self) -> str:
        """How the process ended, which it may be about to."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(GREETING_SECONDS)
            return f"killed by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"
        return "it closed the connection"


def folder() -> str | None:
    """For the socket and the shared memory. A socket's path has room for 107 characters, which TMPDIR may exceed."""
    return SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None


def interpreter(python: str, flag: str = "--env.python") -> str:
    """The path of the interpreter that was named.

    Args:
        flag: what names it, for messages.
    Raises:
        UserError: none was named, or there is no such program.
    """
    if not python:
        raise UserError(
            "Isaac Gym runs under an interpreter of its own, of Python 3.6 to 3.8, and none was named: "
            f"add {flag} PATH (docs/isaacgym.md says how to make one)."
        )
    found = shutil.which(os.path.expanduser(python))
    if found is None:
        raise UserError(
            f"{flag} is '{python}', but there is no such program: name the Python that Isaac Gym is "
            "installed in, such as ~/ig/bin/python."
        )
    return found
