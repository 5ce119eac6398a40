"""Experiments by name, by file and by Gymnasium id."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ppo_and_friends import registry
from ppo_and_friends.config import Experiment, check_experiment
from ppo_and_friends.errors import UserError
from ppo_and_friends.simulator import WORTH
from ppo_and_friends.vector.multi_agent import MultiAgentEnv

LAUNCHER = """
from dataclasses import dataclass
from ppo_and_friends.config import Experiment

@dataclass(frozen=True)
class Env:
    size: int = 3

def my_task():
    return Experiment(env=Env(), num_timesteps=42)

ready = Experiment(env=Env(4))
number = 3

def broken():
    raise KeyError("colour")

def needy():
    import no_such_package.part
"""


@pytest.fixture
def launcher(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(LAUNCHER)
    return str(path)


def test_every_launcher_builds_and_is_described() -> None:
    lines = registry.describe()
    assert {"CartPole", "LunarLanderContinuous", "Walker2d", "HumanoidStandup"} <= set(lines)
    for name, line in lines.items():
        assert 10 < len(line) < 100, name
        experiment = registry.build(name)
        assert experiment.name == name
        check_experiment(experiment, experiment.envs_per_proc)


def test_settings_for_a_gpu_are_of_the_same_tasks() -> None:
    found = {name: registry.build_on_gpu(name.lower()) for name in registry.names()}
    assert {"Ant", "Humanoid"} <= {name for name, experiment in found.items() if experiment is not None}
    assert set(registry._launchers_on_gpu) <= set(found)
    for name, experiment in found.items():
        if experiment is not None:
            assert (experiment.name, experiment.env) == (name, registry.build(name).env)
            assert experiment.envs_per_proc >= WORTH
            check_experiment(experiment, experiment.envs_per_proc)
    assert registry.build_on_gpu("gymnasium:Ant-v5") is None


def test_letter_case_does_not_matter() -> None:
    assert registry.build("lunarlandercontinuous").name == "LunarLanderContinuous"


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="no experiment 'Carpole': did you mean CartPole.*--list"):
        registry.build("Carpole")
    with pytest.raises(UserError, match="no experiment 'qqqq': --list"):
        registry.build("qqqq")


def test_a_gymnasium_id_is_an_experiment() -> None:
    experiment = registry.build("gymnasium:ALE/Pong-v5")
    assert (experiment.env.id, experiment.name) == ("ALE/Pong-v5", "ALE_Pong-v5")
    for nothing in ("gymnasium:", "pettingzoo:"):
        with pytest.raises(UserError, match="names no environment"):
            registry.build(nothing)


def test_an_environment_of_several_agents_is_an_experiment() -> None:
    experiment = registry.build("pettingzoo:lbforaging:Foraging-8x8-3p-2f-v3")
    assert experiment.env == MultiAgentEnv("lbforaging:Foraging-8x8-3p-2f-v3")
    assert experiment.name == "lbforaging_Foraging-8x8-3p-2f-v3"


def test_a_file_gives_a_function_or_an_experiment(launcher: str) -> None:
    assert registry.build(launcher + ":my_task").num_timesteps == 42
    assert registry.build(launcher + ":my_task").name == "my_task"
    assert registry.build(launcher + ":ready").env.size == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (":my_tusk", r"has no 'my_tusk': did you mean .*mine\.py:my_task"),
        (":number", "gives a int, but must be a function that returns an Experiment"),
        (":broken", "failed with KeyError: 'colour'"),
        (":needy", 'needs the package no_such_package; install it with `pip install "no_such_package"`'),
        ("", "is a file: write .*mine.py:NAME"),
    ],
)
def test_mistakes_in_a_reference_to_a_file(launcher: str, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        registry.build(launcher + name)


def test_a_syntax_error_is_given_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text("x = 1\ndef my_task(:\n")
    with pytest.raises(UserError, match=r"wrong\.py, line 2: invalid syntax"):
        registry.build(f"{path}:my_task")
    with pytest.raises(UserError, match="There is no file"):
        registry.build(f"{tmp_path}/absent.py:my_task")


class EntryPoint:
    """An entry point of another package."""

    def __init__(self, broken: bool, name: str = "Maze") -> None:
        self.name, self.broken, self.value = name, broken, f"other_package.launchers:{name.lower()}"

    def load(self) -> object:
        if self.broken:
            raise ImportError("no module named maze")
        return lambda: Experiment(env=None)


def test_entry_points_are_listed_without_being_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [EntryPoint(broken=True)])
    assert registry.describe()["Maze"] == "from other_package.launchers:maze"
    with pytest.raises(UserError, match="'Maze' of another package .* cannot be imported: ImportError"):
        registry.build("maze")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [EntryPoint(broken=False)])
    assert registry.build("maze").name == "Maze"


@pytest.mark.parametrize("name", ["CartPole", "cartPOLE"])
def test_two_launchers_of_one_name_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint(broken=False, name=name), EntryPoint(broken=False)]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    both = f"names 2 launchers, this project's CartPole and {name} = other_package.launchers:cartpole: rename"
    with pytest.raises(UserError, match=both):
        registry.build("cartpole")
    assert registry.build("Maze").name == "Maze" and registry.build("Acrobot").name == "Acrobot"


def test_listing_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "gymnasium", "mujoco", "mpi4py", "tyro")
    script = (
        "import sys; from ppo_and_friends.cli import main; code = main(['--list']); "
        f"print('loaded:', [name for name in {heavy} if name in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "CartPole" in done.stdout and "loaded: []" in done.stdout
