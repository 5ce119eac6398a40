"""Memory between a body and its heads. The state is one tensor `[N, S]`; without memory, S = 0.

An unroll multiplies what comes in by its weights for all steps at once; only what must wait for the step before is in a
loop, of operations that nothing in the data decides about, so that it can be compiled and recorded.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from ppo_and_friends.core_config import CoreConfig


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
    """One layer: G gates of H units from what comes in and from what was remembered. Subclasses say what they do."""

    gates: int  # G
    parts: int  # what it remembers is [N, parts * H]: first its output, then what only it sees

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

    def cell(self, gates: Tensor, state: Tensor) -> Tensor:
        """Projected `[N, G * H]`, state `[N, parts * H]` -> the state after."""
        raise NotImplementedError

    def initialize_orthogonal(self) -> None:
        """Each gate's weights orthogonal of gain 1, so that what is remembered neither grows nor fades; biases 0."""
        for weight in (self.input_weight, self.recurrent_weight):
            for gate in weight.data.split(self.size):
                nn.init.orthogonal_(gate)
        self.initialize_zero_biases()

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

    def cell(self, gates: Tensor, state: Tensor) -> Tensor:
        size = self.size
        own = state @ self.recurrent_weight.t()
        reset, update = torch.sigmoid(gates[:, : 2 * size] + own[:, : 2 * size]).chunk(2, -1)
        new = torch.tanh(gates[:, 2 * size :] + reset * (own[:, 2 * size :] + self.new_bias))
        return torch.lerp(new, state, update)

    def initialize_zero_biases(self) -> None:
        super().initialize_zero_biases()
        nn.init.zeros_(self.new_bias)


class LSTMGates(Gates):
    """Input, forget, output and cell gates, in this order (Hochreiter and Schmidhuber, 1997; Gers et al., 2000).

    What it remembers is its output h and, behind it, its cell c."""

    gates, parts = 4, 2

    def cell(self, gates: Tensor, state: Tensor) -> Tensor:
        size = self.size
        output, cell = state.chunk(2, -1)
        gates = torch.addmm(gates, output, self.recurrent_weight.t())
        enter, keep, leave = torch.sigmoid(gates[:, : 3 * size]).chunk(3, -1)
        cell = keep * cell + enter * torch.tanh(gates[:, 3 * size :])
        return torch.cat((leave * torch.tanh(cell), cell), -1)

    def initialize_orthogonal(self) -> None:
        """The forget gate's biases are 1: at first it keeps (Jozefowicz et al., 2015)."""
        super().initialize_orthogonal()
        nn.init.ones_(self.bias.data[self.size : 2 * self.size])


class GatedCore(nn.Module):
    """Layers of gates, each fed by the output of the one before. The state joins what the layers remember, in order."""

    def __init__(self, kind: type[Gates], inputs: int, size: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(kind(inputs if layer == 0 else size, size) for layer in range(layers))
        self.features, self.width = size, kind.parts * size
        self.state_size = layers * self.width

    def start(self, rows: int) -> Tensor:
        return torch.zeros(rows, self.state_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        after = []
        for layer, own in zip(self._gates(), state.split(self.width, -1), strict=True):
            after.append(layer.cell(layer.project(x), own))
            x = after[-1][:, : self.features]
        return x, torch.cat(after, -1)

    def unroll(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Layer by layer: only what a step needs of the step before waits for it."""
        goes_on, after = (~first).to(x.dtype).unsqueeze(-1).unbind(), []
        for layer, own in zip(self._gates(), state.split(self.width, -1), strict=True):
            states = []
            for gates, remembers in zip(layer.project(x).unbind(), goes_on, strict=True):
                own = layer.cell(gates, own * remembers)
                states.append(own)
            after.append(torch.stack(states))
            x = after[-1][..., : self.features]
        return x, torch.cat(after, -1)

    def _gates(self) -> list[Gates]:
        return [layer for layer in self.layers if isinstance(layer, Gates)]


KINDS: dict[str, type[Gates]] = {"gru": GRUGates, "lstm": LSTMGates}


def make_core(kind: str, inputs: int, config: CoreConfig) -> Core:
    """The core of `kind`, as CoreConfig.core names them, for `inputs` features."""
    if kind == "identity":
        return IdentityCore(inputs)
    return GatedCore(KINDS[kind], inputs, config.core_size, config.core_layers)
