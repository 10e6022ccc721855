"""Revisit PSNR and SSIM: which pairs, matched by time, and how means are formed."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sana_wm_gym.camera.revisits import RevisitPair
from sana_wm_gym.metrics import (
    RevisitScore,
    Unavailable,
    load_lpips,
    psnr,
    score_revisits,
    ssim,
    summarise_revisits,
)
from sana_wm_gym.metrics.perceptual import BACKBONE
from sana_wm_gym.metrics.revisit import best_pairs

Frames = npt.NDArray[np.uint8]


def pair(a: int, b: int, quality: float = 0.5) -> RevisitPair:
    return RevisitPair(a, b, 0.1, 1.0, quality)


def noise_video(n: int, seed: int = 0) -> Frames:
    return np.random.default_rng(seed).integers(0, 256, (n, 24, 32, 3), dtype=np.uint8)


@given(st.lists(st.floats(0, 2) | st.just(math.inf), max_size=12))
def test_the_five_best_are_compared_in_order(qualities: list[float]) -> None:
    pairs = [pair(i, i + 20, quality) for i, quality in enumerate(qualities)]
    best = best_pairs(pairs)
    assert [p.quality for p in best] == sorted(qualities)[:5]
    assert sorted(best, key=lambda p: (p.quality, p.frame_a)) == list(best)


def test_a_place_that_looks_the_same_scores_like_identical_pictures() -> None:
    video = noise_video(40)
    video[30] = video[3]
    score = score_revisits(video, [pair(3, 30)], 16, 16)
    assert score.means is not None
    assert (score.means.psnr_db, score.means.ssim) == (100.0, pytest.approx(1.0))


def test_instants_are_matched_by_time() -> None:
    video = noise_video(60)
    [row] = score_revisits(video, [pair(5, 33)], 16, 24).pairs
    assert (row.video_a, row.video_b) == (8, 50)  # 7.5 rounds to even, 49.5 too
    assert row.psnr_db == psnr(video[50], video[8])
    assert row.ssim == ssim(video[50], video[8])


def test_pairs_that_cannot_be_compared_are_counted_by_reason() -> None:
    video = noise_video(20)
    pairs = [pair(0, 1, 0.1), pair(2, 40, 0.2), pair(2, 36, 0.3)]
    score = score_revisits(video, pairs, 16, 8)
    assert score.skipped == {"one_frame": 1, "beyond_video": 1}
    assert [(row.frame_a, row.frame_b) for row in score.pairs] == [(2, 36)]
    assert score.asked == 3


def test_the_last_command_of_a_clip_without_it_is_the_last_frame() -> None:
    # 961 commanded poses, 960 frames: index 960 is one whole period late, 959 is there.
    video = noise_video(40)
    assert score_revisits(video, [pair(0, 40)], 16, 16).skipped == {"beyond_video": 1}
    assert score_revisits(video, [pair(0, 39)], 16, 16).skipped == {}


def test_frames_may_come_from_a_file() -> None:
    class Reader(list[Any]):
        """Anything with a length and an index."""

    video = noise_video(30)
    pairs = [pair(0, 20), pair(3, 25)]
    assert score_revisits(Reader(video), pairs, 16, 16) == score_revisits(video, pairs, 16, 16)


def test_split_weighs_pairs_and_categories_weigh_scenes() -> None:
    video = noise_video(40)
    video[20] = video[0]
    rich = score_revisits(video, [pair(0, 20), pair(1, 21), pair(2, 22)], 16, 16)
    poor = score_revisits(noise_video(40, 1), [pair(0, 20)], 16, 16)
    none = score_revisits(video, [], 16, 16)
    summary = summarise_revisits({"a_1": rich, "a_2": poor, "b_1": none}, lambda scene: scene[0])
    assert summary.split is not None
    numbers = [p.psnr_db for p in (*rich.pairs, *poor.pairs)]
    assert summary.split.psnr_db == pytest.approx(np.mean(numbers))
    scene_means = [np.mean(numbers[:3]), numbers[3]]
    assert summary.categories["a"].psnr_db == pytest.approx(np.mean(scene_means))
    assert set(summary.categories) == {"a"}
    assert (summary.scenes_scored, summary.scenes_asked) == (2, 3)
    assert (summary.pairs_scored, summary.split.n) == (4, 4)
    assert 'lpips"' not in json.dumps(summary.to_dict())


def test_nothing_to_average_is_none() -> None:
    empty = score_revisits(noise_video(4), [], 16, 16)
    assert empty.means is None
    summary = summarise_revisits({"a": empty}, str).to_dict()
    assert summary["split"] is None and summary["pairs_asked"] == 0


def test_without_lpips_its_column_is_absent_with_the_reason() -> None:
    values = score_revisits(
        noise_video(30), [pair(0, 20)], 16, 16, lpips=Unavailable("no weights")
    ).to_dict()
    assert values["lpips_absent"] == "no weights"
    assert "lpips" not in json.dumps(values["pairs"])
    assert RevisitScore.from_dict(json.loads(json.dumps(values))).to_dict() == values


def test_with_lpips_it_is_averaged() -> None:
    def brightness_gap(a: Frames, b: Frames) -> float:
        return abs(float(a.mean()) - float(b.mean()))

    video = noise_video(40)
    score = score_revisits(video, [pair(0, 20), pair(1, 30)], 16, 16, lpips=brightness_gap)
    assert score.means is not None and score.lpips_absent is None
    distances = [brightness_gap(video[0], video[20]), brightness_gap(video[1], video[30])]
    assert score.means.lpips == pytest.approx(np.mean(distances))
    assert RevisitScore.from_dict(json.loads(json.dumps(score.to_dict()))) == score


@pytest.fixture
def checkpoints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Torch's folder of downloaded weights, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_lpips_is_never_downloaded(monkeypatch: pytest.MonkeyPatch, checkpoints: Path) -> None:
    def fetch(**_: Any) -> None:
        raise AssertionError("this would download")

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=fetch))  # type: ignore[arg-type]
    found = load_lpips()
    assert isinstance(found, Unavailable) and BACKBONE in found.reason
    (checkpoints / BACKBONE).touch()
    monkeypatch.setitem(sys.modules, "lpips", None)  # type: ignore[arg-type]
    found = load_lpips()
    assert isinstance(found, Unavailable) and "pip install lpips" in found.reason


def test_lpips_is_called_as_its_package_defines(
    monkeypatch: pytest.MonkeyPatch, checkpoints: Path
) -> None:
    (checkpoints / BACKBONE).touch()
    given: dict[str, Any] = {}

    def build(**options: Any) -> Any:
        given.update(options)
        return lambda a, b: np.float32(np.abs(a - b).mean())

    module = SimpleNamespace(LPIPS=build, im2tensor=lambda image: image / 127.5 - 1)
    monkeypatch.setitem(sys.modules, "lpips", module)  # type: ignore[arg-type]
    distance = load_lpips()
    assert not isinstance(distance, Unavailable)
    black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    assert distance(black, white) == 2.0
    assert (given["net"], given["version"]) == ("alex", "0.1")


def test_bad_input_is_refused() -> None:
    video = noise_video(10)
    with pytest.raises(ValueError, match="video frames is 0"):
        score_revisits(video[:0], [pair(0, 1)], 16, 16)
    with pytest.raises(ValueError, match="index"):
        score_revisits(video, [pair(-1, 3)], 16, 16)
    with pytest.raises(ValueError, match="rate in Hz"):
        score_revisits(video, [pair(0, 3)], 16, 0)
    with pytest.raises(ValueError, match="limit"):
        score_revisits(video, [pair(0, 3)], 16, 16, limit=0)
