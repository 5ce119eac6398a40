"""What each rank does in the tests of test_nccl.py: `nccl_ranks.py CHECK` under torchrun or mpirun. Needs no pytest."""

from __future__ import annotations

import copy
import dataclasses
import os
import sys
from typing import Any

import torch
from collectives import check_all
from toys import BOX, Toy, box_spec, experiment, recorded

from ppo_and_friends.comm import Comm
from ppo_and_friends.config import RunConfig
from ppo_and_friends.devices import own_gpu
from ppo_and_friends.group import Group
from ppo_and_friends.launch import run_ranks
from ppo_and_friends.nccl import NcclComm, route, with_nccl
from ppo_and_friends.ppo import PPO
from ppo_and_friends.schedules import Progress
from ppo_and_friends.stats import reduce_moments
from ppo_and_friends.types import Obs, tree_map

ROWS, STEPS, UPDATES = 12, 10, 4
NO_EVALUATION = dataclasses.replace(experiment(Toy(BOX)).evaluation, every=0)

HELD: list[torch.cuda.CUDAGraph] = []  # to the end of the process, which must come all the same


def check_collectives(comm: Comm) -> None:
    """Of both kinds of tensors, and of bytes; then the same reductions out of captured graphs."""
    device = own_gpu()
    joined = with_nccl(comm, device)
    assert isinstance(joined, NcclComm) and with_nccl(comm, device) is joined
    assert torch.cuda.current_device() == device.index
    check_all(joined, device)
    check_all(joined)
    for mode in ("thread_local", "global"):
        check_captured(joined, device, mode)
    print(f"rank {comm.rank} of {comm.size} on {device}: {type(comm).__name__} and NCCL", flush=True)


def check_captured(comm: Comm, device: torch.device, mode: str) -> None:
    """Eager collectives are still under way when the capture begins: the watchdog goes on asking for them."""
    total, most = torch.ones(300_000, device=device), torch.zeros(3, dtype=torch.int64, device=device)
    side = torch.cuda.Stream(device)
    with torch.cuda.stream(side):
        for _ in range(50):
            comm.sum_(torch.ones_like(total))
            comm.max_(torch.ones_like(most))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side, capture_error_mode=mode):
            total.add_(1)
            comm.sum_(total)
            most.add_(comm.rank + 1)
            comm.max_(most)
    torch.cuda.synchronize(device)
    assert float(total[0]) == 1, "a capture runs nothing"
    expected = 1
    for _ in range(5):
        graph.replay()
        expected = (expected + 1) * comm.size
    assert (total == expected).all() and (most == 5 * comm.size).all(), (total, most)
    comm.sum_(total)  # eagerly again
    assert (total == expected * comm.size).all()
    HELD.append(graph)


def check_shared(comm: Comm) -> None:
    """Ranks that share a GPU stay with the host's way, also for tensors on the GPU."""
    device = own_gpu()
    assert with_nccl(comm, device) is comm and "host memory" in route(comm, str(device))
    check_all(comm, device)
    print(f"rank {comm.rank} of {comm.size} on {device}: {type(comm).__name__} alone", flush=True)


def check_recorded(comm: Comm) -> None:
    """Learn on the GPU from this rank's part of the same recorded data; rank 0 keeps the result."""
    result = learn_recorded(with_nccl(comm, own_gpu()))
    if comm.rank == 0:
        torch.save([tensor.cpu() for tensor in result], os.environ["RESULT"])


def learn_recorded(comm: Comm) -> list[torch.Tensor]:
    """Parameters, Adam's state and moments after some updates; the same on every rank."""
    torch.manual_seed(0)
    rows, device = ROWS // comm.size, own_gpu()
    config = experiment(Toy(BOX), rows=rows, steps_per_row=STEPS, minibatches=4, normalize_values=True)
    spec, mine = box_spec(rows), slice(rows * comm.rank, rows * (comm.rank + 1))
    group = Group(spec, config, comm, STEPS, torch.Generator(device))
    for number in range(UPDATES):
        progress = Progress(number, UPDATES)
        on_host = recorded(copy.deepcopy(group.net).cpu(), spec, STEPS, mine, ROWS, seed=number)
        facts, targets, own = group.prepare(moved(on_host, device), progress)
        sums = reduce_moments(comm, [*group.early_moments(), *group.late_moments()], own)
        group.learn(group.batch(facts, targets, sums), 7, number, progress)
    tensors, kept = group.learner.tensors, [*group.early_moments(), *group.late_moments()]
    learned = [tensors.values, tensors.first, tensors.second]
    result = learned + [item for moments in kept for item in (moments.count, moments.mean, moments.m2)]
    for tensor in result:
        assert tensor.device == device
        everyone = tensor.clone()
        comm.broadcast_(everyone)
        assert torch.equal(everyone, tensor)
    return result


def moved(rollout: Any, device: torch.device) -> Any:
    def carry(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(device)
        return Obs(*(tree_map(carry, part) for part in value)) if isinstance(value, Obs) else value

    fields = {field.name: getattr(rollout, field.name) for field in dataclasses.fields(rollout)}
    return dataclasses.replace(rollout, **{name: carry(value) for name, value in fields.items()})


def check_training(comm: Comm) -> int:
    """The whole loop, which says how gradients travel and ends as every run does."""
    settings = RunConfig(device="cuda", allow_mpi_gpu=True, state_path=os.environ["RESULT"], max_iterations=4)
    toy = dataclasses.replace(experiment(Toy(BOX)), name="Toy", evaluation=NO_EVALUATION)
    ppo = PPO(toy, settings, comm).learn()
    values = ppo.groups[0].learner.flat.values
    same = values.clone()
    ppo.comm.broadcast_(same)
    assert values.is_cuda and torch.equal(values, same)
    return ppo.exit_code


def check_death(comm: Comm) -> None:
    """The others wait on their GPU for a rank that raises."""
    joined, tensor = with_nccl(comm, own_gpu()), torch.ones(3, device=own_gpu())
    joined.sum_(tensor)
    print(f"connected {tensor.tolist()}\n", end="", flush=True)  # one write, so that ranks' lines stay whole
    if comm.rank == 1:
        raise ValueError("broken dice")
    joined.sum_(tensor)
    print("past the reduction", tensor.tolist())


CHECKS = {
    "collectives": check_collectives,
    "shared": check_shared,
    "recorded": check_recorded,
    "training": check_training,
    "death": check_death,
}

if __name__ == "__main__":
    sys.exit(run_ranks(CHECKS[sys.argv[1]]))
