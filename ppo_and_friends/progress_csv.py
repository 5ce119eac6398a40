"""progress.csv: one row an iteration, no row twice, whatever killed the run before."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ppo_and_friends.errors import UserError
from ppo_and_friends.files import write_atomically

PHASE = "seconds_"  # metrics whose names start so are phases of an iteration


class ProgressCsv:
    """Appends rows. Columns that appear later are added to all rows, empty in the earlier ones.

    Args:
        path: goes on with this file if it exists.
        iteration: where the run goes on; later rows, which a killed run left, are dropped, and so is half a row.
    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: Path, iteration: int) -> None:
        self._path = path
        try:
            text = path.read_bytes().decode(errors="replace") if path.exists() else ""
            self._columns, rows = parse_rows(text, iteration)
            kept = _text([self._columns, *rows]) if self._columns else ""
            if kept != text:
                write_atomically(path, kept.encode())
            self._file = open(path, "a", newline="", encoding="utf-8")  # noqa: SIM115 -- open as long as the run
        except OSError as error:
            raise self._failure(error) from error

    def append(self, metrics: dict[str, float]) -> None:
        try:
            if not self._columns.keys() >= metrics.keys():
                self._widen(metrics)
            values = dict.fromkeys(self._columns, "") | {name: _cell(value) for name, value in metrics.items()}
            self._file.write(_text([values]))
            self._file.flush()
        except OSError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        self._file.close()

    def _widen(self, metrics: dict[str, float]) -> None:
        self._file.close()
        _, rows = parse_rows(self._path.read_text(encoding="utf-8"))
        self._columns |= {name: name for name in metrics}
        empty = dict.fromkeys(self._columns, "")
        write_atomically(self._path, _text([self._columns, *(empty | row for row in rows)]).encode())
        self._file = open(self._path, "a", newline="", encoding="utf-8")  # noqa: SIM115

    def _failure(self, error: OSError) -> UserError:
        return UserError(f"{self._path} cannot be written ({error.strerror}): make room there, then run again.")


def parse_rows(text: str, last: int | None = None) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Header (each name to itself) and rows of iterations up to `last`, without what is half written.

    Empty where `text` is not the content of a progress.csv."""
    complete = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(complete, newline=""))
    names = list(reader.fieldnames or [])
    if "iteration" not in names:
        return {}, []
    rows = [row for row in reader if None not in row and None not in row.values()]
    return {name: name for name in names}, [row for row in rows if last is None or _iteration(row) <= last]


def _iteration(row: dict[str, str]) -> float:
    try:
        return float(row["iteration"])
    except ValueError:
        return float("inf")


def _text(rows: list[dict[str, str]]) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(row.values() for row in rows)
    return buffer.getvalue()


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))
