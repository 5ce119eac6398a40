"""Reductions between GPUs. Without pytest's help, `python tests/test_nccl.py` runs the tests that need GPUs.

Those start nccl_ranks.py on several ranks.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import FAILURE_LIMIT, MPIRUN, ROOT, environment, run_torch

from ppo_and_friends import nccl
from ppo_and_friends.comm import SoloComm
from ppo_and_friends.errors import UserError
from ppo_and_friends.nccl import NcclComm, all_distinct, route, with_nccl

GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0
SCRIPT = ROOT / "tests" / "nccl_ranks.py"
SAME_GPU = {"CUDA_VISIBLE_DEVICES": "0"}

# ---- tests that need GPUs

two_gpus = pytest.mark.skipif(GPUS < 2, reason="needs two NVIDIA GPUs")
one_gpu = pytest.mark.skipif(GPUS < 1, reason="needs an NVIDIA GPU")


def start(check: str, ranks: int, **extra: str) -> subprocess.CompletedProcess[str]:
    return run_torch(ranks, SCRIPT, check, **extra)


@pytest.mark.gpu
@two_gpus
def test_collectives_eager_and_captured_under_torchrun() -> None:
    done = start("collectives", GPUS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("GlooComm and NCCL") == GPUS
    assert "destroy_process_group" not in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.gpu
@two_gpus
def test_collectives_eager_and_captured_under_mpirun() -> None:
    if MPIRUN is None or importlib.util.find_spec("mpi4py") is None:
        pytest.skip("needs mpirun and mpi4py")
    done = subprocess.run(
        [MPIRUN, "-n", "2", sys.executable, str(SCRIPT), "collectives"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=FAILURE_LIMIT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("MpiComm and NCCL") == 2


@pytest.mark.gpu
@one_gpu
def test_ranks_that_share_a_gpu_go_through_the_host() -> None:
    done = start("shared", 2, **SAME_GPU)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("GlooComm alone") == 2


@pytest.mark.gpu
@one_gpu
def test_the_result_is_the_same_on_one_gpu_on_two_and_shared(tmp_path: Path) -> None:
    ways: dict[str, tuple[int, dict[str, str]]] = {"alone": (1, {}), "shared": (2, SAME_GPU)}
    if GPUS > 1:
        ways["two"] = (2, {})
    results: dict[str, list[torch.Tensor]] = {}
    for name, (ranks, extra) in ways.items():
        file = tmp_path / name
        done = start("recorded", ranks, RESULT=str(file), **extra)
        assert done.returncode == 0, done.stderr
        results[name] = torch.load(file, weights_only=True)
    alone = results.pop("alone")
    for name, result in results.items():
        assert len(result) == len(alone) == 3 + 3 * 3
        for mine, other in zip(result[:3], alone[:3], strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
        for mine, other in zip(result[3:], alone[3:], strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-6, atol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.gpu
@one_gpu
@pytest.mark.parametrize("shared", [True, False], ids=["one GPU", "two GPUs"])
def test_training_says_how_gradients_travel(shared: bool, tmp_path: Path) -> None:
    if not shared and GPUS < 2:
        pytest.skip("needs two NVIDIA GPUs")
    done = start("training", 2, RESULT=str(tmp_path), **(SAME_GPU if shared else {}))
    assert done.returncode == 0, done.stderr
    said = "gradients through host memory (ranks share GPUs)" if shared else "gradients by NCCL"
    assert done.stdout.count(said) == 1, done.stdout


@pytest.mark.gpu
@two_gpus
def test_a_rank_that_fails_ends_those_that_wait_for_it_on_their_gpu() -> None:
    done = start("death", 2)
    assert done.returncode == 1 and done.stdout.count("connected [2.0, 2.0, 2.0]") == 2
    assert "past the reduction" not in done.stdout
    assert done.stderr.count("ValueError: broken dice") == 1, done.stderr


# ---- tests that need none


class FarTensor(torch.Tensor):
    """Claims to live on another device."""

    is_cpu = False  # pyright: ignore


class Host(SoloComm):
    """Rank 0 of two, the other of which says that it has the GPU `other`."""

    def __init__(self, other: str = "") -> None:
        super().__init__()
        self.size = self.local_size = 2
        self.other = other
        self.told: list[Any] = []

    def sum_(self, tensor: torch.Tensor) -> None:
        self.told.append("sum_")

    max_ = broadcast_ = sum_

    def gather_bytes(self, data: bytes) -> list[bytes]:
        return [data, self.other.encode()]

    def broadcast_bytes(self, data: bytes | None) -> bytes:
        self.told.append(data)
        return super().broadcast_bytes(data)


class FakeGroup:
    def __init__(self) -> None:
        self.asked: list[tuple[str, torch.Tensor, Any]] = []

    def allreduce(self, tensors: list[torch.Tensor], options: Any) -> None:
        self.asked.append(("allreduce", *tensors, options))

    def broadcast(self, tensors: list[torch.Tensor], options: Any) -> None:
        self.asked.append(("broadcast", *tensors, options))


def test_tensors_of_the_gpu_take_nccl_on_the_current_stream_and_all_else_the_host() -> None:
    host, group = Host(), FakeGroup()
    comm, far = NcclComm(host, group), torch.ones(2).as_subclass(FarTensor)
    for reduce in (comm.sum_, comm.max_, comm.broadcast_):
        reduce(far)
    assert [name for name, *_ in group.asked] == ["allreduce", "allreduce", "broadcast"] and not host.told
    operations = torch.distributed.ReduceOp
    assert [options.reduceOp for *_, options in group.asked[:2]] == [operations.SUM, operations.MAX]
    for _, tensor, options in group.asked:
        assert tensor.data_ptr() == far.data_ptr() and options.asyncOp is False
    assert comm.calls == {"sum_": 1, "max_": 1, "broadcast_": 1}
    for reduce in (comm.sum_, comm.max_, comm.broadcast_):
        reduce(torch.ones(2))
    assert len(host.told) == len(group.asked) == 3
    assert comm.gather_bytes(b"a") == [b"a", b""] and comm.broadcast_bytes(b"b") == b"b"


@pytest.mark.parametrize(
    ("identities", "distinct"), [([b"a", b"b"], True), ([b"a", b"b", b"a"], False), ([b"a", b""], False)]
)
def test_nccl_needs_a_gpu_for_every_rank(identities: list[bytes], distinct: bool) -> None:
    assert all_distinct(identities) is distinct


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """As if this rank had the GPU `mine`."""
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(nccl, "_identity", lambda device: "mine")
    return torch.device("cuda", 0)


def test_the_host_stays_where_nccl_has_nothing_to_do(gpu: torch.device) -> None:
    alone, shared = SoloComm(), Host("mine")
    assert with_nccl(alone, gpu) is alone
    assert with_nccl(shared, torch.device("cpu")) is shared and not shared.told
    assert with_nccl(shared, gpu) is shared and shared.told == [b""]
    assert route(shared, "cuda:0").endswith("host memory (ranks share GPUs)")
    assert route(shared, "cpu") == route(alone, "cuda:0") == ""
    assert route(NcclComm(shared, FakeGroup()), "cuda:0") == ", gradients by NCCL"


def test_ranks_meet_at_an_address_that_the_host_carries(gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[int] = []

    def connected(host: Any, store: Any, device: torch.device) -> NcclComm:
        met.append(store.port)
        return NcclComm(host, FakeGroup())

    monkeypatch.setattr(nccl, "_connected", connected)
    host = Host("theirs")
    joined = with_nccl(host, gpu)
    assert isinstance(joined, NcclComm) and with_nccl(host, gpu) is joined
    assert host.told == [f"127.0.0.1:{met[0]}".encode()] and len(met) == 1


def test_gpus_that_nccl_cannot_connect_are_one_sentence(gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    def connected(*_: Any) -> NcclComm:
        raise torch.distributed.DistBackendError("NCCL error in: somewhere, unhandled system error\nand more")

    monkeypatch.setattr(nccl, "_connected", connected)
    with pytest.raises(UserError, match="of 2 ranks .NCCL error in: somewhere, unhandled system error.: run again"):
        with_nccl(Host("theirs"), gpu)


def test_the_end_does_not_wait_for_a_communicator_that_a_graph_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, released = threading.Event(), threading.Event()
    registered: list[Any] = []
    monkeypatch.setattr(nccl.atexit, "register", registered.append)
    monkeypatch.setattr(nccl, "FAREWELL", 0.01)

    class Stuck:
        def abort(self) -> None:
            begun.set()
            released.wait()

    nccl._Farewell(Stuck())
    assert not begun.is_set()
    registered[0]()
    assert begun.wait(FAILURE_LIMIT) and not released.is_set()
    released.set()


def run_by_hand() -> int:
    """The tests marked gpu, without pytest's help."""
    print(f"torch {torch.__version__}, {GPUS} GPUs", flush=True)
    failed = 0
    for name, test in list(globals().items()):
        marks = {mark.name: mark for mark in getattr(test, "pytestmark", ())}
        if "gpu" not in marks:
            continue
        cases: list[dict[str, Any]] = [{}]
        if "parametrize" in marks:
            argument, values = marks["parametrize"].args
            cases = [{argument: value} for value in values]
        for case in cases:
            result = "skipped" if marks["skipif"].args[0] else outcome(test, case)
            failed += result.startswith("FAILED")
            print(f"{name} {case or ''}: {result}", flush=True)
    return min(failed, 1)


def outcome(test: Any, case: dict[str, Any]) -> str:
    with tempfile.TemporaryDirectory() as directory:
        paths = {"tmp_path": Path(directory)} if "tmp_path" in test.__code__.co_varnames else {}
        try:
            test(**case, **paths)
        except pytest.skip.Exception as reason:
            return f"skipped: {reason}"
        except Exception as error:
            return f"FAILED: {type(error).__name__}: {error}"
    return "passed"


if __name__ == "__main__":
    sys.exit(run_by_hand())
