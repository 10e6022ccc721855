"""The tutorial runs from end to end, and training shows."""

from __future__ import annotations

import json

import pytest

from sana_wm_gym import cli
from sana_wm_gym.agents import tutorial
from sana_wm_gym.video import read_frames
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld


def test_training_shows():
    """A twentieth of the default: no whole orbit yet, but far ahead of random actions."""
    env = tutorial.make_env(ProceduralWorld(size=(16, 16), scenes=(8,)), 16)
    policy = tutorial.train(env, 1000, 0, tutorial.Console(quiet=True))
    learned = tutorial.evaluate(env, policy)
    random = tutorial.evaluate(env, tutorial.RandomPolicy(env.action_space, 0))
    assert learned["orbit_deg"] > 10 > 0 > random["orbit_deg"]
    assert tutorial.evaluate(env, policy) == learned


def test_the_command_records_the_learned_world(tmp_path, capsys):
    assert tutorial.main(["--steps", "130", "--out", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["steps"] == 256  # whole rollouts of 16 sub-environments, 8 steps each
    recorded = summary["recorded in tiny"]
    frames = read_frames(tmp_path / "video" / "episode-0000.mp4")[0]
    assert len(frames) == 1 + 24 * recorded["chunks"]
    assert frames[-1].std() > 1
    out = capsys.readouterr().out
    for word in ("target", "orbit_deg", "random", "policy", "wrote"):
        assert word in out


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["--seed", "-1"]])
def test_bad_arguments_end_before_any_work(arguments):
    with pytest.raises(SystemExit) as end:
        tutorial.main(arguments)
    assert end.value.code == 2


def test_an_unknown_world_is_one_line(capsys, tmp_path):
    assert cli.main(["tutorial", "--world", "nowhere", "--out", str(tmp_path / "out")]) == 2
    assert "unknown world 'nowhere'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
