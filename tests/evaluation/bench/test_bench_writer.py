"""Writing the public bench layout: its paths, keys and shapes, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from bench_scenes import picture, poses, scene

from sana_wm_gym.evaluation.bench.layout import FOLDERS, KEPT_SCENES, MANIFEST, TRAJECTORIES
from sana_wm_gym.evaluation.bench.writer import write_bench


@pytest.fixture
def bench(tmp_path):
    scenes = [scene(number, tmp_path) for number in (1, 2)]
    write_bench(tmp_path, "simple", scenes, [picture(1), picture(2)])
    return tmp_path


def test_layout_is_the_public_one(bench):
    """Paths, keys and shapes as the benchmark guide names them."""
    files = {path.relative_to(bench).as_posix() for path in bench.rglob("*") if path.is_file()}
    export = "benchmark_v2_smooth_60s/sanawm_export_v2"
    assert files == {
        "images/indoor_001.png",
        "images/indoor_002.png",
        "scene_set/kept_scenes.txt",
        "benchmark_v2_smooth_60s/scene_trajectories_v2.json",
        f"{export}/run_manifest.jsonl",
        f"{export}/indoor_001.npz",
        f"{export}/indoor_002.npz",
    }
    row = json.loads(
        (bench / FOLDERS["simple"] / MANIFEST).read_text(encoding="utf-8").splitlines()[0]
    )
    assert row["camera_path"] == f"{export}/indoor_001.npz"
    assert row["image_path"] == "images/indoor_001.png"
    assert (row["sanawm_frames"], row["expected_fps"], row["trim_to_frames"]) == (12, 16.0, 11)
    with np.load(bench / row["camera_path"]) as camera:
        assert camera["c2w"].shape == (12, 4, 4) and camera["intrinsics"].shape == (12, 3, 3)
        assert camera["fps"] == 16 and camera["num_frames"] == 12
        np.testing.assert_array_equal(
            camera["intrinsics"][3], [[53, 0, 15], [0, 54, 11.5], [0, 0, 1]]
        )
    document = json.loads((bench / FOLDERS["simple"] / TRAJECTORIES).read_text(encoding="utf-8"))
    pair = document["scenes"][0]["evaluation_pairs"][0]
    assert set(pair) == {"frame_a", "frame_b", "distance_m", "angle_diff_deg", "quality_score"}


def test_splits_share_pictures_and_the_list_of_scenes(bench, tmp_path):
    scenes = [scene(number, tmp_path) for number in (2, 3)]
    write_bench(bench, "hard", scenes, [picture(2), picture(3)])
    assert (bench / KEPT_SCENES).read_text().split() == ["indoor_001", "indoor_002", "indoor_003"]
    assert len(list((bench / "images").iterdir())) == 3
    write_bench(bench, "simple", scenes[:1], [picture(2)])
    assert (bench / KEPT_SCENES).read_text().split() == ["indoor_002", "indoor_003"]


def test_only_writable_benches_are_written(tmp_path):
    good, stretched = scene(1, tmp_path), poses(1)
    stretched[5, :3, :3] *= 1.01
    for scenes, images in (
        ([], []),
        ([good, good], [picture(1)] * 2),
        ([replace(good, id="../x")], [picture(1)]),
        ([good], [picture(1)[:, :5]]),
        ([good], [picture(1).astype(float)]),
        ([good], []),
        ([replace(good, c2w=stretched)], [picture(1)]),
    ):
        with pytest.raises(ValueError, match=r"scene ids|picture|zip|c2w of indoor_001 frame 5"):
            write_bench(tmp_path, "simple", scenes, images)
    assert not list(tmp_path.iterdir())


def test_failed_writes_leave_what_was_there(bench):
    before = (bench / FOLDERS["simple"] / MANIFEST).read_bytes()
    bad = replace(scene(1, bench), extra={"value": math.nan})
    with pytest.raises(ValueError, match="JSON"):
        write_bench(bench, "simple", [bad], [picture(1)])
    assert (bench / FOLDERS["simple"] / MANIFEST).read_bytes() == before
    assert not list(bench.rglob(".partial-*"))
