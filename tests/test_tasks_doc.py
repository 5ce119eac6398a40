"""docs/tasks.md against the tasks: a section each, columns that meet and fill the observation, the log's own names."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import torch

from ppo_and_friends.types import Step
from ppo_and_friends.vector.sim.camera import choose_gl_backend

choose_gl_backend()  # before what follows, which imports mujoco

from ppo_and_friends.vector.sim.batch_cpu import BatchSim
from ppo_and_friends.vector.sim.task_env import TaskEnv

ROOT = Path(__file__).parent.parent

import task_tables

PAGE = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
TASKS = task_tables.tasks()
ESTIMATE = 0.2  # how far the memory on the page may be off: what chance needs of contacts moves with MuJoCo's version
each_task = pytest.mark.parametrize("name", TASKS)


def cells(text: str, head: str) -> list[list[str]]:
    """The rows of the table in `text` whose head begins with `head`."""
    lines = text.partition(f"\n| {head} |")[2].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def section(name: str) -> str:
    return PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def described(name: str, what: str, head: str) -> str:
    """The text that has the table: the section's own, or that of the one which "`what`: as [Name]" points to."""
    text = section(name)
    if f"\n| {head} |" in text:
        return text
    other = re.search(rf"^{what}: as \[(\w+)\]\(#(\w+)\)", text, re.MULTILINE)
    assert other and other[1].lower() == other[2], f"{name} has no table of {head} and names none"
    return section(other[1])


def columns(name: str) -> list[tuple[int, int, str]]:
    """(first, one past the last, what) of each row of the observation's table."""
    rows = cells(described(name, "Observation", "columns"), "columns")
    bounds = [[int(number) for number in row[0].split("-")] for row in rows]
    return [(numbers[0], numbers[-1] + 1, row[1]) for numbers, row in zip(bounds, rows, strict=True)]


def names(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)


def terms(name: str) -> list[str]:
    """The logged terms of the reward, as documented."""
    text = described(name, "Reward", "term") if "(terms are not logged)" not in section(name) else ""
    return [term for row in cells(text, "term") for term in names(row[0])]


@cache
def one_step(name: str) -> Step:
    task = TASKS[name].env.task
    env = TaskEnv(task, BatchSim(task.model(), 2, 1, name), "test", torch.float64)
    env.reset(1)
    low, high = torch.tensor(task.action.low), torch.tensor(task.action.high)
    return env.step(((0.75 * low + 0.25 * high).expand(2, -1),))[0]


def test_every_task_has_a_section_in_the_registrys_order() -> None:
    headings = re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)
    assert headings == list(TASKS)


@each_task
def test_columns_meet_and_fill_the_observation(name: str) -> None:
    task, found = TASKS[name].env.task, columns(name)
    ends = [end for _, end, _ in found]
    assert [first for first, _, _ in found] == [0, *ends[:-1]]
    seen = one_step(name).obs.actor
    assert isinstance(seen, torch.Tensor)
    assert task.actor[0].shape == (ends[-1],) == seen.shape[1:]


@each_task
def test_columns_that_have_names_are_where_the_page_says(name: str) -> None:
    spec = TASKS[name].env.task.actor[0]
    found = columns(name)
    if spec.fields:
        assert [(names(what)[0], first, end) for first, end, what in found] == list(spec.fields)


@each_task
def test_what_is_logged_is_on_the_page(name: str) -> None:
    text = described(name, "Reward", "term") if terms(name) else section(name)
    also = re.search(r"^Also logged: (.*)$", text, re.MULTILINE)
    documented = terms(name) + (names(also[1]) if also else [])
    assert sorted(documented) == sorted(one_step(name).log)


@each_task
def test_a_sum_of_logged_terms_is_the_reward(name: str) -> None:
    step, text = one_step(name), section(name)
    values = torch.stack([step.log[term] for term in terms(name)]) if terms(name) else torch.zeros(0, 2)
    constant = [float(row[1].split()[0]) for row in cells(text, "term") if row[0] == "not logged"]
    if "the product of:" in text:
        torch.testing.assert_close(step.reward, values.prod(0))
    elif "the sum of:" in text:
        assert not step.terminated.any()
        total = values.sum(0) + sum(constant)
        torch.testing.assert_close(step.reward, total.clamp_min(0) if "at least 0, else" in text else total)
    else:
        assert "\nReward: as [" in text or "(terms are not logged)" in text


@pytest.mark.parametrize("head", [task_tables.SIZES, task_tables.SETTINGS], ids=["sizes", "settings"])
def test_tables_are_those_of_the_launchers(head: tuple[str, ...]) -> None:
    make = task_tables.sizes if head is task_tables.SIZES else task_tables.settings
    made = [list(make(name, experiment)) for name, experiment in TASKS.items()]
    found = cells(PAGE, " | ".join(head))
    if head is task_tables.SIZES:
        ours, theirs = ([float(row.pop()) for row in rows] for rows in (found, made))
        assert ours == pytest.approx(theirs, rel=ESTIMATE)
    assert found == [[f"[{row[0]}](#{row[0].lower()})", *row[1:]] for row in made]
