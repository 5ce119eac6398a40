"""The examples run as a user would start them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ppo_and_friends import registry
from ppo_and_friends.custom import load_custom

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def test_a_run_from_python_can_be_loaded_and_played(tmp_path: Path) -> None:
    load_custom(f"{EXAMPLES}/train_cartpole.py:main")(num_timesteps=2048, state_path=str(tmp_path))
    score = load_custom(f"{EXAMPLES}/load_and_predict.py:main")(str(tmp_path / "cartpole_example"))
    assert 5 <= score <= 500


def test_a_callback_ends_the_run() -> None:
    stop = load_custom(f"{EXAMPLES}/train_cartpole.py:stop_when_solved")
    metrics = {"timesteps": 1000.0, "mean_return": 474.0}
    assert not stop(None, metrics)
    assert stop(None, metrics | {"mean_return": 476.0})


def test_a_launcher_of_a_users_own_trains(tmp_path: Path) -> None:
    reference = f"{EXAMPLES / 'my_env.py'}:MyTask"
    assert registry.build(reference).name == "MyTask"
    words = [sys.executable, "main.py", "-e", reference, "--num_timesteps", "2048", "--state_path", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "MyTask" / "progress.csv").is_file()
