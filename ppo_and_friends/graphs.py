"""CUDA graphs, applied from outside: what an iteration launches is recorded once, and replayed.

With thousands of rows on a GPU, Python and the driver need longer to launch a small kernel than the GPU to run it.
Three functions wait for nothing and decide nothing in Python: the rollout (`Collector.collect`), what is made of it
(`PPO.digest`) and an epoch (`Learner.epoch`). Each runs as it is at first, which loads its kernels and makes its
storage; then it is recorded, and from then on replayed, with results in the same tensors. All that changes from one
replay to the next lives in tensors: counters, the learning rate, the states of the generators. Where an environment
waits for its actions, one step's decision and an epoch are recorded, and are given copies of what they read.

The numbers are those of the same run without recording, up to what a GPU's own order of summation leaves open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn

from ppo_and_friends.networks.distributions import Distribution

if TYPE_CHECKING:
    from ppo_and_friends.ppo import PPO


KNOWN = ("torch", "ppo_and_friends")  # whose modules never wait for the device


class Recorded:
    """In the place of a function of tensors that always gets the same objects.

    Args:
        function: what to record; it is called as it is until `ready`, and once more after that.
        generators: all that it draws from.
        ready: whether its arguments are from now on the same objects in each call.
    """

    def __init__(
        self, function: Callable[..., Any], generators: Iterable[Generator], ready: Callable[[], bool] = lambda: True
    ) -> None:
        self.function, self.generators, self.ready = function, tuple(generators), ready
        self.graph: torch.cuda.CUDAGraph | None = None
        self._arguments: tuple[Any, ...] | None = None
        self._result: Any = None

    def __call__(self, *arguments: Any) -> Any:
        if not self._same(arguments):
            self._arguments = arguments if self.ready() else None
            self.graph = None
            return self.function(*arguments)
        if self.graph is None:
            self._record(arguments)
        assert self.graph is not None
        self.graph.replay()
        return self._result

    def _same(self, arguments: tuple[Any, ...]) -> bool:
        before = self._arguments
        return before is not None and len(before) == len(arguments) and all(map(_is, before, arguments))

    def _record(self, arguments: tuple[Any, ...]) -> None:
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        # Other threads (a progress bar, a viewer, NCCL's watchdog) may go on using the GPU meanwhile.
        stream = torch.cuda.current_stream()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            self._result = self.function(*arguments)
        self.graph = graph


class Kept:
    """Gives a function the same arguments in each call: others are copied into those of the first call, while the same
    objects once more mean what the function has made of them.

    Arguments are tensors, or have a `map` over their tensors; of equal shapes in all calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._given: tuple[Any, ...] = ()
        self._kept: tuple[Any, ...] = ()

    def __call__(self, *arguments: Any) -> Any:
        if not self._kept:
            self._kept = tuple(_each(argument, torch.clone) for argument in arguments)
        elif not all(map(_is, self._given, arguments)):
            for kept, argument in zip(self._kept, arguments, strict=True):
                new = iter(_tensors(argument))
                _each(kept, lambda tensor, new=new: tensor.copy_(next(new)))
        self._given = arguments
        return self.function(*self._kept)


def _each(argument: Any, function: Callable[[Tensor], Tensor]) -> Any:
    return function(argument) if isinstance(argument, Tensor) else argument.map(function)


def _tensors(argument: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    _each(argument, note)
    return found


def _is(one: Any, other: Any) -> bool:
    return one is other


def record(ppo: PPO, say: Callable[[str], None]) -> None:
    """Let the iterations of `ppo` record themselves, where its device and settings allow it.

    Args:
        say: told in one line why they do not.
    """
    begun = isinstance(ppo.collect, Recorded) or any(isinstance(group.rows.decide, Kept) for group in ppo.groups)
    if ppo.device.type != "cuda" or ppo.experiment.cuda_graphs == "off" or begun:
        return
    reason = obstacle(ppo)
    foreign = next(unknown_modules(ppo), None)
    if foreign is not None:
        say(f"Nothing is recorded as CUDA graphs: {type(foreign).__name__} does not say that it can be (`recordable`).")
        return
    if reason and ppo.env.spec.device.type == "cuda":  # its simulator may count on the stream that there is
        say(f"Nothing is recorded as CUDA graphs: {reason}.")
        return
    # The default stream cannot be recorded; what is recorded had better run where it is warmed up.
    torch.cuda.synchronize(ppo.device)
    torch.cuda.set_stream(torch.cuda.Stream(ppo.device))
    if reason:
        record_parts(ppo, say, reason)
        return
    generators = (ppo.generator, *ppo.env.generators)  # type: ignore[attr-defined]
    collect = ppo.collect = Recorded(ppo.collect, generators)
    if ppo.comm.size > 1 and not ppo.comm.on_device:
        say("Only rollouts are recorded as CUDA graphs: these ranks exchange gradients through host memory.")
        return
    digest = ppo.digest = Recorded(ppo.digest, generators, lambda: collect.graph is not None)
    for group in ppo.groups:
        learner = group.learner
        learner.epoch = Recorded(learner.epoch, learner.generators, lambda: digest.graph is not None)


def record_parts(ppo: PPO, say: Callable[[str], None], reason: str) -> None:
    """What can be recorded where whole rollouts cannot, for a `reason`: of environments on the CPU."""
    for player in ppo.players.all:
        player.rows.decide = Kept(Recorded(player.rows.decide, ()))
    through_host = ppo.comm.size > 1 and not ppo.comm.on_device
    for group in [] if through_host else ppo.groups:
        group.learner.epoch = Kept(Recorded(group.learner.epoch, group.learner.generators))
    what = "actions" if through_host else "actions and updates"
    say(f"Only {what} are recorded as CUDA graphs: {reason}.")


def unknown_modules(ppo: PPO) -> Iterator[nn.Module]:
    """Add-ons, and parts of networks from elsewhere, that may wait for the device."""
    for group in ppo.groups:
        yield from (addon for addon in group.addons if not addon.recordable)
        for module in group.net.modules():
            if type(module).__module__.split(".")[0] not in KNOWN and not getattr(module, "recordable", False):
                yield module


def obstacle(ppo: PPO) -> str:
    """What keeps rollouts from being recorded; "" where nothing does."""
    if not ppo.env.spec.recordable or ppo.env.spec.device != ppo.device:
        return f"{ppo.env.spec.engine} waits for the GPU in its steps"
    if not ppo.experiment.ppo.soft_resets:
        return "ppo.soft_resets is off, and a hard reset seeds its generators from Python"
    for group in ppo.groups:
        if type(group.net.distribution).refresh is not Distribution.refresh:
            return f"{type(group.net.distribution).__name__} draws its noise at times that Python counts"
    return ""
