"""Launchers: one file a family, one function an experiment."""

FAMILIES = ("classic_control", "box2d", "mujoco", "mujoco_on_gpu", "multi_agent", "isaac")
"""The modules whose launchers are registered, in the order in which --list shows them."""
