"""Writing files so that a kill, a crash or a full disk leaves the old content or the new, and nothing between."""

from __future__ import annotations

import os
from pathlib import Path

TEMPORARY = ".tmp"


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Replace the content of `path`; after the return it survives a power cut too.

    Raises:
        OSError: nothing was changed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    descriptor = os.open(path.parent, os.O_RDONLY)  # the new name itself lives in the directory
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporaries(directory: Path) -> None:
    """Delete what a killed `write_atomically` left. Only while no other process writes here."""
    for orphan in directory.glob(f".*{TEMPORARY}"):
        orphan.unlink(missing_ok=True)


def unused(path: Path) -> Path:
    """`path`, or the first of `NAME-2.EXT`, `NAME-3.EXT`, ... that does not exist."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free
