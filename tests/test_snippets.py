"""What README and the other pages show can be typed: Python that runs, commands that are understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ppo_and_friends import registry
from ppo_and_friends.flags import split
from ppo_and_friends.parser import parse
from ppo_and_friends.ppo import PPO

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    """(place, text) of every fenced block of a language."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            if match[1] == language:
                line = text.count("\n", 0, match.start()) + 1
                found.append((f"{page.relative_to(ROOT)}:{line}", match[2]))
    return found


def commands() -> list[str]:
    """Every command of this project that a block shows."""
    lines = [line for _, text in blocks("") for line in text.splitlines()]
    return [line.partition("#")[0].strip() for line in lines if line.startswith("python main.py")]


@pytest.mark.parametrize(("place", "text"), [pytest.param(*block, id=block[0]) for block in blocks("python")])
def test_python(place: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training apart, which is replaced."""
    monkeypatch.setattr(PPO, "learn", lambda self, callback=None: self)
    monkeypatch.setattr(PPO, "load", lambda path: PPO(registry.build("CartPole")))
    exec(compile(text, place, "exec"), {"__name__": __name__})  # where dataclasses look up their types


@pytest.mark.parametrize("command", commands())
def test_commands(command: str) -> None:
    words = split(shlex.split(command)[2:])
    reference = dict(words)["environment"][0]
    path, colon, name = reference.partition(":")
    parse(words, registry.build(f"{ROOT / path}:{name}" if colon and path.endswith(".py") else reference))
