"""Launchers: one file a family, one function an experiment."""

FAMILIES = (
    "classic_control",
    "memory",
    "box2d",
    "mujoco",
    "mujoco_on_gpu",
    "isaac",
    "atari",
    "multi_agent",
    "self_play",
    "curiosity",
    "symmetry",
)
"""The modules whose launchers are registered, in the order in which --list shows them."""
