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

from benchmarks import trust_probes
from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.camera.se3 import relative_to_first
from sana_wm_gym.evaluation.outside_training import Flag
from sana_wm_gym.evaluation.probes import gates, horizon, novel_control, persistence, watch
from sana_wm_gym.evaluation.probes.control import PoseMeans
from sana_wm_gym.evaluation.probes.plots import draw
from sana_wm_gym.evaluation.probes.report import markdown
from sana_wm_gym.evaluation.probes.rollouts import (
    Spread,
    draw_starts,
    film,
    start_at,
    step,
    walk_poses,
    walking_clips,
    with_truth,
)
from sana_wm_gym.evaluation.probes.running import Peaks, Running
from sana_wm_gym.metrics import RELEASE, score_poses
from sana_wm_gym.models.attention import DeltaRuleAttention, bounded
from sana_wm_gym.models.delta_rule.naive import update
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.poses.protocol import EstimatorInfo, PoseEstimate
from sana_wm_gym.weights.world_file import read_world_file
from sana_wm_gym.world.learned.schedule import SELF_FORCING_4
from sana_wm_gym.world.learned.world_files import world_of
from sana_wm_gym.world.procedural.procedural_world import WALK_LIMITS, ProceduralWorld

PERFECT = ProceduralWorld(size=(32, 32), scenes=(5,))


def silent(done: int) -> None:
    pass


class Counter:
    def __init__(self):
        self.ticks = 0

    def __call__(self, done):
        self.ticks += done


@dataclass(frozen=True)
class Frozen(ProceduralWorld):
    """A video that never changes."""

    def decode(self, states, last=False):
        images = [state.start.image for state in states]
        counts = [len(state.c2w) for state in states]
        return (
            images
            if last
            else [np.repeat(i[None], n, 0) for i, n in zip(images, counts, strict=True)]
        )


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
def walk(small):
    poses = walk_poses(small.spec, 5, 0, 4)
    return start_at(small.spec, 5, poses[0]), relative_to_first(poses)


# Persistence ------------------------------------------------------------------------------------


def test_perfect_world_forgets_nothing():
    starts = draw_starts(PERFECT, 2, seed=0)
    tick = Counter()
    result = persistence.measure(PERFECT, starts, 0, tick, holds=(2, 1))
    assert [one.hold_chunks for one in result.returns] == [1, 2]
    assert tick.ticks == persistence.chunks_of_work(PERFECT.spec, 2, (1, 2))
    for one in result.returns:
        assert one.world.psnr_db.low > 60 and one.world == one.twin == one.stayed
        assert one.away.psnr_db.low > 60
        for lower in (one.stuck, one.mean_colour, one.away_repeat):
            assert lower.psnr_db.high < 30 and lower.ssim.high < 0.9


def test_frozen_world_is_shown_up_by_its_away_view():
    """It returns perfectly, because it never left; away it is no better than the first frame."""
    world = Frozen(size=(32, 32), scenes=(5,))
    one = persistence.measure(world, draw_starts(world, 1, 0), 0, silent, holds=(1,)).returns[0]
    assert one.world.psnr_db.mean == 100
    assert one.away == one.away_repeat and one.away.psnr_db.mean < 30


def test_without_a_scene_there_is_no_twin(small):
    start = replace(draw_starts(small, 1, 0)[0], scene=None, scene_c2w=None)
    one = persistence.measure(small, [start], 0, silent, holds=(1,)).returns[0]
    assert one.twin is one.away is one.away_repeat is None
    assert math.isfinite(one.world.psnr_db.mean)


@given(
    hold=st.integers(1, 4),
    yaw=st.floats(math.radians(0.4), math.radians(5)),
)
@settings(max_examples=25, deadline=None)
def test_the_first_view_is_out_of_sight_while_waiting(hold, yaw):
    """The camera is never faster than the world allows, and ends where it began."""
    spec = replace(PERFECT.spec, limits=MotionLimits(yaw=yaw))
    path = persistence.look_away(spec, hold)
    leg = 24 * persistence.leg_chunks(spec)
    assert len(path) == 2 * leg + 24 * hold + 1
    angles = np.unwrap(np.arctan2(path[:, 0, 2], path[:, 2, 2]))
    assert np.abs(np.diff(angles)).max() <= yaw * (1 + 1e-9)
    assert angles[leg : leg + 24 * hold + 1].min() > persistence.field_of_view(spec)
    np.testing.assert_allclose(path[-1], np.eye(4), atol=1e-9)
    assert persistence.unseen_frames(spec, path) > 24 * hold


def test_branches_of_the_state_equal_whole_rollouts(small):
    """Sharing the way out changes nothing."""
    start = draw_starts(small, 1, 0)[0]
    result = persistence.measure(small, [start], 3, silent, holds=(1, 2)).returns[1]
    clip = with_truth(start, persistence.look_away(small.spec, 2))
    back = film(small, [clip], 3, silent)[0, -1]
    assert result.world == persistence.Likeness.of([back], [start.image])


@pytest.mark.parametrize(("count", "holds"), [(0, (1,)), (1, ()), (1, (0,))])
def test_persistence_refuses_nothing_to_do(count, holds):
    with pytest.raises(ValueError, match="at least"):
        persistence.measure(PERFECT, draw_starts(PERFECT, count, 0), 0, silent, holds)


def test_a_world_that_cannot_turn_is_refused():
    world = ProceduralWorld(size=(16, 16), limits=replace(WALK_LIMITS, yaw=0.0))
    with pytest.raises(ValueError, match="cannot look away"):
        persistence.measure(world, draw_starts(world, 1, 0), 0, silent)


# Gates ------------------------------------------------------------------------------------------


def test_what_is_seen_is_what_the_network_did(small, walk):
    """Transitions seen in clean passes, played back over the writes, give the memory."""
    start, c2w = walk
    seen = []
    with watch.watched(small.model, seen.append):
        trajectory = step(small, [small.begin(start, 0)], [start], [c2w[:25]])
    memory = trajectory[0].generator.blocks[1].attention
    norms = [one.norm for one in seen if isinstance(one, watch.Memory) and one.row == 1]
    expected = torch.stack(
        [part[0].flatten(1).norm(dim=1) for part in (memory.numerator, memory.denominator)], 1
    )
    np.testing.assert_allclose(norms[0][:, :2], expected, rtol=1e-5)
    # Two delta-rule blocks, one clean pass, three streams of four frames and two heads each.
    transitions = [one for one in seen if isinstance(one, watch.Transition)]
    assert [(one.row, one.stream) for one in transitions] == [
        (r, s) for r in (0, 1) for s in (0, 1, 2)
    ]
    assert all(one.norm.shape == one.energy.shape == (2, 4) for one in transitions)
    asked = [one.write.shape for one in seen if isinstance(one, watch.Gates)]
    assert asked == [(2, 4 * 64)] * 2
    assert not small.model._forward_pre_hooks


def test_watching_changes_nothing(small, walk):
    start, c2w = walk
    clip = with_truth(start, c2w[:49])
    plain = film(small, [clip], 0, silent)
    with watch.watched(small.model, lambda one: None):
        np.testing.assert_array_equal(film(small, [clip], 0, silent), plain)


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


def test_norm_of_broken_keys_is_not_a_number():
    key = torch.full((1, 1, 2, 4), torch.inf)
    norm, _ = watch.transition_norms(key, torch.ones(1, 1, 2), torch.ones(1, 1))
    assert np.isnan(norm).all()


def test_ablation_takes_the_key_scale_out_of_a_copy(small):
    changed = watch.altered(small, watch.Variant(key_scaling=False, bounded_writes=False))
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
    names = {str(variant) for variant in (watch.own_variant(small), *watch.ablations(small))}
    assert len(names) == 4


def test_bound_and_scale_hold_the_norm_and_their_absence_does_not(small, walk):
    tick = Counter()
    result = gates.measure(small, *walk, ablation_chunks=2, seed=0, tick=tick)
    assert tick.ticks == 4 + 3 * 2
    own = result.runs[0]
    assert own.sound_chunks == own.asked_chunks == 4 and not own.broken
    assert 0 < own.largest_transition_norm <= 1 + 1e-6
    assert len(own.heads) == 2 * 2 and len(own.heads[0].streams) == 3
    for head in own.heads:
        for stream in head.streams:
            assert stream.write_energy.highest <= 1 + 1e-6
            assert stream.transition_norm.highest <= head.decay.highest + 1e-6
    free = next(
        run
        for run in result.runs
        if run.variant == watch.Variant(key_scaling=False, bounded_writes=False)
    )
    assert free.largest_transition_norm > 10
    assert len(own.trace.seconds) == 4 and own.trace.seconds[-1] == 6.0
    json.dumps(asdict(result), allow_nan=False)


def test_the_trace_of_a_chunk_that_breaks_half_way_has_one_length(small):
    ledger = gates._Ledger(watch.delta_rule_blocks(small.model), 10)
    ledger.see(watch.Transition(0, 0, np.full((2, 3), 4.0), np.ones((2, 3))))
    ledger.see(watch.Memory(0, np.full((2, 3), np.inf)))
    trace = ledger.trace(16.0)
    assert not ledger.sound and trace.seconds == (1.5,)
    assert trace.transition_norm == ((4.0,), (0.0,)) and trace.state_norm == ((0.0,), (0.0,))


def test_a_walk_of_broken_chunks_is_refused(small, walk):
    start, c2w = walk
    with pytest.raises(ValueError, match="24 n \\+ 1"):
        gates.run(small, start, c2w[:30], watch.own_variant(small), 0, silent)


# Running statistics -----------------------------------------------------------------------------


@given(
    values=arrays.arrays(
        np.float64, st.integers(1, 60), elements=st.floats(0, 1e6, allow_subnormal=False)
    ),
    cuts=st.integers(1, 5),
)
@settings(max_examples=40, deadline=None)
def test_running_quantiles_are_those_of_all_values(values, cuts):
    running = Running(2)
    for part in np.array_split(values, min(cuts, len(values))):
        running.add(np.stack([part, part / 2]))
    found = running.quantiles(0)
    assert (found.lowest, found.highest) == (values.min(), values.max())
    exact = np.quantile(values, (0.05, 0.5, 0.95), method="inverted_cdf")
    np.testing.assert_allclose((found.q05, found.median, found.q95), exact, rtol=0.02, atol=2e-8)
    assert running.quantiles(1).highest == values.max() / 2


def test_running_statistics_do_not_grow():
    running, peaks = Running(1), Peaks(1, 1000, 100)
    size = running._bins.nbytes
    for chunk in range(1000):
        running.add(np.full((1, 10), chunk / 1000))
        peaks.add(0, chunk, float(chunk))
    assert running._bins.nbytes == size and running.count == 10_000
    assert peaks.used == 100 and peaks.ends(100)[-1] == 1000
    assert peaks.rows(100)[0][0] == 9 and peaks.highest == 999


def test_nothing_counted_has_no_quantiles():
    with pytest.raises(ValueError, match="no values"):
        Running(1).quantiles(0)


# Horizon ----------------------------------------------------------------------------------------


def test_windows_follow_the_rate_and_drop_the_tail():
    assert horizon.cuts_of(961, 16.0)[5] == slice(800, 960) and len(horizon.cuts_of(961, 16.0)) == 6
    assert horizon.cuts_of(49, 16.0) == (slice(0, 49),)
    with pytest.raises(ValueError, match="at least 16"):
        horizon.cuts_of(9, 16.0)


def test_perfect_world_is_followed_and_failures_stay_visible():
    clips = walking_clips(PERFECT.spec, 2, 1)
    tick = Counter()
    result = horizon.measure({"as it is": PERFECT}, clips, 1, Blind(), 0, tick)
    assert tick.ticks == horizon.work(2, 1, 1, 1, 16.0)
    (window,) = result.runs[0].windows
    assert window.psnr_db > 90 > window.repeat_db
    for control in window.control:
        assert control.generated.failures == {"too_few_valid": 1} == control.floor.failures
        assert control.generated.rot_err is None
    assert "too_few_valid 1" in markdown(result)


def test_variants_change_sampler_and_sink_alone(small):
    found = horizon.variants(small)
    assert list(found) == ["2 steps, sink on", "4 steps, sink on", "2 steps, sink off"]
    worlds = list(found.values())
    assert worlds[1].schedule == SELF_FORCING_4
    assert worlds[2].window == MemoryWindow(2, False)
    assert all(world.model is small.model for world in worlds)
    assert horizon.many_steps(SELF_FORCING_4).steps > SELF_FORCING_4.steps
    assert list(horizon.variants(PERFECT)) == ["as it is"]


def test_turning_clips_count_for_rotation_alone():
    turn = persistence.look_away(PERFECT.spec, 1)[:49]
    still = np.tile(np.eye(4), (49, 1, 1))
    summary = PoseMeans.of([score_poses(still, turn, RELEASE), "too_few_valid"])
    assert summary.rot_err > 1 and summary.trans_err is None and summary.cam_mc is None
    assert (summary.scored, summary.asked) == (1, 2)
    assert str(summary).endswith("/ - / - (1/2: too_few_valid 1)")
    assert str(PoseMeans.of([])) == "not asked"


# Novel control ----------------------------------------------------------------------------------


def test_every_manoeuvre_is_flagged_for_what_is_new_in_it():
    (start,), limits = draw_starts(PERFECT, 1, 0), PERFECT.spec.limits
    found = {
        one.name: {
            flag.what
            for flag in novel_control.outside(start, novel_control.poses_of(one, limits, 4), limits)
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
        walk = walk_poses(PERFECT.spec, scene, 1, 8)
        start = start_at(PERFECT.spec, scene, walk[0])
        assert novel_control.outside(start, relative_to_first(walk), WALK_LIMITS) == ()


def test_perfect_world_needs_no_training():
    walks, starts = walking_clips(PERFECT.spec, 1, 1), draw_starts(PERFECT, 2, 0)
    chosen = [m for m in novel_control.MANOEUVRES if m.name in ("pan 1x", "roll 20 deg")]
    result = novel_control.measure(PERFECT, walks, starts, 0, Blind(), 0, silent, chosen)
    assert [one.outside for one in result.outcomes] == [False, False, True]
    assert all(one.psnr_db.low > 60 and one.margin_db.low > 10 for one in result.outcomes)


def test_worst_flag_of_several_clips_is_kept():
    low, high = (Flag("roll", value, 0.0, "deg") for value in (5.0, 20.0))
    assert novel_control.worst([(low,), (high,), ()]) == (high,)
    assert str(high) == "roll 20 deg (training 0)"


def test_spread_of_one_value_has_no_width():
    assert Spread.of([3.0]) == Spread(3.0, 0.0, 3.0, 3.0)


# The command ------------------------------------------------------------------------------------


def test_command(small_world_file, tmp_path, capsys):
    arguments = ["--world", str(small_world_file), "--quick", "--out", str(tmp_path)]
    assert trust_probes.main([*arguments, "--probe", "persistence", "gates"]) == 0
    names = {
        f"{probe}.{kind}" for probe in ("persistence", "gates") for kind in ("json", "md", "png")
    }
    assert {path.name for path in tmp_path.iterdir()} == names
    written = json.loads((tmp_path / "gates.json").read_text())
    for key in ("command", "commit", "device", "date"):
        assert written[key]
    assert written["result"]["runs"][0]["sound_chunks"] == 4
    page = (tmp_path / "persistence.md").read_text()
    assert "| 2 chunks |" in page and written["date"] in page
    assert "Gate stability of `small`" in capsys.readouterr().out


def test_a_world_without_a_network_has_no_gates(tmp_path, capsys):
    arguments = ["--world", "procedural", "--quick", "--probe", "gates", "--out", str(tmp_path)]
    assert trust_probes.main(arguments) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "not measured, world 'procedural' has no network" in said and "world file" in said
    assert not list(tmp_path.iterdir())


def test_pictures_of_the_probes_that_estimate_poses(small, tmp_path):
    clips = walking_clips(small.spec, 1, 1)
    lasting = horizon.measure({"as it is": small}, clips, 1, Blind(), 0, silent)
    novel = novel_control.measure(
        small, clips, [clips[0].start], 0, Blind(), 0, silent, novel_control.MANOEUVRES[:1]
    )
    for name, result in (("horizon", lasting), ("novel", novel)):
        draw(result, tmp_path / f"{name}.png")
        assert "held-out" in markdown(result) or "walks" in markdown(result)
    assert {path.name for path in tmp_path.iterdir()} == {"horizon.png", "novel.png"}


@pytest.mark.parametrize(
    ("world", "words"), [("nowhere", "unknown world"), ("missing.safetensors", "missing")]
)
def test_unknown_worlds_are_one_line(world, words, tmp_path, capsys):
    assert trust_probes.main(["--world", world, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error:") and words in error and error.count("\n") == 1
