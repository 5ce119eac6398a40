"""From `[T, N]` to minibatches `[L, B]`: the same samples meet in the same minibatch at any number of ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ppo_and_friends.types import Tree, leaves


class Batch(NamedTuple):
    """Samples in chunks of L steps. Flat data is L = 1.

    actor, critic   [L, B, ...]  observations, normalised
    mask            [L, B, K]
    actions         [L, B, columns]
    log_probs       [L, B]       of the acting policy
    parameters      [L, B, P]    of the acting policy
    reference       [L, B, P]    of the policy that the learning rate measures its steps from
    values          [L, B]       of the rollout's critic, in normalised units
    advantages      [L, B]       normalised over the rollout
    returns         [L, B]       in normalised units
    weights         [L, B]       0 for inactive rows and for padding
    first           [L, B] bool
    actor_states, critic_states  [1, B, S]  before the chunk's first step
    extras          [L, B, ...]  what add-ons ask for; an add-on's loss sees its own, and most ask for nothing
    """

    actor: Tree
    critic: Tree
    mask: Tensor
    actions: Tensor
    log_probs: Tensor
    parameters: Tensor
    reference: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    weights: Tensor
    first: Tensor
    actor_states: Tensor
    critic_states: Tensor
    extras: tuple[Tensor, ...] = ()

    def places(self) -> list[tuple[int, int | None]]:
        """Where to find every tensor once, as (field, part of a tree or None): fields that are the same object count
        as one."""
        found: dict[int, tuple[int, int | None]] = {}
        for index, field in enumerate(self):
            for part, tensor in enumerate(leaves(field)):
                found.setdefault(id(tensor), (index, part if isinstance(field, tuple) else None))
        return list(found.values())

    def at(self, places: Sequence[tuple[int, int | None]]) -> list[Tensor]:
        """The tensors at `places`, of this batch or of one like it."""
        return [self[i] if j is None else self[i][j] for i, j in places]  # type: ignore[index]

    def tensors(self) -> list[Tensor]:
        """Every tensor, once."""
        return self.at(self.places())

    def builder(self) -> Callable[[Sequence[Tensor]], Batch]:
        """From other tensors, in the order of `tensors`, to a batch like this: the same objects where it has them."""
        place = {id(tensor): index for index, tensor in enumerate(self.tensors())}
        places = [
            tuple(place[id(part)] for part in field) if isinstance(field, tuple) else place[id(field)] for field in self
        ]

        def build(tensors: Sequence[Tensor]) -> Batch:
            return Batch(*[tensors[p] if isinstance(p, int) else tuple(tensors[i] for i in p) for p in places])  # type: ignore[arg-type]

        return build

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Apply a function to every tensor, once."""
        return self.builder()([function(tensor) for tensor in self.tensors()])

    def split(self, width: int) -> list[Batch]:
        """Batches of `width` columns each."""
        build = self.builder()
        return [build(part) for part in zip(*(tensor.split(width, 1) for tensor in self.tensors()), strict=True)]


def fold(tensor: Tensor, length: int) -> Tensor:
    """[T, N, ...] to [L, C * N, ...] with C = T / L; chunk c of row n is column c * N + n."""
    steps, rows = tensor.shape[:2]
    if length == 1:
        return tensor.reshape(1, steps * rows, *tensor.shape[2:])
    chunks = tensor.unflatten(0, (steps // length, length)).transpose(0, 1)
    return chunks.reshape(length, steps // length * rows, *tensor.shape[2:])


def deal(
    rows: int, first_row: int, total_rows: int, chunks: int, minibatches: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Which chunks of this rank make up each minibatch of one epoch.

    Every rank draws the same keys `[total_rows, C]`. A row's chunks are ordered by its keys, and the j-th of
    global row r goes to minibatch (C * r + j + offset) mod M: a rank's share of every minibatch differs by at
    most one chunk, and shapes depend on nothing random.

    Args:
        rows: N of this rank.
        first_row: global number of its first row.
        total_rows: rows of all ranks.
        chunks: C, chunks in a row.
        minibatches: M.
        generator: in the same state on every rank.
    Returns:
        columns `[M, ceil(N * C / M)]` int64, and which of them are real, bool: padding comes last and repeats a column
        of its own minibatch. Both on the generator's device.
    """
    device = generator.device
    keys = torch.rand(total_rows, chunks, generator=generator, device=device)
    offset = torch.randint(minibatches, (), generator=generator, device=device)
    order = keys[first_row : first_row + rows].argsort(1)  # [N, C]
    columns = (order * rows + torch.arange(rows, device=device).unsqueeze(1)).flatten()
    count, width = rows * chunks, -(-rows * chunks // minibatches)
    padding = width * minibatches - count
    repeated = columns[max(0, count - minibatches) :][:padding] if count >= minibatches else columns[:1].expand(padding)
    columns = torch.cat((columns, repeated)).view(width, minibatches).t()
    numbers = torch.arange(minibatches, device=device)
    last = width - (numbers >= minibatches - padding).to(torch.int64)
    real = torch.arange(width, device=device) < last.unsqueeze(1)
    turn = (numbers - chunks * first_row - offset) % minibatches
    return columns[turn], real[turn]


def everything(data: Batch) -> tuple[Tensor, Batch]:
    """One minibatch of all samples: nothing to deal, whatever the order."""
    return torch.arange(data.weights.shape[1], device=data.weights.device), data


def epoch(data: Batch, columns: Tensor, real: Tensor) -> Iterable[tuple[Tensor, Batch]]:
    """The minibatches of one epoch: `(columns, batch)`; one gather for all of them. Padding has weight 0."""
    shuffled = data.map(partial(torch.index_select, dim=1, index=columns.flatten()))
    shuffled.weights.mul_(real.flatten())
    return zip(columns.unbind(), shuffled.split(columns.shape[1]), strict=True)
