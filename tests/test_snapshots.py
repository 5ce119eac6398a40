"""A pool of what the learner was: who is in it, who plays, and what ratings come of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ranks import needs_mpirun, run
from torch import Tensor
from toys import Toy, experiment

from environments.connect_four import ConnectFour
from ppo_and_friends.addons.icm import ICM
from ppo_and_friends.addons.snapshots import Snapshots, _Pool, _unpacked, elo
from ppo_and_friends.comm import Comm, SoloComm
from ppo_and_friends.config import RunConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.ppo import PPO
from ppo_and_friends.types import GroupSpec
from ppo_and_friends.vector.self_play import SelfPlay


def made(comm: Comm | None = None, **settings: Any) -> PPO:
    plain = {"normalize_rewards": False, "steps_per_row": 32}
    return PPO(experiment(SelfPlay(ConnectFour()), addons=(Snapshots(**settings),), **plain), comm=comm)


def pool_of(ppo: PPO) -> _Pool:
    (pool,) = ppo.groups[0].addons
    assert isinstance(pool, _Pool)
    return pool


def weights(ppo: PPO) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in ppo.groups[0].net.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def test_snapshots_do_not_move_while_the_learner_does() -> None:
    ppo = made(every=2, latest=1.0)
    pool, net, opponent = pool_of(ppo), ppo.groups[0].net, ppo.players.frozen["opponent"].net
    first = weights(ppo)
    ppo.iterate()
    assert not same(weights(ppo), first) and same(_unpacked(pool.pool[0], net), first), "as it was made, not as it is"
    assert len(pool.pool) == 1 and same(opponent.state_dict(), first)
    ppo.iterate()
    second = weights(ppo)
    assert len(pool.pool) == 2 and same(opponent.state_dict(), second)
    ppo.iterate()
    assert not same(weights(ppo), second) and same(opponent.state_dict(), second)
    assert [same(_unpacked(own, net), kept) for own, kept in zip(pool.pool, (first, second), strict=True)] == [
        True,
        True,
    ]


def test_the_oldest_leaves_a_full_pool_with_its_rating() -> None:
    ppo = made(every=1, keep=3)
    pool, was, ratings = pool_of(ppo), [weights(ppo)], [0.0]
    for _ in range(4):
        ratings.append(ppo.iterate()["rating"])
        was.append(weights(ppo))
    assert len(set(ratings)) > 2
    assert pool.ratings.tolist() == ratings[-3:]
    assert all(same(_unpacked(own, ppo.groups[0].net), kept) for own, kept in zip(pool.pool, was[-3:], strict=True))


def test_the_draw_is_of_the_latest_or_of_any_and_a_function_of_seed_and_iteration() -> None:
    def draws(latest: float, seed: int = 3) -> list[int]:
        pool = _Pool(Snapshots(latest=latest))
        pool.pool = torch.zeros(4, 1, dtype=torch.uint8)
        return [pool._draw(seed, iteration) for iteration in range(400)]

    assert set(draws(1.0)) == {3} and draws(0.5) == draws(0.5) != draws(0.5, seed=4)
    assert all(60 < draws(0.0).count(index) < 140 for index in range(4))
    assert 200 < draws(0.5).count(3) < 300, "half of them, and a quarter of the other half"


def test_a_rating_by_hand() -> None:
    assert elo(0, 0, wins=1, draws=1, losses=1) == 0
    assert elo(100, 100, wins=2, draws=1, losses=0) == pytest.approx(100 + 20 * (2.5 - 1.5))
    assert elo(0, 400, wins=0, draws=0, losses=3) == pytest.approx(-20 * 3 / 11), "it was to win one in eleven"
    assert elo(0, 0, wins=100, draws=0, losses=0) == pytest.approx(7 * 50), "100 games weigh as much as 35 do"
    assert elo(5, 90, 0, 0, 0) == 5


def test_only_games_that_began_in_this_rollout_count() -> None:
    """Three rows of four steps: one game from before and a win; a loss and an unfinished game; a draw and an absence."""
    reward = torch.tensor([[-9.0, 0, 1], [1, -3, -1], [-1, 2, 1], [2, 5, 7]])
    ended = torch.tensor([[True, False, False], [False, True, True], [False, False, False], [True, False, True]])
    age = torch.tensor([[5, 0, 0], [0, 1, 1], [1, 0, 0], [2, 1, 1]])
    active = torch.ones(4, 3, dtype=torch.bool)
    active[3, 2] = False
    pool = _Pool(Snapshots())
    pool.transform(SimpleNamespace(raw_rewards=reward, ended=ended, age=age, active=active), None)  # type: ignore[arg-type]
    assert pool.results.tolist() == [1, 1, 1]


def test_metrics_say_what_was_played() -> None:
    metrics = made(every=1).iterate()
    assert metrics["games"] > 0 and 0 <= metrics["score"] <= 1 and metrics["opponent_rating"] == 0
    rating = elo(0, 0, metrics["score"] * metrics["games"], 0, (1 - metrics["score"]) * metrics["games"])
    assert metrics["rating"] == pytest.approx(rating)


def test_resuming_keeps_pool_ratings_and_opponent(tmp_path: Path) -> None:
    whole, half = made(every=2), made(every=2)
    for _ in range(3):
        whole.iterate()
        half.iterate()
    half.save(tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)["state"]
    resumed = made(every=2)
    resumed.load_shared_state(saved["shared"])
    assert resumed.load_own_state(saved["ranks"][0])
    for _ in range(3):
        one, two = whole.iterate(), resumed.iterate()
        assert [one[name] for name in ("rating", "games", "kl")] == [two[name] for name in ("rating", "games", "kl")]
    assert pool_of(whole).pool.equal(pool_of(resumed).pool) and len(pool_of(whole).pool) == 4
    assert same(weights(whole), weights(resumed)) and pool_of(whole).playing == pool_of(resumed).playing


@needs_mpirun
def test_every_rank_has_the_same_pool_and_counts_all_games(tmp_path: Path) -> None:
    body = """
        import torch
        from test_snapshots import made, pool_of

        def main(comm):
            ppo = made(comm, every=1)
            games = []
            inner = ppo.comm.sum_
            ppo.comm.sum_ = lambda tensor: (games.append(tensor.sum().item()) if tensor.shape == (3,) else 0, inner(tensor))
            shown = [ppo.iterate() for _ in range(3)]
            pool = pool_of(ppo)
            own = pool.pool.double(), pool.ratings, pool.playing.double()
            for tensor in own:
                least = -tensor
                most = tensor.clone()
                comm.max_(most), comm.max_(least)
                assert most.equal(-least), "a rank has another"
            alone = torch.tensor(games[-3:], dtype=torch.float64)
            inner(alone)
            assert alone.tolist() == [metrics["games"] for metrics in shown], (alone, shown)
            assert all(0 < own < metrics["games"] for own, metrics in zip(games[-3:], shown))
            return 0
    """
    done = run(2, body)
    assert done.returncode == 0, done.stderr


def unplayed(**run: Any) -> PPO:
    own = experiment(SelfPlay(ConnectFour()), addons=(ICM(),), normalize_rewards=False)
    return PPO(own, RunConfig(max_iterations=1, **run) if run else None)


def test_an_opponent_that_was_given_weights_needs_no_addon(tmp_path: Path) -> None:
    first, path = unplayed(state_path=str(tmp_path), name="first"), str(tmp_path / "first")
    trained = {name: tensor * 0.5 for name, tensor in weights(first).items()}
    first.players.frozen["opponent"].play(trained)
    assert first.learn().iteration == 1
    started = unplayed(state_path=str(tmp_path), name="second", init_from=path)
    resumed = unplayed(state_path=str(tmp_path), name="first")
    for ppo in (started, resumed):
        assert ppo.learn().iteration == 1 and same(ppo.players.frozen["opponent"].net.state_dict(), trained)


def test_settings_and_games_without_an_opponent_are_refused() -> None:
    alone = unplayed()
    with pytest.raises(UserError, match="'opponent' of .* would stay untrained, .*addons=\\(Snapshots"):
        alone.learn()
    assert alone.learn(lambda ppo, metrics: True).iteration == 1, "which may play the opponent itself"
    with pytest.raises(UserError, match="Snapshots has every 0, keep 20 and latest 0.5"):
        Snapshots(every=0)
    with pytest.raises(UserError, match="plays the opponent of SelfPlay, but the group 'agents' has none"):
        PPO(experiment(Toy(), addons=(Snapshots(),)), comm=SoloComm())
    assert isinstance(Snapshots().make(GroupSpec(1, (), (), Toy().action, name="learner")), _Pool)
