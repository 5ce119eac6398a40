"""Exact state of a Gymnasium environment, where it can be had.

An environment is its chain of wrappers, and each of those is its attributes. If every attribute is a number, a string,
an array, a container of these, a random generator, a space (which holds a generator) or the registration, then saving
them all is saving everything. One attribute of any other kind (a simulator's handle, a surface, a function, an object
of a class unknown here), or a mutable object held in two places (which would come back as two), and there is no exact
state.
Module globals are out of sight, and so are the generators that `random` and `numpy.random` share.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec

from ppo_and_friends.errors import UserError

PLAIN = (bool, int, float, str, type(None))
Seen = dict[int, Any]  # mutable objects by id; holding them keeps an id from being used again


class CannotSave(Exception):
    """An attribute of a kind that cannot be restored exactly."""


def save(env: gymnasium.Env[Any, Any]) -> list[dict[str, Any]]:
    """One entry for each wrapper, the outermost first: tensors, plain values, lists and dicts.

    Raises:
        CannotSave: there is no exact state.
    """
    seen: Seen = {}
    return [
        {"class": _name(layer), "attributes": {key: _encode(value, seen) for key, value in _attributes(layer).items()}}
        for layer in _layers(env)
    ]


def load(env: gymnasium.Env[Any, Any], saved: list[dict[str, Any]]) -> None:
    """Give `env`, made with the same settings, the attributes of `saved`.

    Raises:
        UserError: the wrappers are others than those that were saved.
    """
    layers = _layers(env)
    if [_name(layer) for layer in layers] != [entry["class"] for entry in saved]:
        raise UserError(
            f"The saved state is of {saved[-1]['class']} with other wrappers; make {env} as it was made then."
        )
    for layer, entry in zip(layers, saved, strict=True):
        for key in _attributes(layer).keys() - entry["attributes"].keys():
            del vars(layer)[key]
        for key, value in entry["attributes"].items():
            vars(layer)[key] = decode(value, vars(layer).get(key))


def _layers(env: Any) -> list[Any]:
    layers = [env]
    while isinstance(layers[-1], gymnasium.Wrapper):
        layers.append(layers[-1].env)
    return layers


def _attributes(layer: Any) -> dict[str, Any]:
    """What may change in a step: of a wrapper, neither what it wraps nor the record of how it was made."""
    fixed = {"env", "_saved_kwargs"} if isinstance(layer, gymnasium.Wrapper) else set()
    return {key: value for key, value in vars(layer).items() if key not in fixed}


def _name(layer: Any) -> str:
    return f"{type(layer).__module__}.{type(layer).__qualname__}"


def _encode(value: Any, seen: Seen, inside: bool = False) -> Any:
    """Plain values as they are, anything else as a dict that says what it is."""
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is tuple:
        return {"is": "tuple", "items": [_encode(item, seen, True) for item in value]}
    if isinstance(value, np.generic):
        return {"is": "scalar", **encode_array(np.asarray(value))}
    if isinstance(value, EnvSpec) and not inside:
        return {"is": "constant"}
    if isinstance(value, gymnasium.Space) and not inside:  # restored in place, so it may be held twice
        return {"is": "space", "generators": [_encode(space._np_random, {}) for space in _spaces(value)]}
    return _encode_mutable(value, seen)


def _encode_mutable(value: Any, seen: Seen) -> dict[str, Any]:
    kind = type(value)
    owner = memory_owner(value) if kind is np.ndarray else value
    if id(owner) in seen:
        raise CannotSave("one object in two places")
    seen[id(owner)] = owner
    if kind is np.ndarray:
        return {"is": "array", **encode_array(value)}
    if kind is dict:
        pairs = [[_encode(key, seen, True), _encode(item, seen, True)] for key, item in value.items()]
        return {"is": "dict", "items": pairs}
    if kind is np.random.Generator:
        return encode_generator(value, seen)
    if kind is list or kind is deque:
        items = [_encode(item, seen, True) for item in value]
        return (
            {"is": "list", "items": items} if kind is list else {"is": "deque", "maxlen": value.maxlen, "items": items}
        )
    raise CannotSave(f"an attribute of {kind}")


def encode_generator(value: np.random.Generator, seen: Seen) -> dict[str, Any]:
    """A random generator, for `decode`."""
    return {"is": "generator", "state": _encode(value.bit_generator.state, seen, True)}


def decode(saved: Any, current: Any = None) -> Any:
    """The value that was saved; constants and spaces are those of the environment as it was made (`current`)."""
    if not isinstance(saved, dict):
        return saved
    kind = saved["is"]
    if kind == "constant":
        return current
    if kind in ("scalar", "array"):
        flat = np.frombuffer(saved["bytes"].numpy().tobytes(), np.dtype(saved["dtype"]))
        return flat[0] if kind == "scalar" else flat.reshape(saved["shape"]).copy()
    if kind == "dict":
        return {decode(key, None): decode(item, None) for key, item in saved["items"]}
    if kind == "generator":
        state = decode(saved["state"], None)
        generator = np.random.Generator(getattr(np.random, state["bit_generator"])())
        generator.bit_generator.state = state
        return generator
    if kind == "space":
        for space, generator in zip(_spaces(current), saved["generators"], strict=True):
            space._np_random = decode(generator, None)
        return current
    items = [decode(item, None) for item in saved["items"]]
    if kind == "deque":
        return deque(items, saved["maxlen"])
    return tuple(items) if kind == "tuple" else items


def memory_owner(array: np.ndarray) -> np.ndarray:
    """The array whose memory a view shows."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    if array.base is not None:
        raise CannotSave("a view of memory that is not NumPy's")
    return array


def encode_array(array: np.ndarray) -> dict[str, Any]:
    """Type, shape and bytes."""
    if array.dtype.hasobject or not array.flags.c_contiguous:
        raise CannotSave("an array of objects, or in another order")
    raw = np.frombuffer(bytearray(array.tobytes()), np.uint8) if array.size else np.empty(0, np.uint8)
    return {"dtype": array.dtype.str, "shape": list(array.shape), "bytes": torch.from_numpy(raw)}


def _spaces(space: gymnasium.Space[Any]) -> list[gymnasium.Space[Any]]:
    """A space and all spaces inside it: each has a generator of its own."""
    inner: Any = ()
    if isinstance(space, gymnasium.spaces.Dict):
        inner = space.spaces.values()
    elif isinstance(space, gymnasium.spaces.Tuple):
        inner = space.spaces
    return [space, *(found for part in inner for found in _spaces(part))]
