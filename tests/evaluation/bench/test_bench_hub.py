"""Benches by name: what the hub is asked for, and what is refused before it is asked."""

from __future__ import annotations

import fnmatch
import sys
from types import SimpleNamespace

import pytest

from sana_wm_gym.evaluation.bench.hub import PUBLIC_BENCH, bench_root, patterns

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Stands in for huggingface_hub: remembers what it was asked for."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def snapshot_download(self, repo_id, **options):
        self.asked.append((repo_id, options))
        if isinstance(self.answer, Exception):
            raise self.answer
        return str(self.answer)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    stand_in = Hub(tmp_path / "snapshot")
    module = SimpleNamespace(snapshot_download=stand_in.snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.chdir(tmp_path)
    return stand_in


def test_one_commit_of_a_dataset_is_asked_for(hub, tmp_path):
    assert bench_root(PUBLIC_BENCH, COMMIT) == tmp_path / "snapshot"
    ((repository, options),) = hub.asked
    assert repository == "Efficient-Large-Model/SANA-WM-Bench"
    assert options == {
        "repo_type": "dataset",
        "revision": COMMIT,
        "allow_patterns": patterns(),
        "local_files_only": False,
        "cache_dir": None,
    }
    bench_root(PUBLIC_BENCH, COMMIT, splits=("hard",), offline=True, cache=tmp_path)
    changed = {
        "local_files_only": True,
        "cache_dir": tmp_path,
        "allow_patterns": patterns(["hard"]),
    }
    assert hub.asked[1][1] == {**options, **changed, "allow_patterns": patterns(["hard"])}


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
    assert not hub.asked


def test_folders_are_taken_as_they_are(hub, tmp_path):
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert bench_root("owner/name").samefile(tmp_path / "owner" / "name")
    assert bench_root(tmp_path) == tmp_path
    with pytest.raises(ValueError, match="is a folder"):
        bench_root(tmp_path, COMMIT)
    assert not hub.asked


@pytest.mark.parametrize("source", ["nowhere", "/no/such/folder", "a/b/c", "../bench", "a/.b"])
def test_other_names_are_refused(hub, source):
    with pytest.raises(ValueError, match="expected one or a hub id"):
        bench_root(source, COMMIT)
    assert not hub.asked


def test_unknown_splits_are_refused_before_anything_is_fetched(hub):
    for splits, words in ((("easy",), "unknown split"), ((), "no splits")):
        with pytest.raises(ValueError, match=words):
            bench_root(PUBLIC_BENCH, COMMIT, splits=splits)
    assert not hub.asked


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("not cached")])
@pytest.mark.parametrize("offline", [True, False])
def test_hub_errors_become_one_line(hub, error, offline):
    hub.answer = error
    with pytest.raises(FileNotFoundError, match=f"cannot get .*{COMMIT}.*{error}") as caught:
        bench_root(PUBLIC_BENCH, COMMIT, offline=offline)
    assert ("without offline" in str(caught.value)) == offline


def test_absent_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install sana_wm_gym\[hub\]"):
        bench_root(PUBLIC_BENCH, COMMIT)
