"""Which settings a test takes: those of the state, and over them what its own command line asks for."""

from __future__ import annotations

import dataclasses

from ppo_and_friends import registry
from ppo_and_friends.serialize import to_plain
from ppo_and_friends.testing import settings_of_state


def test_a_state_older_than_a_setting_can_be_tested() -> None:
    saved = to_plain(registry.build("CartPole"))
    del saved["evaluation"]["sample"], saved["net"]["squash"]
    saved["ppo"]["gamma"] = 0.5
    asked = registry.build("CartPole")
    asked = dataclasses.replace(asked, ppo=dataclasses.replace(asked.ppo, gae_lambda=0.25))
    found = settings_of_state({"config": saved}, asked, "CartPole")
    assert (found.ppo.gamma, found.ppo.gae_lambda) == (0.5, 0.25)
    assert found.net == asked.net and found.evaluation == asked.evaluation
