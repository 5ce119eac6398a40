"""Making one Gymnasium environment, and saying what to do where that fails."""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled, UnregisteredEnv

from ppo_and_friends.errors import UserError
from ppo_and_friends.render import explain_backend
from ppo_and_friends.vector.gym_masks import with_mask

# What registers the ids of an environment family when it is imported, after what it needs: (modules, pip's name)
FAMILIES = {
    "ALE": (("ale_py",), ".[atari]"),
    "dm_control": (("dm_control", "shimmy"), ".[dm-control]"),
    "GymV21Environment-v0": (("gym", "shimmy"), ".[gym]"),
    "GymV26Environment-v0": (("gym", "shimmy"), ".[gym]"),
}
# pip's name for a module that environments import
PACKAGES = {
    "Box2D": "gymnasium[box2d]",
    "pygame": "gymnasium[classic-control]",
    "mujoco": "gymnasium[mujoco]",
    "ale_py": ".[atari]",
    "gym": ".[gym]",
    "shimmy": ".[gym]",
    "dm_control": ".[dm-control]",
    "cv2": "opencv-python-headless",
    **dict.fromkeys(("pettingzoo", "mpe2", "rware", "lbforaging"), ".[multi-agent]"),
}


def check_id(given: Any, kind: str) -> None:
    """Raise UserError where an environment's `id` is no text, as where a class is given in its place."""
    if not isinstance(given, str):
        name = getattr(given, "__name__", type(given).__name__)
        raise UserError(f'The id of {kind} is {name}, which is no text: give {kind}("{name}", factory={name}).')


def make_environment(
    name: str,
    kwargs: dict[str, Any],
    max_episode_steps: int | None = None,
    factory: Callable[..., gymnasium.Env[Any, Any]] | None = None,
    render: bool = False,
) -> gymnasium.Env[Any, Any]:
    """One environment, from Gymnasium's registry or from `factory`.

    Gymnasium's passive checker is left out: its first-steps checks are a subset of what `Rows` checks at every step.

    Raises:
        UserError: an unknown id, a missing package, or a constructor that refuses its settings or raises.
    """
    settings = {**kwargs, "render_mode": "rgb_array"} if render else kwargs
    try:
        return with_mask(_made(name, settings, max_episode_steps, factory))
    except UserError:
        raise
    except (UnregisteredEnv, gymnasium.error.DeprecatedEnv) as error:
        raise UserError(unknown_id(name, error)) from error
    except (ImportError, DependencyNotInstalled) as error:
        raise UserError(missing_package(name, error)) from error
    except Exception as error:
        if isinstance(error, RuntimeError):
            explain_backend(error)
        if render and isinstance(error, TypeError) and _is_made(name, kwargs, max_episode_steps, factory):
            raise UserError(cannot_draw(name, "it takes no render_mode")) from error
        unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unexpected and unexpected[1] in kwargs:
            raise UserError(
                f"{name} has no setting '{unexpected[1]}', neither of ours nor of its constructor's: leave "
                f"--env.{unexpected[1]} out, or correct env.kwargs."
            ) from error
        reason = str(error).strip().rstrip(".") or type(error).__name__
        mend = (
            "correct env.kwargs or env.max_episode_steps"
            if kwargs or max_episode_steps is not None
            else "mend it there"
        )
        raise UserError(f"{name} raises {type(error).__name__} when made with {settings}: {reason}; {mend}.") from error


def refuse_team(name: str, env: Any) -> None:
    """Raise UserError where an environment has several agents."""
    agents = getattr(env, "possible_agents", None) or (tuple(env.action_space) if is_team(env) else ())
    if agents:
        raise UserError(
            f"{name} has {len(agents)} agents and needs an action of each: use MultiAgentEnv, or -e pettingzoo:ID."
        )


def is_team(env: Any) -> bool:
    """Whether a Gymnasium environment has tuples of actions and observations, one for each agent (rware, LBF)."""
    return isinstance(env.action_space, spaces.Tuple) and isinstance(env.observation_space, spaces.Tuple)


def cannot_draw(name: str, cause: str) -> str:
    return f"{name} has no rgb_array render mode ({cause}): go without --render and --render_gif, or give it one."


def picture(name: str, env: Any) -> np.ndarray:
    """What it renders, `[height, width, 3]` uint8. Raises UserError for anything else."""
    try:
        drawn = np.asarray(env.render())
    except NotImplementedError as error:
        raise UserError(cannot_draw(name, "it has no method render")) from error
    if drawn.ndim != 3 or drawn.shape[2] != 3 or drawn.dtype != np.uint8:
        found = f"shape {drawn.shape} of {drawn.dtype}" if drawn.ndim else type(drawn.item()).__name__
        raise UserError(cannot_draw(name, f"its render gives {found}, not [height, width, 3] uint8"))
    return drawn


def _made(
    name: str, settings: dict[str, Any], max_episode_steps: int | None, factory: Callable[..., Any] | None
) -> gymnasium.Env[Any, Any]:
    if factory is None:
        _import_family(name)
        return gymnasium.make(name, max_episode_steps=max_episode_steps, disable_env_checker=True, **settings)
    env = factory(**settings)
    return env if max_episode_steps is None else gymnasium.wrappers.TimeLimit(env, max_episode_steps)


def _is_made(*arguments: Any) -> bool:
    try:
        _made(*arguments).close()
    except Exception:
        return False
    return True


def _import_family(name: str) -> None:
    """Import what registers the ids of a family such as ALE/..., because no package does so by itself."""
    modules, package = FAMILIES.get(name.split("/")[0], ((), ""))
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(f'{name} needs the package {module}; install it with `pip install "{package}"`.') from error


def unknown_id(name: str, error: Exception) -> str:
    """What to say where no such environment is registered."""
    known = list(gymnasium.registry)
    bare = {key.rsplit("-v", 1)[0]: key for key in known}  # newest version last
    near = difflib.get_close_matches(name, known, n=3)
    near += [bare[key] for key in difflib.get_close_matches(name.rsplit("-v", 1)[0], list(bare), n=3)]
    meant = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else "see `gymnasium.registry` for all ids."
    if re.search(r"_v\d+$", name):  # as PettingZoo writes versions, and Gymnasium does not
        meant = "an environment of PettingZoo's is -e pettingzoo:MODULE, as pettingzoo:mpe2.simple_spread_v3."
    reason = re.split(r"\.\s|\.$|Did you mean", str(error).strip())[0].strip()
    return f"No environment {name!r} is registered ({reason}); {meant}"


def missing_package(name: str, error: BaseException) -> str:
    """What to say where an import failed."""
    cause = error if isinstance(error, ImportError) and error.name else error.__cause__
    module = getattr(cause, "name", None)
    if not module:
        return f"{name} needs a package that is not installed: {error}"
    module, _, inner = module.partition(".")
    if inner and name.startswith(f"{module}.{inner}") and importlib.util.find_spec(module):
        return f"{name} is not there: the package {module} has no module {inner}; correct its name or version."
    if ":" in name and name.split(":")[0].split(".")[0] == module and module not in PACKAGES:
        return f"{name} names the module {module}, which cannot be imported; correct it, or `pip install` its package."
    return f'{name} needs the package {module}; install it with `pip install "{PACKAGES.get(module, module)}"`.'
