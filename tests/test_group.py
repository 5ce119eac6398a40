"""One group on recorded data: the same result at any number of ranks, and absent rows that change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import needs_mpirun, run
from toys import BOX, Toy, box_spec, experiment, recorded, with_garbage

from ppo_and_friends.comm import SoloComm
from ppo_and_friends.group import Group
from ppo_and_friends.schedules import Progress
from ppo_and_friends.stats import reduce_moments

ROWS, STEPS, UPDATES = 12, 10, 4

SPLIT_RUN = """
    import torch
    from test_group import run_recorded
    from toys import BOX, Toy, experiment
    from ppo_and_friends.ppo import PPO

    def check_whole_iterations(comm):
        ppo = PPO(experiment(Toy(BOX), normalize_values=True), comm=comm)
        ppo.iterate()
        before = comm.calls.copy()
        metrics = ppo.iterate()
        assert comm.calls - before == {"sum_": 1 + 2 * 3}, comm.calls - before
        lines = torch.zeros(comm.size, 3, dtype=torch.float64)
        lines[comm.rank] = torch.tensor([metrics["kl"], metrics["value_loss"], metrics["episodes"]])
        comm.sum_(lines)
        assert (lines == lines[0]).all()

    def main(comm):
        import os
        split = [int(rows) for rows in os.environ["SPLIT"].split(",")]
        assert len(split) == comm.size
        check_whole_iterations(comm)
        result = run_recorded(comm, sum(split[:comm.rank]), split[comm.rank])
        for tensor in result:
            everyone = tensor.clone()
            comm.broadcast_(everyone)
            assert torch.equal(everyone, tensor)
        if comm.rank == 0:
            torch.save(result, os.environ["RESULT"])
"""

BAD_RUN = """
    import torch
    from toys import BOX, Toy, experiment
    from ppo_and_friends.ppo import PPO

    def main(comm):
        config = experiment(Toy(BOX), rows=4, normalize_advantages=False)
        ppo = PPO(config, comm=comm)
        ppo.iterate()
        group = ppo.groups[0]
        prepare = group.prepare

        def spoil(rollout, progress):
            rollout, targets, sums = prepare(rollout, progress)
            if comm.rank == 1:
                targets.advantages[3, 2] = float("nan")
            return rollout, targets, sums

        group.prepare = spoil
        before = group.learner.flat.values.clone()
        try:
            ppo.iterate()
        except FloatingPointError as error:
            assert group.learner.flat.values.isfinite().all()
            print(f"rank {comm.rank} says: {error}")
"""


def run_recorded(comm: object, first: int, rows: int, addons: tuple[Any, ...] = ()) -> list[torch.Tensor]:
    """Parameters, Adam's state and moments after some updates on rows `first` .. of the same recorded data."""
    torch.manual_seed(0)
    config = experiment(Toy(BOX), rows=rows, addons=addons, steps_per_row=STEPS, minibatches=4, normalize_values=True)
    spec = box_spec(rows)
    group = Group(spec, config, comm, STEPS, torch.Generator())  # type: ignore[arg-type]
    for number in range(UPDATES):
        progress = Progress(number, UPDATES)
        rollout = recorded(group.net, spec, STEPS, slice(first, first + rows), ROWS, seed=number)
        calls = comm.calls["sum_"]  # type: ignore[attr-defined]
        facts, targets, own = group.prepare(rollout, progress)
        sums = reduce_moments(comm, [*group.early_moments(), *group.late_moments()], own)  # type: ignore[arg-type]
        group.learn(group.batch(facts, targets, sums), 7, number, progress)
        if not isinstance(comm, SoloComm):
            assert comm.calls["sum_"] - calls == 1 + 2 * 4  # type: ignore[attr-defined]
    kept = [*group.early_moments(), *group.late_moments()]
    tensors = group.learner.tensors
    learned = [tensors.values, tensors.first, tensors.second]
    return learned + [item for moments in kept for item in (moments.count, moments.mean, moments.m2)]


@needs_mpirun
def test_the_result_is_the_same_at_any_number_of_ranks(tmp_path: Path) -> None:
    split = [3, 1, 6, 2]
    alone = run_recorded(SoloComm(), 0, ROWS)
    file = tmp_path / "result.pt"
    done = run(len(split), SPLIT_RUN, SPLIT=",".join(map(str, split)), RESULT=str(file))
    assert done.returncode == 0, done.stderr
    result = torch.load(file, weights_only=True)
    assert len(result) == len(alone) == 3 + 3 * 3  # moments: values, rewards' scale, observations
    assert all(float(count) > 0.8 * UPDATES * STEPS * ROWS for count in result[3::3])
    for mine, other in zip(result[:3], alone[:3], strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)
    for mine, other in zip(result[3:], alone[3:], strict=True):
        # Returns are measured with a critic that is equal to 1e-6; rewards and observations, below, are facts.
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=0)
    for mine, other in zip(result[6:], alone[6:], strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=0)


@needs_mpirun
def test_a_loss_that_is_not_finite_stops_all_ranks_with_the_name_of_the_one() -> None:
    done = run(2, BAD_RUN)
    assert done.returncode == 0, done.stderr
    said = sorted(line.partition(" says: ")[2] for line in done.stdout.splitlines())
    assert len(said) == 2 and said[0] == said[1]
    assert said[0].startswith("rank 1: the loss or its gradient is not finite in iteration 1, epoch 1:")


@pytest.mark.parametrize("normalize_values", [False, True])
def test_absent_rows_change_nothing(normalize_values: bool) -> None:
    results = []
    for scale in (0.0, 30.0, -1000.0):
        torch.manual_seed(0)
        config = experiment(Toy(BOX), rows=4, steps_per_row=STEPS, normalize_values=normalize_values)
        spec = box_spec(4)
        group = Group(spec, config, SoloComm(), STEPS, torch.Generator())
        for number in range(3):
            clean = recorded(group.net, spec, STEPS, slice(0, 4), 4, seed=number, absent=0.3)
            rollout, targets, sums = group.prepare(with_garbage(clean, scale), Progress(number, 3))
            assert sums.numel() == group.extra
            group.learn(group.batch(rollout, targets, sums), 7, number, Progress(number, 3))
        kept = [*group.early_moments(), *group.late_moments()]
        flat = [item for moments in kept for item in (moments.count, moments.mean, moments.m2)]
        results.append([group.learner.flat.values, group.learner.tensors.second, sums, *flat])
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))
