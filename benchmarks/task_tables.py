"""Write the tables of all MuJoCo tasks into docs/tasks.md: sizes, and the launchers' settings.

python benchmarks/task_tables.py
"""

from __future__ import annotations

from typing import Any

import common

from ppo_and_friends import registry
from ppo_and_friends.config import BodyConfig, Experiment, steps_per_row
from ppo_and_friends.vector.sim.task_env import SimEnv
from ppo_and_friends.vector.sim.warp_gpu import supported
from ppo_and_friends.vector.sim.warp_limits import Limits, bytes_per_world, choose_limits

PAGE = common.ROOT / "docs" / "tasks.md"
ROWS = 1024  # of the column on memory
SIZES = ("task", "observation", "actions", "seconds a step", "time limit", f"GPU memory of {ROWS} rows, MiB (estimate)")
SETTINGS = ("task", "rows x steps", "minibatches x epochs", "step size", "gamma", "reward", "network", "timesteps")


def tasks() -> dict[str, Experiment]:
    """The first experiment of each MuJoCo task, in the registry's order."""
    found: dict[str, Experiment] = {}
    for name in registry.names():
        experiment = registry.build(name)
        if isinstance(experiment.env, SimEnv) and experiment.env not in [other.env for other in found.values()]:
            found[name] = experiment
    return found


def memory(model: Any, name: str) -> float:
    """MiB of a GPU that `ROWS` worlds are estimated to need, without networks and rollouts."""
    model = supported(model)
    return ROWS * bytes_per_world(model, choose_limits(model, Limits(), name)) / 2**20


def sizes(name: str, experiment: Experiment) -> tuple[str, ...]:
    """A row of the table of `SIZES`."""
    task = experiment.env.task
    model = task.model()
    (actor,), (critic,) = (spec[0].shape for spec in (task.actor, task.critic))
    seen = str(actor) if actor == critic else f"{actor}, critic {critic}"
    pace = f"{model.opt.timestep * task.substeps:.4g}"
    return name, seen, str(task.action.columns), pace, str(task.max_episode_steps), f"{memory(model, name):.0f}"


def settings(name: str, experiment: Experiment) -> tuple[str, ...]:
    """A row of the table of `SETTINGS`."""
    ppo, net, rows = experiment.ppo, experiment.net, experiment.envs_per_proc
    step_size = f"{ppo.lr}, KL {ppo.target_kl:g}" if ppo.target_kl else str(ppo.lr)
    reward = f"x {ppo.reward_scale:g}" if not ppo.normalize_rewards else "/ spread"
    network = _body(net.actor)
    if net.shared:
        network += ", shared"
    elif net.critic != net.actor:
        network += f"; critic {_body(net.critic)}"
    return (
        name,
        f"{rows} x {steps_per_row(experiment, rows)}",
        f"{ppo.minibatches} x {ppo.epochs}",
        step_size,
        f"{ppo.gamma:g}",
        reward,
        network,
        f"{experiment.num_timesteps / 1e6:.4g} M",
    )


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *((f"[{row[0]}](#{row[0].lower()})", *row[1:]) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def replaced(page: str, made: str) -> str:
    """`page` with `made` between the marks of its head."""
    before, begin, rest = page.partition("<!-- made by benchmarks/task_tables.py -->\n")
    _, end, after = rest.partition("<!-- end -->\n")
    return before + begin + "\n" + made + "\n" + end + after


def _body(body: BodyConfig) -> str:
    return f"{', '.join(map(str, body.hidden))} {body.activation}"


def main() -> None:
    found = tasks().items()
    parts = (table(SIZES, [sizes(*item) for item in found]), table(SETTINGS, [settings(*item) for item in found]))
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), "\n".join(parts)), encoding="utf-8")


if __name__ == "__main__":
    main()
