"""Experiments by name. Imports neither torch nor an environment library, so that listing them is instant.

@experiment("CartPole")
def cart_pole() -> Experiment:
    '''One line for --list.'''
    from ... import ...   # environments are imported when the experiment is built, not before
    return Experiment(...)
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

from ppo_and_friends.config import Experiment
from ppo_and_friends.custom import load_custom
from ppo_and_friends.errors import UserError

ENTRY_POINTS = "ppo_and_friends.launchers"
GYMNASIUM, PETTINGZOO = "gymnasium:", "pettingzoo:"

Launcher = Callable[[], Experiment]

_launchers: dict[str, Launcher] = {}
_launchers_on_gpu: dict[str, Launcher] = {}


def experiment(name: str) -> Callable[[Launcher], Launcher]:
    """Register a function that returns an `Experiment` under `name`; its docstring's first line is for --list."""

    def register(launcher: Launcher) -> Launcher:
        _launchers[name] = launcher
        return launcher

    return register


def on_gpu(name: str) -> Callable[[Launcher], Launcher]:
    """Register other settings for the experiment `name`, one of this project's: those of new runs whose worlds a GPU
    simulates."""

    def register(launcher: Launcher) -> Launcher:
        _launchers_on_gpu[name] = launcher
        return launcher

    return register


def names() -> list[str]:
    """Every experiment that can be called by name: this project's, then those of installed packages."""
    return list(describe())


def describe() -> dict[str, str]:
    """{name: one line that says what it is}."""
    lines = {name: (inspect.getdoc(launcher) or "").partition("\n")[0] for name, launcher in _builtin().items()}
    return lines | {point.name: f"from {point.value}" for point in _entry_points() if point.name not in lines}


def build_on_gpu(reference: str) -> Experiment | None:
    """The same experiment with its settings for a GPU; None where it has no others, or where nothing simulates it."""
    found = (name for name in _builtin() if _same(name, reference) and name in _launchers_on_gpu)
    return next((_named(_launchers_on_gpu[name], name, reference) for name in found), None)


def build(reference: str) -> Experiment:
    """The experiment behind a reference, with its `name` set.

    Args:
        reference: a registered name in any letter case, `path/to/file.py:Name` (a function that returns an
            Experiment, or an Experiment), `gymnasium:ID`, or `pettingzoo:ID` with an id of `MultiAgentEnv`.
    Raises:
        UserError: there is no such experiment (the nearest is named), there are two, or its file does not run.
    """
    if reference.startswith(GYMNASIUM):
        return _gymnasium(reference.removeprefix(GYMNASIUM))
    if reference.startswith(PETTINGZOO):
        return _pettingzoo(reference.removeprefix(PETTINGZOO))
    if ".py:" in reference or reference.endswith(".py"):
        return _from_file(reference)
    found: dict[str, Any] = {f"this project's {name}": name for name in _builtin() if _same(name, reference)}
    found |= {f"{point.name} = {point.value}": point for point in _entry_points() if _same(point.name, reference)}
    if not found:
        raise UserError(f"There is no experiment '{reference}': {_nearest(reference)}--list shows all of them.")
    if len(found) > 1:
        raise UserError(
            f"'{reference}' names {len(found)} launchers, {' and '.join(found)}: "
            "rename the entry point of your package, or uninstall it."
        )
    (launcher,) = found.values()
    if isinstance(launcher, str):
        return _named(_builtin()[launcher], launcher, reference)
    return _named(_load(launcher), launcher.name, reference)


def _builtin() -> dict[str, Launcher]:
    import environments

    for family in environments.FAMILIES:
        importlib.import_module(f"environments.{family}")
    return _launchers


def _entry_points() -> list[Any]:
    from importlib.metadata import entry_points

    return list(entry_points(group=ENTRY_POINTS))


def _load(point: Any) -> Any:
    try:
        return point.load()
    except Exception as error:
        raise UserError(
            f"The launcher '{point.name}' of another package ({point.value}) cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error


def _same(name: str, reference: str) -> bool:
    return name.lower() == reference.lower()


def _nearest(reference: str) -> str:
    known = {name.lower(): name for name in names()}
    near = difflib.get_close_matches(reference.lower(), known, 1, 0.5)
    return f"did you mean {known[near[0]]}? " if near else ""


def _gymnasium(environment_id: str) -> Experiment:
    from ppo_and_friends.vector.gym_vec import GymEnv

    if not environment_id:
        raise UserError(f"'{GYMNASIUM}' names no environment: write {GYMNASIUM}FrozenLake-v1, or another id.")
    return Experiment(env=GymEnv(id=environment_id), name=_directory(environment_id))


def _pettingzoo(environment_id: str) -> Experiment:
    from ppo_and_friends.vector.multi_agent import MultiAgentEnv

    if not environment_id:
        raise UserError(f"'{PETTINGZOO}' names no environment: write {PETTINGZOO}mpe2.simple_spread_v3, or another.")
    return Experiment(env=MultiAgentEnv(id=environment_id), name=_directory(environment_id))


def _directory(environment_id: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", environment_id).lstrip(".")


def _from_file(reference: str) -> Experiment:
    if reference.endswith(".py"):
        raise UserError(f"'{reference}' is a file: write {reference}:NAME, the function that returns an Experiment.")
    return _named(load_custom(reference), reference.rpartition(":")[2], reference)


def _named(launcher: Any, name: str, reference: str) -> Experiment:
    """Call a launcher where it is a function, check what it gives, and name it."""
    built = launcher
    if callable(launcher):
        try:
            built = launcher()
        except UserError:
            raise
        except ModuleNotFoundError as error:
            from ppo_and_friends.vector.gym_make import missing_package

            raise UserError(missing_package(reference, error)) from error
        except Exception as error:
            raise UserError(f"The launcher '{reference}' failed with {type(error).__name__}: {error}") from error
    if not isinstance(built, Experiment):
        raise UserError(
            f"'{reference}' gives a {type(built).__name__}, but must be a function that returns an Experiment, "
            "or an Experiment."
        )
    return dataclasses.replace(built, name=name)
