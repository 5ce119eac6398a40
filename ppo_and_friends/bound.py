"""A module whose parameters and buffers are arguments, as compilers and `torch.func` want them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Bound:
    """A module as a function of its parameters and buffers too; each counts once, wherever it is used."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        named = [
            (f"{path}.{name}" if path else name, tensor)
            for path, owner in module.named_modules()
            for name, tensor in (*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False))
        ]
        unique = {id(tensor): tensor for _, tensor in named}
        self.names = [(name, id(tensor)) for name, tensor in named]
        self.parameters = [tensor for tensor in unique.values() if isinstance(tensor, nn.Parameter)]
        self.buffers = [tensor for tensor in unique.values() if not isinstance(tensor, nn.Parameter)]
        owned = [(owner._buffers, name) for owner in module.modules() for name in owner._buffers]
        self.slots = [(held, name, held[name]) for held, name in owned]

    def check(self) -> None:
        """Raise NotImplementedError where a module keeps a tensor that compiled code would not see change."""
        for path, owner in self.module.named_modules():
            for name, value in vars(owner).items():
                if isinstance(value, Tensor):
                    raise NotImplementedError(f"{path}.{name} is a tensor, but neither parameter nor buffer")

    def check_buffers(self) -> None:
        """Raise RuntimeError where a buffer was replaced: compiled code goes on with the old one."""
        for held, name, tensor in self.slots:
            if held[name] is not tensor:
                raise RuntimeError(f"The buffer {name} was bound anew: write it in place, or give --compile off.")

    def call(self, parameters: Sequence[Tensor], buffers: Sequence[Tensor], arguments: tuple[Any, ...]) -> Any:
        own = [id(tensor) for tensor in (*self.parameters, *self.buffers)]
        new = dict(zip(own, (*parameters, *buffers), strict=True))
        replaced = {name: new[key] for name, key in self.names}
        # Ties are in `names`: torch's own way with them leaves its stand-ins behind in a body that two use.
        return torch.func.functional_call(self.module, replaced, arguments, tie_weights=False)
