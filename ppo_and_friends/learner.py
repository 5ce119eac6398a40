"""Epochs of minibatches: losses into the flat gradient, one reduction, one step of Adam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from ppo_and_friends.addons.base import Addon
from ppo_and_friends.comm import Comm
from ppo_and_friends.config import PPOConfig
from ppo_and_friends.flat import FlatAdam, FlatParameters, Part
from ppo_and_friends.functional.losses import Losses, ppo_losses
from ppo_and_friends.minibatch import Batch, deal, epoch
from ppo_and_friends.networks.net import Net
from ppo_and_friends.schedules import Progress
from ppo_and_friends.signals import NoSignals

# What travels behind the gradient: sums over samples, then counts over ranks.
TAIL = ("weight", "kl", "reference_kl", "policy_loss", "value_loss", "entropy", "clip_fraction", "bad", "stop", "save")


class Learner:
    """Owns the flat buffer, its optimiser and the learning rate of one net and its add-ons.

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
        self.net, self.config, self.comm = net, config, comm
        self.rows, self.first_row, self.total_rows, self.length = rows, first_row, total_rows, length
        device = next(net.parameters()).device
        self.lr = torch.tensor(config.lr(Progress(0, 1)), device=device)
        self.clip = torch.tensor(0.0, device=device)
        self.entropy_weight = torch.tensor(0.0, device=device)
        self.trained = [addon for addon in addons if any(True for _ in addon.parameters())]
        own = [
            Part(type(addon).__name__, addon, addon.max_grad_norm, torch.tensor(addon.lr) if addon.lr else self.lr)
            for addon in self.trained
        ]
        self.flat = FlatParameters([Part("net", net, config.max_grad_norm, self.lr), *own], len(TAIL))
        self.adam = FlatAdam(self.flat, config.adam_betas, config.adam_eps)
        comm.broadcast_(self.flat.values)
        self.own_bad = torch.zeros((), device=device)  # minibatches of this update that were not finite on this rank
        self.signal: Any = NoSignals()
        self.save_wanted = False  # set by whoever decides on this rank

    def update(self, data: Batch, seed: int, iteration: int, progress: Progress) -> dict[str, float]:
        """Learn from one rollout `[L, C * N]`.

        Returns means over all samples of all ranks, and how many ranks want to stop or save.
        Raises:
            FloatingPointError: a loss or gradient is not finite; the same on every rank, naming the one that saw it.
        """
        config = self.config
        if not config.target_kl:
            self.lr.fill_(config.lr(progress))
        self.clip.fill_(config.clip_range(progress))
        self.entropy_weight.fill_(config.entropy_weight(progress))
        self.own_bad.zero_()
        totals = torch.zeros(len(TAIL) + 1, device=self.flat.tail.device)
        generator = Generator().manual_seed((seed * 1_000_003 + iteration) % 2**63)
        chunks = data.weights.shape[1] // self.rows
        done = 0
        for number in range(config.epochs):
            before = totals.clone()
            dealt = deal(self.rows, self.first_row, self.total_rows, chunks, config.minibatches, generator)
            for columns, batch in epoch(data, *dealt):
                parameters = self._step(batch, totals)
                self._remember(data, columns, parameters)
            done += 1
            this = (totals - before).tolist()
            self._check(this, iteration, number)
            if this[1] / max(this[0], 1e-8) > config.stop_kl:
                break
        return self._metrics(totals.tolist(), done)

    def _step(self, batch: Batch, totals: Tensor) -> Tensor:
        """One minibatch: returns the distribution parameters `[L, B, P]` before the step."""
        flat, tail = self.flat, self.flat.tail
        flat.zero_()
        parameters, losses = self._losses(batch)
        weights = batch.weights
        loss = (losses.total * weights).sum()
        for addon in self.trained:
            loss = loss + (addon.loss(batch) * weights).sum()
        loss.backward()
        with torch.no_grad():
            distribution = self.net.distribution
            kl = distribution.kl(batch.parameters, parameters)
            reference = kl if batch.reference is batch.parameters else distribution.kl(batch.reference, parameters)
            per_sample = torch.stack((torch.ones_like(kl), kl, reference, *losses[1:])).flatten(1)
            torch.mv(per_sample, weights.flatten(), out=tail[:7])
            tail[7] = ~(loss.isfinite() & flat.gradient.sum().isfinite())
            tail[8], tail[9] = bool(self.signal.wanted), self.save_wanted
            self.own_bad += tail[7]
            self.comm.sum_(flat.reduced)
            norm = self.adam.step(tail[0])
            self._adapt(tail)
            totals[:-1] += tail
            totals[-1] += norm
        return parameters.detach()

    def _losses(self, batch: Batch) -> tuple[Tensor, Losses]:
        config, distribution = self.config, self.net.distribution
        parameters, values = self.net.policy_and_values(
            batch.actor, batch.critic, batch.mask, batch.actor_states[0], batch.critic_states[0], batch.first
        )
        losses = ppo_losses(
            distribution.log_prob(parameters, batch.actions),
            batch.log_probs,
            batch.advantages,
            distribution.entropy(parameters),
            distribution.bounds_loss(parameters) if config.bounds_weight else torch.zeros_like(values),
            values,
            batch.values,
            batch.returns,
            clip=self.clip,
            value_clip=config.value_clip,
            value_weight=config.value_weight,
            entropy_weight=self.entropy_weight,
            bounds_weight=config.bounds_weight,
        )
        return parameters, losses

    def _remember(self, data: Batch, columns: Tensor, parameters: Tensor) -> None:
        """What the adaptive learning rate measures from next time this sample is visited."""
        if data.reference is not data.parameters:
            data.reference[:, columns.to(parameters.device)] = parameters[:, : len(columns)]

    def _adapt(self, tail: Tensor) -> None:
        """Keep the divergence of a step within a factor of 2 of its target (as rl_games and rsl_rl do).

        A divergence of 0 is that of a policy which has not moved yet: it says nothing."""
        target = self.config.target_kl
        if target:
            kl = tail[2] / tail[0].clamp_min(1e-8)
            factor = torch.where(kl > 2 * target, 1 / 1.5, torch.where((kl > 0) & (kl < target / 2), 1.5, 1.0))
            self.lr.mul_(factor).clamp_(*self.config.lr_bounds)

    def _check(self, sums: list[float], iteration: int, number: int) -> None:
        if sums[7] == 0 and sums[-1] - sums[-1] == 0:
            return
        own = f"rank {self.comm.rank}: the loss or its gradient" if float(self.own_bad) else ""
        gathered = self.comm.gather_bytes(own.encode())
        named = b"; ".join(message for message in gathered if message) if gathered is not None else None
        where = self.comm.broadcast_bytes(named).decode() or "the gradient"
        raise FloatingPointError(
            f"{where} is not finite in iteration {iteration}, epoch {number + 1}: the last saved state stands. "
            "Lower ppo.lr, or bound rewards and observations (ppo.reward_clip, ppo.observation_clip)."
        )

    def _metrics(self, sums: list[float], epochs: int) -> dict[str, float]:
        weight = max(sums[0], 1e-8)
        means = {name: sums[index] / weight for index, name in enumerate(TAIL[:7])}
        del means["weight"], means["reference_kl"]
        steps = epochs * self.config.minibatches
        return {
            **means,
            "grad_norm": sums[-1] / steps,
            "lr": float(self.lr),
            "epochs": float(epochs),
            "stop": sums[8] / steps,
            "save": sums[9] / steps,
        }

    def state(self) -> dict[str, Any]:
        return {"adam": self.adam.state(), "lr": self.lr.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.adam.load_state(state["adam"])
        self.lr.copy_(state["lr"])
