"""What every `Comm` must do, on ranks that really are several."""

from __future__ import annotations

import torch

from ppo_and_friends import comm as comm_module
from ppo_and_friends.comm import Comm

DTYPES = (torch.float32, torch.float64, torch.int64)


def check_all(comm: Comm, device: torch.device | str = "cpu") -> None:
    """Tensors of `device` and bytes; what was called is counted."""
    before = comm.calls.copy()
    check_tensors(comm, device)
    check_equal_bits(comm, device)
    check_bytes(comm)
    expected = {"sum_": 4, "max_": 3, "broadcast_": 4, "gather_bytes": 4, "broadcast_bytes": 4}
    assert comm.calls - before == expected, comm.calls
    assert (comm.local_rank, comm.local_size) == (comm.rank, comm.size)


def check_tensors(comm: Comm, device: torch.device | str) -> None:
    total = comm.size * (comm.size + 1) // 2
    for dtype in DTYPES:
        base = torch.arange(6, dtype=dtype, device=device).reshape(2, 3)
        for name, factor in (("sum_", total), ("max_", comm.size), ("broadcast_", 1)):
            tensor = base * (comm.rank + 1)
            memory = tensor.data_ptr()
            getattr(comm, name)(tensor)
            assert tensor.data_ptr() == memory
            assert torch.equal(tensor, base * factor), (name, tensor)


def check_equal_bits(comm: Comm, device: torch.device | str) -> None:
    torch.manual_seed(comm.rank)
    tensor = torch.randn(1001).to(device).requires_grad_()
    comm.sum_(tensor)
    same = tensor.detach().clone()
    comm.broadcast_(same)
    assert torch.equal(tensor, same)


def check_bytes(comm: Comm) -> None:
    first, chunk = comm.rank == 0, comm_module.CHUNK
    for comm_module.CHUNK in (chunk, 7):
        parts = comm.gather_bytes(bytes([comm.rank]) * (10 * comm.rank + 1))
        assert parts == ([bytes([r]) * (10 * r + 1) for r in range(comm.size)] if first else None)
        assert comm.gather_bytes(b"") == ([b""] * comm.size if first else None)
        assert comm.broadcast_bytes(b"0123456789" if first else None) == b"0123456789"
        assert comm.broadcast_bytes(b"zero" if first else b"longer than zero") == b"zero"
    comm_module.CHUNK = chunk
