"""What a state holds of a whole run, and whether it fits the run that loads it."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ppo_and_friends import registry
from ppo_and_friends.checkpoint import differences
from ppo_and_friends.config import Experiment, RunConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.serialize import ENGINE_SETTINGS, FREE_SETTINGS, flat, from_plain, to_plain

if TYPE_CHECKING:
    from ppo_and_friends.ppo import PPO

SHAPING = ("net.", "env.", "addons", "ppo.normalize_", "ppo.critic_lr")  # settings that shape what a state holds
MOST_SHOWN = 4  # an add-on brings many


def directory_of(experiment: Experiment, run: RunConfig) -> Path:
    """`<state_path>/<name>`."""
    return Path(run.state_path) / (run.name or experiment.name or "run")


def to_bytes(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def from_bytes(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")


def whole_state(ppo: PPO, best_score: float = -math.inf, seconds: float = 0.0) -> dict[str, Any] | None:
    """Everything of all ranks, on rank 0; None elsewhere. Collective."""
    gathered = ppo.comm.gather_bytes(to_bytes(ppo.own_state()))
    if gathered is None:
        return None
    return {
        "reference": ppo.reference,
        "experiment": ppo.experiment.name,
        "config": to_plain(ppo.experiment),
        "size": ppo.comm.size,
        "rows": ppo.experiment.envs_per_proc,
        **engine_of(ppo.env_config),
        "best_score": best_score,
        "seconds": seconds,
        "shared": ppo.shared_state(),
        "ranks": [from_bytes(data) for data in gathered],
    }


def engine_of(config: Any) -> dict[str, Any]:
    """What steps the worlds, and its limits on a GPU, as resolved and measured; empty where there is no choice."""
    simulator = getattr(config, "simulator", "")
    names = [name for name in ("max_contacts", "max_constraints") if simulator == "warp" and hasattr(config, name)]
    return {"simulator": simulator, "limits": {name: getattr(config, name) for name in names}} if simulator else {}


def setting_changes(saved: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """Settings that change what is learned, "ppo.lr: 0.0003 -> 0.0001"."""

    def kept(settings: dict[str, Any]) -> dict[str, Any]:
        learned = flat({name: value for name, value in settings.items() if name not in FREE_SETTINGS})
        return {name: value for name, value in learned.items() if name not in ENGINE_SETTINGS}

    return differences(kept(saved), kept(current))


def check_same_experiment(experiment: Experiment, state: dict[str, Any], where: str, mend: str) -> None:
    if state["experiment"] != experiment.name:
        raise UserError(
            f"{where} holds a state of experiment '{state['experiment']}', not of '{experiment.name}': {mend}."
        )


def load_or_explain(load: Callable[[], None], ppo: PPO, state: dict[str, Any], where: str, otherwise: str) -> None:
    """Call `load`; where tensors of the state are not of this run's shapes, say which settings gave them others.

    Raises:
        UserError: they are not.
    """
    try:
        load()
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(
            f"The state in {where} does not fit ({_why(ppo, state, error)}): "
            f"give the settings it was trained with (see config.json beside it), or {otherwise}."
        ) from error


def _why(ppo: PPO, state: dict[str, Any], error: Exception) -> str:
    """What makes the shapes of a state others than this run's: settings, or without any the error's last line."""
    if state["experiment"] != ppo.experiment.name:
        return f"it is of {state['experiment'] or 'another experiment'}"
    changes = setting_changes(state["config"], to_plain(ppo.experiment))
    likely = [change for change in changes if change.startswith(SHAPING)]
    if not likely:  # other spaces of the same environment, an older version's state
        return str(error).strip().rstrip(".").rpartition("\n")[2].strip() or type(error).__name__
    shown = "its networks have another shape, " + "; ".join(likely[:MOST_SHOWN])
    return shown if len(likely) <= MOST_SHOWN else f"{shown}; and {len(likely) - MOST_SHOWN} more"


def untrained(state: dict[str, Any], where: str) -> str:
    """What to say of a state that was saved before the first iteration; empty of any other."""
    if state["shared"]["iteration"]:
        return ""
    return f"The state in {where} is untrained: its run ended before the first iteration did."


def load_weights(ppo: PPO, state: dict[str, Any], where: str) -> None:
    """Weights and normalisers alone, the rewards' too: optimiser and counters stay fresh."""

    def load() -> None:
        for group, saved in zip(ppo.groups, state["shared"]["groups"], strict=True):
            group.net.load_state_dict(saved["net"])
            for place, addon in group.addons.named_children():
                start = f"{place}."
                own = {key[len(start) :]: value for key, value in saved["addons"].items() if key.startswith(start)}
                if own.keys() == addon.state_dict().keys():  # the same friend in the same place
                    addon.load_state_dict(own)
        for name, weights in state["shared"].get("frozen", {}).items():
            if name in ppo.players.frozen:
                ppo.players.frozen[name].play(weights)

    load_or_explain(load, ppo, state, where, "another state for --init_from")


def saved_experiment(state: dict[str, Any], experiment: Experiment | None = None) -> Experiment:
    """The experiment of a state with the settings it was trained with.

    Raises:
        UserError: no launcher of this name exists any more, and no experiment is given.
    """
    if experiment is None:
        if not state["reference"]:
            raise UserError("This state was trained without a launcher: give PPO.load its experiment too.")
        experiment = registry.build(state["reference"])
    return from_plain(experiment, state["config"])
