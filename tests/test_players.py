"""Several groups in one environment, some of which do not learn."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch
from team_toys import Hunt, HuntVec
from torch import Tensor
from toys import experiment

from ppo_and_friends.comm import SoloComm
from ppo_and_friends.config import EvaluationConfig, RunConfig
from ppo_and_friends.display import LineDisplay, first_lines
from ppo_and_friends.errors import UserError
from ppo_and_friends.evaluate import Evaluation, evaluate
from ppo_and_friends.mosaic import mosaic
from ppo_and_friends.players import make_players
from ppo_and_friends.policy import NetPolicy, RandomPolicy
from ppo_and_friends.ppo import PPO
from ppo_and_friends.schedules import Progress
from ppo_and_friends.stats import EpisodeTracker


def made(prey_learns: bool = True, run: RunConfig | None = None, steps: int = 640) -> PPO:
    built = experiment(Hunt(prey_learns), normalize_rewards=False)
    return PPO(dataclasses.replace(built, num_timesteps=steps, evaluation=EvaluationConfig(2, 3)), run)


def weights(ppo: PPO) -> list[Tensor]:
    return [player.net.value_head.weight.detach().clone() for player in ppo.players.all]


def test_each_group_learns_from_its_own_rows_and_is_reported_under_its_name() -> None:
    ppo = made()
    before = weights(ppo)
    metrics = ppo.iterate()
    assert all(not old.equal(new) for old, new in zip(before, weights(ppo), strict=True))
    assert metrics["timesteps"] == 2 * 4 * 16, "environment steps, the seeding rollout's too, whatever the agents"
    assert {"hunters/kl", "prey/kl", "hunters/explained_variance", "stop"} <= metrics.keys()
    assert not {"kl", "lr", "hunters/stop"} & metrics.keys()
    assert metrics["hunters/mean_return"] == 2 * metrics["hunters/mean_agent_return"]
    assert metrics["mean_return"] == pytest.approx(metrics["hunters/mean_return"] + metrics["prey/mean_return"])


def test_the_return_of_a_team_is_the_sum_over_its_agents() -> None:
    ppo = made()
    for _ in range(3):
        metrics = ppo.iterate()
    assert metrics["hunters/mean_length"] == pytest.approx(5, abs=0.2), "some began in the middle of an episode"
    assert metrics["hunters/mean_return"] == pytest.approx(3 * metrics["hunters/mean_length"])
    assert metrics["prey/mean_length"] == pytest.approx(3, abs=0.2), "what is flagged after its death is no episode"


def test_a_team_ends_with_its_last_agent() -> None:
    """Two environments of two agents; in the first, one dies after a step and the other goes on for three."""
    tracker = EpisodeTracker(2)
    rewards = torch.tensor([[1.0, 10, 1, 1], [5, 10, 1, 1], [5, 10, 1, 1]])
    active = torch.tensor([[True, True, True, True], [False, True, True, True], [False, True, True, True]])
    ended = torch.tensor([[True, False, False, False], [False, False, False, False], [True, True, False, False]])
    assert tracker.update(rewards, ended, active).tolist() == [1, 31, 3]
    assert tracker.returns.tolist() == [0, 6] and tracker.lengths.tolist() == [0, 3]


def test_a_frozen_group_acts_with_the_snapshot_it_was_given() -> None:
    ppo = made(prey_learns=False)
    frozen = ppo.players.frozen["prey"]
    assert torch.equal(frozen.net.value_head.weight, ppo.groups[0].net.value_head.weight), "it begins as its like"
    before = frozen.net.value_head.weight.clone()
    metrics = ppo.iterate()
    assert torch.equal(frozen.net.value_head.weight, before) and "kl" in metrics, "one group learns: no names"
    always = {name: torch.zeros_like(tensor) for name, tensor in frozen.net.state_dict().items()}
    bias = next(name for name in always if name.startswith("distribution") and name.endswith("bias"))
    always[bias] = torch.tensor([-50.0, 50.0])
    frozen.play(always)
    env = ppo.env
    assert isinstance(env, HuntVec)
    env.taken.clear()
    ppo.iterate()
    hunters, prey = (torch.stack(part) for part in zip(*env.taken, strict=True))
    assert bool((prey == 1).all()) and not bool((hunters == 1).all())


def test_an_environment_in_which_nobody_learns_is_refused() -> None:
    spec = HuntVec(Hunt(), 2).spec
    nobody = dataclasses.replace(spec, groups=tuple(dataclasses.replace(g, learns=False) for g in spec.groups))
    with pytest.raises(UserError, match="Hunt has no group that learns"):
        make_players(nobody, experiment(Hunt()), SoloComm(), 4, torch.Generator())


def test_resuming_is_exact_with_two_groups_and_with_a_frozen_one(tmp_path: Path) -> None:
    for prey_learns in (True, False):
        whole, half = made(prey_learns), made(prey_learns)
        for ppo in (whole, half):
            if not prey_learns:
                ppo.players.frozen["prey"].play(
                    {k: v + 0.1 for k, v in ppo.players.frozen["prey"].net.state_dict().items()}
                )
            ppo.iterate()
        half.save(tmp_path / "state.pt")
        resumed = made(prey_learns)
        saved = torch.load(tmp_path / "state.pt", weights_only=True)["state"]
        resumed.load_shared_state(saved["shared"])
        assert resumed.load_own_state(saved["ranks"][0])
        one, other = whole.iterate(), resumed.iterate()
        assert {k: v for k, v in one.items() if "seconds" not in k} == {
            k: v for k, v in other.items() if "seconds" not in k
        }
        assert all(a.equal(b) for a, b in zip(weights(whole), weights(resumed), strict=True))


def test_an_evaluation_plays_all_groups_and_scores_each_agent(tmp_path: Path) -> None:
    ppo = made()
    for prey_learns, total in ((True, 15 - 3), (False, 15)):
        env = HuntVec(Hunt(prey_learns), 3)
        policies = ppo.policies()
        policies[1] = Still()  # type: ignore[call-overload]
        found = evaluate(env, policies, 7, 0, SoloComm(), 100)
        whole = [i for i, length in enumerate(found.lengths) if length == 5]
        assert len(found.lengths) == 7 and len(whole) == 5, "three began in the middle of an episode, two of them later"
        assert {found.returns[i] for i in whole} == {total}
        assert {name: returns[6] for name, returns in found.agents.items()} == {
            "hunters/first": 5.0,
            "hunters/second": 10.0,
            "prey/prey": -3.0,
        }
    assert found.summary()["hunters/agent_return"] == pytest.approx(found.summary()["hunters/return"] / 2)
    assert "return of prey/prey" in found.report()
    table, summary = found.save(tmp_path)
    assert next(csv.reader(table.open()))[3:] == ["hunters/first", "hunters/second", "prey/prey"]
    assert json.loads(summary.read_text())["hunters/second/return"] == 2 * found.summary()["hunters/first/return"]


def test_a_single_team_says_its_mean_too() -> None:
    found = Evaluation((3.0, 6.0), (1, 1), agents={"one": (1.0, 2.0), "two": (2.0, 4.0)})
    assert found.teams() == {"agent_return": 2.25} and Evaluation((1.0,), (1,)).teams() == {}


class Still:
    """A policy that always takes action 0."""

    def start(self, rows: int) -> None:
        return None

    def act(self, obs, state, first):
        return torch.zeros(len(first), 1, dtype=torch.int64), None


def test_training_evaluates_logs_and_shows_all_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ppo = made(run=RunConfig(name="hunt", state_path=str(tmp_path), gif_every=4, gif_rows=2))
    assert ppo.learn().exit_code == 0
    rows = list(csv.DictReader((tmp_path / "hunt" / "progress.csv").open()))
    assert float(rows[-1]["hunters/evaluation_return"]) > float(rows[-1]["hunters/evaluation_agent_return"]) > 0
    assert float(rows[-1]["prey/evaluation_return"]) < 0
    assert list((tmp_path / "hunt" / "gifs").iterdir())
    shown = capsys.readouterr().out
    assert "1 rank of 4 environments of 3 agents" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("100%")]
    assert "KL " in line and "/" in line.partition("KL ")[2].partition(",")[0]
    assert ppo.predict([1.0, 1.0], agent="prey") in (0, 1)
    with pytest.raises(UserError, match="Hunt has no agent 'wolf', only first, second, prey"):
        ppo.predict([1.0, 1.0], agent="wolf")


def test_an_evaluation_may_sample_and_draws_nothing_from_training(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, policies = list[tuple[bool, bool]](), PPO.policies

    def noted(ppo: PPO, likely: bool = True, generator: torch.Generator | None = None) -> list[NetPolicy]:
        asked.append((likely, generator is not None and generator is not ppo.generator))
        return policies(ppo, likely, generator)

    monkeypatch.setattr(PPO, "policies", noted)
    states = []
    for sample in (True, False):
        ppo = made(steps=64)
        ppo.experiment = dataclasses.replace(ppo.experiment, evaluation=EvaluationConfig(1, 2, sample=sample))
        states.append(ppo.learn().generator.get_state())
    assert asked == [(False, True), (True, True)] and torch.equal(*states)


def test_pictures_and_first_lines_count_environments() -> None:
    env = HuntVec(Hunt(), 3)
    assert mosaic(env, 9).frame(0).shape == (8, 8, 3)
    assert "2 ranks" not in first_lines(env.spec, "cpu", SoloComm(), 1)
    random = [RandomPolicy(group.action, torch.Generator().manual_seed(0)) for group in env.spec.groups]
    assert len(evaluate(env, random, 4, 0, SoloComm(), 100).returns) == 4


def test_a_line_shows_the_value_of_each_group(capsys: pytest.CaptureFixture[str]) -> None:
    display = LineDisplay(Progress(0, 10), 0.0, False, sys.stdout)
    display.update({"timesteps": 5, "mean_return": 1.0, "a/kl": 0.5, "b/kl": 0.25})
    display.close()
    assert "KL 0.500/0.250" in capsys.readouterr().out
