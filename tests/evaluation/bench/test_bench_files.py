"""The public bench layout: its paths, keys and shapes, what is read back, and every error."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sana_wm_gym.camera.revisits import RevisitPair
from sana_wm_gym.camera.se3 import from_rotation_translation, relative_to_first
from sana_wm_gym.evaluation.bench.files import BenchDataError
from sana_wm_gym.evaluation.bench.layout import (
    FOLDERS,
    KEPT_SCENES,
    MANIFEST,
    TRAJECTORIES,
    BenchScene,
    camera_file,
)
from sana_wm_gym.evaluation.bench.reader import list_scenes, read_bench, read_camera, read_scene
from sana_wm_gym.evaluation.bench.writer import write_bench, write_camera

FRAMES = 12
INTRINSICS = (50.0, 51.0, 12.0, 8.5)


def poses(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    turns = Rotation.from_rotvec(rng.normal(0, 0.3, (FRAMES, 3))).as_matrix()
    return relative_to_first(from_rotation_translation(turns, rng.normal(0, 1, (FRAMES, 3))))


def scene(number: int, root) -> BenchScene:
    procedural = number % 2 == 0
    return BenchScene(
        id=f"indoor_{number:03d}",
        prompt=f"Raum {number} mit Türen",
        scene_type="indoor",
        trajectory_id="orbit",
        image_path=root,
        camera_path=root,
        image_size=(17, 24),
        c2w=poses(number),
        intrinsics=np.tile(INTRINSICS, (FRAMES, 1)) + np.arange(FRAMES)[:, None],
        fps=16.0,
        revisits=(RevisitPair(1, 9, 0.2, 3.0, 0.55), RevisitPair(0, 10, 0.4, 9.0, math.inf)),
        expected_video_frames=FRAMES - 1,
        trim_to_frames=FRAMES - 1,
        procedural_scene=8 if procedural else None,
        scene_c2w=poses(number + 100)[1] if procedural else None,
        extra={"note": {"any": [1, "thing"]}},
    )


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (17, 24, 3), np.uint8)


@pytest.fixture
def bench(tmp_path):
    scenes = [scene(number, tmp_path) for number in (1, 2)]
    write_bench(tmp_path, "simple", scenes, [picture(1), picture(2)])
    return tmp_path


def manifest(root):
    return root / FOLDERS["simple"] / MANIFEST


def updated(row, changes):
    """With changes; None removes a key."""
    return {key: value for key, value in {**row, **changes}.items() if value is not None}


def edit_row(root, changes) -> None:
    """Change the first scene's row in the manifest."""
    first, *others = manifest(root).read_text(encoding="utf-8").splitlines()
    rows = [json.dumps(updated(json.loads(first), changes)), *others]
    manifest(root).write_text("\n".join(rows), encoding="utf-8")


def edit_trajectory(root, changes) -> None:
    path = root / FOLDERS["simple"] / TRAJECTORIES
    first, *others = json.loads(path.read_text(encoding="utf-8"))["scenes"]
    document = {"scenes": [updated(first, changes), *others]}
    path.write_text(json.dumps(document), encoding="utf-8")


def edit_camera(root, changes) -> None:
    path = camera_file(root, "simple", "indoor_001")
    with np.load(path) as stored:
        arrays = updated(stored, changes)
    np.savez(path, **arrays)


def check_error(root, code, name, words="") -> None:
    """Reading the first scene fails at a file with these words; the second is readable."""
    first, second = list_scenes(root, "simple")
    assert read_scene(second).id == "indoor_002"
    with pytest.raises(BenchDataError, match=re.escape(words) or None) as caught:
        read_scene(first)
    assert caught.value.code == code and name in str(caught.value.path)


def test_written_benches_are_read_back(bench, tmp_path):
    read = read_bench(bench, "simple_60s")  # as results are named
    for found, number in zip(read, (1, 2), strict=True):
        given_scene = scene(number, tmp_path)
        arrays = {"c2w", "intrinsics", "scene_c2w"}
        for name in vars(found).keys() - arrays - {"image_path", "camera_path"}:
            assert getattr(found, name) == getattr(given_scene, name)
        np.testing.assert_allclose(found.c2w, given_scene.c2w, atol=1e-14)
        np.testing.assert_array_equal(found.intrinsics, given_scene.intrinsics)
        np.testing.assert_array_equal(found.scene_c2w, given_scene.scene_c2w)
        np.testing.assert_array_equal(found.image(), picture(number))


def test_poses_come_out_relative_to_the_first(bench):
    elsewhere = poses(50)[3]
    edit_camera(bench, {"c2w": (elsewhere @ poses(1)).astype(np.float32)})
    first = read_bench(bench, "simple")[0]
    np.testing.assert_array_equal(first.c2w[0], np.eye(4))
    np.testing.assert_allclose(first.c2w, poses(1), atol=1e-5)
    assert first.c2w.dtype == np.float64


def test_intrinsics_may_have_other_layouts(bench):
    matrix = np.array([[50.0, 0, 12], [0, 51, 8.5], [0, 0, 1]], np.float32)
    for intrinsics in (np.array(INTRINSICS), np.tile(INTRINSICS, (FRAMES, 1)), matrix):
        edit_camera(bench, {"intrinsics": intrinsics})
        found = read_bench(bench, "simple")[0].intrinsics
        np.testing.assert_array_equal(found, np.tile(INTRINSICS, (FRAMES, 1)))


def test_pairs_may_be_bare_or_without_quality(bench):
    """Bare pairs are measured on the poses and come after those with a quality."""
    given_pairs = [
        [2, 8],
        {"frame_a": 1, "frame_b": 7, "quality_score": None, "score_version": 3},
        {"frame_a": 0, "frame_b": 9, "distance_m": 0.1, "quality_score": 0.9},
        {"frame_a": 3, "frame_b": 9, "quality_score": 0.2},
    ]
    edit_trajectory(bench, {"evaluation_pairs": given_pairs})
    pairs = read_bench(bench, "simple")[0].revisits
    assert [(p.frame_a, p.frame_b) for p in pairs] == [(3, 9), (0, 9), (2, 8), (1, 7)]
    assert pairs[1].distance_m == 0.1 and pairs[2].quality == math.inf
    c2w = poses(1)
    assert pairs[2].distance_m == pytest.approx(np.linalg.norm(c2w[2, :3, 3] - c2w[8, :3, 3]))
    turned = Rotation.from_matrix(c2w[2, :3, :3].T @ c2w[8, :3, :3]).magnitude()
    assert pairs[2].angle_deg == pytest.approx(math.degrees(turned))


def test_missing_manifest_keys_are_named_at_once(bench):
    keys = (
        "prompt", "scene_type", "image_path", "camera_path", "trajectory_id", "sanawm_frames",
        "expected_fps", "expected_video_frames", "trim_to_frames",
    )  # fmt: skip
    edit_row(bench, dict.fromkeys(keys))
    lacks = f"line 1 (scene indoor_001) lacks {', '.join(keys)}"
    check_error(bench, "missing_key", "manifest", lacks)


def spoilt(frame: int, change: np.ndarray) -> np.ndarray:
    """Poses of which one is multiplied by 4 x 4 factors."""
    wrong = poses(1)
    wrong[frame] *= change
    return wrong


STRETCHED = spoilt(5, np.pad(np.full((3, 3), 1.01), (0, 1), constant_values=1))
MIRRORED = spoilt(6, np.where(np.eye(4)[0], [[-1], [-1], [-1], [1]], 1))


PLACES = {edit_row: "", edit_trajectory: TRAJECTORIES, edit_camera: "indoor_001.npz"}


@pytest.mark.parametrize(
    ("edit", "changes", "code", "words"),
    [
        (edit_row, {"sanawm_frames": 961}, "inconsistent", "12 poses"),
        (edit_row, {"expected_fps": 24}, "inconsistent", "fps is 16"),
        (edit_row, {"expected_fps": "16"}, "bad_value", "expected a finite number"),
        (edit_row, {"expected_fps": True}, "bad_value", "expected a finite number"),
        (edit_row, {"expected_fps": math.nan}, "bad_value", "expected a finite number"),
        (edit_row, {"trim_to_frames": 13}, "bad_value", "more than the 12 poses"),
        (edit_row, {"trim_to_frames": 0}, "bad_value", "whole number >= 1"),
        (edit_row, {"expected_video_frames": 10.5}, "bad_value", "whole number"),
        (edit_row, {"prompt": 7}, "bad_value", "prompt is 7"),
        (edit_row, {"trajectory_id": "arc"}, "inconsistent", "trajectory_id"),
        (edit_row, {"camera_path": "../else.npz"}, "bad_value", "inside the bench"),
        (edit_row, {"image_path": "/elsewhere.png"}, "bad_value", "inside the bench"),
        (edit_row, {"image_path": ""}, "bad_value", "inside the bench"),
        (edit_row, {"camera_path": "nowhere.npz"}, "missing_file", "no such file"),
        (edit_row, {"image_path": "nowhere.png"}, "missing_file", "no such file"),
        (edit_row, {"procedural_scene": 3}, "missing_key", "scene_c2w"),
        (edit_row, {"procedural_scene": -1, "scene_c2w": np.eye(4).tolist()}, "bad_value", ">= 0"),
        (edit_row, {"procedural_scene": 3, "scene_c2w": [[1]]}, "bad_poses", "(4, 4)"),
        (edit_row, {"procedural_scene": 3, "scene_c2w": "here"}, "bad_poses", "scene_c2w"),
        (edit_trajectory, {"scene_id": "other"}, "missing_scene", "no scene_id 'indoor_001'"),
        (edit_trajectory, {"evaluation_pairs": None}, "missing_key", "evaluation_pairs"),
        (edit_trajectory, {"trajectory_id": None}, "missing_key", "trajectory_id"),
        (edit_trajectory, {"evaluation_pairs": 5}, "bad_value", "no list"),
        (edit_trajectory, {"evaluation_pairs": [5]}, "bad_value", "pairs[0]: a int"),
        (edit_trajectory, {"evaluation_pairs": [[1, 12]]}, "bad_value", "below 12"),
        (edit_trajectory, {"evaluation_pairs": [[1, -2]]}, "bad_value", ">= 0"),
        (edit_trajectory, {"evaluation_pairs": [{"frame_a": 1}]}, "missing_key", "_b"),
        (edit_camera, {"c2w": None}, "missing_key", "lacks array c2w"),
        (edit_camera, {"fps": None, "intrinsics": None}, "missing_key", "intrinsics, fps"),
        (edit_camera, {"c2w": spoilt(4, np.full((4, 4), np.nan))}, "bad_poses", "frame 4"),
        (edit_camera, {"c2w": STRETCHED}, "bad_poses", "frame 5"),
        (edit_camera, {"c2w": MIRRORED}, "bad_poses", "frame 6"),
        (edit_camera, {"c2w": spoilt(7, np.full((4, 4), 2))}, "bad_poses", "frame 7"),
        (edit_camera, {"c2w": np.zeros((0, 4, 4))}, "bad_value", "(0, 4, 4)"),
        (edit_camera, {"c2w": poses(1)[:, :3]}, "bad_value", "(12, 3, 4)"),
        (edit_camera, {"c2w": poses(1).astype(str)}, "bad_value", "expected numbers"),
        (edit_camera, {"c2w": poses(1).astype(object)}, "corrupt_file", "allow_pickle"),
        (edit_camera, {"c2w": poses(1)[:5]}, "inconsistent", "num_frames is 12"),
        (edit_camera, {"intrinsics": np.zeros((12, 3, 3))}, "bad_value", "focal"),
        (edit_camera, {"intrinsics": np.zeros((11, 3, 3))}, "bad_value", "(11, 3, 3)"),
        (edit_camera, {"fps": np.array([16.0, 16.0])}, "bad_value", "no scalars"),
        (edit_camera, {"fps": np.array(np.nan)}, "bad_value", "fps is nan"),
        (edit_camera, {"fps": np.array(-16)}, "bad_value", "fps is -16"),
        (edit_camera, {"fps": np.array(24)}, "inconsistent", "fps is 24"),
    ],
)
def test_bad_values_are_named(bench, edit, changes, code, words):
    edit(bench, changes)
    check_error(bench, code, PLACES[edit], words)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ('{"id": "a"', "corrupt_file", "line 2: not json"),
        ("[1, 2]", "bad_value", "line 2: a list"),
        ('{"prompt": "a"}', "missing_key", "line 2 lacks id"),
        ('{"id": "../a"}', "bad_value", "line 2: id '../a'"),
        ('{"id": 7}', "bad_value", "line 2: id is 7"),
        ('{"id": "indoor_001"}', "inconsistent", "first on line 1"),
    ],
)
def test_broken_manifest_lines_are_named_with_their_number(bench, line, code, words):
    path = manifest(bench)
    first = path.read_text(encoding="utf-8").splitlines()[0]
    path.write_text(f"{first}\n{line}\n", encoding="utf-8")
    with pytest.raises(BenchDataError, match=re.escape(words)) as caught:
        list_scenes(bench, "simple")
    assert caught.value.code == code and caught.value.path == path


def test_missing_and_empty_indices_are_named(bench):
    with pytest.raises(BenchDataError, match=r"benchmark_v2_hard_60s.*run_manifest\.jsonl"):
        list_scenes(bench, "hard")
    path = manifest(bench)
    content = path.read_bytes()
    for broken in (b"\n \n", b"\xff\xfe"):
        path.write_bytes(broken)
        with pytest.raises(BenchDataError) as caught:
            list_scenes(bench, "simple")
        assert caught.value.code == "corrupt_file"
    path.write_bytes(content)
    (bench / FOLDERS["simple"] / TRAJECTORIES).unlink()
    with pytest.raises(BenchDataError, match=TRAJECTORIES):
        list_scenes(bench, "simple")


def test_blank_manifest_lines_are_ignored(bench):
    path = manifest(bench)
    path.write_text("\n" + path.read_text(encoding="utf-8").replace("\n", "\r\n\r\n"))
    places = [entry.manifest.where.split(" (")[0] for entry in list_scenes(bench, "simple")]
    assert places == ["line 2", "line 4"]
    assert len(read_bench(bench, "simple")) == 2


def test_extra_arrays_are_ignored_and_single_ones_are_no_npz(bench):
    edit_camera(bench, {"depth": np.array([None], dtype=object)})
    assert len(read_bench(bench, "simple")) == 2
    with camera_file(bench, "simple", "indoor_001").open("wb") as file:
        np.save(file, poses(1))
    check_error(bench, "corrupt_file", "indoor_001.npz")


@pytest.fixture(scope="module")
def camera(tmp_path_factory):
    path = tmp_path_factory.mktemp("damaged") / "camera.npz"
    write_camera(path, poses(1), np.tile(INTRINSICS, (FRAMES, 1)), 16.0)
    return path, path.read_bytes()


@settings(max_examples=60)
@given(data=st.data())
def test_damaged_cameras_never_pass_for_something_else(camera, data):
    """Cut or with one byte changed, a file is refused, or read as it was."""
    path, whole = camera
    content = bytearray(whole)
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        read, *_ = read_camera(path)
    except BenchDataError:
        return
    np.testing.assert_allclose(read, poses(1), atol=1e-14)


def test_damaged_pictures_are_named(bench):
    path = bench / "images" / "indoor_001.png"
    whole = path.read_bytes()
    path.write_bytes(b"not a picture")
    check_error(bench, "corrupt_file", "indoor_001.png")
    # The header of a cut picture is whole; the pixels are not.
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BenchDataError, match=r"indoor_001\.png: not a readable image"):
        read_bench(bench, "simple")[0].image()


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
    row = json.loads(manifest(bench).read_text(encoding="utf-8").splitlines()[0])
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
    before = manifest(bench).read_bytes()
    bad = replace(scene(1, bench), extra={"value": math.nan})
    with pytest.raises(ValueError, match="JSON"):
        write_bench(bench, "simple", [bad], [picture(1)])
    assert manifest(bench).read_bytes() == before
    assert not list(bench.rglob(".partial-*"))
