"""A game of the Arcade Learning Environment that is observed as the console's 128 bytes of memory."""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from ppo_and_friends.vector.gym_rows import CONTINUES

BYTES = 128


class RamGame(gymnasium.Env[np.ndarray, np.integer]):
    """The memory after each of the last `stack` decisions, `[stack * 128]` from 0 to 1, oldest first.

    Otherwise as `AtariEnv` plays a game: one action for `frame_skip` frames, up to `noops` idle frames at a start, FIRE
    where the game waits for it, and a lost life as an end that does not end the game (`life_loss_ends`).
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 15}

    def __init__(
        self,
        game: str,
        life_loss_ends: bool = True,
        frame_skip: int = 4,
        stack: int = 4,
        noops: int = 30,
        max_frames: int = 108_000,
        render_mode: str | None = None,
    ) -> None:
        import ale_py
        from ale_py import roms

        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.render_mode = render_mode
        self.life_loss_ends, self.frame_skip, self.noops, self.max_frames = (
            life_loss_ends,
            frame_skip,
            noops,
            max_frames,
        )
        self.console = ale_py.ALEInterface()
        self.console.setFloat("repeat_action_probability", 0.0)
        self.rom = str(roms.get_rom_path(game))
        self.console.loadROM(self.rom)
        self.actions = self.console.getMinimalActionSet()
        self.fire = ale_py.Action.FIRE if ale_py.Action.FIRE in self.actions else None
        self.action_space = Discrete(len(self.actions))
        self.observation_space = Box(0.0, 1.0, (stack * BYTES,), np.float32)
        self.memory: deque[np.ndarray] = deque(maxlen=stack)
        self.lives, self.goes_on = 0, False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A new game; or, where only a life was lost, the game as it stands."""
        super().reset(seed=seed)
        if seed is not None:
            self.console.setInt("random_seed", int(seed) % 2**31)
            self.console.loadROM(self.rom)  # which reads the seed
        if seed is None and self.goes_on:
            self.goes_on = False
            return self._observation(), {}
        self.console.reset_game()
        for _ in range(int(self.np_random.integers(self.noops + 1))):
            self._press(0)
        if self.fire is not None:
            self._press(self.actions.index(self.fire))
        self.lives = self.console.lives()
        for _ in range(self.memory.maxlen or 1):
            self.memory.append(self.console.getRAM().copy())
        return self._observation(), {}

    def _press(self, action: int) -> None:
        self.console.act(self.actions[action])
        if self.console.game_over():
            self.console.reset_game()

    def step(self, action: np.integer) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward = 0.0
        for _ in range(self.frame_skip):
            reward += self.console.act(self.actions[int(action)])
            if self.console.game_over():
                break
        self.memory.append(self.console.getRAM().copy())
        over = self.console.game_over(with_truncation=False)
        cut = not over and self.console.getEpisodeFrameNumber() >= self.max_frames
        lost, self.lives = self.console.lives() < self.lives, self.console.lives()
        self.goes_on = self.life_loss_ends and lost and not over and not cut
        info = {CONTINUES: 1.0} if self.goes_on else {}
        return self._observation(), reward, over or self.goes_on, cut, info

    def _observation(self) -> np.ndarray:
        return np.concatenate(self.memory) * np.float32(1 / 255)

    def render(self) -> np.ndarray:  # type: ignore[override]
        return self.console.getScreenRGB()
