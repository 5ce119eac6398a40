"""The state directory: what is kept of a run, written so that a kill at any moment leaves a loadable state.

    state-ITERATION-PROCESS.pt   the last three states and the best; names are never used twice
    manifest.json                which of them count; replacing this file is what commits a save
    config.json provenance.json  settings; command, code and machine of every process that wrote here
    progress.csv tensorboard/    see logger.py
    gif/ test_scores*            pictures and scores of tests
    .NAME.pending                beside a state that is being saved, until the manifest lists it

Only rank 0 comes here. Reading needs no lock; a training run holds one from `open` to `close`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ppo_and_friends.errors import UserError
from ppo_and_friends.files import remove_temporaries, write_atomically
from ppo_and_friends.lock import DirectoryLock
from ppo_and_friends.manifest import STATE_NAME, Manifest
from ppo_and_friends.serialize import flat
from ppo_and_friends.state_file import Unusable, pack, read_file

PENDING = ".pending"
OWNED = ("config.json", "provenance.json", "progress.csv", "tensorboard", "gif", "test_scores*")


class StateDirectory:
    """`<state_path>/<name>/` of one run.

    For training: `open`, perhaps `load`, `save` before the first iteration and then regularly, `close`.
    For tests and pictures: `load` alone, which changes nothing on disk.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock = DirectoryLock(self.path)
        self._process = secrets.token_hex(4)  # makes names unique; influences nothing else
        self._manifest: Manifest | None = None
        self._documents: dict[str, Any] = {}
        self._clobber = False

    def open(self, config: dict[str, Any], provenance: dict[str, Any], clobber: bool = False) -> None:
        """Become the one writer. Both documents (plain values) reach the disk with the first save.

        Args:
            clobber: start over. The old run's files go when the first state of the new one is safe.
        Raises:
            UserError: in use by another run, not a directory, or not writable.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            remove_temporaries(self.path)
            write_atomically(self.path / f".probe{os.getpid()}.tmp", bytes(1 << 16))
            remove_temporaries(self.path)
        except (FileExistsError, NotADirectoryError) as error:
            self.close()
            file = next(part for part in (self.path, *self.path.parents) if part.exists())
            raise UserError(
                f"{file} is a file, but a directory is needed there: choose another --state_path or --name."
            ) from error
        except OSError as error:
            self.close()
            raise UserError(
                f"{self.path} cannot be written ({error.strerror}): choose another --state_path, or mend this one."
            ) from error
        self._documents, self._clobber = {"config.json": config, "provenance.json": provenance}, clobber
        try:
            self._manifest = Manifest() if clobber else Manifest.read(self.path)
        except UserError:
            self.close()
            raise
        if not clobber and self._lock.excludes:
            self._remove_unfinished(self._manifest)
        if self._manifest.removing:  # a kill interrupted it
            self._write_manifest(self._remove(self._manifest))

    def close(self) -> None:
        self._lock.release()
        self._manifest = None

    def __enter__(self) -> StateDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def best(self) -> Path | None:
        """The best state, or None while there is none."""
        name = self._current().best
        return self.path / name if name else None

    def save(self, state: dict[str, Any], iteration: int, best: bool = False) -> Path:
        """Write a state: tensors, numbers, strings, None, dicts, lists and tuples of these.

        Args:
            best: evaluation scored it highest so far; kept beside the last three.
        Raises:
            UserError: the disk is full or gone; the states saved before are intact.
            TypeError: something that could not be loaded again, named by its place.
        """
        if self._manifest is None:
            raise RuntimeError("save before open")
        name, content = f"state-{iteration:08d}-{self._process}.pt", pack(state, iteration)
        marker = self.path / f".{name}{PENDING}"
        try:
            marker.touch()
            write_atomically(self.path / name, content)
            self._commit(self._manifest.following(name, best))
            marker.unlink(missing_ok=True)
            self._write_documents()
        except OSError as error:
            kept = self._manifest.states[-1:]
            intact = f"{self.path / kept[0]} is intact" if kept else "nothing was lost"
            raise UserError(
                f"The state of iteration {iteration} could not be saved in {self.path} ({error.strerror}); "
                f"{intact}: make room there, then run again."
            ) from error
        return self.path / name

    def load(self, which: str | Path = "last") -> dict[str, Any] | None:
        """A state: "last", "best", or a file. None where there is no last one.

        In an open directory the run goes on from this state: those saved after it stay, but no longer count.

        Raises:
            UserError: no such state, truncated, foreign or of a newer version; names a good one if there is one.
        """
        while True:
            manifest = self._current()
            path = self._find(which, manifest)
            if path is None:
                return None
            try:
                state = read_file(path)
                break
            except FileNotFoundError as error:
                if manifest == self._current():  # otherwise a running training has just replaced it
                    raise self._unusable(path, "does not exist", manifest) from error
            except Unusable as error:
                raise self._unusable(path, f"{error}; it was left as it is", manifest) from error
        if self._manifest is not None and which != "last":
            inside = path.resolve().parent == self.path.resolve()
            self._manifest = self._manifest.going_on_from(path.name if inside else "")
        return state

    def _current(self) -> Manifest:
        return self._manifest if self._manifest is not None else Manifest.read(self.path)

    def _find(self, which: str | Path, manifest: Manifest) -> Path | None:
        if which == "last":
            return self.path / manifest.states[-1] if manifest.states else None
        if which == "best":
            if manifest.best is None:
                raise UserError(f"{self.path} has no best state, because no evaluation has chosen one: use the last.")
            return self.path / manifest.best
        return Path(which) if Path(which).exists() else self.path / which

    def _unusable(self, path: Path, cause: str, manifest: Manifest) -> UserError:
        others = [*([manifest.best] if manifest.best else []), *manifest.states]
        for other in (self.path / name for name in reversed(others) if name != path.name):
            try:
                read_file(other)
            except (Unusable, FileNotFoundError):
                continue
            return UserError(f"{path} {cause}; the newest good state is used with --checkpoint {other}")
        return UserError(f"{path} {cause}; {self.path} has no other state.")

    def _commit(self, manifest: Manifest) -> None:
        if self._clobber:
            kept = (*manifest.states, manifest.best)
            manifest = dataclasses.replace(manifest, removing=tuple(n for n in self._owned() if n not in kept))
        self._write_manifest(manifest)
        self._manifest = self._remove(manifest)
        if self._clobber:  # the new run will use these names again: nobody may remove them twice
            self._clobber = False
            self._write_manifest(self._manifest)

    def _write_manifest(self, manifest: Manifest) -> None:
        manifest.write(self.path)
        self._manifest = manifest

    def _owned(self) -> Iterable[str]:
        states = (entry.name for entry in self.path.glob("state-*.pt") if STATE_NAME.fullmatch(entry.name))
        return sorted({*states, *(entry.name for pattern in OWNED for entry in self.path.glob(pattern))})

    def _remove_unfinished(self, manifest: Manifest) -> None:
        """Delete states that a kill kept from being listed. Others that no manifest lists are the user's, or were given
        up for an earlier one."""
        for marker in self.path.glob(f".state-*.pt{PENDING}"):
            name = marker.name.removeprefix(".").removesuffix(PENDING)
            if name not in (*manifest.states, manifest.best):
                (self.path / name).unlink(missing_ok=True)
            marker.unlink(missing_ok=True)

    def _remove(self, manifest: Manifest) -> Manifest:
        for name in manifest.removing:
            entry = self.path / name
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        return dataclasses.replace(manifest, removing=())

    def _write_documents(self) -> None:
        for name, content in self._documents.items():
            path = self.path / name
            if name == "provenance.json":
                content = [*_records(path), content]
            write_atomically(path, json.dumps(content, indent=1, default=str).encode())
        self._documents = {}


def write_state(path: Path | str, state: dict[str, Any], iteration: int) -> None:
    """One state in a file of its own, atomically.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        write_atomically(Path(path), pack(state, iteration))
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another place.") from error


def read_state(path: Path | str) -> dict[str, Any]:
    """The state in a file, or the last one of a state directory; tensors on the CPU.

    Raises:
        UserError: there is none, or it is truncated, foreign, or of a newer version.
    """
    path = Path(path)
    if path.is_dir():
        state = StateDirectory(path).load()
        if state is None:
            raise UserError(f"{path} has no state.")
        return state
    try:
        return read_file(path)
    except FileNotFoundError as error:
        raise UserError(f"There is no state at {path}.") from error
    except Unusable as error:
        raise UserError(f"{path} {error}.") from error


def differences(saved: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """Settings that are not as they were saved: "ppo.lr: 0.0003 -> 0.0001". Both nested dicts of plain values."""
    before, now = flat(saved), flat(current)
    return [
        f"{name}: {before.get(name, 'absent')} -> {now.get(name, 'absent')}"
        for name in dict.fromkeys((*before, *now))
        if name not in before or name not in now or before[name] != now[name]
    ]


def _records(path: Path) -> list[Any]:
    try:
        records = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []
    return records if isinstance(records, list) else []
