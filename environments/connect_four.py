"""Connect four, many games at once: seven columns of six places, and four in a line win.

A board is two 64-bit numbers, one a player, with seven bits for each column: six places from the bottom up and one that
stays empty, so that no line goes over an edge. Lines are then found by shifting (the usual bitboard of this game).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from ppo_and_friends.types import ActionSpace, GroupSpec, Obs, Spec, Step, TensorSpec

COLUMNS, HEIGHT = 7, 6
WAIT = COLUMNS  # the one legal action of the player who is not to move
PLACES = 1 << torch.tensor([[7 * column + row for row in range(HEIGHT)] for column in range(COLUMNS)])
BOTTOM, TOP = PLACES[:, 0], PLACES[:, -1]
FULL = PLACES.sum()
LINES = (1, 6, 7, 8)  # a place's neighbours: above, down to the right, right, up to the right
PICTURE = PLACES.T.flip(0)  # the places as one sees them, the highest row first
CELL, MARGIN = 34, 6  # pixels
BOARD, EMPTY, DISCS = (40, 70, 150), (236, 240, 241), ((220, 60, 60), (244, 200, 60))


def won(board: Tensor) -> Tensor:
    """Whether a player's discs, `[...]` int64, have four in a line."""
    found = torch.zeros_like(board, dtype=torch.bool)
    for shift in LINES:
        pairs = board & (board >> shift)
        found |= (pairs & (pairs >> 2 * shift)) != 0
    return found


def drops(occupied: Tensor) -> Tensor:
    """Where a disc dropped into each column comes to lie: `[...]` int64 to `[..., 7]`; 0 for a full column."""
    above = occupied.unsqueeze(-1) + BOTTOM  # the carry stops at the lowest empty place of the column
    return above & ~occupied.unsqueeze(-1) & PLACES.sum(1)


@dataclass(frozen=True)
class ConnectFour:
    """Two agents a game, `first` and `second`, of one group: whoever has four in a line gets 1, the other one -1.

    A step is one player's move, and the other one's only legal action is to wait. Each sees planes `[3, 6, 7]`, the
    highest row first: its own discs, the other's, and ones everywhere where it is to move.
    """

    def make(self, rows: int, threads: int = 1, render: bool = False) -> ConnectFourVec:
        return ConnectFourVec(rows)


class ConnectFourVec:
    """A `VecEnv` of so many games. No chance is in it: a game begins with an empty board."""

    def __init__(self, games: int) -> None:
        part, action = (TensorSpec((3, HEIGHT, COLUMNS)),), ActionSpace("discrete", (COLUMNS + 1,))
        group = GroupSpec(2 * games, part, part, action, COLUMNS + 1, agents=("first", "second"))
        self.spec = Spec((group,), "connect four", "64-bit boards", steps_per_second=2.0)
        self.boards = torch.zeros(games, 2, dtype=torch.int64)
        self.mover = torch.zeros(games, dtype=torch.int64)
        self._games = torch.arange(games)
        self._never = torch.zeros(2 * games, dtype=torch.bool)

    def reset(self, seed: int) -> tuple[Obs, ...]:
        self.boards.zero_()
        self.mover.zero_()
        return (self._observe(),)

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        """Drop a disc in each game. Raises ValueError for a column that is full or none."""
        column = actions[0].view(-1, 2)[self._games, self.mover]
        disc = drops(self.boards.sum(1)).gather(1, column.clamp(0, WAIT - 1).unsqueeze(1)).squeeze(1)
        disc *= column < WAIT
        if not bool(disc.all()):
            game = int((disc == 0).nonzero()[0])
            raise ValueError(f"connect four, game {game}: column {int(column[game])} takes no disc; actions have masks")
        self.boards[self._games, self.mover] += disc
        wins = won(self.boards[self._games, self.mover])
        ended = wins | (self.boards.sum(1) == FULL)
        reward = torch.zeros(len(wins), 2)
        reward[self._games, self.mover] = wins.float()
        reward -= reward.flip(1)
        self.mover = 1 - self.mover
        final = self._observe()
        self.boards[ended] = 0
        self.mover[ended] = 0
        terminated = ended.repeat_interleave(2)
        facts = reward.flatten(), terminated, self._never, ~self._never
        return (Step(self._observe() if bool(ended.any()) else final, final, *facts, {}),)

    def _observe(self) -> Obs:
        own = ((self.boards.view(-1, 2, 1, 1) & PICTURE) != 0).float()
        to_move = torch.nn.functional.one_hot(self.mover, 2).view(-1, 2, 1, 1).expand_as(own)
        seen = torch.stack((own, own.flip(1), to_move), 2).flatten(0, 1)
        return Obs(seen, seen, self.legal(seen))

    @staticmethod
    def legal(observation: Any) -> Tensor:
        """`[B, 8]` flags of the columns that are not full, or of waiting, of observations `[B, 3, 6, 7]`."""
        seen = torch.as_tensor(np.asarray(observation)).view(-1, 3, HEIGHT, COLUMNS)
        to_move = seen[:, 2, 0, :1] != 0
        tops = seen[:, :2, 0].sum(1)
        return torch.cat(((tops == 0) & to_move, ~to_move), 1)

    def state(self) -> dict[str, Any]:
        return {"boards": self.boards.clone(), "mover": self.mover.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.boards.copy_(state["boards"])
        self.mover.copy_(state["mover"])

    def frame(self, row: int) -> np.ndarray:
        """The board; who began has red discs."""
        from PIL import Image, ImageDraw

        width, height = COLUMNS * CELL, HEIGHT * CELL
        picture = Image.new("RGB", (width + 2 * MARGIN, height + 2 * MARGIN), EMPTY)
        draw = ImageDraw.Draw(picture)
        draw.rectangle((MARGIN, MARGIN, MARGIN + width, MARGIN + height), fill=BOARD)
        for column in range(COLUMNS):
            for place in range(HEIGHT):
                owners = (self.boards[row] & PLACES[column, place]).ne(0).tolist()
                colour = DISCS[owners.index(True)] if any(owners) else EMPTY
                x, y = MARGIN + column * CELL, MARGIN + (HEIGHT - 1 - place) * CELL
                draw.ellipse((x + 3, y + 3, x + CELL - 4, y + CELL - 4), fill=colour)
        return np.asarray(picture)

    def close(self) -> None: ...


class Lookahead:
    """A yardstick: wins where it can, else blocks a win of the other's, else drops anywhere at random."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    def start(self, rows: int) -> None:
        return None

    def act(self, obs: Obs, state: None, first: Tensor) -> tuple[Tensor, None]:
        assert isinstance(obs.actor, Tensor)
        own, other = (obs.actor[:, :2].long() * PICTURE).sum((-1, -2)).unbind(1)
        discs = drops(own | other)
        wins, blocks = (won(board.unsqueeze(1) | discs) for board in (own, other))
        values = torch.rand(len(own), COLUMNS + 1, generator=self.generator)
        values[:, :COLUMNS] += 4.0 * wins + 2.0 * blocks
        return values.masked_fill(~obs.mask, -1.0).argmax(1, keepdim=True), None
