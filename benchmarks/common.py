"""What the scripts share: where a measurement comes from, sides that take turns, rows in `results/`.

A row of most files in `results/` is one measurement: setting, side, round, value, unit, and ratio, which is the value
over that of the setting's base in the same round, so that both met the same load of the machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MAIN = ROOT / "main.py"
PACKAGES = ("torch", "numpy", "gymnasium", "mujoco")
ORIGIN = ("date", "commit", "machine", "cores", "python", *PACKAGES, "peer")
MEASURED = ("setting", "side", "round", "value", "unit", "ratio")
CODE = ("ppo_and_friends/", "environments/", "main.py")  # where a change makes another program

if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # the checkout that these scripts belong to, installed or not
# Flags of mpirun; the first two are Open MPI's alone, and may be needed there.
AS_ROOT = ("--allow-run-as-root",)
CROWDED = (*AS_ROOT, "--oversubscribe")
BOUND = ("--map-by", "core", "--bind-to", "hwthread")  # one thread of a core of its own

Row = dict[str, Any]


def parser(text: str | None) -> argparse.ArgumentParser:
    """Options that every script has."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV files")
    return made


def origin(peer: str = "") -> Row:
    """When, with which code, on what and with which versions; `peer` is a package that is measured too."""
    from ppo_and_friends.provenance import provenance

    found = provenance()
    git = found["git"] or {"commit": os.environ.get("BENCHMARK_COMMIT", "unknown"), "diff": ""}
    changed = any(name.startswith(CODE) for name in re.findall(r"^diff --git a/(\S+)", git["diff"], re.MULTILINE))
    values = (
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        git["commit"][:12] + ("+" if changed else ""),
        found["hardware"]["processor"],
        found["hardware"]["cores"],
        found["python"],
        *(found["packages"].get(name, "") for name in PACKAGES),
        f"{peer} {metadata.version(peer)}" if peer else "",
    )
    return dict(zip(ORIGIN, values, strict=True))


def describe(origin_: Row) -> str:
    """One line for people; "+" after the commit: with uncommitted changes."""
    versions = ", ".join(f"{name} {origin_[name]}" for name in ("python", *PACKAGES))
    peer = f", {origin_['peer']}" if origin_["peer"] else ""
    return f"{origin_['machine']}, {origin_['cores']} cores; {versions}{peer}; commit {origin_['commit']}"


def alternate(sides: Mapping[str, Callable[[int], Any]], rounds: int) -> dict[str, list[Any]]:
    """Call every side with the number of the round, one after another, `rounds` times; the first changes."""
    found: dict[str, list[Any]] = {name: [] for name in sides}
    names = list(sides)
    for index in range(rounds):
        start = index % len(names)
        for name in names[start:] + names[:start]:
            found[name].append(sides[name](index))
            print(f"  round {index + 1}, {name}: {found[name][-1]}", flush=True)
    return found


def ratios(values: Mapping[str, Sequence[float]], side: str, base: str) -> list[float]:
    """Of each round."""
    return [own / other for own, other in zip(values[side], values[base], strict=True)]


def rows(setting: str, values: Mapping[str, Sequence[float]], base: str, unit: str) -> list[Row]:
    """One row a measurement. `values` are those of each side in the order of the rounds.

    `base` is the side that ratios are formed with; "" for none, as between returns, which have no zero of their own.
    """
    made = []
    for side in values:
        ratio = (
            [f"{one:.4f}" for one in ratios(values, side, base)] if base not in ("", side) else [""] * len(values[side])
        )
        for index, value in enumerate(values[side]):
            cells = (setting, side, index + 1, f"{value:.6g}", unit, ratio[index])
            made.append(dict(zip(MEASURED, cells, strict=True)))
    return made


def show(setting: str, values: Mapping[str, Sequence[float]], base: str, unit: str) -> None:
    """Print medians, ranges and ratios of all sides."""
    print(f"{setting}: median of {len(next(iter(values.values())))} rounds")
    for side, each in values.items():
        line = f"  {side}: {statistics.median(each):,.6g} {unit} ({min(each):,.6g} to {max(each):,.6g})"
        ratio = f", {statistics.median(ratios(values, side, base)):.3f} of {base}" if base not in ("", side) else ""
        print(line + ratio, flush=True)


def append(name: str, origin_: Row, measured: Sequence[Row], folder: Path = RESULTS) -> Path:
    """Add rows to FOLDER/NAME.csv, which begins with a header.

    Raises:
        ValueError: the file has other columns.
    """
    path = folder / f"{name}.csv"
    folder.mkdir(parents=True, exist_ok=True)
    columns = [*origin_, *measured[0]]
    if path.exists():
        with open(path, newline="", encoding="utf-8") as file:
            present = next(csv.reader(file))
        if present != columns:
            raise ValueError(f"{path} has the columns {present}, not {columns}")
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if not file.tell():
            writer.writeheader()
        writer.writerows(origin_ | row for row in measured)
    return path


def mpirun(ranks: int, bind: bool = False) -> list[str]:
    """The words before `python` for so many ranks, from the mpirun beside this Python or else on PATH.

    Args:
        bind: each rank to a core of its own, where mpirun can do that here.
    """
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    launcher = shutil.which("mpirun", path=places)
    if launcher is None:
        raise FileNotFoundError("there is no mpirun beside this Python or on PATH")
    options = [AS_ROOT, CROWDED, ()]
    if bind:
        options = [(*AS_ROOT, *BOUND), BOUND, (*AS_ROOT, "--bind-to", "core"), (*CROWDED, "--bind-to", "none"), ()]
    for words in options:
        command = [launcher, *words, "-n", str(ranks)]
        if not subprocess.run([*command, "true"], capture_output=True).returncode:
            return command
    raise RuntimeError(f"{launcher} cannot start {ranks} processes here")


def child(*words: Any, environment: Mapping[str, str] | None = None, before: Sequence[str] = ()) -> tuple[str, float]:
    """Run `before... python words...` to its end: (what it printed, seconds of wall clock)."""
    command = [*before, sys.executable, *map(str, words)]
    own = os.environ | {"OMP_NUM_THREADS": "1"} | dict(environment or {})
    start = time.perf_counter()
    done = subprocess.run(command, env=own, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout, seconds


def answer(output: str) -> Any:
    """What a child says in its last line, as JSON."""
    return json.loads(output.splitlines()[-1])
