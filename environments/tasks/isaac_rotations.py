"""Rotations of many rows at once. A quaternion is `[..., 4]` and, as in MuJoCo, has its scalar part first."""

from __future__ import annotations

import torch
from torch import Tensor


def scalar_last(quaternion: Tensor) -> Tensor:
    """wxyz to xyzw, the order in which Isaac Gym's observations have it."""
    return quaternion.roll(-1, -1)


def conjugate(quaternion: Tensor) -> Tensor:
    """The inverse of a rotation, `[..., 4]`."""
    return torch.cat((quaternion[..., :1], -quaternion[..., 1:]), -1)


def multiply(first: Tensor, second: Tensor) -> Tensor:
    """The rotation that turns by `second`, then by `first`, `[..., 4]`."""
    w1, v1, w2, v2 = first[..., :1], first[..., 1:], second[..., :1], second[..., 1:]
    scalar = w1 * w2 - (v1 * v2).sum(-1, keepdim=True)
    return torch.cat((scalar, w1 * v2 + w2 * v1 + torch.linalg.cross(v1, v2)), -1)


def rotate(quaternion: Tensor, vector: Tensor) -> Tensor:
    """A vector `[..., 3]` of the body's frame in the frame that the body is turned in."""
    w, v = quaternion[..., :1], quaternion[..., 1:]
    twice = 2 * torch.linalg.cross(v, vector)
    return vector + w * twice + torch.linalg.cross(v, twice)


def body_axes(quaternion: Tensor) -> Tensor:
    """The body's x, y and z axis in the world, one after another, `[..., 9]`."""
    w, x, y, z = quaternion.unbind(-1)
    columns = (
        (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)),
        (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)),
        (2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([entry for column in columns for entry in column], -1)


def up_axis_height(quaternion: Tensor) -> Tensor:
    """`[...]`: the z component of the body's z axis, 1 when it is upright."""
    return 1 - 2 * (quaternion[..., 1].square() + quaternion[..., 2].square())


def angle_of(quaternion: Tensor) -> Tensor:
    """`[...]`: by how much it turns, in radians from 0 to pi. Rounding may leave a norm above 1."""
    return 2 * torch.asin(torch.linalg.vector_norm(quaternion[..., 1:], dim=-1).clamp(max=1))


def about_x_then_y(angles: Tensor) -> Tensor:
    """Rx(a) Ry(b) for angles `[..., 2]` in radians: how Isaac Gym draws an orientation (not uniformly)."""
    (cos_a, cos_b), (sin_a, sin_b) = torch.cos(angles / 2).unbind(-1), torch.sin(angles / 2).unbind(-1)
    return torch.stack((cos_a * cos_b, sin_a * cos_b, cos_a * sin_b, sin_a * sin_b), -1)
