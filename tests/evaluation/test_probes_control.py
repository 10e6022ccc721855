"""Probes of control over the horizon and of new manoeuvres, and the command."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from probe_worlds import PERFECT, Blind, silent

from sana_wm_gym import cli
from sana_wm_gym.evaluation.aggregate import ErrorMeans, Mean
from sana_wm_gym.evaluation.held_out import held_out_clip, held_out_clips, roll
from sana_wm_gym.evaluation.outside_training import Flag
from sana_wm_gym.evaluation.probes import gates, horizon, novel_control, persistence, watch
from sana_wm_gym.evaluation.probes.results import Spread
from sana_wm_gym.evaluation.tools import probe
from sana_wm_gym.evaluation.tools.probe import draw_starts
from sana_wm_gym.metrics import RELEASE, score_poses
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.learned.schedule import SELF_FORCING_4
from sana_wm_gym.world.procedural.procedural_world import WALK_LIMITS


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
        assert window[name].rot_err == Mean(None, 0, {"too_few_valid": 1})
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
    varied, *_ = horizon.variants(world).values()
    for same in (varied, watch.altered(world, watch.own_safeguards(world))):
        np.testing.assert_array_equal(roll(same, [clip], 0), own)
    assert (roll(replace(world, autocast_dtype=None), [clip], 0) != own).any()


def test_turning_clips_count_for_rotation_alone():
    turn = persistence.look_away(PERFECT.spec, 1)[:49]
    still = np.tile(np.eye(4), (49, 1, 1))
    scores = [score_poses(still, turn, RELEASE).to_dict(), {"code": "too_few_valid"}]
    summary = ErrorMeans.of(scores)
    assert summary.rot_err.value > 1 and summary.rot_err.clips == 1
    assert summary.trans_err.value is None and summary.cam_mc.value is None
    assert str(summary).endswith("/ - / - (1/2: too_few_valid 1)")
    assert str(ErrorMeans.of([])) == "not requested"


# Novel control ----------------------------------------------------------------------------------


def test_every_manoeuvre_is_flagged_for_what_is_new_in_it():
    (start,), limits = draw_starts(PERFECT, 1, 0), PERFECT.spec.limits
    found = {}
    for one in novel_control.MANOEUVRES:
        poses = novel_control.poses_of(one, limits, 96)
        flags = novel_control.outside(start, poses, limits)
        found[one.name] = {flag.what for flag in flags}
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
    assert probe.main([*arguments, "--probe", "persistence", "gates"]) == 0
    gate_files = {"gates.json", "gates.csv", "gates_heads.csv", "gates_peaks.csv"}
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"persistence.json", "persistence.csv"} | gate_files
    written = json.loads((tmp_path / "gates.json").read_text())
    for key in ("command", "commit", "device", "date"):
        assert written[key]
    assert written["result"]["rows"][0]["sound chunks"] == 4
    with (tmp_path / "persistence.csv").open(newline="") as stream:
        assert [row["away for, chunks"] for row in csv.DictReader(stream)] == ["1", "2"]
    assert "Gate stability of small" in capsys.readouterr().out


def test_a_world_without_a_network_has_no_gates(tmp_path, capsys):
    arguments = ["--world", "procedural", "--quick", "--probe", "gates", "--out", str(tmp_path)]
    assert probe.main(arguments) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "not measured, world 'procedural' has no network" in shown and "world file" in shown
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("world", "words"), [("nowhere", "unknown world"), ("missing.safetensors", "missing")]
)
def test_unknown_worlds_are_one_line(world, words, tmp_path, capsys):
    assert cli.main(["probe", "--world", world, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error:") and words in error and error.count("\n") == 1
