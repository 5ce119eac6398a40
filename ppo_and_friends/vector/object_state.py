"""Exact state of an environment whose attributes are objects: robots, shelves, worlds.

All that is reachable from the environment is saved once, however many places hold it, as long as it is a number, text,
an array, a container of Python's own, an Enum's member, a random generator, or an object of a Python class of the
environment's own packages. Functions, classes, spaces, loggers and pygame's surfaces and fonts are taken to be
constant: the environment that loads a state keeps its own. Anything else has no exact state.

A file never says what is run: classes are looked up among the environment's packages, and objects are filled without
calling anything of theirs.
"""

from __future__ import annotations

import logging
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from enum import Enum
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from ppo_and_friends.vector.gym_state import PLAIN, CannotSave, decode, encode_array, encode_generator, memory_owner

FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.ModuleType, type)
CONSTANTS = (*FUNCTIONS, logging.Logger, EnvSpec)
DRAWN = ("pygame.surface.Surface", "pygame.freetype.Font", "pygame.font.Font")
SEQUENCES: dict[Any, str] = {list: "list", tuple: "tuple", set: "set", deque: "deque"}
MAPPINGS: dict[Any, str] = {dict: "dict", OrderedDict: "ordered", Counter: "counter", defaultdict: "default"}
MAKERS = (*SEQUENCES, *MAPPINGS, frozenset, bool, int, float, str)
FACTORIES: dict[Any, str] = {kind: kind.__name__ for kind in MAKERS}
UNFINISHED = object()  # in the place of a tuple that is being made


def save(env: Any) -> dict[str, Any]:
    """Tensors, plain values, lists and dicts.

    Raises:
        CannotSave: there is no exact state.
    """
    writer = _Writer(_packages(env))
    writer.reference(env)
    return {"nodes": writer.nodes}


def load(env: Any, saved: dict[str, Any]) -> None:
    """Give `env`, made with the same settings, what `saved` holds.

    Raises:
        CannotSave: it was saved of another environment.
    """
    _Reader(saved["nodes"], _packages(env)).object(0, env)


def _packages(env: Any) -> set[str]:
    layers = [env, getattr(env, "unwrapped", env), getattr(getattr(env, "env", env), "unwrapped", env)]
    classes = (base for layer in layers for base in type(layer).__mro__)
    return {base.__module__.split(".")[0] for base in classes} - {"builtins"}


class _Writer:
    def __init__(self, packages: set[str]) -> None:
        self.packages = packages
        self.nodes: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._held: list[Any] = []  # keeps an id from being used again
        self._owners: dict[int, int] = {}  # of arrays' memory

    def value(self, value: Any) -> Any:
        kind = type(value)
        if kind in PLAIN:
            return value
        if isinstance(value, Enum):
            return {"is": "enum", "class": _name(kind), "name": value.name}
        if isinstance(value, np.generic):
            return {"is": "scalar", **encode_array(np.asarray(value))}
        if isinstance(value, CONSTANTS) or f"{kind.__module__}.{kind.__qualname__}" in DRAWN:
            return {"is": "constant"}
        if isinstance(value, gymnasium.Space):
            if value._np_random is not None:
                raise CannotSave("a space that draws")
            return {"is": "constant"}
        return {"is": "node", "number": self.reference(value)}

    def reference(self, value: Any) -> int:
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self.nodes)
            self._held.append(value)
            self.nodes.append(None)
            self.nodes[self._numbers[id(value)]] = self._node(value)
        return self._numbers[id(value)]

    def _node(self, value: Any) -> dict[str, Any]:
        kind = type(value)
        if kind is np.ndarray:
            if self._owners.setdefault(id(memory_owner(value)), id(value)) != id(value):
                raise CannotSave("two arrays that share memory")
            return {"is": "array", **encode_array(value)}
        if kind is np.random.Generator:
            return encode_generator(value, {})
        if kind in SEQUENCES:
            more = {"maxlen": value.maxlen} if kind is deque else {}
            return {"is": SEQUENCES[kind], **more, "items": [self.value(item) for item in value]}
        if kind in MAPPINGS:
            more = {"factory": self._factory(value.default_factory)} if kind is defaultdict else {}
            items = [[self.value(key), self.value(item)] for key, item in value.items()]
            return {"is": MAPPINGS[kind], **more, "items": items}
        if kind.__module__.split(".")[0] not in self.packages or not _plain(kind):
            raise CannotSave(f"a {kind}")
        return {"is": "object", "class": _name(kind), "items": [[k, self.value(v)] for k, v in vars(value).items()]}

    def _factory(self, made_by: Any) -> Any:
        """Of a defaultdict: a class by its name; a function is constant."""
        if not isinstance(made_by, type):
            return self.value(made_by)
        if made_by not in FACTORIES and made_by.__module__.split(".")[0] not in self.packages:
            raise CannotSave(f"a defaultdict that makes {made_by}")
        return {"is": "class", "name": FACTORIES.get(made_by, _name(made_by))}


def _plain(kind: type) -> bool:
    """Whether objects of this class are their attributes, and nothing else."""
    if any(vars(base).get("__slots__") for base in kind.__mro__):
        return False
    try:
        return hasattr(object.__new__(kind), "__dict__")
    except TypeError:  # it derives from a type that is not written in Python
        return False


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _key(names: dict[Any, str], name: str) -> Any:
    return next((kind for kind, own in names.items() if own == name), None)


class _Reader:
    def __init__(self, nodes: list[Any], packages: set[str]) -> None:
        self.nodes, self.packages = nodes, packages
        self.made: dict[int, Any] = {}

    def value(self, saved: Any, current: Any) -> Any:
        """What was saved; `current` is what the environment has in its place."""
        if not isinstance(saved, dict):
            return saved
        if saved["is"] == "constant":
            if current is None:
                raise CannotSave("a constant that the environment does not have")
            return current
        if saved["is"] == "enum":
            return self._class(saved["class"])[saved["name"]]  # type: ignore[index]
        if saved["is"] == "scalar":
            return decode(saved)
        return self._node(saved["number"], current)

    def _node(self, number: int, current: Any) -> Any:
        if number in self.made:
            if self.made[number] is UNFINISHED:
                raise CannotSave("a tuple that holds itself")
            return self.made[number]
        saved = self.nodes[number]
        kind = saved["is"]
        if kind == "object":
            return self.object(number, current)
        if kind in ("array", "generator"):
            self.made[number] = decode(saved)
        elif kind == "tuple":
            self.made[number] = UNFINISHED
            self.made[number] = tuple(self._items(saved, current))
        elif kind in SEQUENCES.values():
            empty = {"list": list, "set": set, "deque": lambda: deque(maxlen=saved["maxlen"])}
            made = self.made[number] = empty[kind]()  # before its items, which may hold it
            items = self._items(saved, current)
            made.update(items) if kind == "set" else made.extend(items)
        else:
            made = self.made[number] = self._mapping(saved, current)
            before = dict(current) if isinstance(current, dict) else {}
            for key, item in saved["items"]:
                name = self.value(key, None)
                made[name] = self.value(item, before.get(name))
        return self.made[number]

    def _mapping(self, saved: dict[str, Any], current: Any) -> Any:
        """An empty one of the kind that was saved."""
        if saved["is"] != "default":
            return _key(MAPPINGS, saved["is"])()
        factory = saved["factory"]
        if isinstance(factory, dict) and factory["is"] == "class":
            return defaultdict(_key(FACTORIES, factory["name"]) or self._class(factory["name"]))
        return defaultdict(self.value(factory, getattr(current, "default_factory", None)))

    def _items(self, saved: dict[str, Any], current: Any) -> list[Any]:
        before = list(current) if isinstance(current, list | tuple) else []
        before += [None] * (len(saved["items"]) - len(before))
        return [self.value(item, own) for item, own in zip(saved["items"], before, strict=False)]

    def object(self, number: int, current: Any) -> Any:
        saved = self.nodes[number]
        kind = self._class(saved["class"])
        taken = any(current is made for made in self.made.values())
        made = current if type(current) is kind and not taken else object.__new__(kind)
        self.made[number] = made
        before = dict(vars(made))
        vars(made).clear()
        for key, item in saved["items"]:
            vars(made)[key] = self.value(item, before.get(key))
        return made

    def _class(self, name: str) -> type:
        module, _, path = name.partition(":")
        if module.split(".")[0] not in self.packages or module not in sys.modules:
            raise CannotSave(f"{name}, which is not the environment's")
        found: Any = sys.modules[module]
        for part in path.split("."):
            found = getattr(found, part, None)
        if not isinstance(found, type):
            raise CannotSave(f"{name}, which does not exist")
        return found
