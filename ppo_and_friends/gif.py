"""A GIF of one episode: short enough for a README, whatever the length of the episode."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image

from ppo_and_friends.errors import UserError
from ppo_and_friends.files import unused, write_atomically

MOST_FRAMES = 300
MOST_FRAMES_A_SECOND = 50  # what viewers show
FEWEST_FRAMES = 40
WIDEST, NARROWEST = 320, 160  # pixels
COLOURS = 64
MOST_BYTES = 1_000_000


class GifRecorder:
    """Collects the beginning of the first episode. Keeps at most 300 frames: every second, fourth, ... of more.

    Frames left out make the others stand longer.

    Args:
        fps: environment steps shown in a second.
        seconds: how long the GIF may last.
        widest: pixels across at most; 320 where none are given.
    """

    def __init__(self, fps: float, seconds: float = math.inf, widest: int | None = None) -> None:
        self._fps, self._most, self._widest = fps, fps * seconds, widest or WIDEST
        self._frames: list[Image.Image] = []
        self._every, self._seen = math.ceil(fps / MOST_FRAMES_A_SECOND), 0
        self._recording = True

    def wants_frame(self) -> bool:
        """To be asked once a step; drawing a frame in vain would cost more than the step."""
        self._recording = self._recording and self._seen < self._most
        self._seen += self._recording
        return self._recording and (self._seen - 1) % self._every == 0

    def show(self, frame: np.ndarray) -> None:
        """Take the frame that was wanted, `[height, width, 3]` uint8."""
        if len(self._frames) == MOST_FRAMES:
            self._frames, self._every = self._frames[::2], 2 * self._every
        self._frames.append(_narrowed(Image.fromarray(frame), self._widest))

    def end_episode(self) -> None:
        self._recording = False

    def save(self, directory: Path, name: str) -> Path:
        """Write `directory/NAME.gif`, or NAME-2.gif where that exists.

        Raises:
            UserError: the file cannot be written, or there was no frame.
        """
        data, path = self.encoded(), unused(directory / f"{name}.gif")
        try:
            directory.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}).") from error
        return path

    def encoded(self) -> bytes:
        """The GIF itself.

        Raises:
            UserError: there was no frame.
        """
        if not self._frames:
            raise UserError("No frame was recorded, so there is no GIF to write.")
        frames, every = self._frames, self._every
        while True:
            data = _encode(frames, self._fps, every, self._seen)
            narrower = round(frames[0].width * 0.7)
            if len(data) <= MOST_BYTES:
                return data
            if narrower >= NARROWEST:
                frames = [_narrowed(frame, narrower) for frame in frames]
            elif len(frames) > 2 * FEWEST_FRAMES:
                frames, every = frames[::2], 2 * every
            else:
                return data


def _narrowed(image: Image.Image, width: int) -> Image.Image:
    if image.width <= width:
        return image
    return image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.BOX)


def _encode(frames: list[Image.Image], fps: float, every: int, seen: int) -> bytes:
    """Frame k of `frames` was number k * every of `seen`, and stays until the next one. Equal neighbours are merged."""
    ticks = [round(100 * min(index * every, seen) / fps) for index in range(len(frames) + 1)]  # a GIF's unit is 10 ms
    palette = _palette(frames)
    shown: list[Image.Image] = []
    durations: list[int] = []
    for index, frame in enumerate(frames):
        duration = max(2, ticks[index + 1] - ticks[index]) * 10  # viewers slow anything shorter down
        indexed = frame.quantize(palette=palette, dither=Image.Dither.NONE)
        if shown and indexed.tobytes() == shown[-1].tobytes():
            durations[-1] += duration
        else:
            shown.append(indexed)
            durations.append(duration)
    buffer = io.BytesIO()
    shown[0].save(buffer, "GIF", save_all=True, append_images=shown[1:], duration=durations, loop=0)
    return buffer.getvalue()


def _palette(frames: list[Image.Image]) -> Image.Image:
    """One palette for all, so that only what moves changes; without dithering, which would not compress."""
    samples = frames[:: max(1, len(frames) // 8)][:9]
    column = Image.new("RGB", (samples[0].width, samples[0].height * len(samples)))
    for index, sample in enumerate(samples):
        column.paste(sample, (0, index * sample.height))
    return column.quantize(COLOURS, method=Image.Quantize.MEDIANCUT)
