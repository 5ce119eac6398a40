"""Kernels that are loaded before their first launch are those of the launch, and a rehearsal of it changes nothing."""

# warp ships no types
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import warp

from environments.tasks.ant import Ant
from ppo_and_friends.vector.sim import warp_kernels
from ppo_and_friends.vector.sim.warp_gpu import WarpSim
from ppo_and_friends.vector.sim.warp_kernels import load_kernels, rehearse

warp.init()  # which chooses the cache

pytestmark = [
    pytest.mark.usefixtures("elsewhere"),
    pytest.mark.skipif(not warp.is_cpu_available(), reason="needs a Warp that compiles for the CPU"),
]


@contextmanager
def loads() -> Iterator[list[tuple[Any, Any, int]]]:
    """What is asked for meanwhile."""
    found: list[tuple[Any, Any, int]] = []
    load = warp.Module.load

    def noted(module: Any, device: Any, block_dim: int) -> Any:
        found.append((module, device, block_dim))
        return load(module, device, block_dim)

    warp.Module.load = noted
    try:
        yield found
    finally:
        warp.Module.load = load


@warp.kernel(module="unique")
def add(values: warp.array[Any], more: Any):
    index = warp.tid()
    values[index] = values[index] + more


@warp.kernel(module="unique")
def count_down(left: warp.array[warp.int32]):
    left[0] = left[0] - 1


def small_work() -> tuple[dict[str, Any], Callable[[], None]]:
    """Arrays and what changes them: overloads, tiles, a conditional loop, a branch, copies without a kernel."""
    arrays = {
        "whole": warp.zeros(4, dtype=warp.int32, device="cpu"),
        "real": warp.zeros(4, dtype=warp.float32, device="cpu"),
        "left": warp.full(1, 3, dtype=warp.int32, device="cpu"),
        "copy": warp.zeros(4, dtype=warp.float32, device="cpu"),
    }

    def body() -> None:
        warp.launch(count_down, dim=1, inputs=[arrays["left"]], device="cpu")
        warp.launch(add, dim=4, inputs=[arrays["whole"], 1], device="cpu")

    def work() -> None:
        warp.launch(add, dim=4, inputs=[arrays["real"], 0.5], device="cpu")
        warp.capture_while(arrays["left"], while_body=body)
        warp.launch_tiled(add, dim=[4], inputs=[arrays["real"], 1.0], block_dim=32, device="cpu")
        warp.copy(arrays["copy"], arrays["real"])
        arrays["real"].fill_(7.0)

    return arrays, work


def contents(arrays: dict[str, Any]) -> dict[str, list[float]]:
    return {name: array.numpy().tolist() for name, array in arrays.items()}


def test_nothing_is_compiled_after_it_was_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp.config, "kernel_cache_dir", str(tmp_path / "cache"))
    monkeypatch.setattr(warp_kernels, "own_cores", lambda: {0, 1})
    arrays, work = small_work()
    before = contents(arrays)
    with warp.ScopedDevice("cpu"):
        load_kernels(work)
        compiled = sorted((tmp_path / "cache").rglob("*.o"))
        assert len(compiled) == 2 and contents(arrays) == before
        loaded = (add.module.execs | {}, count_down.module.execs | {})
        work()
    assert sorted((tmp_path / "cache").rglob("*.o")) == compiled
    assert loaded == (add.module.execs, count_down.module.execs)
    assert contents(arrays) == {"whole": [3] * 4, "real": [7.0] * 4, "left": [0], "copy": [1.5] * 4}


def test_a_step_loads_what_its_rehearsal_found() -> None:
    sim = WarpSim(Ant().model(), 2, "Ant", "cpu")
    start = {name: value.clone() for name, value in sim.state()["integration"].items()}
    sim.bind("cfrc_ext")
    found: list[Any] = []
    with warp.ScopedDevice("cpu"):
        rehearse(lambda: sim._step(2), found)
        assert all(value.equal(start[name]) for name, value in sim.state()["integration"].items())
        with loads() as asked:
            sim._step(2)
    loaded, needed = ([(module, block_dim) for module, _, block_dim in each] for each in (found, asked))
    assert len(loaded) > 20 and set(loaded) == set(needed) and len(loaded) == len(set(loaded))


def test_what_the_rehearsal_misses_is_loaded_as_ever() -> None:
    arrays, work = small_work()
    calls: list[bool] = []

    def fails_at_first() -> None:
        work()
        calls.append(True)
        if len(calls) == 1:
            raise TypeError("another Warp")

    load, suggest = warp.Module.load, warp.get_suggested_block_size
    with warp.ScopedDevice("cpu"):
        load_kernels(fails_at_first)
        assert (warp.Module.load, warp.get_suggested_block_size) == (load, suggest)
        fails_at_first()
    assert contents(arrays)["whole"] == [3] * 4


def test_other_threads_load_what_they_launch() -> None:
    (module, device), loaded = (count_down.module, warp.get_device("cpu")), []

    def work() -> None:
        thread = threading.Thread(target=lambda: loaded.append(warp.Module.load(module, device, 1)))
        thread.start()
        thread.join()

    found: list[Any] = []
    with warp.ScopedDevice("cpu"):
        rehearse(work, found)
    assert loaded[0] is not None and not found
