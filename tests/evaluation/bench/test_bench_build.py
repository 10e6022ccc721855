"""Benches from procedural scenes: paths are clear, starts match the frames, builds repeat."""

from __future__ import annotations

import numpy as np
import pytest

from sana_wm_gym import cli
from sana_wm_gym.camera.revisits import find_revisits
from sana_wm_gym.camera.synthesis import synthesise
from sana_wm_gym.camera.templates import HARD, SIMPLE
from sana_wm_gym.evaluation.bench.build import FULL_FRAMES, build_bench, choose_start, clearance
from sana_wm_gym.evaluation.bench.reader import read_bench
from sana_wm_gym.evaluation.outside_training import outside_training
from sana_wm_gym.evaluation.tools import bench_make
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.procedural.scenes import cast, free_space, generate_scene

SPEC = ProceduralWorld(size=(48, 48), scenes=(3, 0)).spec


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench")
    build_bench(root, SPEC, 2)
    return root


@pytest.fixture(scope="module")
def scenes(bench):
    return {split: read_bench(bench, split) for split in ("simple", "hard")}


@pytest.mark.parametrize("seed", [0, 3, 8])
def test_clearance_is_the_distance_to_the_nearest_surface(seed):
    """As rays in all directions measure it, and positive where space is free."""
    scene, rng = generate_scene(seed), np.random.default_rng(0)
    positions = rng.uniform(scene.lower[0], scene.upper[0], (40, 3))
    positions = positions[free_space(scene, positions, 0.05)]
    rays = rng.normal(size=(4000, 3))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    rays = np.concatenate([rays, np.eye(3), -np.eye(3)])
    found = clearance(scene, positions)
    for position, distance in zip(positions, found, strict=True):
        nearest = cast(scene, np.broadcast_to(position, rays.shape), rays).min()
        assert distance - 1e-9 <= nearest < distance + 0.05
    assert found.min() > 0.05 - 1e-9 and len(found) > 10


def test_scenes_are_commanded_minutes(scenes):
    for split, templates in (("simple", SIMPLE), ("hard", HARD)):
        assert [scene.trajectory_id for scene in scenes[split]] == [t.name for t in templates[:2]]
        for scene in scenes[split]:
            assert scene.c2w.shape == (FULL_FRAMES, 4, 4)
            assert scene.expected_video_frames == scene.trim_to_frames == FULL_FRAMES - 1
            assert scene.revisits == find_revisits(scene.c2w[:-1], scene.fps)
            assert scene.extra["extent_m"] <= 0.6 * scene.extra["median_depth_m"] + 1e-9
            assert scene.extra["smoothness"]["max_speed"] <= 0.4 + 1e-9
    assert [s.scene_type for s in scenes["simple"]] == ["procedural_courtyard", "procedural_room"]
    assert [s.id for s in scenes["simple"]] == [s.id for s in scenes["hard"]]


def test_clear_paths_are_clear_of_the_true_scene(scenes):
    both = (*scenes["simple"], *scenes["hard"])
    clear = [scene for scene in both if scene.extra["collision_status"] != "colliding"]
    for scene in clear:
        positions = (scene.scene_c2w @ scene.c2w)[:, :3, 3]
        assert free_space(generate_scene(scene.procedural_scene), positions, 0.15).all()
    assert len(clear) >= 3


def test_first_frames_are_what_the_start_sees(scenes):
    for scene in scenes["hard"]:
        place = generate_scene(scene.procedural_scene)
        seen = render(place, scene.scene_c2w[None], scene.intrinsics[0], scene.image_size)[0]
        np.testing.assert_array_equal(scene.image(), seen)


def test_simple_scenes_stay_within_training(scenes):
    assert all(scene.extra["outside_training"] == [] for scene in scenes["simple"])
    for scene in scenes["hard"]:
        flags = outside_training(scene.scene_c2w @ scene.c2w)
        assert scene.extra["outside_training"] == [flag.what for flag in flags] != []


def test_starts_differ_and_suit_their_paths():
    place = generate_scene(0)
    path = synthesise(SIMPLE[0], FULL_FRAMES, SPEC.fps)
    starts = [choose_start(place, [path], SPEC, np.random.default_rng(seed)) for seed in (1, 2)]
    assert np.abs(starts[0].c2w - starts[1].c2w).max() > 0.05
    for start in starts:
        scale = min(1.0, 0.6 * start.median_depth / path.extent)
        positions = scale * path.c2w[:, :3, 3] @ start.c2w[:3, :3].T + start.c2w[:3, 3]
        assert free_space(place, positions, 0.15).all()


def test_command_repeats_itself_and_short_benches_are_cut_long_ones(tmp_path, capsys):
    """Twice the same bytes; 25 poses are the first 25 of a minute."""
    common = ["--world", "procedural", "--size", "32", "--scenes-per-split", "1"]
    for name, frames in (("one", "25"), ("two", "25"), ("long", "961")):
        out = str(tmp_path / name)
        assert bench_make.main(["--out", out, "--frames", frames, *common]) == 0
    printed = capsys.readouterr().out
    assert "procedural_room_001" in printed and SIMPLE[0].name in printed
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 8
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    (short,), (long,) = (read_bench(tmp_path / name, "hard") for name in ("one", "long"))
    assert len(short.c2w) == 25 and short.trim_to_frames == 24 and short.revisits == ()
    np.testing.assert_array_equal(short.c2w, long.c2w[:25])


@pytest.mark.parametrize(
    ("world", "options", "words"),
    [
        ("procedural", ["--frames", "24"], "24 k + 1"),
        ("procedural", ["--frames", "1"], "24 k + 1"),
        ("procedural", ["--frames", "985"], "up to 961"),
        ("procedural", ["--scenes-per-split", "0"], "scenes per split is 0"),
        ("procedural", ["--seed", "-1"], "seed is -1"),
        ("procedural", ["--size", "0"], "positive size"),
        ("tiny", ["--size", "32"], "tiny makes 64 x 64 frames"),
    ],
)
def test_command_refuses_what_makes_no_bench(tmp_path, capsys, world, options, words):
    out = tmp_path / "bench"
    assert cli.main(["bench", "make", "--out", str(out), "--world", world, *options]) == 2
    assert words in capsys.readouterr().err
    assert not out.exists()
