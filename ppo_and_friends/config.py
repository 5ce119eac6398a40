"""Every setting of a run, as frozen dataclasses. Nothing here imports torch or an environment library.

The command line, the saved config file and the launchers are all views of these classes: a field added here
is a flag (`--ppo.NAME`), an entry of `config.json` and a keyword argument at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ppo_and_friends.errors import UserError
from ppo_and_friends.net_config import BodyConfig, CoreConfig, Custom
from ppo_and_friends.schedules import Schedule, constant

INFINITE = (-math.inf, math.inf)


@dataclass(frozen=True)
class NetConfig(CoreConfig):
    """Actor and critic, and what they remember."""

    actor: BodyConfig = field(default_factory=BodyConfig)
    critic: BodyConfig = field(default_factory=BodyConfig)
    shared: bool = False
    """Actor and critic share the actor's body."""
    initialization: Literal["orthogonal", "default", "zero_biases"] = "orthogonal"
    """Orthogonal with gain sqrt(2), policy head 0.01, value head 1 (arXiv:2006.05990); torch's own; or torch's own
    weights with biases of 0 (rl_games)."""
    distribution: Literal["auto", "gsde"] = "auto"
    """auto: by the action space. gsde: state-dependent exploration for boxes (arXiv:2005.05719)."""
    custom_distribution: Custom = ""
    """A distribution of your own, FILE.py:NAME or a callable: called with (features, action space, config)."""
    log_std_init: float = 0.0
    state_dependent_std: bool = False
    """The network gives log-std too, rather than one free parameter for each action."""
    squash: bool = False
    """Actions pass through tanh instead of being clipped to the bounds."""
    sde_sample_every: int = 4
    """Steps for which gSDE keeps one exploration matrix."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.sde_sample_every >= 1, "net.sde_sample_every", self.sde_sample_every, "1 or more")
        _require(math.isfinite(self.log_std_init), "net.log_std_init", self.log_std_init, "a finite number")


@dataclass(frozen=True)
class PPOConfig:
    """Proximal Policy Optimization (arXiv:1707.06347). Infinity switches a clip or a stop off."""

    lr: Schedule = constant(3e-4)
    critic_lr: Schedule = constant(0.0)
    """When not 0: the critic's own, which no divergence adapts, with a gradient norm of its own (the central value of
    rl_games). For bodies that are not shared."""
    gamma: float = 0.99
    gae_lambda: float = 0.95
    epochs: int = 10
    minibatches: int = 4
    """Parts of one rollout, over all ranks, each a gradient step."""
    steps_total: int = 2048
    """Samples of one rollout over all ranks and rows; rounded up to a multiple of the rows."""
    steps_per_row: int = 0
    """When not 0: steps of each row in one rollout, so that more rows or ranks mean more data; replaces steps_total."""
    clip_range: Schedule = constant(0.2)
    clip_shape: Literal["hard", "smooth"] = "hard"
    """hard: the ratio stops at 1 +- clip_range. smooth: it bends towards there as a tanh (rl_games' smooth clamp)."""
    value_clip: float = math.inf
    """How far a value may move from the rollout's, in normalised units, before its gradient stops."""
    value_weight: float = 0.5
    """Weight of the value loss; matters where actor and critic share a body or one gradient norm."""
    entropy_weight: Schedule = constant(0.0)
    bounds_weight: float = 0.0
    """Weight of the squared distance by which a Gaussian's mean leaves `soft_bound` times the action bounds."""
    soft_bound: float = 1.1
    """Where that distance begins: 1.1 is rl_games' bound loss; 0 is its regularisation, the squared mean."""
    max_grad_norm: float = 0.5
    stop_kl: float = math.inf
    """Epochs end when the mean KL divergence from the rollout's policy exceeds this."""
    target_kl: float = 0.0
    """When not 0: the learning rate adapts to keep the KL divergence near this (lr is the start)."""
    kl_reference: Literal["rollout", "previous_visit"] = "rollout"
    """What the adaptive learning rate measures: KL(rollout's policy || policy now) as rsl_rl does, or KL(policy now ||
    policy at the sample's previous visit) as rl_games does."""
    kl_schedule: Literal["minibatch", "epoch"] = "minibatch"
    """When it adapts: after every minibatch by its divergence, or after every epoch by the mean divergence of that
    epoch (legacy and standard in rl_games)."""
    lr_bounds: tuple[float, float] = (1e-6, 1e-2)
    """Bounds of the adaptive learning rate."""
    max_ts_per_ep: int = 0
    """When not 0: trajectories are cut and bootstrapped after so many steps; the environment goes on."""
    soft_resets: bool = True
    """A rollout starts where the last one ended; otherwise every row is reset before each rollout."""
    normalize_observations: bool = True
    normalize_rewards: bool = True
    """Divide rewards by the running spread of their discounted return."""
    normalize_values: bool = False
    normalize_advantages: bool = True
    observation_clip: float = 10.0
    """Bound of an observation after normalisation."""
    reward_clip: tuple[float, float] = INFINITE
    """Bounds of a reward after normalisation."""
    bootstrap_clip: tuple[float, float] = INFINITE
    """Bounds of the value that stands for the future of a cut trajectory."""
    timeout_value: Literal["reached", "acted_on", "none"] = "reached"
    """What stands for the future where the environment truncates: the value of the observation reached
    (arXiv:1712.00378); of the one acted on (value_bootstrap in rl_games); nothing, as where it terminates."""
    reward_scale: float = 1.0
    reward_shift: float = 0.0
    """Training sees reward * reward_scale + reward_shift; scores never do."""
    adam_eps: float = 1e-5
    adam_betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        check_ppo(self)

    @property
    def own_critic_lr(self) -> bool:
        return any(self.critic_lr.values())


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation while training, on environments of its own; the best state is kept."""

    every: int = 10
    """Evaluate when this fraction of the run (1/every of its timesteps) has passed; 0 switches it off."""
    episodes: int = 10
    max_episode_steps: int = 100_000
    """An episode that is still going after so many steps is cut, and this is said."""
    sample: bool = False
    """Sample actions rather than take the most likely, as --test_explore does: for teams that wait for each other for
    ever where each always does the same."""


@dataclass(frozen=True)
class Experiment:
    """What a launcher returns: an environment and the settings that were tuned for it."""

    env: Any
    """An EnvConfig: see ppo_and_friends.vector.base."""
    num_timesteps: int = 1_000_000
    """Environment steps over all rows and ranks at which the run ends."""
    envs_per_proc: int = 8
    """Rows on each rank."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    net: NetConfig = field(default_factory=NetConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    addons: tuple[Any, ...] = ()
    """Configs of add-ons: frozen dataclasses with make(group spec) -> Addon."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile update and policy to machine code. auto: when the run has minibatches enough to repay it; once chosen,
    a run keeps it. Needs a C++ compiler."""
    cuda_graphs: Literal["auto", "off"] = "auto"
    """auto: on a GPU, record rollout, targets and update once and replay them, where the settings allow it."""
    matmul_precision: Literal["high", "highest"] = "high"
    """Products in networks on a GPU: high rounds their factors to TensorFloat32's 10 bits of mantissa where the GPU has
    it, highest does not (https://docs.pytorch.org/docs/stable/notes/cuda.html). The CPU's are exact with either."""
    name: str = ""
    """Set by the registry."""


@dataclass(frozen=True)
class RunConfig:
    """What one call wants done. Not part of an experiment: none of this is a hyper-parameter."""

    name: str = ""
    """Name of the run, and of its directory under state_path; the experiment's when empty."""
    state_path: str = "saved_states"
    random_seed: int = 2
    """-1 draws one and says it."""
    clobber: bool = False
    checkpoint: str = "last"
    """Which state to resume, test or film: last, best, or a file."""
    init_from: str = ""
    """Start a new run with the weights and normalisers of this state (file or state directory)."""
    accept_changes: bool = False
    """Resume although settings differ from the saved ones."""
    max_iterations: int = 0
    """When not 0: stop after so many iterations in all."""
    save_every: int = 0
    """Iterations between saves; 0 saves about twice a minute, by the clock."""
    isaacgym_python: str = ""
    """The interpreter that Isaac Gym is installed in, for --simulator isaacgym; $ISAACGYM_PYTHON when empty."""
    device: str = "auto"
    allow_mpi_gpu: bool = False
    force_deterministic: bool = False
    verbose: bool = False
    test: bool = False
    test_explore: bool = False
    """Sample actions in a test instead of taking the most likely."""
    num_test_runs: int = 1
    random_policy: bool = False
    render: bool = False
    render_gif: bool = False
    gif_fps: int = 0
    """Environment steps that a second of --render_gif shows; 0 is the environment's own pace."""
    gif_seconds: float = 15.0
    """How much of the first episode --render_gif shows; inf is all of it."""
    gif_rows: int = 1
    """Rows that one GIF shows side by side."""
    gif_every: int = 0
    """When not 0: while training, a GIF of an episode of its own each time so many iterations have passed."""
    view: bool = False
    """Show a few rows of a MuJoCo task live: in a window where there is a display, else in a browser."""
    view_rows: int = 4
    """Rows that --view shows."""
    frame_pause: float = 0.0
    """Seconds between frames of --render."""
    save_test_scores: bool = False

    def __post_init__(self) -> None:
        inside = self.name not in (".", "..") and not set(self.name) & set("/\\")
        _require(inside, "name", repr(self.name), "the name of one directory under state_path")
        _require(self.num_test_runs >= 1, "num_test_runs", self.num_test_runs, "1 or more episodes")
        _require(self.random_seed >= -1, "random_seed", self.random_seed, "0 or more, or -1 to draw one")
        _require(self.max_iterations >= 0, "max_iterations", self.max_iterations, "0 (no limit) or more")
        _require(self.save_every >= 0, "save_every", self.save_every, "0 (automatic) or more")
        _require(self.gif_fps >= 0, "gif_fps", self.gif_fps, "0 (the environment's own pace) or more")
        _require(self.gif_seconds > 0, "gif_seconds", self.gif_seconds, "above 0, or inf for a whole episode")
        _require(self.gif_rows >= 1, "gif_rows", self.gif_rows, "1 or more rows")
        _require(self.gif_every >= 0, "gif_every", self.gif_every, "0 (none) or more iterations")
        _require(self.view_rows >= 1, "view_rows", self.view_rows, "1 or more rows")
        _require(0 <= self.frame_pause < math.inf, "frame_pause", self.frame_pause, "0 or more seconds")


def _require(holds: bool, name: str, value: Any, range_: str) -> None:
    if not holds:
        raise UserError(f"{name} is {value}, but must be {range_}.")


def check_ppo(ppo: PPOConfig) -> None:
    """Raise UserError where a number makes no sense."""
    for name in ("epochs", "minibatches", "steps_total"):
        _require(getattr(ppo, name) >= 1, f"ppo.{name}", getattr(ppo, name), "1 or more")
    for name in ("steps_per_row", "max_ts_per_ep", "target_kl", "value_weight", "bounds_weight", "soft_bound"):
        _require(0 <= getattr(ppo, name) < math.inf, f"ppo.{name}", getattr(ppo, name), "0 or more, and finite")
    for name in ("gamma", "gae_lambda"):
        _require(0 <= getattr(ppo, name) <= 1, f"ppo.{name}", getattr(ppo, name), "between 0 and 1")
    for name in ("value_clip", "max_grad_norm", "stop_kl", "observation_clip", "adam_eps"):
        _require(getattr(ppo, name) > 0, f"ppo.{name}", getattr(ppo, name), "more than 0 (inf switches it off)")
    for name in ("lr", "critic_lr", "clip_range", "entropy_weight"):
        schedule: Schedule = getattr(ppo, name)
        _require(all(value >= 0 for value in schedule.values()), f"ppo.{name}", schedule, "0 or more throughout")
    for name in ("reward_clip", "bootstrap_clip", "lr_bounds"):
        low, high = getattr(ppo, name)
        _require(low < high, f"ppo.{name}", getattr(ppo, name), "a lower bound and a higher one")
    _require(all(0 <= beta < 1 for beta in ppo.adam_betas), "ppo.adam_betas", ppo.adam_betas, "at least 0 and below 1")
    for name in ("reward_scale", "reward_shift"):
        _require(math.isfinite(getattr(ppo, name)), f"ppo.{name}", getattr(ppo, name), "a finite number")


def steps_per_row(experiment: Experiment, rows: int) -> int:
    """The horizon T for `rows` rows over all ranks; steps_total is rounded up to a multiple of the rows."""
    return experiment.ppo.steps_per_row or -(-experiment.ppo.steps_total // rows)


def _check_choices(settings: Any, path: str = "") -> None:
    """Raise UserError where a word is none of those to choose from, or a switch neither True nor False."""
    for name, hint in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        if get_origin(hint) is Literal:
            _require(value in get_args(hint), path + name, repr(value), f"one of {', '.join(get_args(hint))}")
        elif hint is bool:
            _require(isinstance(value, bool), path + name, repr(value), "True or False")
        elif is_dataclass(hint) and is_dataclass(value):
            _check_choices(value, f"{path}{name}.")


def check_experiment(experiment: Experiment, rows: int) -> None:
    """Raise UserError where settings do not fit together. `rows` counts all ranks."""
    _check_choices(experiment)
    if not isinstance(experiment.addons, tuple):
        kind = type(experiment.addons).__name__
        raise UserError(f"addons is one {kind}, but must be a tuple: with one add-on, addons=(ICM(),).")
    for addon in experiment.addons:
        if isinstance(addon, type):
            raise UserError(f"addons has the class {addon.__name__} itself: give one that is made, {addon.__name__}().")
    _require(experiment.num_timesteps >= 1, "num_timesteps", experiment.num_timesteps, "1 or more")
    _require(experiment.envs_per_proc >= 1, "envs_per_proc", experiment.envs_per_proc, "1 or more")
    for name in ("every", "max_episode_steps"):
        value = getattr(experiment.evaluation, name)
        _require(value >= (0 if name == "every" else 1), f"evaluation.{name}", value, "a count that is not negative")
    _require(experiment.evaluation.episodes >= 1, "evaluation.episodes", experiment.evaluation.episodes, "1 or more")
    if experiment.net.shared and experiment.ppo.own_critic_lr:
        raise UserError(
            f"ppo.critic_lr is {experiment.ppo.critic_lr}, but with net.shared the critic has no body of its own: "
            "leave it at 0, or set net.shared to False."
        )
    steps = steps_per_row(experiment, rows)
    samples = steps * rows
    if experiment.ppo.minibatches > samples:
        raise UserError(
            f"ppo.minibatches is {experiment.ppo.minibatches}, but a rollout has only {samples} samples: "
            "ask for fewer minibatches or for more steps (ppo.steps_total)."
        )
    experiment.net.check_horizon(steps, experiment.ppo.minibatches, rows)
