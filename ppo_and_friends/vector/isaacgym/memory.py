"""The client's side of the shared memory: it owns the block, the server opens it.

So tensors stay readable when the server is gone, and nothing is left behind when this process is.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ppo_and_friends.errors import UserError
from ppo_and_friends.vector.isaacgym.failures import ON_CPU, remedy
from ppo_and_friends.vector.isaacgym.process import ServerProcess, folder
from ppo_and_friends.vector.isaacgym.sharing import Driver, device_tensor, host_tensor

Field = tuple[str, list[int], str, int]  # name, shape, kind as NumPy writes it, offset in bytes


class DeviceBlock:
    """An allocation of its own, apart from torch's: one that torch cuts its tensors from may not be shareable (and is
    not with PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True). Freed with the last tensor over it."""

    def __init__(self, device: torch.device, size: int) -> None:
        self._driver = Driver(device.index)
        self.pointer = self._driver.allocate(size)
        self.handle = self._driver.handle(self.pointer)

    def __del__(self) -> None:
        if hasattr(self, "pointer"):
            with contextlib.suppress(OSError):  # the driver may be gone before this is, at the end of the process
                self._driver.free(self.pointer)


def share(server: ServerProcess, device: torch.device, size: int, fields: list[Field]) -> dict[str, Tensor]:
    """Tensors that this process and `server` both use, by name.

    Args:
        server: has said what it needs, and waits to be told where it is.
        device: where the tensors lie, and where the simulation runs.
        size: bytes of all fields.
        fields: where each lies.
    Raises:
        UserError: there is too little memory, or it cannot be shared.
    """
    keep = _device_block if device.type == "cuda" else _host_file
    try:
        with keep(device, size, fields) as (tensors, where):
            tensors["time_outs"].fill_(1)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seen = server.ask(where, starting=True)["seen"]
    except OSError as error:
        server.close()
        mend = remedy(str(error), server.python) or (
            f"ask for fewer rows (--envs_per_proc), or enlarge {folder()} where that is too small (Docker: --shm-size)"
        )
        raise UserError(f"{size} bytes cannot be shared with Isaac Gym on {device} ({error}): {mend}.") from error
    if seen != len(tensors["time_outs"]):
        server.close()
        raise UserError(
            f"Isaac Gym's process sees other memory than this one on {device}: simulate on the CPU ({ON_CPU})."
        )
    tensors["time_outs"].zero_()
    return tensors


Kept = tuple[dict[str, Tensor], dict[str, Any]]  # the tensors, and where the server finds their memory


@contextlib.contextmanager
def _device_block(device: torch.device, size: int, fields: list[Field]) -> Iterator[Kept]:
    block = DeviceBlock(device, size)
    tensors = {
        name: device_tensor(block.pointer + offset, shape, kind, str(device), block)
        for name, shape, kind, offset in fields
    }
    yield tensors, {"cuda": block.handle.hex()}


@contextlib.contextmanager
def _host_file(device: torch.device, size: int, fields: list[Field]) -> Iterator[Kept]:
    with tempfile.NamedTemporaryFile(prefix="isaacgym-", dir=folder()) as file:  # without a name once both have it
        os.posix_fallocate(file.fileno(), 0, size)  # says it now where there is no room, rather than by SIGBUS
        memory = mmap.mmap(file.fileno(), size)
        tensors = {name: host_tensor(memory, shape, kind, offset) for name, shape, kind, offset in fields}
        yield tensors, {"file": file.name}
