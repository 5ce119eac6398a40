"""Which state files of a state directory count. Replacing this one small file is what commits a save."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path

from ppo_and_friends.errors import UserError
from ppo_and_friends.files import write_atomically
from ppo_and_friends.state_file import FORMAT, newer

NAME = "manifest.json"
KEPT = 3
STATE_NAME = re.compile(r"state-(\d+)-[0-9a-f]{8}\.pt")


@dataclass(frozen=True)
class Manifest:
    """Which files of the directory count."""

    states: tuple[str, ...] = ()  # in the order in which they were saved
    best: str | None = None
    removing: tuple[str, ...] = ()  # no longer wanted, and perhaps already gone
    format: int = FORMAT

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """What is on disk. Without a manifest (a kill in the very first save) the names of the states must do.

        Raises:
            UserError: damaged from outside, or written by a newer version.
        """
        path = directory / NAME
        try:
            fields = json.loads(path.read_bytes())
            if fields["format"] > FORMAT:
                raise UserError(f"{path} {newer(fields['format'])}.")
            return cls(tuple(fields["states"]), fields["best"], tuple(fields["removing"]))
        except (FileNotFoundError, NotADirectoryError):
            names = [entry.name for entry in directory.glob("state-*.pt") if STATE_NAME.fullmatch(entry.name)]
            return cls(tuple(sorted(names, key=lambda name: int(name.split("-")[1]))))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({error!r}): remove it to go on from the newest state file beside it."
            ) from error
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error

    def write(self, directory: Path) -> None:
        """Commit. Raises OSError, and then nothing has changed."""
        write_atomically(directory / NAME, json.dumps(dataclasses.asdict(self), indent=1).encode())

    def following(self, name: str, best: bool) -> Manifest:
        """The manifest after the state `name` was saved."""
        states = (*(state for state in self.states if state != name), name)[-KEPT:]
        best_name = name if best else self.best
        dropped = (*self.removing, *self.states, *([self.best] if self.best else []))
        removing = tuple(dict.fromkeys(old for old in dropped if old not in (*states, best_name)))
        return Manifest(states, best_name, removing)

    def going_on_from(self, name: str) -> Manifest:
        """The manifest of a run that goes on from the state `name`: what came later no longer counts.

        Those files stay on disk: they may be damaged or from a newer version, and are not ours to remove.
        """
        if name in self.states:
            states = self.states[: self.states.index(name) + 1]
            return dataclasses.replace(self, states=states, best=self.best if self._keeps(self.best, states) else None)
        if name == self.best:
            return dataclasses.replace(self, states=(name,))
        return Manifest(removing=self.removing)

    def _keeps(self, best: str | None, states: tuple[str, ...]) -> bool:
        return best in states or best not in self.states  # a best that has left `states` is older than all of them
