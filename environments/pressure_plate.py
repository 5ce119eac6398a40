"""PressurePlate: agents open doors for each other, so that one of them reaches the goal.

Rooms lie above each other, with a wall and a door between each two. Agent i owns the plate of room i, and door i above
it is open while agent i stands there: all but the last must stay behind. The last owns none, and aims for the goal in
the top room. x runs to the right, y down; rooms, agents, plates and doors are numbered from the bottom.

    action   0 up, 1 down, 2 left, 3 right, 4 stay; agents move one after another, in an order drawn each step, and
             not into the edge, a wall, a closed door or each other
    sees     5 x 5 cells around itself, four times (agents, plates, closed doors, the goal), then its x and y: 102
    reward   in its own room, minus the L1 distance to its target over 10; else minus the number of rooms above it. A
             doorway belongs to the room above
    end      an agent stands on the goal; or `max_cycles` steps
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

WIDTH, SIGHT = 9, 2  # cells, and cells seen on each side
MOVES = ((0, -1), (0, 1), (-1, 0), (1, 0), (0, 0))
FARTHEST = 10  # L1 distance across a room
PLAYERS = (4, 5, 6)
CELL = 24  # pixels
COLORS = ((214, 69, 65), (65, 131, 215), (38, 166, 91), (244, 179, 80), (142, 68, 173), (52, 172, 186))
Place = tuple[int, int]


def mirrored(x: int, room: int) -> int:
    """Every second room is the one below it with left and right exchanged."""
    return x if room % 2 == 0 else WIDTH - x


class PressurePlate(ParallelEnv[str, np.ndarray, int]):
    """See the module's own text.

    Args:
        players: 4, 5 or 6, and as many rooms.
        max_cycles: steps after which all are truncated.
    Raises:
        ValueError: another number of players.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "pressure_plate", "render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, players: int = 4, max_cycles: int = 500, render_mode: str | None = None) -> None:
        if players not in PLAYERS:
            raise ValueError(f"players is {players}, but PressurePlate has rooms for 4, 5 or 6")
        self.render_mode, self.max_cycles, self.players = render_mode, max_cycles, players
        self.height = 4 * players - 1
        self.possible_agents = [f"agent_{number}" for number in range(players)]
        self.agents: list[str] = []
        doorways = [{(mirrored(x, room), self._wall(room)) for x in (6, 7)} for room in range(players - 1)]
        self.doors: list[set[Place]] = doorways
        open_cells = set().union(*doorways)
        walls = {(x, self._wall(room)) for room in range(players - 1) for x in range(WIDTH)}
        self.walls = walls - open_cells
        self.plates = [(mirrored(7, room), self._middle(room)) for room in range(players - 1)]
        self.goal = (mirrored(6, players - 1), self._middle(players - 1))
        self.positions: list[Place] = []
        self.cycles = 0
        self.random = np.random.default_rng()
        size = 4 * (2 * SIGHT + 1) ** 2 + 2
        self._seen = Box(0.0, float(self.height), (size,), np.float32)
        self._moves = Discrete(len(MOVES))
        self.state_space = Box(0.0, 1.0, (3 * players - 1,), np.float32)

    def _wall(self, room: int) -> int:
        """The row of the wall above a room."""
        return self.height - 4 * (room + 1)

    def _middle(self, room: int) -> int:
        return self.height - 2 - 4 * room

    def observation_space(self, agent: str) -> Box:
        return self._seen

    def action_space(self, agent: str) -> Discrete:
        return self._moves

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        if seed is not None:
            self.random = np.random.default_rng(seed)
        self.agents, self.cycles = list(self.possible_agents), 0
        self.positions = [(5 - number // 2, self.height - 2 - number % 2) for number in range(self.players)]
        return self._observations(), {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, int]
    ) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        blocked = self.walls | self._closed()
        for number in self.random.permutation(self.players):
            (x, y), (dx, dy) = self.positions[number], MOVES[int(actions[self.possible_agents[number]])]
            place = x + dx, y + dy
            inside = 0 <= place[0] < WIDTH and 0 <= place[1] < self.height
            if inside and place not in blocked and place not in self.positions:
                self.positions[number] = place
        self.cycles += 1
        over = self.goal in self.positions
        late = not over and self.cycles >= self.max_cycles
        rewards = {agent: self._reward(number) for number, agent in enumerate(self.possible_agents)}
        infos: dict[str, dict[str, Any]] = {agent: {"is_success": float(over)} for agent in self.agents}
        result = (
            self._observations(),
            rewards,
            dict.fromkeys(self.agents, over),
            dict.fromkeys(self.agents, late),
            infos,
        )
        if over or late:
            self.agents = []
        return result

    def _open(self) -> list[bool]:
        return [position == plate for position, plate in zip(self.positions, self.plates, strict=False)]

    def _closed(self) -> set[Place]:
        """Cells of closed doors."""
        return set().union(*(door for door, is_open in zip(self.doors, self._open(), strict=True) if not is_open))

    def _room(self, y: int) -> int:
        return (self.height - y) // 4

    def _reward(self, number: int) -> float:
        x, y = self.positions[number]
        room = self._room(y)
        if room != number:
            return float(room - (self.players - 1))
        to_x, to_y = self.goal if number == self.players - 1 else self.plates[number]
        return -(abs(x - to_x) + abs(y - to_y)) / FARTHEST

    def _observations(self) -> dict[str, np.ndarray]:
        layers = np.zeros((4, self.height + 2 * SIGHT, WIDTH + 2 * SIGHT), np.float32)
        for layer, places in zip(layers, (self.positions, self.plates, self._closed(), [self.goal]), strict=True):
            for x, y in places:
                layer[y + SIGHT, x + SIGHT] = 1
        side = 2 * SIGHT + 1
        windows = (layers[:, y : y + side, x : x + side].ravel() for x, y in self.positions)
        places = np.asarray(self.positions, np.float32)
        return {
            agent: np.concatenate((window, place))
            for agent, window, place in zip(self.possible_agents, windows, places, strict=True)
        }

    def state(self) -> np.ndarray:
        """All positions, over the sides of the grid, and which doors are open."""
        places = np.asarray(self.positions, np.float32) / np.asarray((WIDTH, self.height), np.float32)
        return np.concatenate((places.ravel(), np.asarray(self._open(), np.float32)))

    def render(self) -> np.ndarray:
        """[height * 24, 9 * 24, 3] uint8. A door and its plate have the colour of the agent that opens it."""
        from PIL import Image, ImageDraw

        picture = Image.new("RGB", (WIDTH * CELL, self.height * CELL), (236, 240, 241))
        draw, closed = ImageDraw.Draw(picture), self._closed()

        def box(place: Place, inset: int) -> tuple[int, int, int, int]:
            x, y = place[0] * CELL, place[1] * CELL
            return x + inset, y + inset, x + CELL - 1 - inset, y + CELL - 1 - inset

        for place in self.walls:
            draw.rectangle(box(place, 0), fill=(87, 96, 111))
        for door, color in zip(self.doors, COLORS, strict=False):
            for place in door:
                draw.rectangle(box(place, 1), fill=color if place in closed else None, outline=color, width=2)
        for place, color in zip(self.plates, COLORS, strict=False):
            draw.rectangle(box(place, 3), outline=color, width=3)
        draw.rectangle(box(self.goal, 3), fill=COLORS[self.players - 1])
        for place, color in zip(self.positions, COLORS, strict=False):
            draw.ellipse(box(place, 5), fill=color, outline=(44, 62, 80))
        return np.asarray(picture)
