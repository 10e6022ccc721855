"""The trust probes: what a perfect, a frozen and a forgetful world score, and the command."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict, dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from benchmarks import trust_probes
from benchmarks.trust_probes import draw_starts
from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.evaluation.held_out import held_out_clip, held_out_clips, roll, with_truth
from sana_wm_gym.evaluation.outside_training import Flag
from sana_wm_gym.evaluation.probes import gates, horizon, novel_control, persistence, watch
from sana_wm_gym.evaluation.probes.results import PoseMeans, Spread
from sana_wm_gym.metrics import RELEASE, score_poses
from sana_wm_gym.models.attention import DeltaRuleAttention, bounded
from sana_wm_gym.models.delta_rule.naive import update
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.poses.protocol import EstimatorInfo, PoseEstimate
from sana_wm_gym.weights.world_file import read_world_file
from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.learned.schedule import SELF_FORCING_4
from sana_wm_gym.world.learned.world_files import world_of
from sana_wm_gym.world.procedural.procedural_world import WALK_LIMITS, ProceduralWorld

PERFECT = ProceduralWorld(size=(32, 32), scenes=(5,))


def silent(done: int) -> None:
    pass


@dataclass(frozen=True)
class Frozen(ProceduralWorld):
    """A video that never changes."""

    def decode(self, states, last=False):
        return [s.start.image if last else np.repeat(s.start.image[None], 24, 0) for s in states]


class Blind:
    """An estimator that places nothing."""

    def estimate(self, frames, intrinsics, fps):
        info = EstimatorInfo("blind", "1", "estimated", "static", None, None, False)
        poses = np.tile(np.eye(4), (len(frames), 1, 1))
        return PoseEstimate(poses, np.arange(len(frames)) < 1, info)


@pytest.fixture(scope="module")
def small(small_world_file):
    return world_of(read_world_file(small_world_file))


@pytest.fixture(scope="module")
def courtyard(courtyard_world_file):
    return world_of(read_world_file(courtyard_world_file))


# Persistence ------------------------------------------------------------------------------------


def test_perfect_world_forgets_nothing():
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


def test_frozen_world_is_revealed_by_its_away_view():
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
    expected = torch.stack(
        [part[0].flatten(1).norm(dim=1) for part in (memory.numerator, memory.denominator)], 1
    )
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
    blocks = zip(
        watch.delta_rule_blocks(small.model), watch.delta_rule_blocks(changed.model), strict=True
    )
    x = torch.randn(1, 2, 64, 32)
    for (_, own), (_, other) in blocks:
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
    result = gates.measure(
        small, clip.start, clip.c2w, ablation_chunks=2, seed=0, tick=ticks.append
    )
    assert sum(ticks) == 4 + 3 * 2
    assert [row["sound chunks"] for row in result.rows[:1]] == [4]
    own = gates.run(small, clip.start, clip.c2w, watch.own_safeguards(small), 0, silent)
    assert own.sound_chunks == own.requested_chunks == 4
    assert len(own.transition_norm) == len(own.state_norm) == 4
    assert 0 < max(own.transition_norm) <= 1 + 1e-6
    assert len(own.heads) == len(result.more["heads"]) == 2 * 2
    for quantiles in own.heads.values():
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

    statistics = gates._Statistics()
    assert statistics.add([block(3.0, key)])
    assert not statistics.add([block(np.inf, key)])
    assert not statistics.add([block(3.0, key + torch.inf)])
    assert statistics.transition == [1, 1, 0] and statistics.state == [3, 0, 3]
    assert list(statistics.heads()) == [(0, 0), (0, 1)]


def test_a_walk_of_broken_chunks_is_refused(small):
    clip = held_out_clip(small.spec, 5, 0, 2)
    with pytest.raises(ValueError, match="expected 1 \\+ 24 k"):
        gates.run(small, clip.start, clip.c2w[:30], watch.own_safeguards(small), 0, silent)


@given(
    values=arrays.arrays(
        np.float64, st.integers(1, 60), elements=st.floats(0, 1e6, allow_subnormal=False)
    ),
    cuts=st.integers(1, 5),
)
@settings(max_examples=40, deadline=None)
def test_running_quantiles_are_those_of_all_values(values, cuts):
    running = gates.Histogram()
    with pytest.raises(ValueError, match="no values"):
        running.quantiles()
    for part in np.array_split(values, min(cuts, len(values))):
        running.add(part)
    found = running.quantiles()
    assert (found.lowest, found.highest) == (values.min(), values.max())
    exact = np.quantile(values, (0.05, 0.5, 0.95), method="inverted_cdf")
    np.testing.assert_allclose((found.q05, found.median, found.q95), exact, rtol=0.02, atol=2e-8)


# Horizon ----------------------------------------------------------------------------------------


def test_windows_follow_the_rate_and_drop_the_tail():
    parts = horizon.windows_of(961, 16.0)
    assert parts[5] == slice(800, 960) and len(parts) == 6
    assert horizon.windows_of(49, 16.0) == (slice(0, 49),)
    with pytest.raises(ValueError, match="at least 16"):
        horizon.windows_of(9, 16.0)


def test_perfect_world_is_followed_and_failures_stay_visible():
    clips, ticks = held_out_clips(PERFECT.spec, 2, 1), []
    result = horizon.measure({"as it is": PERFECT}, clips, 1, Blind(), 0, ticks.append)
    assert sum(ticks) == 2 + 2 * 1
    [window] = result.rows
    assert window["PSNR dB"] > 90 > window["repeat dB"]
    for name in ("poses", "floor", "poses, scale_only"):
        assert window[name].failures == {"too_few_valid": 1} and window[name].rot_err is None
    text = result.tables()[""].csv()
    assert "too_few_valid 1" in text and "scale_only" not in text


def test_variants_change_sampler_and_sink_alone(small):
    found = horizon.variants(small)
    assert list(found) == ["2 steps, sink on", "4 steps, sink on", "2 steps, sink off"]
    own, finer, toggled = found.values()
    assert finer.schedule == SELF_FORCING_4
    assert toggled.window == MemoryWindow(2, False)
    assert own is small and all(world.model is small.model for world in found.values())
    assert horizon.many_steps(SELF_FORCING_4).steps > SELF_FORCING_4.steps
    assert list(horizon.variants(PERFECT)) == ["as it is"]


def test_variants_keep_the_autocast_dtype():
    """The probed copy of tiny-bf16 makes the same frames as the world, bit for bit."""
    world = load_world("tiny-bf16")
    clip = held_out_clip(world.spec, world.spec.scenes[0], 0, 1)
    own = roll(world, [clip], 0)
    np.testing.assert_array_equal(
        roll(next(iter(horizon.variants(world).values())), [clip], 0), own
    )
    same = watch.altered(world, watch.own_safeguards(world))
    np.testing.assert_array_equal(roll(same, [clip], 0), own)
    assert (roll(replace(world, autocast_dtype=None), [clip], 0) != own).any()


def test_turning_clips_count_for_rotation_alone():
    turn = persistence.look_away(PERFECT.spec, 1)[:49]
    still = np.tile(np.eye(4), (49, 1, 1))
    summary = PoseMeans.of([score_poses(still, turn, RELEASE), "too_few_valid"])
    assert summary.rot_err > 1 and summary.trans_err is None and summary.cam_mc is None
    assert (summary.scored, summary.requested) == (1, 2)
    assert str(summary).endswith("/ - / - (1/2: too_few_valid 1)")
    assert str(PoseMeans.of([])) == "not requested"


# Novel control ----------------------------------------------------------------------------------


def test_every_manoeuvre_is_flagged_for_what_is_new_in_it():
    (start,), limits = draw_starts(PERFECT, 1, 0), PERFECT.spec.limits
    found = {
        one.name: {
            flag.what
            for flag in novel_control.outside(
                start, novel_control.poses_of(one, limits, 96), limits
            )
        }
        for one in novel_control.MANOEUVRES
    }
    assert found == {
        "pan 1x": set(),
        "pan 2x": {"yaw speed"},
        "pan 3x": {"yaw speed"},
        "pitch 0.8x": set(),
        "pitch 2x": {"pitch", "pitch speed"},
        "rise 4 cm": set(),
        "rise 50 cm": {"height"},
        "roll 20 deg": {"roll"},
        "backwards": {"frames at or in a surface"},
    }


def test_training_walks_are_inside():
    for scene in (0, 3, 8):
        clip = held_out_clip(PERFECT.spec, scene, 1, 8)
        assert novel_control.outside(clip.start, clip.c2w, WALK_LIMITS) == ()


def test_perfect_world_needs_no_training():
    walks, starts = held_out_clips(PERFECT.spec, 1, 1), draw_starts(PERFECT, 2, 0)
    chosen = [m for m in novel_control.MANOEUVRES if m.name in ("pan 1x", "roll 20 deg")]
    result = novel_control.measure(PERFECT, walks, starts, 0, Blind(), 0, silent, chosen)
    flags = [row["outside of training"] for row in result.rows]
    assert flags[:2] == ["inside"] * 2 and "roll" in flags[2]
    assert all(row["PSNR"].low > 60 and row["margin"].low > 10 for row in result.rows)
    assert "roll 20 deg" in result.tables()[""].markdown()


def test_worst_flag_of_several_clips_is_kept():
    low, high = (Flag("roll", value, 0.0, "deg") for value in (5.0, 20.0))
    assert novel_control.worst([(low,), (high,), ()]) == (high,)
    assert Spread.of([3.0]) == Spread(3.0, 0.0, 3.0, 3.0)


# The command ------------------------------------------------------------------------------------


def test_command(small_world_file, tmp_path, capsys):
    arguments = ["--world", str(small_world_file), "--quick", "--out", str(tmp_path)]
    assert trust_probes.main([*arguments, "--probe", "persistence", "gates"]) == 0
    names = {"persistence.json", "persistence.csv", "gates.json", "gates.csv"}
    names |= {"gates_heads.csv", "gates_peaks.csv"}
    assert {path.name for path in tmp_path.iterdir()} == names
    written = json.loads((tmp_path / "gates.json").read_text())
    for key in ("command", "commit", "device", "date"):
        assert written[key]
    assert written["result"]["rows"][0]["sound chunks"] == 4
    with (tmp_path / "persistence.csv").open(newline="") as stream:
        assert [row["away for, chunks"] for row in csv.DictReader(stream)] == ["1", "2"]
    assert "Gate stability of small" in capsys.readouterr().out


def test_a_world_without_a_network_has_no_gates(tmp_path, capsys):
    arguments = ["--world", "procedural", "--quick", "--probe", "gates", "--out", str(tmp_path)]
    assert trust_probes.main(arguments) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "not measured, world 'procedural' has no network" in said and "world file" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("world", "words"), [("nowhere", "unknown world"), ("missing.safetensors", "missing")]
)
def test_unknown_worlds_are_one_line(world, words, tmp_path, capsys):
    assert trust_probes.main(["--world", world, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error:") and words in error and error.count("\n") == 1
