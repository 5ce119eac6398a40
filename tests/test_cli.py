"""The command line: what each flag sets, and the one sentence for whatever cannot be."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from commands import MAIN
from ranks import environment

from ppo_and_friends import cli, registry
from ppo_and_friends.config import Experiment, NetConfig, PPOConfig, RunConfig
from ppo_and_friends.flags import literal
from ppo_and_friends.launch import TORCHRUN_VARIABLE
from ppo_and_friends.schedules import Schedule, linear
from ppo_and_friends.serialize import to_plain


@dataclass(frozen=True)
class Task:
    ctrl_cost_weight: float = 0.1
    healthy: tuple[float, float] = (0.2, 1.0)


@dataclass(frozen=True)
class SimEnv:
    task: Any
    engine: str = "auto"


@dataclass(frozen=True)
class GymEnv:
    id: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    workers: int = 0
    limit: int | None = None


CHEETAH = Experiment(
    env=SimEnv(Task()), num_timesteps=500, ppo=PPOConfig(lr=linear(1e-3, 0.0)), addons=(Task(),), name="Cheetah"
)
CART = Experiment(env=GymEnv("CartPole-v1"), name="Cart")


@pytest.fixture(autouse=True)
def experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"Cheetah": CHEETAH, "Cart": CART}
    launchers = {name: lambda name=name: known[name] for name in known}
    monkeypatch.setattr(registry, "_builtin", lambda: launchers)
    for variable in (*cli.RANK_VARIABLES, *cli.SIZE_VARIABLES, TORCHRUN_VARIABLE):
        monkeypatch.delenv(variable, raising=False)


@dataclass
class Call:
    """What `execute` was called with."""

    experiment: Experiment
    run: RunConfig
    reference: str
    on_gpu: cli.OnGpu


def call(monkeypatch: pytest.MonkeyPatch, line: str) -> Call:
    """Run a command line that must be accepted."""
    calls: list[Call] = []
    monkeypatch.setattr(cli, "execute", lambda *arguments: calls.append(Call(*arguments)) or 0)
    assert cli.main(line.split()) == 0
    return calls[0]


def refused(capsys: pytest.CaptureFixture[str], line: str) -> str:
    """Run a command line that must be refused with one sentence."""
    assert cli.main(line.split()) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("error: ") and output.err.count("\n") == 1
    return output.err


def test_without_flags_the_launcher_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    made = call(monkeypatch, "-e cheetah")
    assert (made.experiment, made.run, made.reference) == (CHEETAH, RunConfig(), "cheetah")
    assert type(made.experiment.env) is SimEnv and type(made.experiment.ppo) is PPOConfig


def test_any_setting_can_be_overridden(monkeypatch: pytest.MonkeyPatch) -> None:
    line = (
        "-e Cheetah --num_timesteps 2e3 --envs_per_proc 3 --ppo.lr linear:1e-4,0 --ppo.gamma=0.98 --ppo.reward_clip -1 inf "
        "--ppo.soft_resets False --net.actor.hidden 32 16 --net.critic.hidden --net.distribution gsde --net.log_std_init -2 "
        "--net.custom_distribution mine.py:D --evaluation.every 0 --env.task.healthy -1 2 --addons.0.ctrl_cost_weight 3 "
        "--random_seed -1 --name trial --verbose"
    )
    made = call(monkeypatch, line)
    experiment, ppo, net = made.experiment, made.experiment.ppo, made.experiment.net
    assert (experiment.num_timesteps, experiment.envs_per_proc, experiment.evaluation.every) == (2000, 3, 0)
    assert (ppo.lr, ppo.gamma, ppo.reward_clip, ppo.soft_resets) == (
        Schedule("linear:1e-4,0"),
        0.98,
        (-1.0, math.inf),
        False,
    )
    assert (net.actor.hidden, net.critic.hidden, net.distribution, net.log_std_init) == ((32, 16), (), "gsde", -2.0)
    assert net.custom_distribution == "mine.py:D"
    assert experiment.env == SimEnv(Task(healthy=(-1.0, 2.0))) and experiment.addons == (Task(ctrl_cost_weight=3.0),)
    assert made.run == RunConfig(random_seed=-1, name="trial", verbose=True)
    assert experiment.name == "Cheetah"  # --name is the run's


def test_environment_settings_have_short_forms(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "-e Cheetah --env.ctrl-cost-weight 3").experiment.env.task.ctrl_cost_weight == 3.0
    made = call(monkeypatch, "-e Cart --env.continuous True --env.map_name 4x4 --env_workers 2 --env.limit 9")
    assert made.experiment.env == GymEnv("CartPole-v1", {"continuous": True, "map_name": "4x4"}, 2, 9)
    assert CART.env.kwargs == {}
    assert "did you mean --env.task.healthy" in refused(capsys, "-e Cheetah --env.task.helthy 1")


def test_underscores_hyphens_and_the_old_spelling_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = RunConfig(allow_mpi_gpu=True, save_every=5)
    for flags in ("--allow_mpi_gpu --save_every 5", "--allow-mpi-gpu --save-every=5", "--alow_mpi_gpu --save_every=5",
                  "--alow-mpi-gpu True --save-every 5"):  # fmt: skip
        assert call(monkeypatch, f"-e Cart {flags} --clobber False").run == expected


@pytest.mark.parametrize(
    "flag", ["num_test_runs 1", "test_explore", "random_policy", "render_gif", "save_test_scores", "render"]
)
def test_flags_of_a_test_imply_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    assert call(monkeypatch, f"-e Cart --{flag}").run.test
    assert "--clobber would delete the state that a test needs" in refused(capsys, f"-e Cart --clobber --{flag}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "choose one with -e NAME, or see --list"),
        ("-e Cheeta", "no experiment 'Cheeta': did you mean Cheetah"),
        ("-e", "--environment takes one value, but was given none"),
        ("Cart", "an experiment is chosen with -e Cart"),
        ("-e Cart --ppo.gama 1", "no flag --ppo.gama: did you mean --ppo.gamma"),
        ("-e Cart --gamma 1", "no flag --gamma: did you mean --ppo.gamma"),
        ("-e Cart --num-timestep 1", "did you mean --num_timesteps"),
        ("-e Cart --qqq", "no flag --qqq: --help"),
        ("-e Cart -q", "no flag -q: --help"),
        ("-e Cart --num_timesteps 0", "num_timesteps is 0, but must be 1 or more"),
        ("-e Cart --num_timesteps -5", "num_timesteps is -5, but must be 1 or more"),
        ("-e Cart --num_timesteps many", "num_timesteps: 'many' is not a whole number"),
        ("-e Cart --num_timesteps 1.5", "num_timesteps: '1.5' is not a whole number"),
        ("-e Cart --num_timesteps inf", "num_timesteps: 'inf' is not a whole number"),
        ("-e Cart --num_timesteps", "--num_timesteps takes one value, but was given none"),
        ("-e Cart --num_timesteps 1 2", "--num_timesteps takes one value, but was given '1 2'"),
        ("-e Cart --envs_per_proc 0", "envs_per_proc is 0, but must be 1 or more"),
        ("-e Cart --num_test_runs 0", "num_test_runs is 0, but must be 1 or more"),
        ("-e Cart --random_seed -2", "random_seed is -2"),
        ("-e Cart --ppo.gamma nan", "ppo.gamma: 'nan' is not a number"),
        ("-e Cart --ppo.gamma 1.5", "ppo.gamma is 1.5, but must be between 0 and 1"),
        ("-e Cart --ppo.lr fast", "'fast' is not a schedule: write a number"),
        ("-e Cart --ppo.lr -1", "ppo.lr is -1, but must be 0 or more"),
        ("-e Cart --ppo.epochs 0", "ppo.epochs is 0, but must be 1 or more"),
        ("-e Cart --ppo.minibatches 9000", "minibatches is 9000, but a rollout has only 2048 samples"),
        ("-e Cart --ppo.reward_clip 1", "Missing value for argument '--ppo.reward_clip'. Expected 2 values"),
        ("-e Cart --ppo.soft_resets maybe", "--ppo.soft_resets is 'maybe', but takes True, False or nothing"),
        ("-e Cart --net.distribution x", "Invalid choice 'x' for argument '--net.distribution'"),
        ("-e Cart --net.actor.hidden 3 x", "--net.actor.hidden: cannot be made of ['3', 'x']"),
        ("-e Cart --evaluation.episodes 0", "evaluation.episodes is 0"),
        ("-e Cart --config /absent.json", "'/absent.json' cannot be read"),
        ("-e /absent.py:Name", "There is no file '/absent.py'"),
    ],
)
def test_what_cannot_be_ends_in_one_sentence(capsys: pytest.CaptureFixture[str], line: str, message: str) -> None:
    assert message in refused(capsys, line)


def test_only_the_first_rank_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PMI_RANK", "1")
    assert cli.main(["-e", "Cheeta"]) == 2
    assert capsys.readouterr().err == ""


def test_a_config_file_gives_settings_and_the_command_line_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    saved = dataclasses.replace(
        CHEETAH, envs_per_proc=5, ppo=PPOConfig(gamma=0.5, epochs=3), net=NetConfig(shared=True)
    )
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"environment": "cheetah", "experiment": to_plain(saved), "command": "as it was"}))
    assert call(monkeypatch, f"--config {file}").experiment == saved
    assert call(monkeypatch, f"--config {file}").reference == "cheetah"
    made = call(monkeypatch, f"--config {file} --ppo.gamma 0.7 -e Cheetah").experiment
    assert made == dataclasses.replace(saved, ppo=PPOConfig(gamma=0.7, epochs=3))


def test_settings_of_one_experiment_are_not_for_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"environment": "mine.py:Cheetah", "experiment": to_plain(CHEETAH)}))
    assert cli.main(["--config", str(file), "-e", "Cart"]) == 2
    assert (
        "has the settings of mine.py:Cheetah, its environment among them, and -e says Cart" in capsys.readouterr().err
    )


def test_printed_settings_set_themselves(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    line = "-e Cheetah --ppo.gamma 0.7 --net.critic.hidden --net.actor.hidden 8 --addons.0.ctrl_cost_weight 2 --num_test_runs 4"
    assert cli.main([*line.split(), "--print_config"]) == 0
    printed = capsys.readouterr().out
    assert "--max_iterations 0\n" in printed and "--ppo.gamma 0.7  # launcher: 0.99\n" in printed
    assert "--ppo.lr linear:0.001,0.0\n" in printed
    again = " ".join(shlex.split(printed, comments=True))
    assert call(monkeypatch, again) == call(monkeypatch, line)


def test_settings_that_only_a_launcher_can_give_are_printed_as_comments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    net = NetConfig(custom_distribution=dataclasses.replace)
    monkeypatch.setattr(registry, "build", lambda _: dataclasses.replace(CART, net=net))
    assert cli.main(["-e", "Cart", "--print_config"]) == 0
    assert "# net.custom_distribution dataclasses:replace\n" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["--help", "-h", "-e Cheetah --help"])
def test_help_ends_with_the_experiments(capsys: pytest.CaptureFixture[str], line: str) -> None:
    assert cli.main(line.split()) == 0
    output = capsys.readouterr().out
    assert "--num_timesteps" in output and "--ppo.gamma" in output and output.rstrip().endswith("Cheetah, Cart")
    assert ("--env.task.ctrl_cost_weight" in output) == ("-e" in line.split())


@pytest.mark.parametrize(
    ("words", "unbuffered"),
    [(("--list",), ""), (("-e", "CartPole", "--print_config"), "1"), (("-e", "CartPole", "--help"), "")],
)
def test_a_reader_that_has_gone_ends_it_quietly(words: tuple[str, ...], unbuffered: str) -> None:
    """As `| head` does, though it may be too slow to."""
    reader, writer = os.pipe()
    os.close(reader)
    quiet = environment(PYTHONUNBUFFERED=unbuffered)
    done = subprocess.run([*MAIN, *words], env=quiet, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("module", ["ppo_and_friends.cli", "ppo_and_friends.launch"])
def test_ctrl_c_while_importing_ends_without_a_traceback(module: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
    )
    words = [*MAIN, "-e", "CartPole", "--print_config"]
    done = subprocess.run(words, env=environment(PYTHONPATH=str(tmp_path)), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_parsing_imports_neither_torch_nor_mpi(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from ppo_and_friends.config import Experiment\nmine = Experiment(env=None)\n")
    script = (
        f"import sys; from ppo_and_friends.cli import main; main(['-e', {str(tmp_path / 'mine.py')!r} + ':mine', '--print_config']); "
        "print('loaded:', [name for name in ('torch', 'mpi4py', 'gymnasium') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "--ppo.gamma 0.99" in done.stdout and "loaded: []" in done.stdout


def test_a_value_is_python_or_json_or_text() -> None:
    assert literal("{'slippery': False}") == literal('{"slippery": false}') == {"slippery": False}
    assert [literal(text) for text in ("3", "[null]", "true", "{slippery: false}")] == [
        3,
        [None],
        "true",
        "{slippery: false}",
    ]
