"""A GIF now and then while training, of an episode that training never sees."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from ppo_and_friends.comm import SoloComm
from ppo_and_friends.config import RunConfig
from ppo_and_friends.devices import on_device
from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.evaluate import Camera, evaluate
from ppo_and_friends.files import write_atomically
from ppo_and_friends.gif import GifRecorder
from ppo_and_friends.logger import NullLogger
from ppo_and_friends.mosaic import WIDTH, mosaic
from ppo_and_friends.simulator import CPU, with_simulator

if TYPE_CHECKING:
    from ppo_and_friends.ppo import PPO

SEED = 77_003  # every recording begins alike, so that what differs is the policy
TAG = "episode"  # what TensorBoard calls the pictures


class NoRecordings:
    """For runs that record nothing, and for ranks that do not write."""

    def after(self, iteration: int, log: NullLogger) -> dict[str, float]:
        """Metrics of what was recorded after this iteration."""
        return {}

    def close(self) -> None:
        """Free what draws."""


class Recordings(NoRecordings):
    """One episode of the policy without exploration, every `run.gif_every` iterations, on environments of their own.

    MuJoCo tasks are recorded on the CPU's engine, whichever trains. The files are
    `directory/gifs/iteration_000123.gif`; later ones, which an interrupted run left, go.

    Raises:
        UserError: no picture can be drawn here.
    """

    def __init__(self, ppo: PPO, run: RunConfig, directory: Path) -> None:
        self._ppo, self._run, self._directory = ppo, run, directory / "gifs"
        config = with_simulator(ppo.experiment, CPU).env
        env = on_device(config.make(run.gif_rows, threads=ppo.threads, render=True), ppo.device)
        self._env = mosaic(env, run.gif_rows)
        self._pace = run.gif_fps or env.spec.steps_per_second
        self._env.reset(SEED)
        Camera(self._env, [self._recorder()]).shoot()  # now, rather than in the middle of the run

    def after(self, iteration: int, log: NullLogger) -> dict[str, float]:
        if iteration % self._run.gif_every:
            return {}
        start = time.perf_counter()
        try:
            log.picture(TAG, self._record(iteration), self._ppo.timesteps)
        except (EnvironmentFailure, UserError, OSError) as error:  # a picture is not worth a run
            print(f"No GIF of iteration {iteration}: {error}", flush=True)
        return {"seconds_recording": time.perf_counter() - start}

    def close(self) -> None:
        self._env.close()

    def _recorder(self) -> GifRecorder:
        return GifRecorder(self._pace, self._run.gif_seconds, WIDTH if self._run.gif_rows > 1 else None)

    def _record(self, iteration: int) -> bytes:
        recorder = self._recorder()
        longest = self._ppo.experiment.evaluation.max_episode_steps
        shown = int(min(longest, max(1.0, self._pace * self._run.gif_seconds)))
        evaluate(self._env, self._ppo.policies(), 1, SEED, SoloComm(), shown, [recorder])
        data, name = recorder.encoded(), f"iteration_{iteration:06d}.gif"
        self._directory.mkdir(parents=True, exist_ok=True)
        for later in self._directory.glob("iteration_*.gif"):
            if later.name > name:
                later.unlink()
        write_atomically(self._directory / name, data)
        return data


def recordings(ppo: PPO, run: RunConfig, directory: Path) -> NoRecordings:
    """What `--gif_every` asks for."""
    return Recordings(ppo, run, directory) if run.gif_every else NoRecordings()
