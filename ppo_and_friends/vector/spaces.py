"""Gymnasium spaces as flat arrays: what an observation fills, and what an action column means.

NumPy alone is imported here, because worker processes use this file and need no torch.

observation space               becomes
Box of rank 3                   an image part of its own: channels first, uint8 kept, anything else float32
any other Box                   float32 columns
Discrete, MultiDiscrete         one-hot float32 columns
MultiBinary                     float32 columns
Dict, Tuple (nested too)        all columns joined into one vector part, Dict keys sorted; image parts after it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import Space, spaces

from ppo_and_friends.errors import UserError

if TYPE_CHECKING:
    from ppo_and_friends.types import ActionSpace, TensorSpec

Write = Callable[[int, Any], None]  # (row, observation as the environment gave it)
READABLE = "Box, Discrete, MultiDiscrete, MultiBinary, and Dict or Tuple of these"


@dataclass(frozen=True)
class Leaf:
    """A space without parts, and the `count` columns from `first` that it fills; images have a part each."""

    space: Space[Any]
    key: str
    count: int
    image: bool = False
    first: int = 0


@dataclass(frozen=True)
class Part:
    """One array of an observation: `[rows, *shape]`."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    name: str = "observation"
    fields: tuple[tuple[str, int, int], ...] = ()

    def spec(self) -> TensorSpec:
        import torch

        from ppo_and_friends.types import TensorSpec

        return TensorSpec(self.shape, torch.uint8 if self.dtype == np.uint8 else torch.float32, self.name, self.fields)


class Layout:
    """Where each entry of an observation space goes.

    Args:
        hidden: entries of a Dict that `seen`, the layout of the others, is without. They come last, among the columns
            and among the images.
    Raises:
        UserError: the space, or one inside it, is none of Box, Discrete, MultiDiscrete, MultiBinary, Dict, Tuple; or it
            has no such entry to hide.
    """

    def __init__(self, space: Space[Any], environment: str, hidden: tuple[str, ...] = ()) -> None:
        found = sorted(_leaves(space, "", environment), key=lambda leaf: _is_part_of(leaf.key, hidden))
        self.seen = Layout(_without(space, hidden, environment), environment) if hidden else self
        columns, vectors = 0, []
        for leaf in (leaf for leaf in found if not leaf.image):
            vectors.append(replace(leaf, first=columns))
            columns += leaf.count
        images = [leaf for leaf in found if leaf.image]
        if not columns and not images:
            raise UserError(
                f"{environment} observes nothing: its observation space {space} has no numbers to learn from."
            )
        nested = isinstance(space, spaces.Dict | spaces.Tuple)
        fields = tuple((leaf.key, leaf.first, leaf.first + leaf.count) for leaf in vectors) if nested else ()
        vector = (Part((columns,), np.dtype(np.float32), fields=fields),) if columns else ()
        self.space = space
        self.parts: tuple[Part, ...] = vector + tuple(_image_part(leaf) for leaf in images)
        self._leaves = {leaf.key: leaf for leaf in vectors}
        self._image_index = {leaf.key: len(vector) + index for index, leaf in enumerate(images)}

    def writer(self, arrays: Sequence[np.ndarray]) -> Write:
        """A function that writes one row's observation into `arrays` (one `[rows, *shape]` array a part).

        It raises ValueError, naming the key, for an observation that is not in the shape or range of its space."""
        return self._write_into(arrays, self.space, "")

    def _write_into(self, arrays: Sequence[np.ndarray], space: Space[Any], key: str) -> Write:
        if isinstance(space, spaces.Dict | spaces.Tuple):
            inner = [(name, self._write_into(arrays, part, _join(key, name))) for name, part in _entries(space)]

            def write(row: int, value: Any) -> None:
                if len(value) != len(inner):
                    raise ValueError(
                        f"{key or 'observation'} has {len(value)} entries where its space has {len(inner)}"
                    )
                for name, write_one in inner:
                    write_one(row, value[name])

            return write
        key = key or "observation"
        shape = space.shape or ()
        if key in self._image_index:
            target = arrays[self._image_index[key]]
            return _box_writer(target.transpose(0, 2, 3, 1) if _channels_last(shape) else target, shape, key)
        leaf = self._leaves[key]
        target = arrays[0][:, leaf.first : leaf.first + leaf.count]
        if isinstance(space, spaces.Box | spaces.MultiBinary):
            return _box_writer(target.reshape(len(target), *shape), shape, key)
        return _one_hot_writer(target, space, key)


def _join(key: str, name: Any) -> str:
    return f"{key}.{name}" if key else str(name)


def _is_part_of(key: str, names: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _without(space: Space[Any], hidden: tuple[str, ...], environment: str) -> Space[Any]:
    entries = list(space.spaces) if isinstance(space, spaces.Dict) else []
    unknown = [name for name in hidden if name not in entries]
    if unknown:
        known = f"has {', '.join(entries)}" if entries else f"is {space}, no Dict"
        raise UserError(f"env.privileged names {unknown[0]!r}, but the observation of {environment} {known}.")
    return spaces.Dict({name: part for name, part in space.spaces.items() if name not in hidden})  # type: ignore[attr-defined]


def _entries(space: spaces.Dict | spaces.Tuple) -> list[tuple[Any, Space[Any]]]:
    if isinstance(space, spaces.Tuple):
        return list(enumerate(space.spaces))
    return sorted(space.spaces.items(), key=lambda entry: str(entry[0]))


def _leaves(space: Space[Any], key: str, environment: str) -> list[Leaf]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return [leaf for name, part in _entries(space) for leaf in _leaves(part, _join(key, name), environment)]
    key = key or "observation"
    if isinstance(space, spaces.Box):
        return [Leaf(space, key, int(np.prod(space.shape)), image=len(space.shape) == 3)]
    if isinstance(space, spaces.Discrete):
        return [Leaf(space, key, int(space.n))]
    if isinstance(space, spaces.MultiDiscrete):
        return [Leaf(space, key, int(space.nvec.sum()))]
    if isinstance(space, spaces.MultiBinary):
        return [Leaf(space, key, int(np.prod(space.shape)))]
    raise UserError(f"{environment} has {space} as {key}, which no network here reads; wrap it into {READABLE}.")


def _channels_last(shape: tuple[int, ...]) -> bool:
    return shape[2] < min(shape[0], shape[1])


def _image_part(leaf: Leaf) -> Part:
    shape = leaf.space.shape
    assert shape is not None
    dtype = np.dtype(np.uint8 if leaf.space.dtype == np.uint8 else np.float32)
    return Part((shape[2], *shape[:2]) if _channels_last(shape) else shape, dtype, leaf.key)


def _box_writer(target: np.ndarray, shape: tuple[int, ...], key: str) -> Write:
    asarray = np.asarray

    def write(row: int, value: Any) -> None:
        value = asarray(value)
        if value.shape != shape:  # assigning would broadcast it silently
            raise ValueError(f"{key} has shape {value.shape} where its space says {shape}")
        target[row] = value

    return write


def _one_hot_writer(target: np.ndarray, space: Any, key: str) -> Write:
    sizes = np.atleast_1d(space.n if isinstance(space, spaces.Discrete) else space.nvec).reshape(-1)
    start = np.broadcast_to(np.asarray(space.start).reshape(-1), sizes.shape)
    offsets = np.cumsum(sizes) - sizes

    def write(row: int, value: Any) -> None:
        index = np.asarray(value).reshape(-1) - start
        if index.shape != sizes.shape or (index < 0).any() or (index >= sizes).any():
            raise ValueError(f"{key} is {value}, which is not in its space {space}")
        line = target[row]
        line.fill(0.0)
        line[offsets + index] = 1.0

    return write


class Actions:
    """What the columns of an action tensor mean to an environment. Attributes are those of `types.ActionSpace`.

    Raises:
        UserError: the space is none of Discrete, MultiDiscrete, MultiBinary, Box.
    """

    def __init__(self, space: Space[Any], environment: str) -> None:
        self.space = space
        self.sizes: tuple[int, ...] = ()
        self.low: tuple[float, ...] = ()
        self.high: tuple[float, ...] = ()
        if isinstance(space, spaces.Discrete):
            self.kind, self.sizes = "discrete", (int(space.n),)
            self._start = int(space.start)
        elif isinstance(space, spaces.MultiDiscrete):
            self.kind, self.sizes = "multi_discrete", tuple(int(n) for n in space.nvec.reshape(-1))
            self._start = space.start
        elif isinstance(space, spaces.MultiBinary):
            self.kind, self.sizes = "multi_binary", (2,) * int(np.prod(space.shape))
            self._start = 0
        elif isinstance(space, spaces.Box):
            self.kind = "box"
            self.low = tuple(float(x) for x in space.low.reshape(-1))
            self.high = tuple(float(x) for x in space.high.reshape(-1))
        else:
            raise UserError(
                f"{environment} takes actions from {space}, which no policy here gives; "
                "wrap it into Discrete, MultiDiscrete, MultiBinary or Box."
            )

    @property
    def columns(self) -> int:
        return len(self.low) or len(self.sizes)

    def spec(self) -> ActionSpace:
        from ppo_and_friends.types import ActionSpace

        return ActionSpace(self.kind, self.sizes, self.low, self.high)  # type: ignore[arg-type]

    def decode(self, actions: np.ndarray) -> list[Any]:
        """Each row's action as its environment takes it, from `[rows, columns]`. Nothing is shared with `actions`."""
        if self.kind == "discrete":
            return list(actions[:, 0] + self._start)  # NumPy integers, as the space's own sample gives
        shaped = actions.reshape(len(actions), *self.space.shape)  # type: ignore[misc]
        if self.kind != "box":
            native = (shaped + self._start).astype(self.space.dtype)
        elif np.issubdtype(self.space.dtype, np.floating):
            native = shaped.astype(self.space.dtype)
        else:
            native = np.clip(np.rint(shaped), self.space.low, self.space.high).astype(self.space.dtype)  # type: ignore[attr-defined]
        return [native[row, ...] for row in range(len(native))]
