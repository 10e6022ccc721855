"""Benches by name: what is fetched from the hub, and what is refused before."""

from __future__ import annotations

import fnmatch
import sys
from unittest.mock import Mock

import pytest

from sana_wm_gym.evaluation.bench.hub import PUBLIC_BENCH, bench_root, patterns

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """In place of huggingface_hub."""
    download = Mock(return_value=str(tmp_path / "snapshot"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", Mock(snapshot_download=download))
    monkeypatch.chdir(tmp_path)
    return download


def test_one_commit_of_a_dataset_is_fetched(hub, tmp_path):
    assert bench_root(PUBLIC_BENCH, COMMIT) == tmp_path / "snapshot"
    options = {
        "repo_type": "dataset",
        "revision": COMMIT,
        "allow_patterns": patterns(),
        "local_files_only": False,
    }
    hub.assert_called_once_with("Efficient-Large-Model/SANA-WM-Bench", **options)
    bench_root(PUBLIC_BENCH, COMMIT, splits=("hard",), offline=True)
    options |= {"local_files_only": True, "allow_patterns": patterns(["hard"])}
    hub.assert_called_with(PUBLIC_BENCH, **options)


@pytest.mark.parametrize(
    ("splits", "wanted"),
    [
        (("simple",), {"smooth"}),
        (("hard_60s",), {"hard"}),
        (("simple", "hard"), {"smooth", "hard"}),
    ],
)
def test_patterns_fit_the_layout(splits, wanted):
    files = ["images/indoor_001.png", "scene_set/kept_scenes.txt"]
    for split in ("smooth", "hard"):
        folder = f"benchmark_v2_{split}_60s"
        files += [
            f"{folder}/scene_trajectories_v2.json",
            f"{folder}/sanawm_export_v2/run_manifest.jsonl",
            f"{folder}/sanawm_export_v2/indoor_001.npz",
        ]
    others = ["README.md", "results/demo.mp4", "weights.bin"]

    def taken(file):
        return any(fnmatch.fnmatch(file, pattern) for pattern in patterns(splits))

    assert not any(map(taken, others))
    expected = {f for f in files if "_v2" not in f or any(f"v2_{s}_60s" in f for s in wanted)}
    assert set(filter(taken, files)) == expected


@pytest.mark.parametrize("revision", [None, "main", "v1.0", COMMIT[:12], COMMIT + "0", "G" * 40])
def test_only_commits_pin(hub, revision):
    with pytest.raises(ValueError, match="40 hexadecimal digits: branches and tags move"):
        bench_root(PUBLIC_BENCH, revision)
    hub.assert_not_called()


def test_folders_are_taken_as_they_are(hub, tmp_path):
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert bench_root("owner/name").samefile(tmp_path / "owner" / "name")
    assert bench_root(tmp_path) == tmp_path
    with pytest.raises(ValueError, match="is a folder"):
        bench_root(tmp_path, COMMIT)
    hub.assert_not_called()


@pytest.mark.parametrize("source", ["nowhere", "/no/such/folder", "a/b/c", "../bench", "a/.b"])
def test_other_names_are_refused(hub, source):
    with pytest.raises(ValueError, match="expected one or a hub id"):
        bench_root(source, COMMIT)
    hub.assert_not_called()


def test_unknown_splits_are_refused_before_anything_is_fetched(hub):
    for splits, words in ((("easy",), "unknown split"), ((), "no splits")):
        with pytest.raises(ValueError, match=words):
            bench_root(PUBLIC_BENCH, COMMIT, splits=splits)
    hub.assert_not_called()


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("not cached")])
@pytest.mark.parametrize("offline", [True, False])
def test_hub_errors_become_one_line(hub, error, offline):
    hub.side_effect = error
    with pytest.raises(FileNotFoundError, match=f"cannot get .*{COMMIT}.*{error}") as caught:
        bench_root(PUBLIC_BENCH, COMMIT, offline=offline)
    assert ("without offline" in str(caught.value)) == offline


def test_absent_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install sana_wm_gym\[hub\]"):
        bench_root(PUBLIC_BENCH, COMMIT)
