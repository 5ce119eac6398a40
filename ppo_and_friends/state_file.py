"""One state in one file: tensors and plain values, loaded without running any code of the file's."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FORMAT = 1
KIND = "ppo_and_friends state"
FOREIGN = "is not a state of ppo_and_friends"


class Unusable(Exception):
    """Why a file is no state: the rest of a sentence that begins with its name."""


def newer(number: int) -> str:
    return f"has format {number} of a newer version of ppo_and_friends; this one reads up to {FORMAT}"


def pack(state: dict[str, Any], iteration: int) -> memoryview:
    """The content of a state file. In memory first: torch hides the cause of an error when it writes to a file."""
    buffer = io.BytesIO()
    torch.save({"kind": KIND, "format": FORMAT, "iteration": iteration, "state": plain(state)}, buffer)
    return buffer.getbuffer()


def read_file(path: Path) -> dict[str, Any]:
    """The state in a file, tensors on the CPU.

    Raises:
        Unusable: truncated, foreign, of a newer version, or not readable.
        FileNotFoundError: there is none.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror})") from error
    with file:
        start = file.read(4)
        file.seek(0)
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            archive = start in (b"PK\x03\x04", b"")
            raise Unusable("is truncated or damaged" if archive else FOREIGN) from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise Unusable(FOREIGN)
    if content["format"] > FORMAT:
        raise Unusable(newer(content["format"]))
    return content["state"]


def plain(value: Any, where: str = "state") -> Any:
    """A copy that `weights_only` loading accepts: tensors on the CPU, without the rest of the buffer they view.

    Raises:
        TypeError: names the place of anything else.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
        return value if whole else value.clone()
    if isinstance(value, dict):
        return {plain(key, f"{where} (a key)"): plain(entry, f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        kind = list if isinstance(value, list) else tuple
        return kind(plain(entry, f"{where}[{index}]") for index, entry in enumerate(value))
    if type(value) in (bool, int, float, str, bytes, type(None)):  # NumPy's numbers are subclasses, and not loadable
        return value
    raise TypeError(f"{where} is a {type(value).__name__}, which a state cannot hold")
