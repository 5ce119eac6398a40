"""Reductions from GPU to GPU with NCCL, where every rank has a GPU of its own; everything else goes the host's way.

**Inside a captured CUDA graph** `sum_`, `max_` and `broadcast_` may be called like any kernel: with `asyncOp=False`
ProcessGroupNCCL launches on the current stream (pytorch#148590), waits for nothing and allocates nothing, so the
collective becomes a node between those before and after it. What a capture has to know:

- The watchdog thread gets no collective that was captured (pytorch#103503), so it never queries a captured event. It
  still polls those of eager collectives, under a thread-local capture mode of its own (pytorch#148594, #160398), which
  cannot break a capture. No environment variable has to be set for that, neither TORCH_NCCL_ASYNC_ERROR_HANDLING=0 nor
  TORCH_NCCL_CUDA_EVENT_CACHE=0; `torch.cuda.graph(..., capture_error_mode="thread_local")` protects from other threads.
- The communicator is made here, not at its first use, because it cannot be made while a stream is captured. NCCL opens
  the channels of an algorithm when it is first used: run the same reduction once, on the stream of the capture, before.
- Whether a collective is captured or not must be the same on all ranks, and so must the order of replays.
- A replay has no timeout, because the watchdog does not know of it. A rank that ends takes the others along through
  the launcher and `abort`; the timeout below only ends eager collectives.
- `calls` counts what Python calls: one for a capture, none for a replay.
- NCCL gives a communicator up only when the last graph that holds it is gone (pytorch#115388): see `_Farewell`.
"""

from __future__ import annotations

import atexit
import gc
import os
import socket
import threading
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import torch
from torch import Tensor
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from ppo_and_friends.comm import Comm
from ppo_and_friends.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import ReduceOp

TIMEOUT = timedelta(minutes=10)  # of an eager collective; torch's own default
MEETING = timedelta(minutes=5)  # for all ranks to reach rank 0's store
FAREWELL = 5.0  # seconds that NCCL may take to end


class Group(Protocol):
    """What is used of `torch.distributed.ProcessGroupNCCL`."""

    def allreduce(self, tensors: list[Tensor], options: Any) -> Any: ...

    def broadcast(self, tensors: list[Tensor], options: Any) -> Any: ...


class NcclComm:
    """A host's `Comm`, but that tensors on the GPU go from GPU to GPU, in order with the current stream's other work.

    Args:
        host: for tensors on the host, bytes, and the end of all ranks.
        group: of the same ranks.
    """

    on_device = True

    def __init__(self, host: Comm, group: Group) -> None:
        self._host, self._group = host, group
        self.rank, self.size = host.rank, host.size
        self.local_rank, self.local_size, self.local_cores = host.local_rank, host.local_size, host.local_cores
        self.calls: Counter[str] = host.calls

    def sum_(self, tensor: Tensor) -> None:
        if tensor.is_cpu:
            self._host.sum_(tensor)
        else:
            self._reduce("sum_", tensor, torch.distributed.ReduceOp.SUM)

    def max_(self, tensor: Tensor) -> None:
        if tensor.is_cpu:
            self._host.max_(tensor)
        else:
            self._reduce("max_", tensor, torch.distributed.ReduceOp.MAX)

    def broadcast_(self, tensor: Tensor) -> None:
        if tensor.is_cpu:
            self._host.broadcast_(tensor)
            return
        self.calls["broadcast_"] += 1
        options = torch.distributed.BroadcastOptions()
        options.rootRank, options.rootTensor, options.asyncOp = 0, 0, False
        self._group.broadcast([tensor.detach()], options)

    def gather_bytes(self, data: bytes) -> list[bytes] | None:
        return self._host.gather_bytes(data)

    def broadcast_bytes(self, data: bytes | None) -> bytes:
        return self._host.broadcast_bytes(data)

    def abort(self, message: str, code: int = 1) -> NoReturn:
        self._host.abort(message, code)

    def _reduce(self, name: str, tensor: Tensor, operation: ReduceOp.RedOpType) -> None:
        self.calls[name] += 1
        options = torch.distributed.AllreduceOptions()
        options.reduceOp, options.asyncOp = operation, False  # pyright: ignore[reportAttributeAccessIssue]
        self._group.allreduce([tensor.detach()], options)


def with_nccl(host: Comm, device: torch.device) -> Comm:
    """`host` with NCCL for tensors on `device`, where every rank has a GPU of its own; else `host` itself. Collective.

    Makes `device` the current one where it is a GPU, so that nothing is put on another rank's.

    Raises:
        UserError: NCCL cannot connect the GPUs.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return _joined(host, device) if host.size > 1 and device.type == "cuda" else host


@cache  # a communicator is costly, and lives as long as the process
def _joined(host: Comm, device: torch.device) -> Comm:
    told = host.gather_bytes(_identity(device).encode())
    store, address = None, b""
    if told is not None and all_distinct(told):
        store = TCPStore(_own_name(host), 0, is_master=True, timeout=MEETING, wait_for_workers=False)
        address = f"{_own_name(host)}:{store.port}".encode()
    address = host.broadcast_bytes(address).decode()
    if not address:
        return host
    try:
        name, _, port = address.rpartition(":")
        store = store or TCPStore(name, int(port), timeout=MEETING)
        return _connected(host, store, device)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"NCCL cannot connect the GPUs of {host.size} ranks ({reason}): run again with NCCL_DEBUG=INFO, which says "
            "why, or leave out --allow_mpi_gpu."
        ) from error


def route(comm: Comm, device: str) -> str:
    """How gradients travel between ranks, to end a sentence with; "" where that needs no word."""
    if comm.size == 1 or not device.startswith("cuda"):
        return ""
    return ", gradients by NCCL" if isinstance(comm, NcclComm) else ", gradients through host memory (ranks share GPUs)"


def all_distinct(identities: list[bytes]) -> bool:
    """Whether every rank has a GPU, and no two the same: NCCL refuses those."""
    return all(identities) and len(set(identities)) == len(identities)


def _identity(device: torch.device) -> str:
    """Of the GPU itself; its index and the host's name may be a container's own. "" where NCCL is missing."""
    if not torch.distributed.is_nccl_available():
        return ""
    return str(torch.cuda.get_device_properties(device).uuid)


def _own_name(host: Comm) -> str:
    """Where other ranks reach this process; a name need not be known on the node that has it."""
    return "127.0.0.1" if host.local_size == host.size else socket.gethostname()


def _connected(host: Comm, store: Any, device: torch.device) -> NcclComm:
    # The watchdog would ask rank 0's store each second for dumps that nobody wrote, and complain of its end.
    os.environ.setdefault("TORCH_NCCL_DUMP_ON_TIMEOUT", "0")
    from torch.distributed import ProcessGroupNCCL  # pyright: ignore[reportAttributeAccessIssue]

    options = ProcessGroupNCCL.Options()
    options._timeout = TIMEOUT
    group: Any = ProcessGroupNCCL(store, host.rank, host.size, options)
    comm = NcclComm(host, group)
    comm.sum_(torch.zeros((), device=device))
    torch.cuda.synchronize(device)
    comm.calls["sum_"] -= 1
    _Farewell(group)
    return comm


class _Farewell:
    """Ends a process group at the end of the process, which NCCL would else refuse while a captured graph holds it.

    So graphs are given up first, whoever holds them. The thread exists from the beginning, because the interpreter
    starts none while it ends; it is left behind where NCCL waits for something else."""

    def __init__(self, group: Any) -> None:
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._end, args=(group,), name="end of NCCL", daemon=True)
        self._thread.start()
        atexit.register(self._leave)

    def _end(self, group: Any) -> None:
        self._leaving.wait()
        group.abort()  # waits for no other rank, unlike shutdown

    def _leave(self) -> None:
        for held in gc.get_objects():
            if issubclass(type(held), torch.cuda.CUDAGraph):
                with suppress(RuntimeError):  # the GPU failed before
                    held.reset()
        self._leaving.set()
        self._thread.join(FAREWELL)
