"""A body or a distribution of the user's own, tried once on zeros: a mistake is one sentence, not a wrong score."""

from __future__ import annotations

import contextlib
import copy
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ppo_and_friends.config import BodyConfig, NetConfig
from ppo_and_friends.custom import load_custom
from ppo_and_friends.errors import UserError
from ppo_and_friends.networks.distributions import Distribution
from ppo_and_friends.types import GroupSpec, TensorSpec

STEPS, ROWS = 2, 5  # unlike each other and 1, so that axes cannot be taken for one another
PACKAGE = str(Path(__file__).parent.parent)


def own_body(reference: Any, specs: tuple[TensorSpec, ...], config: BodyConfig) -> Any:
    """The body behind a reference: a module that turns `[N, *shape]` into `[N, features]`, and `[L, B, *shape]` alike.

    Raises:
        UserError: it cannot be loaded or made, is no module, or its output has another shape than it says.
    """
    name = _name(reference)
    with _told(f"{name}(specs, config)"):
        body = load_custom(reference)(specs, config)
    if not isinstance(body, nn.Module):
        raise UserError(f"{name} gives a {type(body).__name__}, but a body must be a torch.nn.Module.")
    features = getattr(body, "features", None)
    if type(features) is not int or features < 1:
        raise UserError(f"{name} has features {features!r}, but it must be the width of its output, an int above 0.")
    for leading in ((ROWS,), (STEPS, ROWS)):
        parts = [torch.zeros(*leading, *spec.shape, dtype=spec.dtype) for spec in specs]
        shapes = " and ".join(str(list(part.shape)) for part in parts)
        with _told(f"{name} for an observation of shape {shapes}"), torch.no_grad():
            output = copy.deepcopy(body)(
                tuple(parts) if len(parts) > 1 else parts[0]
            )  # a copy: zeros must leave no trace
        _expect(f"{name} for an observation of shape {shapes}", output, (*leading, features))
    return body


def own_distribution(reference: Any, features: int, spec: GroupSpec, config: NetConfig) -> Distribution:
    """The distribution behind a reference, called with (features, action space, config).

    Raises:
        UserError: it cannot be loaded or made, is no `Distribution`, or a method is missing or gives a wrong shape.
    """
    name = _name(reference)
    with _told(f"{name}(features, space, config)"):
        distribution = load_custom(reference)(features, spec.action, config)
    if not isinstance(distribution, Distribution):
        raise UserError(
            f"{name} gives a {type(distribution).__name__}, but must derive from "
            f"{Distribution.__module__}.{Distribution.__name__}."
        )
    with torch.no_grad():
        _try_distribution(name, copy.deepcopy(distribution), features, spec)
    return distribution


def _try_distribution(name: str, distribution: Distribution, features: int, spec: GroupSpec) -> None:
    """Act once with `ROWS` rows, and look at `STEPS` steps of it as learning does."""

    def ask(method: str, wanted: tuple[Any, ...], *arguments: Any) -> Tensor:
        with _told(f"{name}.{method}"):
            result = getattr(distribution, method)(*arguments)
        _expect(f"{name}.{method}", result, wanted)
        return result

    generator, space = torch.Generator(), spec.action
    seen, legal = torch.zeros(ROWS, features), torch.ones(ROWS, spec.mask, dtype=torch.bool)
    parameters = ask("forward", (ROWS, None), seen, legal)
    noise = ask("start", (ROWS, ...), ROWS)
    with _told(f"{name}.refresh"):
        distribution.refresh(noise, 0, generator)
    draws = ask("draws", (STEPS, ROWS, None), STEPS, ROWS, generator)
    actions = ask("sample", (ROWS, space.columns), parameters, seen, noise, draws[0])
    for raw in (actions, ask("mode", (ROWS, space.columns), parameters)):
        taken = ask("to_environment", (ROWS, space.columns), raw)
        if taken.dtype != space.dtype:
            raise UserError(f"{name} gives actions of {taken.dtype}, but {space.kind} actions are {space.dtype}.")
    steps = (STEPS, ROWS)
    width = parameters.shape[-1]
    later = ask("forward", (*steps, width), seen.expand(*steps, -1), legal.expand(*steps, -1))
    ask("log_prob", steps, later, actions.expand(*steps, -1))
    ask("entropy", steps, later)
    ask("kl", steps, later, later)
    ask("bounds_loss", steps, later, 1.1)


def _name(reference: Any) -> str:
    return reference if isinstance(reference, str) else getattr(reference, "__qualname__", type(reference).__name__)


def _expect(what: str, result: Any, wanted: tuple[Any, ...]) -> None:
    """Raise UserError unless `result` is a tensor of this shape, where None is any size and ... any axes."""
    if not isinstance(result, Tensor):
        raise UserError(f"{what} gives a {type(result).__name__}, but must give a tensor.")
    found, sizes = tuple(result.shape), wanted
    if wanted[-1] is ...:
        sizes = wanted[:-1]
        found = found[: len(sizes)]
    if len(found) != len(sizes) or any(size not in (None, have) for size, have in zip(sizes, found, strict=True)):
        shown = ", ".join({None: "any", ...: "..."}.get(size, str(size)) for size in wanted)
        raise UserError(f"{what} gives a tensor of shape {list(result.shape)}, but it must be [{shown}].")


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn whatever the user's code raises into one sentence, with the line of that code where there is one."""
    try:
        yield
    except UserError:
        raise
    except NotImplementedError as error:
        raise UserError(f"{what} is not implemented{_line(error)}: write it.") from error
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"{what} raises {type(error).__name__}{_line(error)}: {reason}.") from error


def _line(error: Exception) -> str:
    """Where the user's own code raised, or called what did."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename and not frame.filename.startswith(PACKAGE)
    ]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
