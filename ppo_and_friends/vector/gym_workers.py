"""Environments whose Python is slow, stepped in worker processes over shared memory.

Gymnasium's AsyncVectorEnv carries them: each process is, to it, one environment whose observation is the whole set of
arrays that `Rows` fills. So ends, resets, masks and guards are the very same code as in process, any number of rows
goes into any number of processes, and AsyncVectorEnv's own autoreset never has anything to do.

Processes are spawned, not forked: a fork copies locks that torch's and MPI's threads hold. A script that uses workers
therefore needs the usual `if __name__ == "__main__":`.
"""

from __future__ import annotations

import contextlib
import math
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from importlib.machinery import PathFinder
from typing import Any

import cloudpickle
import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.vector.gym_rows import Buffers, Interface, Rows, log_default

Build = Callable[[], "gymnasium.Env[Any, Any]"]


class Block(gymnasium.Env[Any, Any]):
    """The rows of one process as one environment. Makes them in its first reset, where a failure can be reported."""

    def __init__(self, interface: Interface, sent: bytes, first: int, count: int, slots: int) -> None:
        self._interface, self._sent, self._first, self._count, self._slots = interface, sent, first, count, slots
        self._rows: Rows | None = None
        self.observation_space = spaces.Dict(
            {key: _box(array) for key, array in interface.buffers(slots).items() if array.size}
        )
        dtype: Any = np.float32 if interface.actions.kind == "box" else np.int64
        columns = interface.actions.columns
        limit = np.inf if dtype is np.float32 else np.iinfo(np.int64).max
        self.action_space = spaces.Box(-limit, limit, (slots, columns), dtype)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Buffers, dict[str, Any]]:
        assert seed is not None
        with _told():
            if self._rows is None:
                self._rows = self._start()
            self._rows.reset(seed)
        return self._shared(), {}

    def _start(self) -> Rows:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
        spec, build = pickle.loads(self._sent)
        if spec is not None:
            gymnasium.registry.setdefault(spec.id, spec)
        return Rows(self._interface, [build() for _ in range(self._count)], self._first, self._slots)

    def step(self, action: np.ndarray) -> tuple[Buffers, float, bool, bool, dict[str, Any]]:
        assert self._rows is not None
        with _told():
            cut = self._rows.step(action[: self._count])  # slots without an environment get none
        # a tuple travels as it is, where a dict would be taken apart and joined by key
        return self._shared(), 0.0, False, False, {"told": (cut, self._rows.log)}

    def frame(self, row: int) -> np.ndarray:
        assert self._rows is not None
        return self._rows.frame(row)

    def close(self) -> None:
        if self._rows is not None:
            self._rows.close()

    def _shared(self) -> Buffers:
        assert self._rows is not None
        return {key: _as_bytes(self._rows.buffers[key]) for key in self.observation_space.spaces}  # type: ignore[attr-defined]


class Workers:
    """`Rows` in several processes, with the same attributes and methods.

    Args:
        interface: what one environment takes and gives.
        build: makes one environment; it must survive cloudpickle.
        origins: callables that it uses from the user's own files.
        rows: environments in all.
        workers: at most this many processes; fewer where rows do not fill them.
    """

    def __init__(self, interface: Interface, build: Build, origins: tuple[Any, ...], rows: int, workers: int) -> None:
        self.interface = interface
        self.log: dict[str, np.ndarray] = {}
        self._slots = math.ceil(rows / min(workers, rows))
        self.processes = math.ceil(rows / self._slots)
        self._total = rows
        sent = _sent(build, interface.name, origins)
        blocks = [
            partial(Block, interface, sent, first, min(self._slots, rows - first), self._slots)
            for first in range(0, rows, self._slots)
        ]
        self._vector = _start(blocks, interface.name)
        self.buffers = interface.buffers(rows)
        for key, shared in self._vector.observations.items():
            joined = shared.reshape(-1, *shared.shape[2:])[:rows]
            self.buffers[key] = joined.view(np.bool_) if self.buffers[key].dtype == np.bool_ else joined
        columns = interface.actions.columns
        self._actions = np.zeros(self._vector.action_space.shape, self._vector.action_space.dtype)  # type: ignore[arg-type]
        self._flat_actions = self._actions.reshape(-1, columns)

    def reset(self, seed: int) -> None:
        with self._explained():
            self._vector.reset(seed=list[int | None]([seed] * self.processes))

    def step(self, actions: np.ndarray) -> bool:
        self._flat_actions[: self._total] = actions
        with self._explained():
            told = self._vector.step(self._actions)[4]["told"]
        for block, (_, log) in enumerate(told):
            for key, column in log.items():
                if key not in self.log:
                    self.log[key] = np.full(self._total, log_default(key), np.float32)
                mine = self.log[key][block * self._slots : (block + 1) * self._slots]
                mine[:] = column[: len(mine)]
        cuts = [block for block, (cut, _) in enumerate(told) if cut]
        if cuts:  # a process writes its last observations only where one of its own rows was cut
            self._complete(set(cuts))
        return bool(cuts)

    def _complete(self, cuts: set[int]) -> None:
        for block in set(range(self.processes)) - cuts:
            rows = slice(block * self._slots, (block + 1) * self._slots)
            for index in range(len(self.interface.layout.parts)):
                self.buffers[f"final{index}"][rows] = self.buffers[f"obs{index}"][rows]
            self.buffers["final_mask"][rows] = self.buffers["mask"][rows]

    def frame(self, row: int) -> np.ndarray:
        with self._explained():
            return self._vector.call("frame", row % self._slots)[row // self._slots]

    def state(self) -> None:
        """Not to be had: the environments live in other processes."""

    def load_state(self, state: dict[str, Any]) -> None:
        raise UserError(f"Worker processes cannot load a state of {self.interface.name}; set env.workers to 0.")

    def close(self) -> None:
        if self._vector.closed:
            return
        with contextlib.suppress(Exception):  # a pipe may be broken already; what counts is that no process stays
            self._vector.close()
        for process in self._vector.processes:
            process.terminate()
            process.join()
        self._vector.closed = True

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Close at any failure, and say which process died where it could not say so itself."""
        try:
            yield
        except EnvironmentFailure:
            self.close()
            raise
        except (EOFError, ConnectionError) as error:
            self._vector._state = self._vector._state.DEFAULT  # or close would wait for an answer from the dead
            dead = self._exit_codes()
            self.close()
            raise EnvironmentFailure(
                f"{self.interface.name}: a worker process died without a word ({dead})."
            ) from error
        except BaseException:
            self._vector._state = self._vector._state.DEFAULT
            self.close()
            raise

    def _exit_codes(self) -> str:
        for process in self._vector.processes:
            process.join(timeout=1.0)
        codes = [(n, p.exitcode) for n, p in enumerate(self._vector.processes) if p.exitcode is not None]
        ranges = (f"rows {n * self._slots} on: exit code {code}" for n, code in codes)
        return ", ".join(ranges) or "its pipe closed"


def _start(blocks: list[Any], name: str) -> AsyncVectorEnv[Any, Any]:
    try:
        return AsyncVectorEnv(blocks, copy=False, context="spawn", autoreset_mode=AutoresetMode.SAME_STEP)
    except (EOFError, ConnectionError) as error:
        raise UserError(
            f"The worker processes of {name} ended before they began, as they do where the main script has no "
            '`if __name__ == "__main__":`; give it one, or set env.workers to 0.'
        ) from error


def _sent(build: Build, name: str, origins: tuple[Any, ...]) -> bytes:
    """`build` and the registration of `name`, pickled. A launcher file that no import finds travels by value."""
    spec = gymnasium.registry.get(name)
    modules = {getattr(origin, "__module__", None) for origin in (*origins, getattr(spec, "entry_point", None))}
    hidden = [sys.modules[m] for m in modules if m in sys.modules and PathFinder.find_spec(m.split(".")[0]) is None]
    for module in hidden:
        cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps((spec, build))
    except Exception as error:
        raise UserError(f"{name} cannot be sent to worker processes ({error}); set env.workers to 0.") from error
    finally:
        for module in hidden:
            cloudpickle.unregister_pickle_by_value(module)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Put the traceback into the message: nothing else of an exception survives the way to the parent."""
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error, EnvironmentFailure) and error.__cause__ else error
        trace = "".join(traceback.format_exception(cause))
        raise EnvironmentFailure(f"{error}\nIn the worker process:\n{trace}") from error


def _as_bytes(array: np.ndarray) -> np.ndarray:
    return array.view(np.uint8) if array.dtype == np.bool_ else array


def _box(array: np.ndarray) -> spaces.Box:
    array = _as_bytes(array)
    low, high = (0, 255) if array.dtype == np.uint8 else (-np.inf, np.inf)
    return spaces.Box(low, high, array.shape, array.dtype.type)
