"""Reductions, broadcasts and gathers between real ranks, and the null communicator of one process."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from ranks import needs_mpirun, run

from ppo_and_friends import comm as comm_module
from ppo_and_friends import seeding
from ppo_and_friends.comm import SoloComm, available_cores, drawn_if_negative, on_host

COLLECTIVES = """
    import torch
    from collectives import check_all

    class Spy:
        def __init__(self, world):
            self.world, self.seen = world, []
        def __getattr__(self, name):
            self.seen.append(name)
            return getattr(self.world, name)

    def check_one_allreduce_on_own_memory(comm):
        comm._world = spy = Spy(comm._world)
        comm.sum_(torch.ones(3))
        assert spy.seen == ["Allreduce"], spy.seen
        try:
            comm.sum_(torch.ones(4, 4).T[1:3, 1:3])
        except (ValueError, BufferError):
            return
        raise AssertionError("a tensor that is not contiguous was reduced through a copy")

    def main(comm):
        check_all(comm)
        check_one_allreduce_on_own_memory(comm)
        print(f"good {comm.rank} of {comm.size}")
"""


@needs_mpirun
def test_collectives_are_right_and_equal_on_every_rank() -> None:
    result = run(3, COLLECTIVES)
    assert result.returncode == 0, result.stderr
    assert all(f"good {rank} of 3" in result.stdout for rank in range(3))


@needs_mpirun
def test_one_rank_under_mpirun_is_alone_and_loads_no_mpi() -> None:
    result = run(1, "def main(comm): print(type(comm).__name__, 'mpi4py' in sys.modules)")
    assert result.stdout.split() == ["SoloComm", "False"], result.stderr


def test_alone_everything_is_already_reduced() -> None:
    comm, tensor = SoloComm(), torch.arange(3.0)
    comm.sum_(tensor)
    comm.max_(tensor)
    comm.broadcast_(tensor)
    assert tensor.tolist() == [0.0, 1.0, 2.0]
    assert comm.gather_bytes(b"a") == [b"a"]
    assert comm.broadcast_bytes(b"b") == b"b"
    assert not comm.calls


class FarTensor(torch.Tensor):
    """Claims to live on another device, so that the copies to and from the host can be seen without a GPU."""

    is_cpu = False  # pyright: ignore


def test_a_device_tensor_is_exchanged_through_a_host_copy_and_written_back(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[torch.Tensor] = []

    def empty(shape: torch.Size, dtype: torch.dtype, pin_memory: bool) -> torch.Tensor:
        assert pin_memory
        pinned.append(torch.zeros(shape, dtype=dtype))
        return pinned[-1]

    monkeypatch.setattr(torch, "empty", empty)
    tensor = torch.arange(3.0).as_subclass(FarTensor)

    def double(array: numpy.ndarray) -> None:
        assert array.ctypes.data == pinned[0].data_ptr()
        array *= 2

    on_host(tensor, double)
    assert tensor.tolist() == [0.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("masks", "quota", "cores"),
    [
        ([{0, 1, 2, 3}] * 2, "max 100000", 4),  # shared by both ranks
        ([{0, 1}, {2, 3}], "max 100000", 4),  # each bound to its own
        ([{0, 1, 2, 3}], "200000 100000", 2),  # a container with two cores' worth of time
        ([{0, 1, 2, 3}], "50000 100000", 1),
    ],
)
def test_cores_of_a_node_are_the_union_of_masks_within_the_quota(
    masks: list[set[int]], quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    monkeypatch.setattr(comm_module, "CPU_QUOTA", file)
    assert available_cores(masks) == cores


def test_a_seed_is_drawn_where_none_is_given_by_who_knows_of_ranks() -> None:
    assert drawn_if_negative(0, SoloComm()) == 0
    first, second = (drawn_if_negative(-1, SoloComm()) for _ in range(2))
    assert first != second and min(first, second) >= 0 and max(first, second) < 2**32
    assert "import Comm" not in Path(seeding.__file__).read_text(), "workers seed themselves without any"
