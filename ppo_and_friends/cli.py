"""The command line: what is asked for, and the call that does it. Imports neither torch nor MPI to find that out."""

from __future__ import annotations

import dataclasses
import os
import select
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ppo_and_friends import registry
from ppo_and_friends.comm import Comm, SoloComm
from ppo_and_friends.config import Experiment, RunConfig, check_experiment
from ppo_and_friends.errors import UserError
from ppo_and_friends.flags import Words, last, leaves, split
from ppo_and_friends.launch import TORCHRUN_VARIABLE, limit_threads, run_ranks
from ppo_and_friends.schedules import Schedule
from ppo_and_friends.serialize import from_plain, read_config

RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")
SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
OnGpu = Callable[[], Experiment] | None

INTERRUPTED = 130
NO_READER = 141  # as a shell reports what SIGPIPE has ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code: 2 where it asks for something that cannot be, 130 after Ctrl-C, 141
    where nobody reads what it says any more."""
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        return NO_READER
    except KeyboardInterrupt:  # before there was a run that could save
        return INTERRUPTED
    except UserError as error:
        if _number(RANK_VARIABLES, "RANK", 0) == 0:  # one of many equal sentences is enough
            print(f"error: {error}", file=sys.stderr)
        return 2


def _nobody_reads() -> bool:
    """Whether it was standard output's pipe that broke, as in `| head`. Then what is left to say goes nowhere."""
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, 0)  # errors are always told
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)  # the interpreter flushes once more at its end
    return True


def execute(experiment: Experiment, run: RunConfig, reference: str, on_gpu: OnGpu = None) -> int:
    """Train, test or film: the part that needs torch, and MPI under its launcher.

    Args:
        reference: what `-e` said, for the config file that the run saves.
        on_gpu: makes the experiment that it is instead where a GPU simulates the run. Called only there: what flags
            ask for may suit one and not the other.
    """
    if run.render or run.render_gif or run.gif_every:
        from ppo_and_friends.render import prepare_headless

        prepare_headless()

    def work(comm: Comm) -> int:
        if run.test:
            from ppo_and_friends.testing import run_test

            run_test(experiment, run, reference, comm)
            return 0
        from ppo_and_friends.ppo import PPO

        chosen = _on_this_machine(experiment, on_gpu, run, comm)
        if chosen is not experiment and comm.rank == 0:
            print(f"# {reference} with its settings for a GPU (those for a CPU: --simulator cpu)", flush=True)
        return PPO(chosen, run, comm, reference).learn().exit_code

    return run_ranks(work)


def _run(arguments: Sequence[str]) -> int:
    words = split(arguments)
    asked = {flag for flag, _ in words}
    if "list" in asked:
        _show_list()
        return 0
    limit_threads(1)  # before an environment imports torch: more threads slow small networks down
    reference, plain, default = _defaults(words)
    experiment = _with(plain, default)
    if "help" in asked:
        return _show_help(words, experiment)
    if not reference:
        raise UserError("No experiment is named: choose one with -e NAME, or see --list for all of them.")
    from ppo_and_friends.parser import parse

    request, run, experiment = parse(words, experiment)
    other = None if run.test else registry.build_on_gpu(reference)
    on_gpu = None if other is None else lambda: parse(words, _with(plain, other))[2]
    if run.clobber and run.test:
        raise UserError("--clobber would delete the state that a test needs: give one or the other.")
    ranks = _number(SIZE_VARIABLES, "WORLD_SIZE", 1)
    if request.print_config:
        chosen = _on_this_machine(experiment, on_gpu, run, SoloComm())
        check_experiment(chosen, chosen.envs_per_proc * ranks)
        _show_config(reference, run, chosen, default if chosen is experiment else other or default)
        return 0
    if on_gpu is None:  # else it is not yet known which of the two will run, and be checked
        check_experiment(experiment, experiment.envs_per_proc * ranks)
    return execute(experiment, run, reference, on_gpu)


def _defaults(words: Words) -> tuple[str, Mapping[str, Any], Experiment]:
    """(reference, a config file's settings, what the reference's launcher gives)."""
    reference, file = last(words, "environment"), last(words, "config")
    plain: Mapping[str, Any] = {}
    if file:
        saved_reference, plain, _ = read_config(file)
        names = [name.rpartition(":")[2].casefold() for name in (reference, saved_reference)]
        if reference and names[0] != names[1]:
            raise UserError(
                f"{file} has the settings of {saved_reference}, its environment among them, and -e says {reference}: "
                "leave -e out, or --config."
            )
        reference = reference or saved_reference
    if not reference:
        return "", {}, Experiment(env=None)
    return reference, plain, registry.build(reference)


def _with(plain: Mapping[str, Any], default: Experiment) -> Experiment:
    """What a launcher gives with a config file's settings."""
    return dataclasses.replace(from_plain(default, plain), name=default.name)


def _on_this_machine(experiment: Experiment, on_gpu: OnGpu, run: RunConfig, comm: Comm) -> Experiment:
    """`experiment`, or what `on_gpu` makes where a GPU simulates the run; the same on every rank. Collective."""
    if on_gpu is None:
        return experiment
    from ppo_and_friends.simulator import takes_gpu

    return on_gpu() if takes_gpu(experiment, on_gpu, run, comm) else experiment


def _show_list() -> None:
    lines = registry.describe()
    width = max(map(len, lines))
    print("\n".join(f"{name:<{width}}  {line}" for name, line in lines.items()))


def _show_help(words: Words, experiment: Experiment) -> int:
    from ppo_and_friends.parser import parse

    try:
        parse([(flag, values) for flag, values in words if flag == "help"], experiment)
    except SystemExit:
        print("\n`_` and `-` are the same in every flag. With -e, --help shows the settings of that experiment;")
        print("where its launcher has others for a GPU, --print_config shows those that this machine would take.")
        print(f"\nexperiments: {', '.join(registry.names())}")
    return 0


def _show_config(reference: str, run: RunConfig, experiment: Experiment, default: Experiment) -> None:
    """Every setting as the flag that would set it, so that the lines make the same run again.

    Settings that are not the launcher's say what its value is. What no word can say, such as a class, is a comment."""
    from ppo_and_friends.parser import IMPLY_TEST

    launcher = leaves(default)
    lines = [f"# settings of {reference}; each line is a flag", f"--environment {shlex.quote(reference)}"]
    for flag, value in leaves(run).items():
        if value is not False and value != "" and (run.test or flag not in IMPLY_TEST):
            lines.append(f"--{flag} {_text(value)}")
    for flag, value in leaves(experiment).items():
        same = value == launcher[flag]
        if flag in ("name", "addons") or (same and value == ""):  # addons: empty, or their settings have flags
            continue
        comment = "" if same else f"  # launcher: {_text(launcher[flag])}"
        sign = "# " if _is_object(value) else "--"
        lines.append(f"{sign}{flag} {_text(value)}".rstrip() + comment)
    print("\n".join(lines))


def _text(value: Any) -> str:
    """A value as the words that make it again."""
    if isinstance(value, tuple):
        return " ".join(_text(entry) for entry in value)
    if _is_object(value):
        return f"{value.__module__}:{value.__qualname__}"
    if isinstance(value, Mapping) and not set(str(value)) & set('"$`\\'):
        return f'"{value}"'  # easier to read than shlex's quotes within quotes
    return shlex.quote(str(value))


def _is_object(value: Any) -> bool:
    """Whether a launcher has put a class or a function there."""
    return callable(value) and not isinstance(value, Schedule)


def _number(variables: Sequence[str], torchruns: str, default: int) -> int:
    """The first of some environment variables that MPI launchers set, or under torchrun its own."""
    variables = (torchruns,) if TORCHRUN_VARIABLE in os.environ else variables
    return next((int(os.environ[name]) for name in variables if os.environ.get(name, "").isdigit()), default)
