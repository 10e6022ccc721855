"""The trust probes: what a perfect, a frozen and a forgetful world score, and the command."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from probe_worlds import PERFECT, silent

from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.evaluation.held_out import held_out_clip, roll, with_truth
from sana_wm_gym.evaluation.probes import gates, persistence, watch
from sana_wm_gym.evaluation.tools.probe import draw_starts
from sana_wm_gym.models.attention import DeltaRuleAttention, bounded
from sana_wm_gym.models.delta_rule import update
from sana_wm_gym.world.procedural.procedural_world import WALK_LIMITS, ProceduralWorld


@dataclass(frozen=True)
class Frozen(ProceduralWorld):
    """A video that never changes."""

    def decode(self, states, last=False):
        return [s.start.image if last else np.repeat(s.start.image[None], 24, 0) for s in states]


# Persistence ------------------------------------------------------------------------------------


def test_perfect_world_returns_to_the_first_view():
    ticks = []
    starts = draw_starts(PERFECT, 2, seed=0)
    result = persistence.measure(PERFECT, starts, 0, ticks.append, holds=(2, 1))
    assert [row["away for, chunks"] for row in result.rows] == [1, 2]
    assert set(ticks) == {2}
    for row in result.rows:
        assert row["world"].psnr_db.low > 60 and row["world"] == row["twin"] == row["stayed"]
        assert row["away"].psnr_db.low > 60
        for lower in ("stuck", "mean colour", "away, repeated"):
            assert row[lower].psnr_db.high < 30 and row[lower].ssim.high < 0.9


def test_frozen_world_fails_in_its_away_view():
    """It returns perfectly, because it never left; away it is no better than the first frame."""
    world = Frozen(size=(32, 32), scenes=(5,))
    [row] = persistence.measure(world, draw_starts(world, 1, 0), 0, silent, holds=(1,)).rows
    assert row["world"].psnr_db.mean == 100
    assert row["away"] == row["away, repeated"] and row["away"].psnr_db.mean < 30


def test_without_a_scene_there_is_no_twin(small):
    start = replace(draw_starts(small, 1, 0)[0], scene=None, scene_c2w=None)
    result = persistence.measure(small, [start], 0, silent, holds=(1,))
    [row] = result.rows
    assert row["twin"] is row["away"] is row["away, repeated"] is None
    assert math.isfinite(row["world"].psnr_db.mean)
    assert " - |" in result.tables()[""].markdown()


@given(
    hold=st.integers(1, 4),
    yaw=st.floats(math.radians(0.4), math.radians(5)),
    chunk=st.sampled_from([24, 1, 12, 5]),
)
@settings(max_examples=25, deadline=None)
def test_the_first_view_is_out_of_sight_while_waiting(hold, yaw, chunk):
    """The camera is never faster than the world allows, and ends where it began."""
    spec = replace(PERFECT.spec, limits=MotionLimits(yaw=yaw), frames_per_chunk=chunk)
    path = persistence.look_away(spec, hold)
    turn = chunk * persistence.turn_chunks(spec)
    assert len(path) == 2 * turn + chunk * hold + 1
    angles = np.unwrap(np.arctan2(path[:, 0, 2], path[:, 2, 2]))
    assert np.abs(np.diff(angles)).max() <= yaw * (1 + 1e-9)
    assert angles[turn : turn + chunk * hold + 1].min() > persistence.field_of_view(spec)
    np.testing.assert_allclose(path[-1], np.eye(4), atol=1e-9)
    assert persistence.unseen_frames(spec, path) > chunk * hold


def test_branches_of_the_state_equal_whole_rollouts(small):
    """Sharing the way out changes nothing."""
    start = draw_starts(small, 1, 0)[0]
    result = persistence.measure(small, [start], 3, silent, holds=(1, 2)).rows[1]
    clip = with_truth(start, persistence.look_away(small.spec, 2))
    back = roll(small, [clip], 3)[0, -1]
    assert result["world"] == persistence.ViewSimilarity.of([back], [start.image])


@pytest.mark.parametrize(("count", "holds"), [(0, (1,)), (1, ()), (1, (0,))])
def test_persistence_refuses_nothing_to_do(count, holds):
    with pytest.raises(ValueError, match="at least"):
        persistence.measure(PERFECT, draw_starts(PERFECT, count, 0), 0, silent, holds)


def test_a_world_that_cannot_turn_is_refused():
    world = ProceduralWorld(size=(16, 16), limits=replace(WALK_LIMITS, yaw=0.0))
    with pytest.raises(ValueError, match="cannot look away"):
        persistence.measure(world, draw_starts(world, 1, 0), 0, silent)


# Gates ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "rows"), [("small", (0, 1)), ("courtyard", (0, 1))])
def test_what_is_observed_is_what_the_network_did(name, rows, request):
    """The kept pass: the clean one, and in a world without it the last denoising step."""
    world = request.getfixturevalue(name)
    clip = held_out_clip(world.spec, world.spec.scenes[0], 0, 1)
    kept = []
    with watch.observed(world.model) as passes:
        roll(world, [clip], 0, after=kept.extend)
    memory = kept[0].generator.blocks[1].attention
    parts = memory.numerator, memory.denominator
    expected = torch.stack([part[0].flatten(1).norm(dim=1) for part in parts], 1)
    np.testing.assert_allclose(passes[1].memory[:, :2], expected, rtol=1e-5)
    # Two delta-rule blocks, three streams of four frames and two heads each.
    assert len(passes) == len(rows)
    for seen in passes:
        assert seen.write.shape == (2, 4 * 64) and seen.decay.shape == (2, 4)
        assert [norm.shape for norm, _ in seen.transitions()] == [(2, 4)] * 3
    assert not world.model._forward_pre_hooks


def test_observing_changes_nothing(small):
    clip = held_out_clip(small.spec, 5, 0, 2)
    plain = roll(small, [clip], 0)
    with watch.observed(small.model):
        np.testing.assert_array_equal(roll(small, [clip], 0), plain)


@given(
    key=arrays.arrays(np.float64, (1, 1, 3, 4), elements=st.floats(-3, 3)),
    beta=arrays.arrays(np.float64, (1, 1, 3), elements=st.floats(0, 1)),
    decay=st.floats(0, 1),
)
@settings(max_examples=40, deadline=None)
def test_norm_is_what_one_frame_can_do_to_a_memory(key, beta, decay):
    """Against the definition of the update, applied to the identity with nothing to write;
    bounded gates never exceed 1."""
    key, beta = torch.from_numpy(key), torch.from_numpy(beta)
    decays = torch.full((1, 1), decay, dtype=torch.float64)
    norm, energy = watch.transition_norms(key, beta, decays)
    memory = torch.eye(4, dtype=torch.float64)[None, None]
    moved = update(memory, key, torch.zeros_like(key), beta, decays)[0, 0]
    assert norm[0, 0] == pytest.approx(float(torch.linalg.matrix_norm(moved, 2)), abs=1e-9)
    assert energy[0, 0] == pytest.approx(float((beta * key.pow(2).sum(-1)).sum()), abs=1e-9)
    held = bounded(beta[None].float(), key.permute(1, 2, 0, 3)[None]).double()
    assert watch.transition_norms(key, held[0], decays)[0].max() <= 1 + 1e-6


def test_ablation_takes_the_key_scale_out_of_a_copy(small):
    changed = watch.altered(small, watch.Safeguards(key_scaling=False, bounded_writes=False))
    blocks = map(watch.delta_rule_blocks, (small.model, changed.model))
    x = torch.randn(1, 2, 64, 32)
    for (_, own), (_, other) in zip(*blocks, strict=True):
        assert type(own) is DeltaRuleAttention and own.numerics.bounded_writes
        assert not other.numerics.bounded_writes
        query, key = own.features(x, x, own.q_norm, own.k_norm)
        free_query, free_key = other.features(x, x, other.q_norm, other.k_norm)
        torch.testing.assert_close(free_query, query)
        torch.testing.assert_close(free_key, key * (16 * 64) ** 0.5)
    names = {str(one) for one in (watch.own_safeguards(small), *watch.ablations(small))}
    assert len(names) == 4


def test_bound_and_scale_hold_the_norm_and_their_absence_does_not(small):
    ticks, clip = [], held_out_clip(small.spec, 5, 0, 4)
    result = gates.measure(small, clip.start, clip.c2w, 2, 0, ticks.append)
    assert sum(ticks) == 4 + 3 * 2
    assert [row["sound chunks"] for row in result.rows[:1]] == [4]
    own = gates.run(small, clip.start, clip.c2w, watch.own_safeguards(small), 0, silent)
    assert own.sound_chunks == own.requested_chunks == 4
    assert len(own.transition_norm) == len(own.state_norm) == 4
    assert 0 < max(own.transition_norm) <= 1 + 1e-6
    assert len(own.heads()) == len(result.more["heads"]) == 2 * 2
    for quantiles in own.heads().values():
        assert len(quantiles) == 2 + 3 * 3
        for stream in watch.STREAMS:
            assert quantiles[f"{stream} energy"].highest <= 1 + 1e-6
            highest = quantiles[f"{stream} transition"].highest
            assert highest <= quantiles["decay"].highest + 1e-6
    free = str(watch.Safeguards(key_scaling=False, bounded_writes=False))
    broken = [row for row in result.more["peaks"] if row["network"] == free]
    assert max(row["largest ‖T‖"] for row in broken) > 10
    json.dumps(asdict(result), allow_nan=False)


def test_a_chunk_that_breaks_half_way_counts_what_is_finite():
    key, beta, decay = torch.zeros(2, 3, 4, 2), torch.ones(2, 3, 4), torch.ones(2, 3)

    def block(memory, key):
        seen = watch.BlockPass(0, [(key, beta, decay)])
        seen.decay = seen.write = np.ones((2, 3))
        seen.memory = np.full((2, 1), memory)
        return seen

    statistics = gates.GateRun(watch.Safeguards(True, True), 3)
    assert statistics.add([block(3.0, key)])
    assert not statistics.add([block(np.inf, key)])
    assert not statistics.add([block(3.0, key + torch.inf)])
    assert statistics.transition_norm == [1, 1, 0] and statistics.state_norm == [3, 0, 3]
    assert list(statistics.heads()) == [(0, 0), (0, 1)]


def test_a_walk_of_broken_chunks_is_refused(small):
    clip = held_out_clip(small.spec, 5, 0, 2)
    with pytest.raises(ValueError, match="expected 1 \\+ 24 k"):
        gates.run(small, clip.start, clip.c2w[:30], watch.own_safeguards(small), 0, silent)
