"""The speed command: what it counts, what it leaves alone, and that a state does not grow."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from stepping import frames_of

from benchmarks import env_step
from benchmarks.step_tables import BEGIN, END, markdown, renew_page
from benchmarks.step_timing import (
    TIERS,
    WARM_UP,
    Agent,
    Rollouts,
    Stopwatch,
    phases_of,
    state_bytes,
)
from sana_wm_gym import ENV_ID
from sana_wm_gym.weights.world_file import read_world_file
from sana_wm_gym.world.learned import sampler, sana_world
from sana_wm_gym.world.learned.world_files import world_of
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld
from sana_wm_gym.world.world_model import as_arrays

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
RESULT = PAGE.parent / "data" / "env_step.json"


@pytest.fixture(scope="module")
def small(small_world_file):
    return world_of(read_world_file(small_world_file))


def test_stopwatch_adds_up_and_hands_results_on():
    watch = Stopwatch()
    timed = watch.around(lambda a, *, b: a + b)
    assert timed(1, b=2) == 3
    once = watch.wall
    timed(1, b=2)
    assert watch.wall > once > 0

    def fail() -> None:
        raise KeyError

    before = watch.wall
    with pytest.raises(KeyError):
        watch.around(fail)()
    assert watch.wall > before


def test_walk_stays_near_its_start():
    rollouts = Rollouts.of(ProceduralWorld(), 1, seed=0)
    reach = []
    for _ in range(10):
        rollouts.step(1)
        reach.append(np.linalg.norm(rollouts.camera.c2w[:3, 3]))
    assert 0.2 < max(reach) < 1.0


@pytest.mark.parametrize("learned", [True, False])
def test_state_does_not_grow(small, learned):
    world = small if learned else ProceduralWorld()
    rollouts = Rollouts.of(world, 1, seed=0)
    assert rollouts.chunk == WARM_UP
    first = state_bytes(world, rollouts.states[0])
    rollouts.step(6)
    assert state_bytes(world, rollouts.states[0]) == first > 0


def test_decoding_in_a_batch_is_decoding_one_by_one(small):
    rollouts = Rollouts.of(small, 3, seed=0)
    alone = [frames_of(small, state) for state in rollouts.states]
    # Sums of products are ordered differently in a batch: a grey level at most.
    assert np.abs(np.stack(as_arrays(small.decode(rollouts.states))).astype(int) - alone).max() <= 1


def test_phases_are_of_one_step_and_leave_no_trace(small):
    places = sana_world.chunk_conditioning, sampler.denoise, sampler.remember
    phases = phases_of(small, 2, chunks=2, seed=0)
    assert places == (sana_world.chunk_conditioning, sampler.denoise, sampler.remember)
    assert list(phases) == [
        "conditioning", "denoising", "clean pass", "noise, batching, copies", "decoding",
    ]  # fmt: skip
    assert min(phases.values()) > 0


def test_a_world_without_a_clean_pass_has_no_such_phase(courtyard_world_file):
    phases = phases_of(world_of(read_world_file(courtyard_world_file)), 1, chunks=1, seed=0)
    assert "clean pass" not in phases
    assert min(phases.values()) > 0


@pytest.mark.parametrize("tier", TIERS)
def test_only_the_learning_tier_changes_its_policy(tier):
    env = gym.make(ENV_ID, world=ProceduralWorld((64, 64)), observation=("frames",))
    agent = Agent(env, tier, seed=0)
    before = [parameter.clone() for parameter in agent.policy.parameters()]
    for _ in range(8):
        agent.step()
    same = all(map(torch.equal, before, agent.policy.parameters()))
    assert same == (tier != TIERS[2])
    assert agent.env.unwrapped.snapshot().episode.chunk == 8


def test_command(small_world_file, tmp_path):
    out = tmp_path / "env_step.json"
    arguments = ["--batches", "1", "2", "--steps", "1", "--rounds", "1", "--chunks", "6"]
    page = tmp_path / "page.md"
    page.write_text(f"# Speed\n{BEGIN}\nold\n{END}\nThe end.\n")
    arguments += ["--weights", str(small_world_file), "--out", str(out), "--page", str(page)]
    assert env_step.main(arguments) == 0
    result = json.loads(out.read_text())
    for key in ("command", "commit", "device", "date", "weights"):
        assert result[key]
    assert {(row["world"], row["batch"]) for row in result["batches"]} == {
        (world, batch) for world in ("tiny", "procedural") for batch in (1, 2)
    }
    for row in result["batches"]:
        assert row["frames_per_cpu_s"] == pytest.approx(24 * row["steps_per_cpu_s"])
        assert row["undecoded_steps_per_cpu_s"] > row["steps_per_cpu_s"] > 0
        if row["world"] == "tiny":
            assert row["ratio_to_first_world"] == 1
    assert [row["tier"] for row in result["tiers"]] == [*TIERS, *TIERS]
    for rows in result["memory"].values():
        assert (rows[0]["chunk"], rows[-1]["chunk"]) == (4, 6)
    assert min(result["cold_start_s"]["tiny"].values()) > 0
    assert page.read_text() == f"# Speed\n{BEGIN}\n{markdown(result)}{END}\nThe end.\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no <!--"):
        renew_page(page, result)


@pytest.mark.parametrize(
    "arguments", [["--chunks", "4"], ["--batches", "0"], ["--worlds", "nowhere"]]
)
def test_bad_arguments_end_before_any_work(arguments):
    with pytest.raises(SystemExit) as end:
        env_step.main(arguments)
    assert end.value.code == 2


def test_missing_weights_are_one_line(tmp_path, capsys):
    path = tmp_path / "none.safetensors"
    assert env_step.main(["--worlds", "tiny", "--weights", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: no weights at {path}")


def test_page_shows_the_stored_result():
    """The tables of the page are those of the json file beside it."""
    assert markdown(json.loads(RESULT.read_text())) in PAGE.read_text()
