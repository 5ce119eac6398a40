"""Atari games on ale-py's own vector environment: emulation, preprocessing and stacking in C++ threads.

Preprocessing is that of arXiv:1312.5602 and arXiv:1709.06009: up to `noops` idle frames at a start, a press of FIRE
where a game waits for it, one action for `frame_skip` frames, the brighter of the last two of them, grey, 84 x 84, the
last `stack` screens. Frames stay bytes until the network divides them by 255.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppo_and_friends.errors import UserError
from ppo_and_friends.types import CONTINUES, ActionSpace, GroupSpec, Obs, Spec, Step, TensorSpec
from ppo_and_friends.vector.gym_rows import row_seed

FRAMES_PER_SECOND = 60
SCREEN = {"grayscale": False, "img_height": 210, "img_width": 160, "stack_num": 1}  # as a player sees it


@dataclass(frozen=True)
class AtariEnv:
    """A game of the Arcade Learning Environment, observed as its last screens `[stack, size, size]` uint8.

    game                as ale-py calls its ROM: "breakout", "pong", "ms_pacman"
    life_loss_ends      while training, a lost life ends the learner's trajectory; the game goes on, and scores are
                        those of whole games
    sticky              probability that the action before is played instead (arXiv:1709.06009 has 0.25)
    frame_skip, stack, size, noops
                        see above
    max_frames          of one game, after which it is cut
    all_actions         the joystick's 18, rather than those that do something in this game
    """

    game: str
    life_loss_ends: bool = True
    sticky: float = 0.0
    frame_skip: int = 4
    stack: int = 4
    size: int = 84
    noops: int = 30
    max_frames: int = 108_000
    all_actions: bool = False

    def __post_init__(self) -> None:
        for name, least in (("frame_skip", 1), ("stack", 1), ("size", 1), ("noops", 0), ("max_frames", 1)):
            if getattr(self, name) < least:
                raise UserError(f"env.{name} is {getattr(self, name)}; give {least} or more.")
        if not 0 <= self.sticky <= 1:
            raise UserError(f"env.sticky is {self.sticky}, which is no probability; give a number from 0 to 1.")

    def make(self, rows: int, threads: int = 1, render: bool = False) -> AtariVec:
        """Build `rows` games, emulated by as many as `threads` threads.

        Raises:
            UserError: ale-py is missing, or has no such game.
        """
        return AtariVec(self, rows, threads, render)

    def settings(self) -> dict[str, Any]:
        """What both the games and their pictures are made with, in ale-py's words."""
        from gymnasium.vector import AutoresetMode

        return {
            "autoreset_mode": AutoresetMode.SAME_STEP,
            "max_num_frames_per_episode": self.max_frames,
            "repeat_action_probability": self.sticky,
            "full_action_space": self.all_actions,
            "frameskip": self.frame_skip,
            "noop_max": self.noops,
            "life_loss_info": self.life_loss_ends,
            "reward_clipping": False,
        }


class AtariVec:
    """`VecEnv` of one group of games. Its state cannot be saved: a resumed run begins new games."""

    def __init__(self, config: AtariEnv, rows: int, threads: int, render: bool) -> None:
        build = vector_of(config.game)
        grey = {"img_height": config.size, "img_width": config.size, "stack_num": config.stack}
        self._games = build(rows, num_threads=min(threads, rows), **config.settings(), **grey)
        # The same games once more, played alike from the same seeds, for those who want to see them in colour.
        self._pictures = build(rows, num_threads=min(threads, rows), **config.settings(), **SCREEN) if render else None
        self._screens: np.ndarray = np.zeros((rows, 1, 210, 160, 3), np.uint8)
        self._config, self._rows = config, rows
        screens = (TensorSpec((config.stack, config.size, config.size), torch.uint8, "screens"),)
        action = ActionSpace("discrete", (int(self._games.single_action_space.n),))
        group = GroupSpec(rows, screens, screens, action)
        engine = f"ale-py, {min(threads, rows)} thread{'s' if min(threads, rows) > 1 else ''}"
        pace = FRAMES_PER_SECOND / config.frame_skip
        self.spec = Spec((group,), f"{config.game} (Atari)", engine, steps_per_second=pace)
        self._mask = torch.ones(rows, 0, dtype=torch.bool)
        self._active = torch.ones(rows, dtype=torch.bool)

    def reset(self, seed: int) -> tuple[Obs, ...]:
        seeds = np.asarray([row_seed(seed, row) for row in range(self._rows)])
        screens, info = self._games.reset(seed=seeds)
        self._frames = info["episode_frame_number"]  # of each game so far
        if self._pictures is not None:
            self._screens, _ = self._pictures.reset(seed=seeds)
        return (self._obs(torch.from_numpy(screens)),)

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        chosen = actions[0][:, 0].numpy()
        screens, rewards, terminated, truncated, info = self._games.step(chosen)
        if self._pictures is not None:
            self._screens, *_ = self._pictures.step(chosen)
        seen, log, frames = torch.from_numpy(screens), {}, info["episode_frame_number"]
        obs = self._obs(seen)
        anew = terminated | truncated
        if self._config.life_loss_ends:  # a game that ended has begun anew, and its count of frames with it
            goes_on = terminated & ~truncated & (frames > self._frames)
            anew &= ~goes_on
            log[CONTINUES] = torch.from_numpy(goes_on.astype(np.float32))
        self._frames, final = frames, obs
        if anew.any():  # the last screens of other games mean nothing
            last = torch.from_numpy(info["final_obs"])
            final = self._obs(torch.where(torch.from_numpy(anew)[:, None, None, None], last, seen))
        reward = torch.from_numpy(rewards.astype(np.float32))
        ends = torch.from_numpy(terminated), torch.from_numpy(truncated)
        return (Step(obs, final, reward, *ends, self._active, log),)

    def _obs(self, screens: Tensor) -> Obs:
        return Obs(screens, screens, self._mask)

    def state(self) -> None:
        return None

    def load_state(self, state: dict[str, Any]) -> None:
        raise ValueError("ale-py's vector environment cannot be given a state")

    def frame(self, row: int) -> np.ndarray:
        return self._screens[row, 0]

    def close(self) -> None:
        self._games.close()
        if self._pictures is not None:
            self._pictures.close()


def vector_of(game: str) -> Any:
    """What makes ale-py's vector environment of a game: called with its rows and settings.

    Raises:
        UserError: ale-py is missing, or has no such game.
    """
    try:
        import ale_py
        from ale_py import roms
        from ale_py.vector_env import AtariVectorEnv
    except ImportError as error:
        raise UserError(
            f'Atari games need the package ale-py; install it with `pip install ".[atari]"` ({error}).'
        ) from error
    import difflib
    from functools import partial

    known = roms.get_all_rom_ids()
    if game not in known:
        near = difflib.get_close_matches(game.lower(), known, n=3)
        meant = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known[:5])} and others."
        raise UserError(f"env.game is {game!r}, which is no game of ale-py; {meant}")
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    return partial(AtariVectorEnv, game)
