"""Epochs of minibatches: losses into the flat gradient, one reduction, one step of Adam."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from ppo_and_friends.addons.base import Addon
from ppo_and_friends.comm import Comm
from ppo_and_friends.config import PPOConfig
from ppo_and_friends.flat import FlatParameters, Part
from ppo_and_friends.functional.adam import adam_
from ppo_and_friends.minibatch import Batch, deal, epoch, everything
from ppo_and_friends.networks.net import Net
from ppo_and_friends.objective import SUMS, Objective
from ppo_and_friends.schedules import Progress
from ppo_and_friends.signals import NoSignals

# What travels behind the gradient: sums over samples, then counts over ranks, then sums that add-ons report.
BAD = len(SUMS)
COUNTS = ("bad", "stop", "save")


class StepTensors(NamedTuple):
    """All that a step reads and moves beside the batch, each written in place. P parameters.

    values, first, second  [P]  parameters and Adam's two moments
    steps           Adam's count
    reduced         [P + tail]  the summed gradient, and what travels with it; compiled alone, a step leaves it as it is
    totals          [tail + 1]  sums of the tails, and of gradient norms, of this update
    clip, entropy_weight        of this update
    wishes          [2]         whether this rank wants to stop, and to save
    own_bad         minibatches of this update that were not finite on this rank
    pending         [3]         weight, divergence and minibatches since the divergence last adapted the policy's rate
    lrs             learning rates of the parts; the first is the policy's, which the divergence may adapt
    """

    values: Tensor
    first: Tensor
    second: Tensor
    steps: Tensor
    reduced: Tensor
    totals: Tensor
    clip: Tensor
    entropy_weight: Tensor
    wishes: Tensor
    own_bad: Tensor
    pending: Tensor
    lrs: tuple[Tensor, ...]


class Learner:
    """Owns the flat buffer, its optimiser and the learning rate of one net and its add-ons.

    `step` may be replaced by a faster one that does the same (see accelerate.py).

    Args:
        net: made the same on all ranks by a broadcast here.
        addons: their parameters join the buffer.
        config: all of PPO's numbers.
        comm: the other ranks.
        rows: N of this rank, first_row its first row's global number, total_rows N of all ranks.
        length: steps of a chunk, L.
    """

    def __init__(
        self,
        net: Net,
        addons: Sequence[Addon],
        config: PPOConfig,
        comm: Comm,
        rows: int,
        first_row: int,
        total_rows: int,
        length: int = 1,
    ) -> None:
        self.config, self.comm = config, comm
        self.rows, self.first_row, self.total_rows, self.length = rows, first_row, total_rows, length
        own = [addon for addon in addons if any(True for _ in addon.parameters())]
        self.addons = trained = [addon for addon in addons if addon.trains or addon in own]
        self.objective = Objective(net, trained, config)
        # Of the net, only the critic is left where the policy is a part of its own.
        policy = [Part(net.policy_modules(), config.max_grad_norm)] if config.own_critic_lr else []
        addon_parts = [Part(addon, addon.max_grad_norm) for addon in own]
        parts = [*policy, Part(net, config.max_grad_norm), *addon_parts]
        self.flat = FlatParameters(parts, len(self.objective.sums) + len(COUNTS))
        flat, zeros = self.flat, self.flat.values.new_zeros
        self.lr = zeros(()) + config.lr(Progress(0, 1))
        self.critic_lr = zeros(()) + config.critic_lr(Progress(0, 1))
        self.adapts_after = config.minibatches if config.kl_schedule == "epoch" else 1
        self.tensors = StepTensors(
            values=flat.values,
            first=zeros(flat.size),
            second=zeros(flat.size),
            steps=zeros(()),
            reduced=flat.reduced,
            totals=zeros(flat.tail.numel() + 1),
            clip=zeros(()),
            entropy_weight=zeros(()),
            wishes=zeros(2),
            own_bad=zeros(()),
            pending=zeros(3),
            lrs=(
                self.lr,
                *(self.critic_lr for _ in policy),
                *(zeros(()) + addon.lr if addon.lr else self.lr for addon in own),
            ),
        )
        comm.broadcast_(flat.values)
        self.signal: Any = NoSignals()
        self.save_wanted = False  # set by whoever decides on this rank
        self.step: Callable[[Batch], Tensor] = self.eager_step
        self.epoch: Callable[[Batch], None] = self.eager_epoch
        self._shuffler = Generator(zeros(()).device)
        # The host looks at a GPU's numbers once an update, unless something is to be decided after each epoch.
        self._looks = self._shuffler.device.type == "cpu" or config.stop_kl < math.inf

    @property
    def generators(self) -> tuple[Generator, ...]:
        """What an epoch draws from."""
        return (self._shuffler,)

    def update(self, data: Batch, seed: int, iteration: int, progress: Progress) -> dict[str, float]:
        """Learn from one rollout `[L, C * N]`.

        Returns means over all samples of all ranks, and how many ranks want to stop or save.
        Raises:
            FloatingPointError: a loss or gradient is not finite; the same on every rank, naming the one that saw it.
        """
        config, tensors = self.config, self.tensors
        if not config.target_kl:
            self.lr.fill_(config.lr(progress))
        self.critic_lr.fill_(config.critic_lr(progress))
        tensors.clip.fill_(config.clip_range(progress))
        tensors.entropy_weight.fill_(config.entropy_weight(progress))
        tensors.own_bad.zero_()
        tensors.totals.zero_()
        self._shuffler.manual_seed((seed * 1_000_003 + iteration) % 2**63)
        seen = sums = [0.0] * tensors.totals.numel()
        done, lr = 0, 0.0
        for number in range(config.epochs):
            tensors.wishes[0].fill_(float(bool(self.signal.wanted)))
            tensors.wishes[1].fill_(float(self.save_wanted))
            self.epoch(data)
            done += 1
            if not self._looks and done < config.epochs:
                continue
            *sums, lr = torch.cat((tensors.totals, self.lr.unsqueeze(0))).tolist()
            this = [now - before for now, before in zip(sums, seen, strict=True)]
            seen = sums
            self._check(this, iteration, number)
            if this[1] / max(this[0], 1e-8) > config.stop_kl:
                break
        return self._metrics(sums, lr, done)

    def eager_epoch(self, data: Batch) -> None:
        """Every sample once, a step for each minibatch."""
        for columns, batch in self._minibatches(data):
            self._remember(data, columns, self.step(batch))

    def _minibatches(self, data: Batch) -> Iterable[tuple[Tensor, Batch]]:
        """The minibatches of one epoch, each with the columns of `data` that it holds."""
        if self.config.minibatches == 1:
            return [everything(data)]
        chunks = data.weights.shape[1] // self.rows
        dealt = deal(self.rows, self.first_row, self.total_rows, chunks, self.config.minibatches, self._shuffler)
        return epoch(data, *dealt)

    # ---- one minibatch

    def eager_step(self, batch: Batch) -> Tensor:
        """Returns the distribution parameters `[L, B, P]` before the step."""
        flat, tensors = self.flat, self.tensors
        flat.zero_()
        loss, sums, parameters = self.objective(batch, tensors.clip, tensors.entropy_weight)
        loss.backward()
        flat.tail.copy_(self.tail(tensors, loss, sums, flat.gradient))
        self.comm.sum_(flat.reduced)
        self.move(tensors, flat.gradient, flat.tail)
        return parameters.detach()

    @torch.no_grad()
    def tail(self, tensors: StepTensors, loss: Tensor, sums: Tensor, gradient: Tensor) -> Tensor:
        """What travels behind this rank's gradient `[P]`."""
        bad = (~(loss.isfinite() & gradient.sum().isfinite())).to(sums.dtype)
        tensors.own_bad.add_(bad)
        return torch.cat((sums[:BAD], bad.unsqueeze(0), tensors.wishes, sums[BAD:]))

    @torch.no_grad()
    def move(self, tensors: StepTensors, gradient: Tensor, tail: Tensor) -> None:
        """From gradient and tail, summed over ranks, to new parameters."""
        weight = tail[0].clamp_min(1e-8)
        shares = [(w, part.max_grad_norm, lr) for (part, w), lr in zip(self.flat.parts, tensors.lrs, strict=True)]
        norm = adam_(
            tensors.values,
            gradient / weight,
            tensors.first,
            tensors.second,
            tensors.steps,
            shares,
            self.config.adam_betas,
            self.config.adam_eps,
        )
        if self.config.target_kl:
            self._adapt(tensors.lrs[0], tensors.pending, tail)
        tensors.totals.add_(torch.cat((tail, norm.unsqueeze(0))))

    def _adapt(self, lr: Tensor, pending: Tensor, tail: Tensor) -> None:
        """Keep the divergence of a step, or its mean over an epoch, within a factor of 2 of its target (as rl_games and
        rsl_rl do).

        A divergence of 0 is that of a policy which has not moved yet: it says nothing."""
        target = self.config.target_kl
        pending.add_(torch.stack((tail[0], tail[2], torch.ones_like(tail[0]))))
        kl, due = pending[1] / pending[0].clamp_min(1e-8), pending[2] >= self.adapts_after
        factor = torch.where(kl > 2 * target, 1 / 1.5, torch.where((kl > 0) & (kl < target / 2), 1.5, 1.0))
        lr.mul_(torch.where(due, factor, 1.0)).clamp_(*self.config.lr_bounds)
        pending.mul_(~due)

    def _remember(self, data: Batch, columns: Tensor, parameters: Tensor) -> None:
        """What the adaptive learning rate measures from next time this sample is visited."""
        if data.reference is not data.parameters:
            data.reference.index_copy_(1, columns, parameters)

    # ---- what was learned

    def _check(self, sums: list[float], iteration: int, number: int) -> None:
        if sums[BAD] == 0 and sums[-1] - sums[-1] == 0:
            return
        own = f"rank {self.comm.rank}: the loss or its gradient" if float(self.tensors.own_bad) else ""
        gathered = self.comm.gather_bytes(own.encode())
        named = b"; ".join(message for message in gathered if message) if gathered is not None else None
        where = self.comm.broadcast_bytes(named).decode() or "the gradient"
        raise FloatingPointError(
            f"{where} is not finite in iteration {iteration}, epoch {number + 1}: the last saved state stands. "
            "Lower ppo.lr, or bound rewards and observations (ppo.reward_clip, ppo.observation_clip)."
        )

    def _metrics(self, sums: list[float], lr: float, epochs: int) -> dict[str, float]:
        weight = max(sums[0], 1e-8)
        own = sums[:BAD] + sums[BAD + len(COUNTS) : -1]
        means = {name: value / weight for name, value in zip(self.objective.sums, own, strict=True)}
        del means["weight"], means["reference_kl"]
        steps = epochs * self.config.minibatches
        return {
            **means,
            "grad_norm": sums[-1] / steps,
            "lr": lr,
            "epochs": float(epochs),
            "stop": sums[BAD + 1] / steps,
            "save": sums[BAD + 2] / steps,
        }

    def state(self) -> dict[str, Any]:
        tensors = self.tensors
        adam = {"first": tensors.first.clone(), "second": tensors.second.clone(), "steps": tensors.steps.clone()}
        return {"adam": adam, "lr": self.lr.clone(), "parts": self._ends()}

    def _ends(self) -> list[int]:
        """Where the parts of the buffer end: moments mean nothing in another order."""
        return [where.stop for _, where in self.flat.parts]

    def load_state(self, state: dict[str, Any]) -> None:
        if state.get("parts", self._ends()) != self._ends():
            raise ValueError("its parameters are in other parts, by ppo.critic_lr or by add-ons")
        self.tensors.first.copy_(state["adam"]["first"])
        self.tensors.second.copy_(state["adam"]["second"])
        self.tensors.steps.copy_(state["adam"]["steps"])
        self.lr.copy_(state["lr"])
