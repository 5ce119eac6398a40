"""Runs commands on the GPUs that there are, one at a time on each, in the order of the list.

    python benchmarks/gpu_jobs.py benchmarks/gpu_jobs.txt [--gpus 0] [--logs gpu_logs] [--seconds-limit inf]

The list, a file or "-" for standard input, has a command a line; "#" begins a comment, and no shell reads it. Put the
longest first. Each command sees one GPU (CUDA_VISIBLE_DEVICES) and its share of the cores, writes to a log of its own,
and is told when it begins and ends, with its exit code and last line. After --seconds-limit nothing begins, and what
still runs is ended. --gpus says how many to use; 0: all. Exit status: 0 where every command was run and gave 0.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import common

GRACE = 10.0  # seconds between SIGTERM and SIGKILL


class Job:
    """One command of the list."""

    def __init__(self, words: list[str], log: Path) -> None:
        self.words, self.log = words, log

    def start(self, gpu: str, cores: list[int]) -> None:
        own = {"CUDA_VISIBLE_DEVICES": gpu, "OMP_NUM_THREADS": str(len(cores)), "PYTHONUNBUFFERED": "1"}
        self.began = time.monotonic()
        os.sched_setaffinity(0, cores)  # the process inherits it
        with open(self.log, "w", encoding="utf-8") as file:
            # By env, which says what it cannot start; in a group of its own, so that what it starts ends with it.
            words = ["env", *(sys.executable if word == "python" else word for word in self.words)]
            streams = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.STDOUT}
            self.process = subprocess.Popen(words, env=os.environ | own, process_group=0, **streams)
        print(f"GPU {gpu}: begins {self.log.name}: {shlex.join(self.words)}", flush=True)

    def send(self, number: int) -> None:
        """A signal to the command and all that it started."""
        with suppress(ProcessLookupError):  # of which nothing is left
            os.killpg(self.process.pid, number)

    def told(self) -> str:
        *_, last = "", *self.log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
        ended = f"{self.log.name} ended with {self.process.returncode} after {time.monotonic() - self.began:.0f} s"
        return f"{ended}: {last.strip()}"


def visible(count: int) -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls so many GPUs, of those that this process may use; 0: all of them."""
    count = count or int(common.child("-c", "import torch; print(torch.cuda.device_count())")[0])
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return (named or [str(index) for index in range(count)])[:count]


def work(jobs: list[Job], gpus: list[str], limit: float) -> int:
    """Exit code: 0 where every command was run and gave 0."""
    cores = sorted(os.sched_getaffinity(0))
    share = max(1, len(cores) // len(gpus))
    places = {gpu: cores[index * share :][:share] or cores for index, gpu in enumerate(gpus)}
    waiting, running, failed, began = list(jobs), dict[str, Job](), 0, time.monotonic()
    try:
        while (waiting or running) and time.monotonic() - began < limit:
            for gpu in gpus:
                if gpu in running and running[gpu].process.poll() is not None:
                    job = running.pop(gpu)
                    failed += job.process.returncode != 0
                    print(f"GPU {gpu}: {job.told()}", flush=True)
                if gpu not in running and waiting:
                    running[gpu] = job = waiting.pop(0)
                    job.start(gpu, places[gpu])
            time.sleep(0.05)
    finally:
        os.sched_setaffinity(0, cores)
        end(running)
    for job in waiting:
        print(f"not begun: {shlex.join(job.words)}", flush=True)
    return int(bool(failed or running or waiting))


def end(running: dict[str, Job]) -> None:
    """Terminate, and kill what is left after GRACE seconds."""
    for job in running.values():
        job.send(signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    for gpu, job in running.items():
        with suppress(subprocess.TimeoutExpired):
            job.process.wait(max(0.0, deadline - time.monotonic()))
        job.send(signal.SIGKILL)
        job.process.wait()
        print(f"GPU {gpu}: cut: {job.told()}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list")
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--logs", type=Path, default=Path("gpu_logs"))
    parser.add_argument("--seconds-limit", type=float, default=float("inf"))
    options = parser.parse_args()
    with sys.stdin if options.list == "-" else open(options.list, encoding="utf-8") as file:
        commands = [words for line in file if (words := shlex.split(line, comments=True))]
    jobs = [Job(words, options.logs / f"{number:02}.log") for number, words in enumerate(commands, 1)]
    options.logs.mkdir(parents=True, exist_ok=True)
    gpus = visible(options.gpus) or parser.error("torch sees no GPU: say with --gpus how many commands to run at once")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # by way of `finally`
    return work(jobs, gpus, options.seconds_limit)


if __name__ == "__main__":
    sys.exit(main())
