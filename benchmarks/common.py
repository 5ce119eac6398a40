"""What the scripts share: where a measurement comes from, sides that take turns, rows in `results/`.

A row of most files in `results/` is one measurement: setting, side, round, value, unit, and ratio, which is the value
over that of the setting's base in the same round, so that both met the same load of the machine. The scripts for GPUs
write one row a run, without a date: called again, they do what is missing (`work_through`).
BENCHMARK_RESULTS names another folder than `results/`, BENCHMARK_COMMIT the commit where there is no git.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import importlib
import json
import os
import re
import shutil
import site
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(os.environ.get("BENCHMARK_RESULTS", ROOT / "benchmarks" / "results"))
MAIN = ROOT / "main.py"
PACKAGES = ("torch", "numpy", "gymnasium", "mujoco")
ORIGIN = ("date", "commit", "machine", "cores", "python", *PACKAGES, "peer")
GPU_PACKAGES = ("torch", "mujoco", "mujoco-warp", "warp-lang")
GPU_ORIGIN = ("commit", "gpu", "machine", "cores", "python", *GPU_PACKAGES, "peer")
MODULES = {"mujoco-warp": "mujoco_warp", "warp-lang": "warp"}  # where these are unpacked without their metadata
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME", "HOME", "TMPDIR")
CACHES += ("WARP_CACHE_PATH", "CUDA_CACHE_PATH")
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


def gpu_origin(device: str, *peers: str) -> Row:
    """`origin` without the date, with the GPU and what runs on it; of `peers`, those that are installed."""
    found = origin() | {name: version(name) for name in GPU_PACKAGES}
    found["peer"] = ", ".join(f"{peer} {version(peer)}" for peer in peers if version(peer))
    # Another process asks, so that this one takes no memory of the GPU.
    ask = "import torch; print(torch.cuda.get_device_name())"
    found["gpu"] = child("-c", ask)[0].strip() if device != "cpu" else "none: Warp's CPU backend"
    return {name: found[name] for name in GPU_ORIGIN}


def version(package: str) -> str:
    """Of an installed package or an importable module; "" without one."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        if package not in MODULES:
            return ""
    return importlib.import_module(MODULES[package]).__version__


def describe_gpu(origin_: Row) -> str:
    versions = ", ".join(f"{name} {origin_[name]}" for name in ("python", *GPU_PACKAGES))
    peer = f", {origin_['peer']}" if origin_["peer"] else ""
    return f"GPU {origin_['gpu']}; {origin_['machine']}, {origin_['cores']} cores; {versions}{peer}; " + (
        f"commit {origin_['commit']}"
    )


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
    """Add rows to FOLDER/NAME.csv, which begins with a header. Several processes may do so at once.

    Raises:
        ValueError: the file has other columns.
    """
    path = folder / f"{name}.csv"
    folder.mkdir(parents=True, exist_ok=True)
    columns = [*origin_, *measured[0]]
    with open(path, "a+", newline="", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        file.seek(0)
        present = next(csv.reader(file), None)
        if present not in (None, columns):
            raise ValueError(f"{path} has the columns {present}, not {columns}")
        file.seek(0, os.SEEK_END)
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if present is None:
            writer.writeheader()
        writer.writerows(origin_ | row for row in measured)
    return path


def read(name: str, folder: Path) -> list[dict[str, str]]:
    """The rows of FOLDER/NAME.csv; none without that file."""
    path = folder / f"{name}.csv"
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def gpu_parser(text: str | None) -> argparse.ArgumentParser:
    """Options that every script for GPUs has."""
    made = parser(text)
    made.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: Warp's CPU backend, for trials")
    made.add_argument("--seconds-limit", type=float, default=540.0, help="begin nothing that may end later than this")
    return made


Job = tuple[Row, Callable[[float], Row | None]]


def work_through(name: str, origin_: Row, jobs: Iterable[Job], options: argparse.Namespace, together: int = 1) -> int:
    """Do the jobs that FOLDER/NAME.csv has no row of, `together` at a time, each row written when it is there.

    A job is (what identifies its row, function); the function takes the seconds left and gives the rest of the row,
    or None where they were too few. Returns an exit code: 0 where every job has its row now.
    """
    start, lock, longest, missing = time.monotonic(), threading.Lock(), [0.0], []
    present = read(name, options.results)
    pending = [job for job in jobs if not any(texts(origin_ | job[0]).items() <= row.items() for row in present)]

    def one(job: Job) -> None:
        key, function = job
        left = options.seconds_limit - (time.monotonic() - start)
        found, began = None, time.monotonic()
        if left > longest[0]:
            try:
                found = function(left)
            except RuntimeError as error:  # the others may still work
                print(error, file=sys.stderr, flush=True)
        with lock:
            longest[0] = max(longest[0], time.monotonic() - began)
            if found is None:
                missing.append(key)
                return
            append(name, origin_, [key | found], options.results)
            print("  " + ", ".join(f"{column} {value}" for column, value in (key | found).items()), flush=True)

    with ThreadPoolExecutor(together) as pool:
        list(pool.map(one, pending))
    if missing:
        print(f"{name}: {len(missing)} of {len(pending)} are missing, the first is {missing[0]}: call this again, or "
              f"with a larger --seconds-limit than {options.seconds_limit:g}.")  # fmt: skip
    return int(bool(missing))


def texts(row: Row) -> dict[str, str]:
    """As they are read back from a CSV file."""
    return {name: str(value) for name, value in row.items()}


def fresh_caches(folder: Path) -> dict[str, str]:
    """Environment variables that put every compiler's cache below `folder`."""
    for name in CACHES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    return {name: str(folder / name) for name in CACHES} | {"PYTHONUSERBASE": site.getuserbase()}


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
