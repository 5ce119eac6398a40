"""Parts of a vector through layers of their own, before they are joined: what a body feels apart from what it sees."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from ppo_and_friends.errors import UserError
from ppo_and_friends.types import TensorSpec

EACH = "each"
FORMS = (
    "give the column where the second half begins (27), slices of all columns (0:27,27:60), names of entries of a Dict "
    f"(joints,feet), or {EACH} for every entry"
)


def slices(text: str, spec: TensorSpec) -> list[list[int]]:
    """The columns of each part that a text asks for; every column of `spec` is in one of them.

    Raises:
        UserError: the text is none of FORMS, or leaves columns out, or names what is not there.
    """
    columns = spec.shape[0]
    words = [word.strip() for word in text.split(",")]
    if len(words) == 1 and words[0].isdigit():
        found = [list(range(int(text))), list(range(int(text), columns))]
    elif all(":" in word for word in words):
        found = [_columns(word, columns, text) for word in words]
    else:
        found = _named([key for key, *_ in spec.fields] if words == [EACH] else words, spec, text)
    used = sorted(column for part in found for column in part)
    if used != list(range(columns)) or not all(found):
        raise UserError(
            f"net: split is {text!r}, which does not put each of the {columns} columns of {spec.name} into one part: "
            f"{FORMS}."
        )
    return found


def _columns(word: str, columns: int, text: str) -> list[int]:
    first, _, end = word.partition(":")
    if not all(part.isdigit() or not part for part in (first, end)):
        raise UserError(f"net: split is {text!r}, and {word!r} is no slice: {FORMS}.")
    return list(range(columns))[int(first or 0) : int(end or columns)]


def _named(names: list[str], spec: TensorSpec, text: str) -> list[list[int]]:
    fields = {key: list(range(first, end)) for key, first, end in spec.fields}
    unknown = [name for name in names if name not in fields]
    if unknown or not names:
        known = f"its entries are {', '.join(fields)}" if fields else "it has no named entries"
        raise UserError(
            f"net: split is {text!r}, but {spec.name} has no entry {(unknown or [text])[0]!r} ({known}): {FORMS}."
        )
    rest = [column for key, part in fields.items() if key not in names for column in part]
    return [fields[name] for name in names] + ([rest] if rest else [])


class Split(nn.Module):
    """`[..., columns]` to `[..., features]`: each part through layers of its own, side by side."""

    def __init__(
        self, spec: TensorSpec, text: str, hidden: tuple[int, ...], activation: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        parts = slices(text, spec)
        self.sizes = [len(part) for part in parts]
        self.register_buffer("order", torch.tensor([column for part in parts for column in part]), persistent=False)
        self.layers = nn.ModuleList()
        for size in self.sizes:
            layers = [(nn.Linear(before, after), activation()) for before, after in pairwise((size, *hidden))]
            self.layers.append(nn.Sequential(*(module for pair in layers for module in pair)))
        self.features = len(parts) * hidden[-1] if hidden else sum(self.sizes)

    order: Tensor

    def forward(self, vector: Tensor) -> Tensor:
        parts = vector.index_select(-1, self.order).split(self.sizes, -1)
        return torch.cat([layers(part) for layers, part in zip(self.layers, parts, strict=True)], -1)
