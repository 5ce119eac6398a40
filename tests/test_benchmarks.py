"""The scripts in benchmarks/: what they write, what is made of it, and that both sides of a comparison do the same."""

from __future__ import annotations

import csv
import statistics
import sys
from pathlib import Path

import pytest

from ppo_and_friends import registry
from ppo_and_friends.config import NetConfig, steps_per_row
from ppo_and_friends.flags import leaves

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
import collector
import common
import gpu_report
import overhead
import peer_experiments
import peer_sides
import report
import scaling

ORIGIN = dict.fromkeys(common.ORIGIN, "x") | {"date": "2026-01-01 00:00:00", "cores": "2", "peer": ""}
PEERS = {
    "HalfCheetahPeer": (
        {"learning_rate": 3e-4, "n_steps": 256, "batch_size": 64, "n_epochs": 10, "gamma": 0.99, "gae_lambda": 0.95},
        {"gamma": 0.99, "clip_obs": 10.0, "clip_reward": 10.0},
    ),
    "CartPolePeer": (
        {"learning_rate": 1e-3, "n_steps": 32, "batch_size": 256, "n_epochs": 20, "gamma": 0.98, "gae_lambda": 0.8},
        None,
    ),
}
COMMON = {"clip_range": 0.2, "ent_coef": 0.0, "vf_coef": 0.5, "max_grad_norm": 0.5}
VALUES = {"old": [100.0, 50.0, 80.0], "new": [150.0, 200.0, 160.0]}  # ratios 1.5, 4, 2


def test_the_page_is_what_the_generator_makes() -> None:
    assert report.PAGE.read_text(encoding="utf-8") == report.page()


def test_a_page_without_measurements_says_so(tmp_path: Path) -> None:
    assert report.page(tmp_path).count("Not measured yet.") == len(report.SECTIONS) + 1 + len(gpu_report.SECTIONS)


def test_the_page_shows_medians_of_the_last_run(tmp_path: Path) -> None:
    common.append("overhead", ORIGIN, common.rows("Task", {"old": [1.0], "new": [7.0]}, "old", "s"), tmp_path)
    later = ORIGIN | {"date": "2026-01-02 00:00:00"}
    common.append("overhead", later, common.rows("Task", VALUES, "old", "s"), tmp_path)
    text = report.page(tmp_path)
    assert "| Task | old | 80 s | 50 to 100, 3 rounds |  |\n" in text
    assert "| Task | new | 160 s | 150 to 200, 3 rounds | 2.000 |\n" in text
    assert "7 s" not in text and "2026-01-02" in text


@pytest.mark.parametrize("name", ["HalfCheetah", "CartPole"])
def test_readme_says_what_was_measured_of_logging_evaluation_and_checkpoints(name: str) -> None:
    rows = report.latest(report.read("overhead", common.RESULTS), "setting")
    said = (ROOT / "README.md").read_text(encoding="utf-8").partition("evaluation and checkpoints take")[2]
    for setting, side in ((f"{name}, within one run", overhead.EVERYTHING), (name, "whole")):
        ratios = [float(row["ratio"]) for row in rows if (row["setting"], row["side"]) == (setting, side)]
        assert f" {100 * (statistics.median(ratios) - 1):.1f} " in said.partition("On 16 cores")[0]


def test_speedups_are_those_of_rounds_in_which_the_base_was_measured(tmp_path: Path) -> None:
    whole = common.rows("Task", {"1 rank": [10.0], "4 ranks": [30.0]}, "1 rank", "steps/s")
    path = common.append("scaling", ORIGIN, [*whole, whole[1] | {"value": "1", "ratio": ""}], tmp_path)
    assert report.speedups(report.read(path.stem, tmp_path)) == {"Task\nx, 2 cores": [(1, 1.0), (4, 3.0)]}


def test_scores_are_pooled_over_seeds_only(tmp_path: Path) -> None:
    row = {"environment": "E", "seed": 1, "ranks": 1, "flags": "", "steps": 1000, "episodes": 9, "mean": 10.0}
    row |= {"spread": 1.0, "minutes": 2.0}
    others = [row | {"seed": 2, "mean": 20.0, "minutes": ""}, row | {"steps": 2000, "mean": 70.0}]
    common.append("scores", ORIGIN, [row, *others], tmp_path)
    text = report.page(tmp_path)
    assert "| E | 1,000 | 1 | 1, 2 | 9 | 15.0 +- 5.0 | 2.0 |" in text
    assert "| E | 2,000 | 1 | 1 | 9 | 70.0 | 2.0 |" in text


def test_rows_are_appended_below_one_header(tmp_path: Path) -> None:
    for _ in range(2):
        path = common.append("some", ORIGIN, common.rows("Task", VALUES, "old", "s"), tmp_path)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and list(rows[0]) == [*common.ORIGIN, *common.MEASURED]
    assert [row["ratio"] for row in rows[:6]] == ["", "", "", "1.5000", "4.0000", "2.0000"]
    assert all(row["ratio"] == "" for row in common.rows("Task", VALUES, "", "return"))
    with pytest.raises(ValueError, match="has the columns"):
        common.append("some", ORIGIN, [{"other": 1}], tmp_path)


def test_sides_take_turns() -> None:
    calls: list[tuple[str, int]] = []
    sides = {name: lambda index, name=name: calls.append((name, index)) or index for name in "ab"}
    assert common.alternate(sides, 3) == {"a": [0, 1, 2], "b": [0, 1, 2]}
    assert calls == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]


def test_the_line_of_a_measurement_names_code_machine_and_versions() -> None:
    found = common.origin("pytest")
    assert tuple(found) == common.ORIGIN and all(str(value) for value in found.values())
    assert found["peer"] == f"pytest {pytest.__version__}" and pytest.__version__ in common.describe(found)


@pytest.mark.parametrize("name", PEERS)
def test_both_peers_have_the_same_settings(name: str) -> None:
    experiment = registry.build(peer_sides.reference(name))
    settings, normalizer = PEERS[name]
    assert peer_experiments.sb3_settings(experiment) == settings | COMMON
    assert peer_experiments.sb3_normalizer(experiment) == normalizer
    assert experiment.envs_per_proc == 8 and experiment.net == NetConfig()  # 64 x 64 tanh, apart, orthogonal, log-std 0
    assert experiment.ppo.normalize_rewards == experiment.ppo.normalize_observations == (normalizer is not None)
    untranslated = {"value_clip": float("inf"), "stop_kl": float("inf"), "target_kl": 0.0, "adam_eps": 1e-5}
    assert {name: getattr(experiment.ppo, name) for name in untranslated} == untranslated
    assert experiment.evaluation.every == 0


def test_the_peer_knows_the_settings() -> None:
    peer = pytest.importorskip("stable_baselines3")
    experiment = peer_experiments.HalfCheetahPeer()
    model = peer.PPO("MlpPolicy", "CartPole-v1", device="cpu", **peer_experiments.sb3_settings(experiment))
    assert model.policy.optimizer.defaults["eps"] == experiment.ppo.adam_eps


def test_steady_speed_leaves_the_warm_up_out() -> None:
    stamps = [(10.0, 0), (14.0, 100), (16.0, 300), (20.0, 700)]
    assert peer_sides.rate(stamps, 4.0) == 600 / 6
    assert peer_sides.rate(stamps, 4.5) == 400 / 4


def test_steady_speed_needs_a_whole_iteration() -> None:
    stamps = [(10.0, 0), (14.0, 100), (16.0, 300)]
    assert peer_sides.enough(stamps, 4.0, 2.0)
    assert not peer_sides.enough(stamps, 4.0, 2.5)
    assert not peer_sides.enough(stamps, 4.5, 0.5)


def test_the_collector_beside_the_bare_engine() -> None:
    values = collector.measure(rows=2, threads=1, steps=3, rounds=2)
    assert {side: len(each) for side, each in values.items()} == {"bare engine": 2, "collector": 2}
    assert all(value > 0 for each in values.values() for value in each)


def test_speed_over_ranks_leaves_the_first_iterations_out() -> None:
    rows = [{"timesteps": str(100 * index), "seconds_acting": "1", "seconds_learning": "1"} for index in range(11)]
    rows[3]["seconds_learning"] = rows[5]["seconds_evaluating"] = "1000"
    assert scaling.speed(rows) == 50.0


@pytest.mark.parametrize(("kind", "ranks", "least"), [("strong", 2, 8192), ("dealt", 2, 8192), ("weak", 2, 16384)])
def test_too_few_iterations_are_refused_before_anything_is_trained(
    kind: str, ranks: int, least: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scaling.check(kind, ranks, least)
    words = ("--ranks", "1", str(ranks), "--kinds", kind, "--train-steps", str(least - 1))
    monkeypatch.setattr(sys, "argv", ["scaling.py", *words])
    with pytest.raises(SystemExit):
        scaling.main()
    assert f"give --train-steps {least} or more" in capsys.readouterr().err


@pytest.mark.parametrize("ranks", [1, 2, 4, 8, 16])
@pytest.mark.parametrize(("kind", "samples"), [("strong", 4096), ("dealt", 4096), ("weak", None)])
def test_rollouts_of_many_ranks(kind: str, samples: int | None, ranks: int) -> None:
    words = scaling.flags(kind, ranks)
    flags = dict(zip(words[::2], words[1::2], strict=True))
    assert {flag.removeprefix("--") for flag in flags} <= leaves(registry.build("HalfCheetah")).keys()
    experiment = registry.build("HalfCheetah")
    rows = ranks * int(flags["--envs_per_proc"])
    total = int(flags.get("--ppo.steps_total", 0)) or rows * int(flags["--ppo.steps_per_row"])
    assert total == (samples or 4096 * ranks) and total % rows == 0
    assert rows == (16 if kind == "dealt" else 16 * ranks)
    assert steps_per_row(experiment, 1) == experiment.ppo.steps_total  # the launcher leaves steps_per_row free


def test_shorter_runs_keep_the_distance_between_evaluations() -> None:
    cart_pole, half_cheetah = (registry.build(name) for name in ("CartPole", "HalfCheetah"))
    assert overhead.shortened(cart_pole, 500_000) == cart_pole
    short = overhead.shortened(half_cheetah, 600_000)
    assert (short.num_timesteps, short.evaluation.every) == (600_000, 2)


def test_contributing_says_when_each_script_is_run() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    scripts = (*report.SECTIONS, *(script for _, script, *_ in gpu_report.SECTIONS), "scores", "report")
    assert all(f"{name}.py" in text and (BENCHMARKS / f"{name}.py").is_file() for name in scripts)
