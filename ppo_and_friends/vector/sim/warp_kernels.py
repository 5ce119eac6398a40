"""MuJoCo Warp's kernels, compiled on all cores before the first of them is launched.

A step launches kernels of some fifty modules, and Warp compiles and loads a module when a kernel of it is first
launched: one after another, in one thread. Here the step is rehearsed, which tells the modules; threads load them.
"""

# warp ships no types
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import warp

from ppo_and_friends.comm import own_cores

Variant = tuple[Any, Any, int]  # what is compiled and loaded at once: a module, for a device, for a size of blocks


def load_kernels(work: Callable[[], None]) -> None:
    """Load what `work` would launch on Warp's current device, with a thread for each core.

    What is not loaded here is loaded as ever, at its first launch; and a real mistake is made again there, and told."""
    found: list[Variant] = []
    with suppress(Exception):
        rehearse(work, found)
    with ThreadPoolExecutor(len(own_cores())) as pool:
        list(pool.map(_load, found))


def _load(variant: Variant) -> None:
    with suppress(Exception):
        warp.Module.load(*variant)


def rehearse(work: Callable[[], None], found: list[Variant]) -> None:
    """Call `work` so that nothing is launched, and append to `found` what it would load, once each.

    It is recorded as a graph, which is thrown away: memory keeps its contents, and the body of a conditional loop
    is called once. Arrays that `work` makes are made."""
    with _noting(found), warp.ScopedCapture(force_module_load=False):
        work()


@contextmanager
def _noting(found: list[Variant]) -> Iterator[None]:
    """Instead of loading modules, this thread notes them.

    `warp.launch` asks for a kernel's module when it has settled overload and size of blocks, and returns where it gets
    none. So the module gets all overloads before it is compiled, and each variant the hash that the launch looks for.
    """
    load, suggest = warp.Module.load, warp.get_suggested_block_size
    rehearsing = threading.get_ident()

    def note(module: Any, device: Any, block_dim: int | None = None, *rest: Any, **named: Any) -> Any:
        if threading.get_ident() != rehearsing:
            return load(module, device, block_dim, *rest, **named)
        variant = module, warp.get_device(device), block_dim or module.options["block_dim"]
        if variant not in found:
            found.append(variant)
        return None

    def guess(kernel: Any, device: Any = None) -> tuple[int, int]:  # it needs the module; only grids depend on it
        place = warp.get_device(device)
        if place.is_cuda:
            note(kernel.module, place)
        return 1, 1

    warp.Module.load, warp.get_suggested_block_size = note, guess
    try:
        yield
    finally:
        warp.Module.load, warp.get_suggested_block_size = load, suggest
