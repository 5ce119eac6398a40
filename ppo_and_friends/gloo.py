"""Ranks started by torchrun: host memory travels over TCP with Gloo, and no MPI is needed.

The process group is this object's own rather than torch's default one, which stays free for environments that want it.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor
from torch.distributed import (
    AllreduceOptions,
    BroadcastOptions,
    PrefixStore,  # pyright: ignore[reportPrivateImportUsage]
    ProcessGroupGloo,
    ReduceOp,
    Work,
)
from torch.distributed.rendezvous import rendezvous

from ppo_and_friends.comm import available_cores, chunks, on_host, own_cores

PATIENCE = timedelta(hours=1)  # for a rank that is busy elsewhere; one that has ended is noticed at once


class GlooComm:
    """`Comm` of the processes that torchrun's environment variables describe. It sees host memory only."""

    on_device = False

    def __init__(self) -> None:
        store, self.rank, self.size = next(rendezvous("env://", timeout=PATIENCE))
        self.local_rank, self.local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        # torchrun may keep its store from one attempt (--max-restarts) to the next
        self._store = PrefixStore(f"ppo_and_friends/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        self._group: Any = ProcessGroupGloo(self._store, self.rank, self.size, timeout=PATIENCE)
        self.calls: Counter[str] = Counter()
        self.local_cores = self._count_cores()
        self.calls.clear()
        atexit.register(self._leave)

    def sum_(self, tensor: Tensor) -> None:
        self._reduce("sum_", tensor, ReduceOp.SUM)

    def max_(self, tensor: Tensor) -> None:
        self._reduce("max_", tensor, ReduceOp.MAX)

    def broadcast_(self, tensor: Tensor) -> None:
        self.calls["broadcast_"] += 1
        on_host(_contiguous(tensor), self._broadcast)

    def gather_bytes(self, data: bytes) -> list[bytes] | None:
        self.calls["gather_bytes"] += 1
        lengths = np.zeros(self.size, dtype=np.int64)
        lengths[self.rank] = len(data)
        self._allreduce(lengths, ReduceOp.SUM)
        if self.rank > 0:
            for part in chunks(memoryview(bytearray(data))):
                self._finish(lambda part=part: self._group.send([_bytes(part)], 0, 0))
            return None
        return [data] + [self._receive(source, int(lengths[source])) for source in range(1, self.size)]

    def broadcast_bytes(self, data: bytes | None) -> bytes:
        self.calls["broadcast_bytes"] += 1
        own = data if data is not None and self.rank == 0 else b""
        length = np.array([len(own)])
        self._broadcast(length)
        buffer = bytearray(own or int(length[0]))
        for part in chunks(memoryview(buffer)):
            self._broadcast(np.frombuffer(part, dtype=np.uint8))
        return bytes(buffer)

    def abort(self, message: str, code: int = 1) -> NoReturn:
        """End this process; torchrun sees that and ends the others, and each of those finds that its end was told."""
        sys.stdout.flush()
        if self._is_first_to_end():
            print(f"rank {self.rank}: {message}", file=sys.stderr, flush=True)
        os._exit(code)

    def _leave(self) -> None:
        """Join Gloo's threads. They let go of arrays, for which they take the interpreter's lock: one that asks for it
        when the interpreter is ending aborts the process."""
        del self._group

    def _is_first_to_end(self) -> bool:
        try:
            return self._store.add("ended", 1) == 1
        except RuntimeError:  # the store has ended before: nobody else can be asked
            return True

    def _reduce(self, name: str, tensor: Tensor, operation: ReduceOp.RedOpType) -> None:
        self.calls[name] += 1
        on_host(_contiguous(tensor), lambda array: self._allreduce(array, operation))

    def _allreduce(self, array: ndarray, operation: ReduceOp.RedOpType) -> None:
        options = AllreduceOptions()
        options.reduceOp = operation  # pyright: ignore[reportAttributeAccessIssue]
        self._finish(lambda: self._group.allreduce([torch.from_numpy(array)], options))

    def _broadcast(self, array: ndarray) -> None:
        options = BroadcastOptions()
        options.rootRank = options.rootTensor = 0
        self._finish(lambda: self._group.broadcast([torch.from_numpy(array)], options))

    def _receive(self, source: int, length: int) -> bytes:
        buffer = bytearray(length)
        for part in chunks(memoryview(buffer)):
            self._finish(lambda part=part: self._group.recv([_bytes(part)], source, 0))
        return bytes(buffer)

    def _finish(self, start: Callable[[], Work]) -> None:
        """Wait for a transfer. One that fails has lost its other end, which has told why if it could."""
        try:
            start().wait()
        except RuntimeError as error:
            reason = str(error).partition("\n")[0].rpartition("] ")[2]  # without the place in Gloo's sources
            self.abort(f"lost the connection to another rank, which has probably ended ({reason})")

    def _count_cores(self) -> int:
        """Of this node, whose ranks torchrun may have bound to cores of their own."""
        node = os.environ.get("GROUP_RANK", "0")
        parts = self.gather_bytes(json.dumps([node, sorted(own_cores())]).encode())
        told = json.loads(self.broadcast_bytes(b"[" + b",".join(parts) + b"]" if parts is not None else None))
        return available_cores(set(cores) for name, cores in told if name == node)


def _contiguous(tensor: Tensor) -> Tensor:
    if not tensor.is_contiguous():
        raise ValueError(f"a tensor of strides {tensor.stride()} is not contiguous: it cannot be written in place.")
    return tensor


def _bytes(part: memoryview) -> Tensor:
    return torch.frombuffer(part, dtype=torch.uint8)
