"""How ranks talk. One process alone is `SoloComm`, which does nothing; several are `MpiComm`, or `GlooComm` (gloo.py)
under torchrun, inside `NcclComm` (nccl.py) where each has a GPU.

Nothing here imports torch or MPI when it is imported, so that threads can be limited before torch starts and
one process alone never needs MPI.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

if TYPE_CHECKING:
    from mpi4py.MPI import Comm as MpiCommunicator
    from mpi4py.MPI import Op
    from numpy import ndarray
    from torch import Tensor

CHUNK = 1 << 30  # bytes of one message: MPI counts are 32-bit integers before MPI 4
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class Comm(Protocol):
    """The ranks of one run.

    The tensor methods work in place on contiguous float32, float64 or int64 tensors of any shape, which must be
    the same on every rank; each counts as one collective in `calls`. Every rank must call the same methods in the
    same order.
    """

    rank: int  # 0 .. size - 1
    size: int
    local_rank: int  # 0 .. local_size - 1 among the ranks of this node
    local_size: int
    local_cores: int  # CPU cores that the ranks of this node may use together
    calls: Counter[str]  # collectives so far, by method name
    on_device: bool  # whether tensors on a GPU are reduced there, without the host

    def sum_(self, tensor: Tensor) -> None:
        """Replace `tensor` by its sum over ranks."""
        ...

    def max_(self, tensor: Tensor) -> None:
        """Replace `tensor` by its elementwise maximum over ranks."""
        ...

    def broadcast_(self, tensor: Tensor) -> None:
        """Replace `tensor` by rank 0's."""
        ...

    def gather_bytes(self, data: bytes) -> list[bytes] | None:
        """Every rank's data in order of rank, on rank 0; None elsewhere. No limit on size but rank 0's memory."""
        ...

    def broadcast_bytes(self, data: bytes | None) -> bytes:
        """Rank 0's data, on every rank. What the others pass is ignored."""
        ...

    def abort(self, message: str, code: int = 1) -> NoReturn:
        """Print `message` with this rank's number, end every rank at once. Callable from any thread.

        Where several ranks of a node fail together, one of them prints."""
        ...


class SoloComm:
    """One process: every reduction is already done."""

    on_device = True

    def __init__(self) -> None:
        self.rank, self.size, self.local_rank, self.local_size = 0, 1, 0, 1
        self.local_cores = available_cores([own_cores()])
        self.calls: Counter[str] = Counter()

    def sum_(self, tensor: Tensor) -> None:
        pass

    def max_(self, tensor: Tensor) -> None:
        pass

    def broadcast_(self, tensor: Tensor) -> None:
        pass

    def gather_bytes(self, data: bytes) -> list[bytes] | None:
        return [data]

    def broadcast_bytes(self, data: bytes | None) -> bytes:
        assert data is not None, "rank 0 gives the data"
        return data

    def abort(self, message: str, code: int = 1) -> NoReturn:
        print(message, file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(code)


class MpiComm:
    """Ranks started by an MPI launcher. MPI must be initialised; it sees host memory only."""

    on_device = False

    def __init__(self, world: MpiCommunicator) -> None:
        from mpi4py import MPI

        self._mpi, self._world = MPI, world
        self.rank, self.size = world.rank, world.size
        node = world.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank, self.local_size = node.rank, node.size
        self.local_cores = available_cores(node.allgather(own_cores()))
        self._job = str(world.bcast(os.getpid()))
        self.calls: Counter[str] = Counter()
        node.Free()

    def sum_(self, tensor: Tensor) -> None:
        self._reduce("sum_", tensor, self._mpi.SUM)

    def max_(self, tensor: Tensor) -> None:
        self._reduce("max_", tensor, self._mpi.MAX)

    def broadcast_(self, tensor: Tensor) -> None:
        self.calls["broadcast_"] += 1
        on_host(tensor, lambda array: self._world.Bcast(array, root=0))

    def gather_bytes(self, data: bytes) -> list[bytes] | None:
        self.calls["gather_bytes"] += 1
        lengths = self._world.gather(len(data))
        if lengths is None:
            for part in chunks(memoryview(data)):
                self._world.Send([part, self._mpi.BYTE], dest=0)
            return None
        return [data] + [self._receive(source, length) for source, length in enumerate(lengths) if source > 0]

    def broadcast_bytes(self, data: bytes | None) -> bytes:
        self.calls["broadcast_bytes"] += 1
        length = self._world.bcast(len(data) if data is not None else 0)
        buffer = bytearray(data if data is not None and self.rank == 0 else length)
        for part in chunks(memoryview(buffer)):
            self._world.Bcast([part, self._mpi.BYTE], root=0)
        return bytes(buffer)

    def abort(self, message: str, code: int = 1) -> NoReturn:
        say_once(self._job, f"rank {self.rank}: {message}")
        # Other threads than the main one come here too, while the main one is blocked in a collective: MPICH and
        # Open MPI both end the job then, although a library initialised as FUNNELED need not.
        self._world.Abort(code)
        os._exit(code)

    def _reduce(self, name: str, tensor: Tensor, operation: Op) -> None:
        self.calls[name] += 1
        on_host(tensor, lambda array: self._world.Allreduce(self._mpi.IN_PLACE, array, op=operation))

    def _receive(self, source: int, length: int) -> bytes:
        buffer = bytearray(length)
        for part in chunks(memoryview(buffer)):
            self._world.Recv([part, self._mpi.BYTE], source=source)
        return bytes(buffer)


def on_host(tensor: Tensor, exchange: Callable[[ndarray], None]) -> None:
    """Call `exchange` on the tensor's own memory, or, for one on a GPU, on a pinned copy that is written back."""
    tensor = tensor.detach()
    if tensor.is_cpu:
        exchange(tensor.numpy())
        return
    import torch

    # torch keeps pinned blocks for reuse, so only the first exchange of a size pays for pinning
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)
    exchange(host.numpy())
    tensor.copy_(host)


def chunks(data: memoryview) -> Iterable[memoryview]:
    """Consecutive parts of at most CHUNK bytes, the same on both ends of a message."""
    return (data[start : start + CHUNK] for start in range(0, len(data), CHUNK))


def say_once(job: str, message: str) -> None:
    """Print to stderr, unless another process of this node that shares the name `job` has done so and is still there.

    Ranks that read the same wrong setting fail at the same moment. The first to bind an abstract socket of the
    job's name speaks; the name vanishes with its process. All leave it time to be heard before they end the job:
    mpirun may drop what it has not yet read from a process that it kills."""
    sys.stdout.flush()
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0ppo_and_friends-{os.getuid()}-{job}")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            time.sleep(1.0)
            return
        # else a system without abstract sockets, where each speaks for itself
    _claims.append(claim)
    print(message, file=sys.stderr, flush=True)
    time.sleep(0.2)


_claims: list[socket.socket] = []  # held open until the process ends


def drawn_if_negative(seed: int, comm: Comm) -> int:
    """A seed as it is asked for, or below 0 one of 32 bits that is drawn: the same number on every rank."""
    if seed < 0:
        drawn = secrets.randbits(32) if comm.rank == 0 else 0
        seed = int.from_bytes(comm.broadcast_bytes(drawn.to_bytes(4, "little")), "little")
    return seed


def own_cores() -> set[int]:
    """The CPU cores that this process may run on."""
    if sys.platform == "linux":
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def available_cores(masks: Iterable[set[int]]) -> int:
    """Cores that processes with these masks may use together, a container's CPU quota respected.

    The union counts right both for ranks that a launcher bound to cores of their own and for ranks that share all.
    """
    cores = len(set[int]().union(*masks))
    try:
        quota, period = CPU_QUOTA.read_text().split()
    except OSError:
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
