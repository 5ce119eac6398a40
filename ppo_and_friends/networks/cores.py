"""Memory between a body and its heads. The state is one tensor `[N, S]`; without memory, S = 0.

An unroll multiplies what comes in by its weights for all steps at once; only what must wait for the step before is in a
loop, of operations that nothing in the data decides about, so that it can be compiled and recorded.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from ppo_and_friends.net_config import CoreConfig


class Core(Protocol):
    """What every core offers. F in, G out; `features` is G, `state_size` is S."""

    features: int
    state_size: int

    def start(self, rows: int) -> Tensor:
        """The state at the start of an episode, `[rows, S]` zeros."""
        ...

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x `[N, F]`, state `[N, S]` -> output `[N, G]` and the state after."""
        ...

    def unroll(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """x `[L, N, F]`, state `[N, S]` before row 0, first `[L, N]` bool (the state is zeroed before these)
        -> output `[L, N, G]` and the state after each step `[L, N, S]`."""
        ...


class IdentityCore(nn.Module):
    """No memory: what comes in goes out, and the state has no columns."""

    state_size = 0

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def start(self, rows: int) -> Tensor:
        return torch.zeros(rows, 0)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return x, state

    def unroll(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        return x, x.new_zeros(*x.shape[:2], 0)


class Gates(nn.Module):
    """One layer: G gates of H units from what comes in and from what was remembered. Subclasses say what they do; the
    second gate is the one that keeps."""

    gates: int  # G
    parts: int  # tensors [N, H] that it remembers: its output, then what only it sees

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.input_weight = nn.Parameter(torch.empty(self.gates * size, inputs))
        self.recurrent_weight = nn.Parameter(torch.empty(self.gates * size, size))
        self.bias = nn.Parameter(torch.empty(self.gates * size))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(size**-0.5), size**-0.5)  # torch's own

    def project(self, x: Tensor) -> Tensor:
        """x `[..., F]` -> its share of the gates `[..., G * H]`: all steps in one product."""
        return nn.functional.linear(x, self.input_weight, self.bias)

    def cell(self, gates: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        """Projected `[N, G * H]`, and what it remembers -> what it remembers then."""
        raise NotImplementedError

    def initialize_orthogonal(self, horizon: int) -> None:
        """Each gate's weights orthogonal of gain 1; biases 0, but for the gate that keeps: at first units remember for
        some 2 to `horizon` steps, each for another time (arXiv:1804.11188)."""
        for weight in (self.input_weight, self.recurrent_weight):
            for gate in weight.data.split(self.size):
                nn.init.orthogonal_(gate)
        self.initialize_zero_biases()
        self.bias.data[self.size : 2 * self.size].uniform_(1, max(2, horizon - 1)).log_()

    def initialize_zero_biases(self) -> None:
        nn.init.zeros_(self.bias)


class GRUGates(Gates):
    """Reset, update and new gates, as torch.nn.GRU has them (arXiv:1406.1078, the reset after the product)."""

    gates, parts = 3, 1

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__(inputs, size)
        self.new_bias = nn.Parameter(
            torch.empty(size).uniform_(-(size**-0.5), size**-0.5)
        )  # which the reset gate gates

    def cell(self, gates: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        (output,) = memory
        sizes = (2 * self.size, self.size)
        seen, new = gates.split(sizes, -1)
        own, own_new = (output @ self.recurrent_weight.t()).split(sizes, -1)
        reset, update = torch.sigmoid(seen + own).chunk(2, -1)
        new = torch.tanh(torch.addcmul(new, reset, own_new + self.new_bias))
        return (torch.lerp(new, output, update),)

    def initialize_zero_biases(self) -> None:
        super().initialize_zero_biases()
        nn.init.zeros_(self.new_bias)


class LSTMGates(Gates):
    """Input, forget, output and cell gates, in this order (Hochreiter and Schmidhuber, 1997; Gers et al., 2000).

    It remembers its output and its cell."""

    gates, parts = 4, 2

    def cell(self, gates: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        output, cell = memory
        gates = torch.addmm(gates, output, self.recurrent_weight.t())
        doors, new = gates.split((3 * self.size, self.size), -1)
        enter, keep, leave = torch.sigmoid(doors).chunk(3, -1)
        cell = torch.addcmul(keep * cell, enter, torch.tanh(new))
        return leave * torch.tanh(cell), cell

    def initialize_orthogonal(self, horizon: int) -> None:
        """What keeps longer lets in less."""
        super().initialize_orthogonal(horizon)
        enter, keep, *_ = self.bias.data.split(self.size)
        enter.copy_(-keep)


class GatedCore(nn.Module):
    """Layers of gates, each fed by the output of the one before. The state joins what the layers remember, in order."""

    def __init__(self, kind: type[Gates], inputs: int, size: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(kind(inputs if layer == 0 else size, size) for layer in range(layers))
        self.features, self.parts = size, kind.parts
        self.state_size = layers * kind.parts * size

    def start(self, rows: int) -> Tensor:
        return torch.zeros(rows, self.state_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        after: list[Tensor] = []
        for layer, memory in self._layers(state):
            after += layer.cell(layer.project(x), *memory)
            x = after[-self.parts]
        return x, torch.cat(after, -1)

    def unroll(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Layer by layer: only what must wait for the step before does."""
        goes_on, after = (~first).to(x.dtype).unsqueeze(-1).unbind(), []
        for layer, memory in self._layers(state):
            steps = []
            for gates, kept in zip(layer.project(x).unbind(), goes_on, strict=True):
                memory = layer.cell(gates, *(part * kept for part in memory))
                steps.append(memory)
            after += [torch.stack(part) for part in zip(*steps, strict=True)]
            x = after[-self.parts]
        return x, torch.cat(after, -1)

    def _layers(self, state: Tensor) -> list[tuple[Gates, tuple[Tensor, ...]]]:
        """Each layer with its share of the state."""
        parts = iter(state.split(self.features, -1))
        return [
            (layer, tuple(next(parts) for _ in range(self.parts))) for layer in self.layers if isinstance(layer, Gates)
        ]


KINDS: dict[str, type[Gates]] = {"gru": GRUGates, "lstm": LSTMGates}


def make_core(kind: str, inputs: int, config: CoreConfig) -> Core:
    """The core of `kind`, as CoreConfig.core names them, for `inputs` features."""
    if kind == "identity":
        return IdentityCore(inputs)
    return GatedCore(KINDS[kind], inputs, config.core_size, config.core_layers)
