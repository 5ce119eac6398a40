"""MuJoCo reads MUJOCO_GL once, when it is first imported: whichever test does that, it must find a way to draw."""

from ppo_and_friends.vector.sim.task_env import choose_gl_backend

choose_gl_backend()
