"""Held-out clips, rollouts along them, and PSNR over clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from probe_worlds import PERFECT

from sana_wm_gym.evaluation.held_out import (
    chunk_errors,
    held_out_clip,
    held_out_clips,
    leaves_start,
    mean_psnr,
    repeat_first,
    roll,
    truth_of,
    with_truth,
)
from sana_wm_gym.evaluation.world_scores import Margin
from sana_wm_gym.world.procedural.appearance import parse_prompt
from sana_wm_gym.world.procedural.courtyard import COURTYARD
from sana_wm_gym.world.procedural.scenes import generate_scene


@pytest.fixture(scope="module")
def clips():
    return held_out_clips(PERFECT.spec, 3, 2)


def test_perfect_world_has_no_error(clips):
    """The renderer behind the world contract shows the truth, and the shuffled truth is wrong."""
    truth = truth_of(clips)
    own = chunk_errors(roll(PERFECT, clips, 0), truth, 24)
    assert own.shape == (3, 2) and own.max() == 0
    assert (mean_psnr(own) == 100).all()
    for other in (roll(PERFECT, clips, 0, shuffled=True), repeat_first(truth)):
        assert Margin.of(own, chunk_errors(other, truth, 24)).low.min() > 50


def test_psnr_averages_errors_before_the_logarithm():
    truth = np.zeros((2, 25, 2, 2, 3), np.uint8)
    frames = truth.copy()
    frames[0] = 10
    expected = 10 * np.log10(255.0**2 / 50)
    np.testing.assert_allclose(mean_psnr(chunk_errors(frames, truth, 24)), [expected])


def test_clips_move_and_later_ones_can_be_taken(clips):
    assert all(leaves_start(clip.c2w) for clip in clips)
    np.testing.assert_array_equal(clips[0].c2w[0], np.eye(4))
    [third] = held_out_clips(PERFECT.spec, 1, 2, skip=2)
    np.testing.assert_array_equal(third.truth, clips[2].truth)
    [other] = held_out_clips(PERFECT.spec, 1, 2, first=1000)
    assert not np.array_equal(other.start.scene_c2w, clips[0].start.scene_c2w)
    two = held_out_clips(replace(PERFECT.spec, scenes=(3, 5)), 6, 1)
    assert {clip.start.scene for clip in two} == {3, 5}


def test_prompts_name_the_appearance():
    spec = replace(PERFECT.spec, scenes=(COURTYARD,))
    starts = [held_out_clip(spec, COURTYARD, index, 1).start for index in range(3)]
    assert len({start.appearance for start in starts}) > 1
    surfaces = generate_scene(COURTYARD).surfaces
    assert all(parse_prompt(surfaces, start.prompt) == start.appearance for start in starts)


def test_a_start_outside_any_scene_has_no_truth(clips):
    start = replace(clips[0].start, scene=None, scene_c2w=None)
    with pytest.raises(ValueError, match="expected a procedural scene"):
        with_truth(start, clips[0].c2w)


def test_true_anchors_replace_the_localiser(courtyard):
    [clip] = held_out_clips(courtyard.spec, 1, 2)
    seen = []
    frames = roll(courtyard, [clip], 0, true_anchors=True, after=seen.extend)
    assert len(seen) == 2
    np.testing.assert_array_equal(seen[0].anchor, clip.start.scene_c2w)
    assert (frames != roll(courtyard, [clip], 0, after=seen.extend)).any()
    assert not np.array_equal(seen[2].anchor, clip.start.scene_c2w)
    nowhere = replace(clip, start=replace(clip.start, scene_c2w=None))
    with pytest.raises(ValueError, match="given a start without scene_c2w"):
        roll(courtyard, [nowhere], 0, true_anchors=True)


@pytest.mark.parametrize("rows", [1, 16])
def test_margin_interval_holds_the_margin(rows):
    rng = np.random.default_rng(3)
    better, worse = rng.uniform(1, 2, (rows, 4)), rng.uniform(4, 9, (rows, 4))
    margin = Margin.of(better, worse)
    assert (margin.low <= margin.mean).all() and (margin.mean <= margin.high).all()
    assert (margin.low < margin.high).all() == (rows > 1)
    np.testing.assert_allclose(margin.mean, mean_psnr(better) - mean_psnr(worse))
