"""Learning curves from hand-written progress.csv files."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ppo_and_friends.curves import group, read_run
from ppo_and_friends.errors import UserError
from ppo_and_friends.plot import draw, main

NAN = float("nan")


def run(path: Path, columns: dict[str, list[Any]], environment: str = "Ant", **settings: Any) -> Path:
    """A state directory; `settings` are those of its `ppo`, `num_timesteps` its own."""
    path.mkdir()
    total = settings.pop("num_timesteps", 100)
    evaluation, seed = settings.pop("evaluation", {}), settings.pop("seed", None)
    experiment = {
        "name": environment,
        "num_timesteps": total,
        "evaluation": evaluation,
        "ppo": {"lr": "0.1"} | settings,
    }
    config = {"environment": environment, "experiment": experiment, "random_seed": seed}
    (path / "config.json").write_text(json.dumps(config))
    length = len(next(iter(columns.values())))
    with open(path / "progress.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["iteration", *columns])
        writer.writerows(zip(range(1, length + 1), *columns.values(), strict=True))
    return path


def points(*values: tuple[float, Any]) -> dict[str, list[Any]]:
    return {"timesteps": [step for step, _ in values], "mean_return": [value for _, value in values]}


def refusal(*words: Any, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([str(word) for word in words]) == 2
    return capsys.readouterr().err


def test_mean_and_band_over_seeds_where_all_have_data(tmp_path: Path) -> None:
    one = run(tmp_path / "1", points((10, 0.0), (20, 2.0), (40, 6.0), (50, 9.0)))
    other = run(tmp_path / "2", points((5, 100.0), (20, 4.0), (30, 6.0), (40, 8.0)), num_timesteps=500)
    (curve,) = group([read_run(path, "steps", "mean_return") for path in (one, other)])
    assert (curve.title, curve.seeds) == ("Ant (2 seeds)", 2)
    np.testing.assert_array_equal(curve.x, [10, 20, 30, 40])
    np.testing.assert_allclose(curve.mean, [34.0, 3.0, 5.0, 7.0])
    np.testing.assert_allclose(curve.std, [34.0, 1.0, 1.0, 1.0])


def test_runs_are_grouped_by_experiment_and_settings(tmp_path: Path) -> None:
    data = points((1, 1.0), (2, 2.0))
    runs = [
        run(tmp_path / "a", data, evaluation={"every": 3}),
        run(tmp_path / "b", data, environment="Hopper"),
        run(tmp_path / "c", data, lr="0.2", adam_betas=[0.9, 0.99]),
        run(tmp_path / "d", data),
        run(tmp_path / "e", data, gamma=1, clip_range=2, epochs=3, minibatches=4),
    ]
    titles = [curve.title for curve in group([read_run(path, "steps", "mean_return") for path in runs])]
    assert titles == [
        "Ant, ppo.lr 0.1, ppo.adam_betas -, ppo.gamma -, 3 more (2 seeds)",
        "Hopper",
        "Ant, ppo.lr 0.2, ppo.adam_betas 0.9 0.99, ppo.gamma -, 3 more",
        "Ant, ppo.lr 0.1, ppo.adam_betas -, ppo.gamma 1, 3 more",
    ]


def test_a_seed_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not those of other settings, nor of runs that do not say theirs."""
    data = points((1, 1.0), (2, 2.0))
    runs = [run(tmp_path / str(i), data, seed=seed) for i, seed in enumerate((7, 8, 7, None, None))]
    runs.append(run(tmp_path / "other", data, seed=7, gamma=1))
    assert main([*map(str, runs), "--out", str(tmp_path / "curve.png")]) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == [
        f"{runs[2]} is left out: {runs[0]} has the same settings and seed 7.",
        "Ant, ppo.gamma - (4 seeds): mean_return 2 +- 0 at 2 steps",
        "Ant, ppo.gamma 1: mean_return 2 at 2 steps",
    ]


def test_another_total_is_another_curve_where_a_schedule_stretches_over_it(tmp_path: Path) -> None:
    data = points((1, 1.0), (2, 2.0))
    runs = [run(tmp_path / str(total), data, lr="linear:1,0", num_timesteps=total) for total in (10, 20)]
    titles = [curve.title for curve in group([read_run(path, "steps", "mean_return") for path in runs])]
    assert titles == ["Ant, num_timesteps 10", "Ant, num_timesteps 20"]


def test_rows_without_a_value_are_left_out_before_smoothing(tmp_path: Path) -> None:
    path = run(tmp_path / "1", points((1, ""), (2, 2.0), (3, "nan"), (4, 4.0), (5, 9.0)))
    with open(path / "progress.csv", "a") as file:
        file.write("6,6,1")  # of a run that goes on: half a row
    found = read_run(path, "steps", "mean_return", smooth=2)
    assert (found.x.tolist(), found.y.tolist()) == ([2, 4, 5], [2.0, 3.0, 6.5])


def test_minutes_are_the_seconds_of_training_or_the_sum_of_the_phases(tmp_path: Path) -> None:
    phases = points((1, 1.0), (2, 2.0)) | {"seconds_acting": [30, 60], "seconds_evaluating": ["", 90]}
    old, new = run(tmp_path / "old", phases), run(tmp_path / "new", phases | {"seconds": [60, 300]})
    assert read_run(old, "minutes", "mean_return").x.tolist() == [0.5, 3.0]
    assert read_run(new, "minutes", "mean_return").x.tolist() == [1.0, 5.0]


def test_a_picture_with_lines_band_and_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(tmp_path / "1", points((1000, 0.0), (2000, 2.0)))
    second = run(tmp_path / "2", points((1000, 2.0), (2000, 3.0)))
    out = tmp_path / "curve.png"
    assert main([str(first), str(second), str(tmp_path / "1"), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"Ant (2 seeds): mean_return 2.5 +- 0.5 at 2,000 steps\nCurves: {out}\n"
    colours = Image.open(out).convert("RGB").getcolors(1 << 24)
    assert colours is not None and len(colours) > 50
    axes = draw(group([read_run(path, "steps", "mean_return") for path in (first, second)]), "steps", "kl").axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("environment steps", "kl (nats)")
    assert (len(axes.lines), len(axes.collections)) == (1, 1)
    assert np.asarray(axes.collections[0].get_paths()[0].vertices)[:, 1].max() == 3.0


def test_what_cannot_be_drawn_is_said_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = run(tmp_path / "good", points((1, 1.0), (2, 2.0)))
    assert "No run is named" in refusal(capsys=capsys)
    assert "no directory" in refusal(tmp_path / "none", capsys=capsys)
    assert "no progress.csv" in refusal(tmp_path, capsys=capsys)
    assert "did you mean mean_return" in refusal(good, "--y", "mean_retrn", capsys=capsys)
    assert "it has iteration, timesteps, mean_return." in refusal(good, "--y", "zzz", capsys=capsys)
    assert "was never evaluated" in refusal(good, "--y", "evaluation_return", capsys=capsys)
    evaluated = run(tmp_path / "evaluated", points((1, 1.0)) | {"evaluation_return": [1.0]})
    assert "did you mean evaluation_return" in refusal(evaluated, "--y", "evaluation_retrn", capsys=capsys)
    assert "smooth is 0" in refusal(good, "--smooth", 0, capsys=capsys)
    assert "Format 'abc' is not supported" in refusal(good, "--out", tmp_path / "x.abc", capsys=capsys)
    assert "cannot be written: No such file" in refusal(good, "--out", tmp_path / "none" / "x.png", capsys=capsys)
    (tmp_path / "young").mkdir()
    (tmp_path / "young" / "progress.csv").write_text("")
    assert "no row yet" in refusal(tmp_path / "young", capsys=capsys)
    unknown = run(tmp_path / "unknown", points((1, "nan"), (2, "")))
    assert "no value of 'mean_return' yet" in refusal(unknown, capsys=capsys)
    later = run(tmp_path / "later", points((3, 1.0), (4, 2.0)))
    assert "no stretch in common" in refusal(good, later, capsys=capsys)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert 'pip install ".[plot]"' in refusal(good, capsys=capsys)
    with pytest.raises(UserError, match="config.json' cannot be read"):
        (good / "config.json").unlink()
        read_run(good, "steps", "mean_return")
