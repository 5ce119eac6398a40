"""Folding, dealing and gathering: every sample once an epoch, and the same company at any number of ranks."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from ppo_and_friends.minibatch import Batch, deal, epoch, everything, fold


def numbered(rows: slice, total: int, chunks: int) -> Batch:
    """Flat data whose rewards (here: returns) are global sample numbers c * total + row."""
    numbers = torch.arange(chunks * total, dtype=torch.float32).view(chunks, total)[:, rows]
    flat, empty = fold(numbers, 1), torch.zeros(1, numbers.numel(), 0)
    weights = torch.ones_like(flat)
    return Batch(empty, empty, empty, empty, flat, flat, empty, flat, flat, flat, weights, flat, empty, empty)


def company(split: list[int], chunks: int, minibatches: int, seed: int) -> list[list[float]]:
    """The samples of each minibatch, over all ranks."""
    total, start = sum(split), 0
    met: list[list[float]] = [[] for _ in range(minibatches)]
    for rows in split:
        generator = Generator().manual_seed(seed)
        data = numbered(slice(start, start + rows), total, chunks)
        dealt = deal(rows, start, total, chunks, minibatches, generator)
        widths = set()
        for number, (columns, batch) in enumerate(epoch(data, *dealt)):
            widths.add(batch.weights.shape)
            real = batch.returns[batch.weights > 0]
            assert torch.equal(real, data.returns[0, columns[: len(real)]])
            assert set(columns[len(real) :].tolist()) <= set(columns[: max(1, len(real))].tolist()), "padding repeats"
            met[number] += real.tolist()
        assert widths == {(1, -(-rows * chunks // minibatches))}, "shapes are static"
        start += rows
    return [sorted(samples) for samples in met]


@pytest.mark.parametrize(
    ("split", "chunks", "minibatches"),
    [
        ([1], 1, 1),
        ([4], 8, 4),
        ([3], 7, 4),
        ([2], 3, 5),
        ([1], 2, 9),
        ([5, 7], 6, 4),
        ([1, 2, 9], 5, 7),
        ([2] * 4, 3, 10),
    ],
)
def test_every_sample_once_an_epoch_and_the_same_company_at_any_split(
    split: list[int], chunks: int, minibatches: int
) -> None:
    total = sum(split)
    alone = company([total], chunks, minibatches, 5)
    assert sorted(number for samples in alone for number in samples) == [
        float(number) for number in range(total * chunks)
    ]
    assert company(split, chunks, minibatches, 5) == alone
    sizes = [len(samples) for samples in alone]
    assert max(sizes) - min(sizes) <= 1
    if total * chunks > 9 and minibatches > 1:
        assert company(split, chunks, minibatches, 6) != alone, "another epoch meets otherwise"


def test_data_is_not_changed_by_an_epoch() -> None:
    data = numbered(slice(0, 3), 3, 5)
    for _, batch in epoch(data, *deal(3, 0, 3, 5, 4, Generator().manual_seed(0))):
        batch.weights.zero_()
    assert torch.equal(data.weights, torch.ones(1, 15))


def test_one_minibatch_is_the_data_in_its_order() -> None:
    data = numbered(slice(0, 3), 3, 4)
    columns, batch = everything(data)
    assert batch is data and columns.tolist() == list(range(12))


def test_fields_that_are_one_object_stay_one_object() -> None:
    data = numbered(slice(0, 2), 2, 3).map(torch.clone)
    assert data.actor is data.critic and data.returns is data.advantages and data.weights is not data.returns


def plain_fold(tensor: Tensor, length: int) -> Tensor:
    steps, rows = tensor.shape[:2]
    folded = torch.empty(length, steps // length * rows, *tensor.shape[2:])
    for step in range(steps):
        for row in range(rows):
            folded[step % length, step // length * rows + row] = tensor[step, row]
    return folded


@pytest.mark.parametrize("length", [1, 2, 3, 12])
def test_chunk_c_of_row_n_is_column_c_times_rows_plus_n(length: int) -> None:
    tensor = torch.randn(12, 5, 2)
    assert torch.equal(fold(tensor, length), plain_fold(tensor, length))
    assert torch.equal(fold(tensor[..., 0], length), plain_fold(tensor[..., 0], length))
