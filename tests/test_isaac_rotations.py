"""Rotations beside MuJoCo's own, and the random numbers of a row's stream."""

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest
import torch
from isaac_tasks import close

from environments.tasks import isaac_rotations as rotations
from environments.tasks.isaac_stream import STREAM, normal, uniform


def test_rotations_are_those_of_mujoco() -> None:
    numbers = np.random.default_rng(0)
    first, second = numbers.normal(size=(2, 4))
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    vector, product, turned, matrix = numbers.normal(size=3), np.zeros(4), np.zeros(3), np.zeros(9)
    mujoco.mju_mulQuat(product, first, second)
    mujoco.mju_rotVecQuat(turned, vector, first)
    mujoco.mju_quat2Mat(matrix, first)
    a, b = torch.from_numpy(first), torch.from_numpy(second)
    assert rotations.multiply(a, b).tolist() == close(*product)
    assert rotations.rotate(a, torch.from_numpy(vector)).tolist() == close(*turned)
    assert rotations.body_axes(a).tolist() == close(*matrix.reshape(3, 3).T.flatten())
    assert rotations.up_axis_height(a).item() == pytest.approx(matrix[8])
    assert rotations.multiply(a, rotations.conjugate(a)).tolist() == close(1, 0, 0, 0)


def test_angles_of_rotations() -> None:
    turn = rotations.about_x_then_y(torch.tensor([[math.pi / 2, math.pi / 2], [0.3, 0.0]], dtype=torch.float64))
    assert turn[0].tolist() == close(0.5, 0.5, 0.5, 0.5)  # a third of a turn about (1, 1, 1)
    assert rotations.angle_of(turn).tolist() == close(2 * math.pi / 3, 0.3)
    assert rotations.angle_of(torch.tensor([0.0, 1.0001, 0.0, 0.0])).item() == pytest.approx(math.pi)


def test_streams_are_splitmix64() -> None:
    """The first outputs for the seed 0 are published; a number is their 24 highest bits."""
    memory = {STREAM: torch.zeros(2, dtype=torch.int64)}
    drawn = uniform(memory, 0, 1, 2, torch.float64), uniform(memory, 0, 1, 1, torch.float64)
    assert torch.cat(drawn, 1)[0].tolist() == [bits / 2**24 for bits in (0xE220A8, 0x6E789E, 0x06C45D)]


def test_streams_are_spread_as_they_should() -> None:
    memory = {STREAM: torch.arange(500) * 2**24 + 7}
    alike = {STREAM: memory[STREAM].clone()}
    values = uniform(memory, -2, 2, 20, torch.float64)
    assert values.min() >= -2 and values.max() < 2
    assert abs(values.mean()) < 0.05 and values.std().item() == pytest.approx(4 / math.sqrt(12), rel=0.02)
    assert torch.equal(uniform(alike, -2, 2, 20, torch.float32).double(), values)
    spread = normal(memory, 20, torch.float64)
    assert abs(spread.mean()) < 0.05 and spread.std().item() == pytest.approx(1, rel=0.03)
