"""Words of a command line before values are made of them: flags, their short forms, and what is wrong with them.

A flag is the path of a setting: `--ppo.lr`, `--net.actor.hidden`, `--env.task.ctrl_cost_weight`.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ppo_and_friends.config import Experiment
from ppo_and_friends.errors import UserError
from ppo_and_friends.schedules import Schedule
from ppo_and_friends.serialize import field_types

ALIASES = {
    "e": "environment",
    "h": "help",
    "alow_mpi_gpu": "allow_mpi_gpu",
    "env_workers": "env.workers",
    "simulator": "env.simulator",
}
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

Words = list[tuple[str, list[str]]]  # (flag without dashes and with underscores, the values after it)


def split(arguments: Sequence[str]) -> Words:
    """Arguments grouped by flag; `-` and `_` are the same, `--flag=value` is `--flag value`.

    Raises:
        UserError: a value comes before any flag.
    """
    words: Words = []
    for word in arguments:
        if _is_flag(word):
            name, equals, value = word.lstrip("-").partition("=")
            name = name.replace("-", "_")
            words.append((ALIASES.get(name, name), [value] if equals else []))
        elif words:
            words[-1][1].append(word)
        else:
            raise UserError(f"'{word}' belongs to no flag: an experiment is chosen with -e {word}.")
    return words


def last(words: Words, name: str) -> str:
    """The value of the last `--name`, or "" without one."""
    values = [values for flag, values in words if flag == name]
    if values and len(values[-1]) != 1:
        raise _count(name, values[-1])
    return values[-1][0] if values else ""


def resolve(words: Words, switches: dict[str, Any], experiment: Experiment) -> tuple[Words, dict[str, Any]]:
    """Words that name settings in full and fit their number of values, and the environment's own keyword arguments.

    Args:
        switches: {flag: default} of what is not part of an experiment; booleans among them take no value.
    Raises:
        UserError: an unknown or ambiguous flag (the nearest is named), or a wrong number of values.
    """
    settings = {name: value for name, value in leaves(experiment).items() if name != "name"}
    known = settings | switches
    resolved: Words = []
    extra: dict[str, Any] = {}
    for flag, values in words:
        flag = _long_form(flag, known)
        if flag not in known:
            _, _, keyword = flag.partition("env.")
            if not keyword or "." in keyword or not isinstance(getattr(experiment.env, "kwargs", None), Mapping):
                raise _unknown(flag, known)
            if len(values) != 1:
                raise _count(flag, values)
            extra[keyword] = literal(values[0])
        elif isinstance(known[flag], bool):
            wanted = _boolean(flag, values)
            if flag in settings:
                resolved.append((flag, [str(wanted)]))
            elif wanted:
                resolved.append((flag, []))
        else:
            if len(values) != 1 and not isinstance(known[flag], tuple):
                raise _count(flag, values)
            resolved.append((flag, values))
    return resolved, extra


def leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    """{flag: value} of every setting below a dataclass instance, in order."""
    found: dict[str, Any] = {}
    for name in field_types(value):
        entry = getattr(value, name)
        if is_settings(entry):
            found |= leaves(entry, f"{prefix}{name}.")
        elif holds_settings(entry):
            for index, one in enumerate(entry):
                found |= leaves(one, f"{prefix}{name}.{index}.")
        else:
            found[prefix + name] = entry
    return found


def is_settings(value: Any) -> bool:
    """Whether a value is a dataclass with settings of its own; a schedule is one setting."""
    return dataclasses.is_dataclass(value) and not isinstance(value, (Schedule, type))


def holds_settings(value: Any) -> bool:
    """Whether a value is a tuple of such dataclasses."""
    return isinstance(value, tuple) and any(is_settings(entry) for entry in value)


def literal(text: str) -> Any:
    """A Python literal where the text is one, or an object or list of JSON, the text itself otherwise."""
    with suppress(ValueError, SyntaxError):
        return ast.literal_eval(text)
    if text[:1] in ("{", "["):
        with suppress(ValueError):
            return json.loads(text)
    return text


def _is_flag(word: str) -> bool:
    if word.startswith("--"):
        return True
    return word.startswith("-") and len(word) > 1 and not word[1:2].isdigit() and word[1:] not in ("inf", ".", "nan")


def _long_form(flag: str, known: Mapping[str, Any]) -> str:
    """`env.NAME` for `env.task.NAME`, where only one setting of the environment ends so."""
    if flag in known or not flag.startswith("env."):
        return flag
    long = [name for name in known if name.startswith("env.") and name.endswith(flag.removeprefix("env"))]
    if len(long) > 1:
        raise UserError(f"--{flag} could be {' or '.join('--' + name for name in long)}: write one of them.")
    return long[0] if long else flag


def _boolean(flag: str, values: list[str]) -> bool:
    if not values:
        return True
    if len(values) > 1 or values[0].lower() not in _BOOLEANS:
        raise UserError(f"--{flag} is '{' '.join(values)}', but takes True, False or nothing.")
    return _BOOLEANS[values[0].lower()]


def _unknown(flag: str, known: Mapping[str, Any]) -> UserError:
    near = difflib.get_close_matches(flag, known, 1, 0.5)
    if not near:  # the last part alone, as in --gamma for --ppo.gamma
        near = [name for name in known if name.rpartition(".")[2] == flag.rpartition(".")[2]]
    hint = f"did you mean --{near[0]}?" if near else "--help shows all of them."
    return UserError(f"There is no flag {'-' if len(flag) == 1 else '--'}{flag}: {hint}")


def _count(flag: str, values: list[str]) -> UserError:
    got = f"'{' '.join(values)}'" if values else "none"
    return UserError(f"--{flag} takes one value, but was given {got}.")
