"""Windows against golden ranges; proxies that move with the fault they are named for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sana_wm_gym.metrics import PROXIES, DriftScore, score_drift, summarise_drift
from sana_wm_gym.metrics.drift import (
    MIN_WINDOW_FRAMES,
    blockiness,
    brightness,
    colourfulness,
    contrast,
    first_to_last,
    frame_change,
    noise,
    sharpness,
    windows,
)

Frames = npt.NDArray[np.uint8]
GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "metrics"
EXPECTED = json.loads((GOLDEN / "frame_metrics.json").read_text())
RNG = np.random.default_rng(0)
# Blobs of several sizes: smooth enough that noise, blur and tiles stand out.
PICTURE = cv2.GaussianBlur(RNG.integers(0, 256, (64, 80, 3), dtype=np.uint8), (9, 9), 2)
PICTURE = cv2.normalize(PICTURE, None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8)


def clip(*pictures: Frames, n: int = 4) -> Frames:
    return np.concatenate([np.repeat(picture[None], n, axis=0) for picture in pictures])


@pytest.mark.parametrize("row", EXPECTED["temporal_windows"], ids=lambda r: str(list(r.values())))
def test_golden_windows(row: dict[str, Any]) -> None:
    ranges = windows(row["n_frames"], row["fps"], row["window_sec"])
    assert [list(window) for window in ranges] == row["windows"]


def test_golden_delta() -> None:
    example = EXPECTED["delta_iq_example"]
    assert first_to_last(example["per_window"]) == pytest.approx(example["delta"])


@given(st.integers(0, 2000), st.floats(1, 60), st.floats(0.1, 20))
def test_windows_tile_the_video_from_the_start(frames: int, fps: float, seconds: float) -> None:
    ranges = windows(frames, fps, seconds)
    assert all(stop - start >= MIN_WINDOW_FRAMES for start, stop in ranges)
    assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])][: len(ranges)]
    assert not ranges or frames - ranges[-1][1] < max(int(seconds * fps), 1)


def altered(name: str) -> Frames:
    picture = PICTURE.astype(np.float64)
    if name == "blurred":
        picture = cv2.GaussianBlur(picture, (0, 0), 2)
    elif name == "noisy":
        picture = picture + np.random.default_rng(1).normal(0, 5, picture.shape)
    elif name == "faded":
        picture = 0.5 * picture + 60
    elif name == "darker":
        picture = picture - 20
    elif name == "grey":
        picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    elif name == "tiled":
        tiles = picture.reshape(8, 8, 10, 8, 3).mean(axis=(1, 3), keepdims=True)
        picture = np.broadcast_to(tiles, (8, 8, 10, 8, 3)).reshape(picture.shape)
    return np.clip(picture, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("measure", "fault", "direction"),
    [
        (sharpness, "blurred", -1),
        (sharpness, "noisy", 1),
        (contrast, "faded", -1),
        (brightness, "darker", -1),
        (colourfulness, "grey", -1),
        (noise, "noisy", 1),
        (blockiness, "tiled", 1),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_proxy_moves_with_its_fault(measure: Any, fault: str, direction: int) -> None:
    sound, spoiled = measure(clip(PICTURE)), measure(clip(altered(fault)))
    assert direction * (spoiled - sound) > 0.1 * sound


def test_exact_values_of_simple_pictures() -> None:
    flat = np.full((32, 32, 3), 77, np.uint8)
    assert brightness(clip(flat)) == pytest.approx(77)
    assert contrast(clip(flat)) == sharpness(clip(flat)) == noise(clip(flat)) == 0
    assert blockiness(clip(flat)) == 1
    assert colourfulness(clip(flat)) == 0
    halves = flat.copy()
    halves[:, 16:] += 10
    assert contrast(clip(halves)) == pytest.approx(5)
    assert frame_change(np.stack([flat, flat + 3, flat])) == pytest.approx(3)
    # The estimator is made for a known sigma on a smooth picture.
    noisy = np.clip(128 + RNG.normal(0, 6, (96, 96, 1)), 0, 255).round().astype(np.uint8)
    assert noise(clip(np.repeat(noisy, 3, axis=2), n=1)) == pytest.approx(6, rel=0.05)


def test_a_steady_video_drops_nothing_and_a_blurring_one_does() -> None:
    steady = score_drift(clip(PICTURE, n=32), fps=16, window_s=1)
    assert len(steady.windows) == 2
    assert all(steady.drop(proxy.name) == pytest.approx(0, abs=1e-9) for proxy in PROXIES)
    blurring = np.concatenate([clip(PICTURE, n=16), clip(altered("blurred"), n=16)])
    assert score_drift(blurring, fps=16, window_s=1).drop("sharpness") > 0


def test_one_window_has_no_drop() -> None:
    score = score_drift(clip(PICTURE, n=20), fps=16)
    assert [(w.start, w.stop) for w in score.windows] == [(0, 20)]
    assert score.drop("contrast") is None
    assert score_drift(clip(PICTURE, n=15), fps=16).windows == ()


def test_frames_may_come_from_a_file() -> None:
    class Reader:
        def __init__(self, frames: Frames) -> None:
            self.frames = frames

        def __len__(self) -> int:
            return len(self.frames)

        def __getitem__(self, index: slice) -> list[Frames]:
            return list(self.frames[index])

    video = clip(PICTURE, altered("noisy"), n=16)
    assert score_drift(Reader(video), 16, window_s=1) == score_drift(  # type: ignore[arg-type]
        video, 16, window_s=1
    )


def test_clips_are_averaged_window_by_window() -> None:
    long = score_drift(np.concatenate([clip(PICTURE, n=16), clip(altered("faded"), n=16)]), 16,
                       window_s=1)  # fmt: skip
    short = score_drift(clip(PICTURE, n=16), 16, window_s=1)
    none = score_drift(clip(PICTURE, n=3), 16, window_s=1)
    summary = summarise_drift([long, short, none])
    assert summary.clips == (2, 1)
    assert (summary.clips_scored, summary.clips_asked) == (2, 3)
    assert summary.windows[0]["contrast"] == pytest.approx(contrast(clip(PICTURE)))
    # The clip that ends early does not weaken the drop of the other.
    assert summary.drop["contrast"] == pytest.approx(long.drop("contrast"))
    assert summarise_drift([none]).drop["contrast"] is None


def test_results_are_plain_and_say_what_they_are() -> None:
    score = score_drift(clip(PICTURE, n=40), 16, window_s=1)
    values = json.loads(json.dumps(score.to_dict()))
    assert DriftScore.from_dict(values) == score
    assert "not VBench" in values["kind"]
    assert (values["frames"], values["frames_scored"]) == (40, 32)
    assert set(values["drop"]) == {proxy.name for proxy in PROXIES} == set(values["units"])


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="fps is 0"):
        windows(100, 0)
    with pytest.raises(ValueError, match="window_s is nan"):
        windows(100, 16, float("nan"))
    with pytest.raises(ValueError, match="16 pixels a side"):
        score_drift(np.zeros((20, 8, 32, 3), np.uint8), 16)
    with pytest.raises(ValueError, match="uint8"):
        score_drift(np.zeros((20, 32, 32, 3)), 16)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1 clip"):
        summarise_drift([])
    one, other = score_drift(clip(PICTURE, n=32), 16, window_s=1), score_drift(clip(PICTURE), 16)
    with pytest.raises(ValueError, match="same proxies and windows"):
        summarise_drift([one, other])
