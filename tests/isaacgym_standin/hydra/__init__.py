"""Stands in for the two functions of hydra-core that compose isaacgymenvs' configuration."""

import contextlib
import os

TASKS = ("Ant", "Cartpole", "Before", "AnymalTerrain", "Quits", "Endless")


class MissingConfigException(IOError):
    pass


@contextlib.contextmanager
def initialize_config_dir(config_dir):
    if os.path.basename(config_dir) != "cfg" or not os.path.isabs(config_dir):
        raise ValueError(config_dir)
    yield


def compose(config_name, overrides):
    settings = dict(item.split("=", 1) for item in overrides)
    if config_name != "config" or settings["task"] not in TASKS:
        raise MissingConfigException("In 'config': Could not find 'task/{}'".format(settings["task"]))
    return settings
