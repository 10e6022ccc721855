"""The results layout: written as others read it, and units are never guessed."""

from __future__ import annotations

import json
import math
import re

import pytest

from sana_wm_gym.evaluation.bench.files import BenchDataError
from sana_wm_gym.evaluation.bench.results import (
    MethodFolder,
    MethodInfo,
    read_method_info,
    read_pose_errors,
    write_method_info,
    write_pose_errors,
)


def row(**changes) -> dict:
    """A scene's object as the published evaluator writes it, with changes; None removes."""
    plain = {"RotErr": 1.5, "RotErr_unit": "deg", "TransErr_rel": 0.2, "CamMC_rel": 0.3}
    plain |= {"scene_type": "indoor", "n_frames": 241}
    return {key: value for key, value in {**plain, **changes}.items() if value is not None}


ERRORS = {"indoor_002": row(RotErr=2.5, convention="release"), "indoor_001": row()}


@pytest.fixture
def folder(tmp_path) -> MethodFolder:
    return MethodFolder(tmp_path / "tiny")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "eval_poses.json"


def test_files_are_where_the_guide_has_them(folder, tmp_path):
    write_method_info(folder, MethodInfo("tiny", "shipped", 16.0, "64x64"))
    write_pose_errors(folder.poses_file("simple"), ERRORS)
    found = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {"tiny/method_info.json", "tiny/simple_60s/eval_poses.json"}
    assert folder.eval_file("hard", "summary") == folder.path / "eval/hard_60s/summary.json"
    video = folder.video("hard", "indoor_001")
    assert video == tmp_path / "tiny" / "hard_60s" / "indoor_001_generated.mp4"
    with pytest.raises(ValueError, match="scene id is"):
        folder.video("simple", "../a")


def test_pose_errors_are_read_back(path):
    write_pose_errors(path, ERRORS)
    read = read_pose_errors(path)
    assert list(read) == list(ERRORS)
    assert read == {k: {**v, "skip_first_frame": False} for k, v in ERRORS.items()}
    assert json.loads(path.read_text()) == read


def test_radians_become_degrees_where_they_are_named(path):
    path.write_text(json.dumps({"a": row(RotErr=math.pi / 2, RotErr_unit="rad"), "b": row()}))
    read = read_pose_errors(path)
    assert read["a"]["RotErr"] == pytest.approx(90.0) and read["a"]["RotErr_unit"] == "deg"
    assert read["b"] == row()


@pytest.mark.parametrize("value", [0.5, 3.0, 40.0])
def test_files_without_a_unit_are_refused(path, value):
    """Neither small nor large numbers are taken for one unit or the other."""
    path.write_text(json.dumps({"a": row(), "b": row(RotErr=value, RotErr_unit=None)}))
    with pytest.raises(BenchDataError, match=r"scene b lacks RotErr_unit.*radians") as caught:
        read_pose_errors(path)
    assert caught.value.code == "missing_key" and caught.value.path == path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"RotErr_unit": "turns"}, "RotErr_unit is 'turns', expected 'deg' or 'rad'"),
        ({"RotErr_unit": ["deg"]}, "RotErr_unit is ['deg'], expected a string"),
        ({"TransErr_rel": None}, "lacks TransErr_rel"),
        ({"RotErr": "1.5"}, "RotErr is '1.5', expected a finite number"),
        ({"CamMC_rel": math.nan}, "CamMC_rel is nan"),
        ({"n_frames": -1}, "n_frames is -1"),
        ({"scene_type": 3}, "scene_type is 3"),
    ],
)
def test_bad_rows_are_named(path, changes, words):
    path.write_text(json.dumps({"a": row(**changes)}))
    with pytest.raises(BenchDataError, match=re.escape(words)):
        read_pose_errors(path)


def test_files_that_are_no_results_are_named(path):
    with pytest.raises(BenchDataError, match="cannot be read"):
        read_pose_errors(path)
    for content in ("[]", "{", '{"a": 3}'):
        path.write_text(content)
        with pytest.raises(BenchDataError, match="eval_poses.json"):
            read_pose_errors(path)


def test_numbers_that_are_not_finite_are_not_written(path):
    write_pose_errors(path, ERRORS)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not finite"):
        write_pose_errors(path, {"a": row(RotErr=math.nan)})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["eval_poses.json"]


@pytest.mark.parametrize("refiner", [None, "ltx2"])
def test_method_info_is_read_back(folder, refiner):
    info = MethodInfo("sana-wm", "streaming", 16.0, "1280x720", refiner, {"steps": 4})
    write_method_info(folder, info)
    assert read_method_info(folder) == info
    # Readers check whether the key is there.
    assert ("refiner" in json.loads(folder.info_file().read_text())) == (refiner is not None)


def test_method_info_of_others_is_read(folder):
    folder.path.mkdir()
    plain = {"model": "m", "variant": "v", "fps": 16, "resolution": [720, 1280], "refiner": False}
    folder.info_file().write_text(json.dumps(plain))
    info = read_method_info(folder)
    assert (info.resolution, info.refiner, info.fps) == ("720x1280", None, 16.0)
    folder.info_file().write_text(json.dumps({"model": "m"}))
    with pytest.raises(BenchDataError, match="lacks variant, fps, resolution"):
        read_method_info(folder)
