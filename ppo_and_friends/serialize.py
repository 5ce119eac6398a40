"""Experiments as plain values, for config files: dicts, lists, numbers and text, and back.

What each value means is read from the type of its field, so nothing in a file names a class to be built.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppo_and_friends.config import Experiment
from ppo_and_friends.errors import UserError
from ppo_and_friends.schedules import Schedule

# Settings that say how far and how watched a run is, not what it learns. The engine is checked on its own.
FREE_SETTINGS = ("name", "num_timesteps", "evaluation", "compile")
ENGINE_SETTINGS = ("env.simulator", "env.max_contacts", "env.max_constraints")
_NOT_FINITE = {"inf": math.inf, "-inf": -math.inf}


def to_plain(value: Any) -> Any:
    """An experiment (or any part of one) as dicts, lists, numbers, booleans and text.

    Infinite numbers become "inf" and "-inf", because JSON has none; schedules become their text; a callable
    becomes "module:name".
    """
    if isinstance(value, Schedule):
        return value.text
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(entry) for entry in value]
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if callable(value):
        return f"{value.__module__}:{value.__qualname__}"
    return str(value)


def from_plain(default: Experiment, plain: Mapping[str, Any]) -> Experiment:
    """`default` with the entries of `plain` in place of its own; what `plain` lacks stays as it is.

    Raises:
        UserError: an entry is unknown (the nearest is named), or its value is of the wrong kind.
    """
    return _merge(default, plain, "")


def read_config(path: str) -> tuple[str, dict[str, Any], int | None]:
    """(environment reference, plain experiment, seed of the run where the file has one) of a config file.

    Raises:
        UserError: the file cannot be read, or is not one that a run saved.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The config file '{path}' cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"The config file '{path}' is not JSON: {error}.") from error
    match content:
        case {"environment": str(environment), "experiment": dict(experiment)}:
            seed = content.get("random_seed")
            return environment, experiment, seed if isinstance(seed, int) else None
    raise UserError(
        f'The config file \'{path}\' must be an object with an "environment" and an "experiment", '
        "as in the config.json that every run saves."
    )


def flat(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{path of a setting: value} of nested dicts and of lists of them, "ppo.lr" and "addons.0.beta".

    Tuples become lists, because JSON knows no others."""
    found: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, list | tuple) and any(isinstance(entry, Mapping) for entry in value):
            value = dict(enumerate(value))
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = _listed(value)
    return found


def field_types(instance: Any) -> dict[str, Any]:
    """{field: its annotated type} of a dataclass instance; Any where an annotation cannot be read."""
    try:
        hints = typing.get_type_hints(type(instance))
    except (NameError, TypeError):  # a launcher file may import a type for the type checker alone
        hints = {}
    return {field.name: hints.get(field.name, Any) for field in dataclasses.fields(instance) if field.init}


def _merge(default: Any, plain: Any, prefix: str) -> Any:
    if not isinstance(plain, Mapping):
        raise _wrong(prefix.rstrip("."), plain, "an object with its settings")
    hints = field_types(default)
    changes = {}
    for name, entry in plain.items():
        if name not in hints:
            near = difflib.get_close_matches(name, hints, 1, 0.5)
            hint = f"did you mean '{prefix}{near[0]}'?" if near else f"it takes {', '.join(hints)}."
            raise UserError(f"The config has no setting '{prefix}{name}': {hint}")
        changes[name] = _value(hints[name], getattr(default, name), entry, prefix + name)
    return dataclasses.replace(default, **changes)


def _value(hint: Any, default: Any, plain: Any, path: str) -> Any:
    if plain == to_plain(default):
        return default  # keeps callables, and whatever else has no text of its own
    if isinstance(default, Schedule):
        return Schedule(str(plain))
    if dataclasses.is_dataclass(default):
        return _merge(default, plain, path + ".")
    if isinstance(default, tuple) and any(dataclasses.is_dataclass(entry) for entry in default):
        entries = _list(plain, path, len(default))
        pairs = enumerate(zip(default, entries, strict=True))
        return tuple(_merge(one, entry, f"{path}.{i}.") for i, (one, entry) in pairs)
    return _typed(hint, plain, path)


def _typed(hint: Any, plain: Any, path: str) -> Any:
    """`plain` as the annotated type says, where it says something that a file can get wrong."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return tuple(_typed(arguments[0], entry, path) for entry in _list(plain, path))
        entries = _list(plain, path, len(arguments))
        return tuple(_typed(one, entry, path) for one, entry in zip(arguments, entries, strict=True))
    if hint is float:
        number = _NOT_FINITE.get(plain, plain) if isinstance(plain, str) else plain
        if isinstance(number, bool) or not isinstance(number, (int, float)) or math.isnan(number):
            raise _wrong(path, plain, "a number")
        return float(number)
    if hint in (int, bool, str) and type(plain) is not hint:
        raise _wrong(path, plain, {int: "a whole number", bool: "true or false", str: "text"}[hint])
    if origin is typing.Literal and plain not in arguments:
        raise _wrong(path, plain, "one of " + ", ".join(map(str, arguments)))
    if origin in (typing.Union, types.UnionType) and float in arguments and plain in _NOT_FINITE:
        return _NOT_FINITE[plain]
    return plain


def _list(plain: Any, path: str, length: int | None = None) -> list[Any]:
    if not isinstance(plain, list) or (length is not None and len(plain) != length):
        raise _wrong(path, plain, "a list" if length is None else f"a list of {length}")
    return plain


def _wrong(path: str, value: Any, expected: str) -> UserError:
    return UserError(f"The config's {path or 'experiment'} is {value!r}, but must be {expected}.")


def _listed(value: Any) -> Any:
    return [_listed(entry) for entry in value] if isinstance(value, list | tuple) else value
