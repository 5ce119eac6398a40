"""Rotations of many rows at once. A quaternion is `[..., 4]` and, as in MuJoCo, has its scalar part first."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from ppo_and_friends.vector.sim.tensors import constant

# entries of a rotation's matrix, column by column: eye + factor * (product first + sign * product second)
_FIRST = (10, 6, 7, 6, 5, 11, 7, 11, 5)  # of the 16 products of the quaternion's numbers wxyz with each other
_SECOND = (15, 3, 2, 3, 15, 1, 2, 1, 10)
_SIGNS = (1, 1, -1, -1, 1, 1, 1, -1, 1)
_FACTORS = (-2, 2, 2, 2, -2, 2, 2, 2, -2)
_EYE = (1, 0, 0, 0, 1, 0, 0, 0, 1)


def scalar_last(quaternion: Tensor) -> Tensor:
    """wxyz to xyzw, the order in which Isaac Gym's observations have it."""
    return quaternion.roll(-1, -1)


def conjugate(quaternion: Tensor) -> Tensor:
    """The inverse of a rotation, `[..., 4]`."""
    return quaternion * constant((1, -1, -1, -1), quaternion)


def multiply(first: Tensor, second: Tensor) -> Tensor:
    """The rotation that turns by `second`, then by `first`, `[..., 4]`."""
    w1, v1, w2, v2 = first[..., :1], first[..., 1:], second[..., :1], second[..., 1:]
    scalar = w1 * w2 - (v1 * v2).sum(-1, keepdim=True)
    return torch.cat((scalar, w1 * v2 + w2 * v1 + torch.linalg.cross(v1, v2)), -1)


def rotate(quaternion: Tensor, vector: Tensor) -> Tensor:
    """A vector `[..., 3]` of the body's frame in the frame that the body is turned in."""
    w, v = quaternion[..., :1], quaternion[..., 1:]
    twice = 2 * torch.linalg.cross(v, vector)
    return torch.addcmul(vector, w, twice) + torch.linalg.cross(v, twice)


def rotate_inverse(quaternion: Tensor, vector: Tensor) -> Tensor:
    """A vector `[..., 3]` of the frame that the body is turned in, in the body's own."""
    w, v = quaternion[..., :1], quaternion[..., 1:]
    twice = 2 * torch.linalg.cross(v, vector)
    return torch.addcmul(vector, w, twice, value=-1) + torch.linalg.cross(v, twice)


def body_axes(quaternion: Tensor) -> Tensor:
    """The body's x, y and z axis in the world, one after another, `[..., 9]`."""
    products = (quaternion[..., :, None] * quaternion[..., None, :]).flatten(-2)
    first, second = (products.index_select(-1, constant(ids, products, torch.int64)) for ids in (_FIRST, _SECOND))
    sums = torch.addcmul(first, constant(_SIGNS, products), second)
    return torch.addcmul(constant(_EYE, products), constant(_FACTORS, products), sums)


def up_axis_height(quaternion: Tensor) -> Tensor:
    """`[...]`: the z component of the body's z axis, 1 when it is upright."""
    return 1 - 2 * quaternion[..., 1:3].square().sum(-1)


def roll_yaw(axes: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations `[...]` about x (first) and z (last) of the Euler angles x, y, z, in (-pi, pi], of `body_axes`."""
    return torch.atan2(axes[..., 5], axes[..., 8]), torch.atan2(axes[..., 1], axes[..., 0])


def wrap(angle: Tensor) -> Tensor:
    """The same angle in [-pi, pi)."""
    return torch.remainder(angle + pi, 2 * pi) - pi


def angle_of(quaternion: Tensor) -> Tensor:
    """`[...]`: by how much it turns, in radians from 0 to pi. Rounding may leave a norm above 1."""
    return 2 * torch.asin(torch.linalg.vector_norm(quaternion[..., 1:], dim=-1).clamp(max=1))


def about_x_then_y(angles: Tensor) -> Tensor:
    """Rx(a) Ry(b) for angles `[..., 2]` in radians: how Isaac Gym draws an orientation (not uniformly)."""
    (cos_a, cos_b), (sin_a, sin_b) = torch.cos(angles / 2).unbind(-1), torch.sin(angles / 2).unbind(-1)
    return torch.stack((cos_a * cos_b, sin_a * cos_b, cos_a * sin_b, sin_a * sin_b), -1)
