"""Views of observations by an environment's own method `augment_observation`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from math import prod
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box

from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.types import Tree, Views, leaves
from ppo_and_friends.vector.spaces import Layout

METHOD = "augment_observation"
PROBES = 3
Method = Callable[[np.ndarray], Any]


def views_of(env: gymnasium.Env[Any, Any], name: str, layout: Layout) -> Views | None:
    """What an environment's method makes of each observation; None where it has no such method.

    Args:
        layout: how observations are kept.
    Raises:
        UserError: the method raises, changes its first view, or gives other numbers of views.
    """
    return views_by(env.get_wrapper_attr(METHOD), name, layout) if env.has_wrapper_attr(METHOD) else None


def views_by(method: Method, name: str, layout: Layout, identities: int = 0) -> Views:
    """What a method makes of each observation, in all of which an agent keeps its identity: the last so many columns.

    Raises:
        UserError: as `views_of` does, or there are identities beside an image.
    """
    space, (part, *_) = layout.space, layout.parts
    if not isinstance(space, Box) or part.shape not in (space.shape, (prod(space.shape),)):
        raise UserError(
            f"{name} has a method {METHOD}, which is for observations of a Box, images with their channels first; it "
            f"observes {space}."
        )
    if identities and len(part.shape) > 1:
        raise UserError(f"{name} has views of images, which carry no identities: leave env.agent_ids off.")
    samples = copy.deepcopy(space)
    samples.seed(0)
    try:
        found = [_checked(method, samples.sample(), name) for _ in range(PROBES)]
    except EnvironmentFailure as error:
        raise UserError(f"{error} Mend it there, or leave the method out.") from error
    except Exception as error:
        raise UserError(f"{METHOD} of {name} raises {type(error).__name__}: {error}; mend it there.") from error
    copies = len(found[0])
    if any(len(views) != copies for views in found):
        counts = sorted({len(views) for views in found})
        raise UserError(f"{METHOD} of {name} gives {counts} views of one observation: it must always give as many.")

    def of(observation: Tree) -> Tree:
        (tensor,) = leaves(observation)
        if not len(tensor):
            return tensor.new_zeros(copies, *tensor.shape)
        columns = tensor.shape[1] - identities
        shown, whose = tensor[:, :columns], tensor[:, columns:]
        arrays = shown.cpu().numpy().reshape(-1, *space.shape)
        views = [_checked(method, array, name, copies) for array in arrays]
        made = np.stack(views, 1).astype(arrays.dtype, copy=False).reshape(copies, *shown.shape)
        found = torch.from_numpy(made).to(tensor.device)
        return torch.cat((found, whose.expand(copies, *whose.shape)), 2) if identities else found

    return Views(copies, of)


def _checked(method: Method, observation: np.ndarray, name: str, copies: int = 0) -> np.ndarray:
    views = np.asarray(method(observation.copy()))
    wanted = copies or max(1, len(views) if views.ndim else 1)
    if views.shape != (wanted, *observation.shape):
        raise EnvironmentFailure(
            f"{METHOD} of {name} gives shape {views.shape} rather than {copies or 'K'} views of {observation.shape}."
        )
    if not np.array_equal(views[0], observation):
        raise EnvironmentFailure(
            f"{METHOD} of {name} gives another observation as its first view than the one it was given."
        )
    return views
