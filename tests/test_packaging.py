"""What the README promises exists, and what exists is in the README."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from ppo_and_friends import registry
from ppo_and_friends.config import RunConfig
from ppo_and_friends.flags import ALIASES, leaves
from ppo_and_friends.parser import Request
from ppo_and_friends.plot import Options
from ppo_and_friends.vector.self_play import SelfPlay

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# flags in README that are those of mpirun, srun, sbatch, pip, docker and tensorboard
FOREIGN = {"allow_run_as_root", "oversubscribe", "mpi", "index_url", "cap_add", "ntasks", "cpus_per_task", "time"}
FOREIGN |= {"requeue", "signal", "logdir", "kill_on_bad_exit", "ntasks_per_node", "gpus_per_node"}
FOREIGN |= {"nnodes", "nproc_per_node", "rdzv_backend", "rdzv_endpoint", "signals_to_handle"}  # torchrun's


def table(heading: str) -> list[list[str]]:
    """Cells of the first table below a heading, without its own head."""
    lines = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0].splitlines()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def flags(text: str) -> set[str]:
    return {flag.replace("-", "_") for flag in re.findall(r"--([A-Za-z][\w.-]*[\w*])", text)}


def test_environments_are_those_of_the_registry() -> None:
    assert [row[0] for row in table("Environments")] == registry.names()


@pytest.mark.parametrize("row", table("Environments"), ids=lambda row: row[0])
def test_environment_ids(row: list[str]) -> None:
    env = registry.build(row[0]).env
    if isinstance(env, SelfPlay):
        assert row[1] == f"`{type(env.env).__name__}` of this project"
        return
    variant = re.sub("Randomized|Mirror(Loss)?", "", row[0])
    name = getattr(env, "id", None) or getattr(env, "game", None) or f"{variant}-v5"
    isaac = row[0].startswith("Isaac")
    assert row[1].startswith(("Isaac Gym", "OmniIsaacGymEnvs") if isaac else f"`{name}`")
    kwargs = getattr(env, "kwargs", {})
    assert all(word in row[1] for word in kwargs) and bool(kwargs) == ("," in row[1])


def test_every_flag_of_a_call_is_in_the_readme() -> None:
    settings = {name for name, _ in [*leaves(Request()).items(), *leaves(RunConfig()).items()]}
    assert settings - flags(README) == set()


def test_every_flag_of_the_readme_exists() -> None:
    known = {*leaves(Request()), *leaves(RunConfig()), *ALIASES, "help"}
    known |= {
        name for example in ("RoomsICM", "BreakoutPixels", "SimpleTag") for name in leaves(registry.build(example))
    }
    groups = {f"{name.partition('.')[0]}.*" for name in known if "." in name}
    own = {"env.NAME", "env.env_id"}  # arguments of an environment's constructor
    plot = {field.name for field in dataclasses.fields(Options)}
    assert flags(README) - known - groups - own - plot - FOREIGN == set()


def test_extras_that_are_named_exist() -> None:
    """With hyphens only: pip before 23.3 installs nothing for an underscore, and says so in a warning."""
    texts = [README, *(path.read_text(encoding="utf-8") for path in (ROOT / "ppo_and_friends").rglob("*.py"))]
    named = {
        extra
        for text in texts
        for group in re.findall(r"(?:ppo_and_friends|\"\.)\[([\w,-]+)\]", text)
        for extra in group.split(",")
    }
    assert {"mpich", "test", "gym", "plot"} <= named <= set(PROJECT["optional-dependencies"])


def test_ci_runs_the_commands_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace("install -q", "install").splitlines()
    commands = re.findall(r"^pip install -c .*$", README, re.MULTILINE)
    assert len(commands) == 2
    for part in (part for command in commands for part in command.split(" && ")):
        assert any(line.startswith(part) for line in script)


def test_constraints_admit_what_the_project_asks_for() -> None:
    """Each dependency that the constraints name lies above its lower bound."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in lines if line[0] != "#"}
    extras = PROJECT["optional-dependencies"]
    for text in [*PROJECT["dependencies"], *extras["mpich"], *extras["plot"], *extras["gpu"], *extras["multi-agent"]]:
        wanted = Requirement(text)
        assert pins[canonicalize_name(wanted.name)] in wanted.specifier
