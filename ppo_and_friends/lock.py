"""One writer for a directory: a lock that the operating system takes back when its process dies."""

from __future__ import annotations

import fcntl
import os
import socket
import warnings
from pathlib import Path
from typing import TextIO

from ppo_and_friends.errors import UserError

_held: set[Path] = set()  # record locks do not exclude their own process


class DirectoryLock:
    """Held from `acquire` to `release` or the end of the process.

    A record lock rather than `flock`: forked environment workers would inherit the latter and keep the
    directory locked after a killed run, and record locks work over network file systems.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory.resolve() / ".lock"
        self._file: TextIO | None = None
        self.excludes = True  # False where the file system has no locks

    def acquire(self) -> None:
        """Raises:
        UserError: another run uses the directory.
        OSError: the lock file cannot be written.
        """
        if self._path in _held:
            raise self._in_use("this process")
        file = open(self._path, "a+")  # noqa: SIM115 -- open for as long as the lock is held
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            owner = file.read().strip() or "another process"
            file.close()
            raise self._in_use(owner) from None
        except OSError as error:  # some cluster file systems have no locks at all
            warnings.warn(f"{self._path.parent} cannot be locked ({error}): start no second run there.", stacklevel=2)
            self.excludes = False
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        self._file = file
        _held.add(self._path)

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            _held.discard(self._path)

    def _in_use(self, owner: str) -> UserError:
        return UserError(
            f"{self._path.parent} is in use by {owner}: wait for that run, stop it, or give this one another --name."
        )
