"""Stands in for isaacgymenvs: toy dynamics in the form of its VecTask, with its three orders of resetting.

Observation: [position, steps of the episode, start]; a step adds the first action to the position, the reward is the
position, and 1 as second action ends the episode as a failure. Other second actions provoke other accidents.
Ant resets within the next step after simulating, Before ahead of simulating, AnymalTerrain within the same step.
Before has a tensor of its own for the critic, and Cartpole the real one's sizes.
"""

import os
import signal
import time
import types

import isaacgym  # noqa: F401  the real one imports it too
import numpy
import torch

FAIL, BAD_NUMBER, RAISE, DIE = 1, 5, 6, 7


def make(
    seed,
    task,
    num_envs,
    sim_device,
    rl_device,
    graphics_device_id=-1,
    headless=False,
    multi_gpu=False,
    virtual_screen_capture=False,
    force_render=True,
    cfg=None,
):
    pipeline = "cpu" if sim_device == "cpu" else "gpu"
    assert (cfg["sim_device"], cfg["pipeline"], int(cfg["num_envs"])) == (sim_device, pipeline, num_envs)
    assert headless != virtual_screen_capture
    if task == "Quits":
        print("*** Failed to create sim")
        quit()
    while task == "Endless":
        with open(cfg["told"], "w") as file:
            file.write(str(os.getpid()))
        time.sleep(0.05)
    return Toy(task, num_envs, rl_device, int(cfg.get("task.env.episodeLength", 4)), virtual_screen_capture)


class Toy:
    def __init__(self, task, rows, device, length, pictures):
        self.task, self.num_envs, self.device, self.max_episode_length = task, rows, device, length
        self.num_states = 1 if task == "Before" else 0
        self.num_actions, self.num_observations = (1, 4) if task == "Cartpole" else (2, 3)
        bound = numpy.full(self.num_actions, 1.0)
        self.action_space = types.SimpleNamespace(low=-bound, high=bound)
        self.pictures = pictures
        self.position, self.start = torch.zeros(rows, device=device), torch.zeros(rows, device=device)
        self.progress_buf = torch.zeros(rows, dtype=torch.long, device=device)
        self.reset_buf = torch.ones(rows, dtype=torch.long, device=device)
        self.extras = {}

    def reset_idx(self, rows):
        self.start[rows] = torch.randint(10, 1000, (len(rows),), device=self.device).float()
        self.position[rows] = self.start[rows]
        self.progress_buf[rows] = 0
        self.reset_buf[rows] = 0

    def step(self, actions):
        if self.task == "Before":
            self.reset_idx(self.reset_buf.nonzero().flatten())
        if self.task == "Cartpole":
            actions = torch.nn.functional.pad(actions, (0, 1))
        self._accidents(actions)
        self.position += actions[:, 0]
        self.progress_buf += 1
        failed = actions[:, 1] == FAIL
        if self.task == "AnymalTerrain":
            self.reset_buf = (failed | (self.progress_buf >= self.max_episode_length - 1)).long()
            rewards = self.position.clone()
            ended = self.reset_buf.clone()
            self.reset_idx(ended.nonzero().flatten())
            self.reset_buf = ended
        else:
            if self.task != "Before":
                late = self.reset_buf.nonzero().flatten()
                self.reset_idx(late)
                failed[late] = False
            rewards = self.position.clone()
            self.reset_buf = (failed | (self.progress_buf >= self.max_episode_length - 1)).long()
        rewards[actions[:, 1] == BAD_NUMBER] = float("nan")
        self.extras["time_outs"] = (self.progress_buf >= self.max_episode_length - 1) & (self.reset_buf != 0)
        self.extras["consecutive_successes"] = self.position.max()
        self.extras["episode"] = {"height": -self.position}
        self.extras["camera"] = torch.zeros(self.num_envs, 4, 4)
        columns = [self.position, self.progress_buf.float(), self.start, self.position]
        seen = {"obs": torch.stack(columns[: self.num_observations], 1)}
        if self.num_states:
            seen["states"] = self.position[:, None] * 2
        return seen, rewards, self.reset_buf.clone(), self.extras

    def render(self, mode):
        return numpy.arange(24, dtype=numpy.uint8).reshape(2, 4, 3) if self.pictures else None

    def _accidents(self, actions):
        worst = int(actions[0, 1])
        if worst == RAISE:
            raise ValueError("the joint broke")
        if worst == DIE:
            os.kill(os.getpid(), signal.SIGKILL)
