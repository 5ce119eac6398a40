"""The sections of docs/benchmarks.md about GPUs: what is made of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import common
import curves
import gpu_readme
import gpu_report
from gpu_scripts import ORIGIN

EMPTY = dict.fromkeys(curves.summary([curves.Point(step, step, 0.0) for step in range(9)], 0.0, 0, []), "")


def test_the_last_code_that_was_measured_is_shown(tmp_path: Path) -> None:
    row = {"task": "T", "rows": 1, "gpus": 1, "launcher": "mpirun", "round": 1}
    for commit, speed in (("old", 5), ("new", 7)):
        found = row | {"steps_per_second": speed, "steps_per_second_and_gpu": speed}
        common.append("gpu_scaling", ORIGIN | {"commit": commit}, [found], tmp_path)
    text = "\n".join(gpu_report.sections(tmp_path, ""))
    assert "commit new" in text and "commit old" not in text


def peers_row(side: str, seed: int, speed: float, **named: Any) -> common.Row:
    row = {"task": "IsaacAnt", "rows": 4096, "steps": 41_000_000, "side": side, "seed": seed}
    own = {"steps_per_second": speed, "seconds": 20, "returns": "30000000:6000.0 40000000:7000.0", "loss_after": 1}
    return row | EMPTY | own | {"loss_percent": 10.0} | named


def test_peers_are_compared_with_each_of_our_sides(tmp_path: Path) -> None:
    level = {"threshold": 5873.0, "threshold_steps": 14_000_000, "threshold_seconds": 7.0, "loss_percent": 30.0}
    level |= {"simulation_failures": 3, "contact_overflow": 4000}
    rows = [peers_row("ours-compiled", 1, 2e6, **level), peers_row("rl_games", 1, 5e5)]
    common.append("gpu_peers", ORIGIN, rows, tmp_path)
    text = gpu_report.sections(tmp_path, "")[0]
    assert "| rl_games | 1 | 500,000 | 4.00 compiled | 20 |" in text and "nan" not in text
    told = "| 1 of 1 reached 5873 | 14,000,000 | 7 | 30.0, 30.0 | 1 of 1 | 3, 4,000 |"
    assert told in text and "| 41,000,000 | 40,000,000 | 7,000 (1 seed) | 7,000 (1 seed) |" in text
    beside = "| IsaacAnt, ours-compiled | 4096 | 5,873 | 3,953 | 240 | 30,000,000 | 6,000 (1 seed) | 15 | 30,000,000 |"
    assert beside in text
    common.append("gpu_peers", ORIGIN, [peers_row("ours", 1, 1e6)], tmp_path)
    text = gpu_report.sections(tmp_path, "")[0]
    assert "2.00, 4.00 compiled" in text and "| ours-compiled | 1 | 2,000,000 | 0.50 |" in text


def test_readme_has_the_figures_that_are_made_of_the_rows() -> None:
    said = gpu_readme.README.read_text(encoding="utf-8").partition(gpu_readme.BEGIN)[2].partition(gpu_readme.END)[0]
    assert said.strip() == gpu_readme.figures(common.RESULTS).strip()


def test_figures_stand_between_the_marks(tmp_path: Path) -> None:
    level = {"threshold": 5873.0, "threshold_steps": 14_000_000, "threshold_seconds": 7.0}
    rows = [peers_row("ours-compiled", seed, 2e6, **level) for seed in (1, 2)] + [peers_row("rl_games", 1, 5e5)]
    for row in rows:
        common.append("gpu_peers", ORIGIN | {"gpu": "G", "cores": "16"}, [row], tmp_path)
    path = tmp_path / "README.md"
    path.write_text(f"a\n{gpu_readme.BEGIN}old\n{gpu_readme.END}z\n")
    gpu_readme.write(tmp_path, path)
    text = path.read_text()
    told = "| IsaacAnt `--compile on` | G, 16 cores | 4096 | 2,000,000 | 500,000 | 20 | 7,000 +- 0 (7,000 to 7,000), 2 seeds |"
    assert f"{told} 40,000,000 | 0 of 2 | 2 of 2 reached 5873, 7 s |" in text
    assert text.startswith("a\n") and text.endswith(f"{gpu_readme.END}z\n") and "old" not in text
