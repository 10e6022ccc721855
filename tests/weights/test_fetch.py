"""Which files the hub is queried for, which commits are taken and recorded, and what is refused."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

from sana_wm_gym.weights.fetch import RECORD, fetch, revisions_of
from sana_wm_gym.weights.preflight import Machine
from sana_wm_gym.weights.releases import RELEASES, release

STREAMING = release("sana-wm-streaming")
OWN = "Efficient-Large-Model/SANA-WM_streaming"
GEMMA = "Efficient-Large-Model/gemma-2-2b-it"
SHA, OTHER = "0123456789abcdef0123456789abcdef01234567", "f" * 40
ROOM = Machine(disk=10**15, ram=None, vram=None)
FILES = {
    OWN: {
        "sana_dit/model.pt": 3000,
        "ltx2_causal_vae/config.json": 10,
        "ltx2_causal_vae/model.safetensors": 200,
        "refiner_diffusers/transformer/a.safetensors": 4000,
        "README.md": 7,
    },
    GEMMA: {"config.json": 5, "model.safetensors": 600, "tokenizer.json": 9},
}


class Hub:
    """Stands in for huggingface_hub; a download writes the files, or breaks off after some."""

    def __init__(self, cache):
        self.constants = SimpleNamespace(HF_HUB_CACHE=str(cache))
        self.cache = cache
        self.newest = SHA
        self.downloads = []
        self.breaks_after = None

    def HfApi(self):  # noqa: N802
        return self

    def model_info(self, hub_id, revision, files_metadata):
        assert files_metadata
        if hub_id not in FILES:
            raise OSError("no such repository")
        sha = self.newest if revision == "main" else revision
        files = [SimpleNamespace(rfilename=n, size=s) for n, s in FILES[hub_id].items()]
        return SimpleNamespace(sha=sha, siblings=files)

    def folder(self, hub_id, commit):
        return self.cache / f"models--{hub_id.replace('/', '--')}" / "snapshots" / commit

    def try_to_load_from_cache(self, hub_id, name, cache_dir, revision):
        file = self.folder(hub_id, revision) / name
        return str(file) if file.exists() else None

    def snapshot_download(self, hub_id, revision, allow_patterns, local_files_only, cache_dir):
        from fnmatch import fnmatch

        assert cache_dir == self.cache
        self.downloads.append((hub_id, revision, local_files_only))
        folder = self.folder(hub_id, revision)
        if local_files_only:
            if not folder.exists():
                raise ValueError("not in the cache")
            return str(folder)
        for i, (name, size) in enumerate(FILES[hub_id].items()):
            if not any(fnmatch(name, pattern) for pattern in allow_patterns):
                continue
            if i == self.breaks_after:
                raise OSError("connection lost")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(bytes(size))
        return str(folder)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    stand_in = Hub(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", stand_in)
    return stand_in


def take(**options):
    return fetch(STREAMING, **{"machine": ROOM, **options})


def test_parts_at_a_given_commit(hub, tmp_path):
    lines = []
    got = take(revisions={OWN: SHA}, components=["generator", "vae"], report=lines.append)
    folder = hub.folder(OWN, SHA)
    assert got.paths == {
        "generator": folder / "sana_dit/model.pt",
        "vae": folder / "ltx2_causal_vae",
    }
    assert got.revisions == {OWN: SHA} and lines == [f"{OWN} at {SHA}"]
    assert hub.downloads == [(OWN, SHA, False)]
    assert not (folder / "README.md").exists() and not (folder / "refiner_diffusers").exists()
    assert json.loads((tmp_path / RECORD).read_text()) == {OWN: SHA}


def test_no_commit_is_ever_guessed(hub):
    with pytest.raises(ValueError, match=f"no commit is known for {OWN}; give --revision"):
        take(components=["vae"])
    with pytest.raises(ValueError, match="fetch once without --offline"):
        take(components=["vae"], latest=True, offline=True)
    assert not hub.downloads
    assert all(part.repository.pin is None for r in RELEASES for part in r.components)


def test_the_newest_is_recorded_and_taken_again(hub):
    assert take(components=["vae", "text"], latest=True).revisions == {OWN: SHA, GEMMA: SHA}
    hub.newest = OTHER
    assert take(components=["vae"]).revisions == {OWN: SHA}
    assert take(components=["vae"], latest=True).revisions == {OWN: SHA}
    assert take(components=["vae"], revisions={OWN: "main"}).revisions == {OWN: OTHER}
    assert take(components=["vae", "text"]).revisions == {OWN: OTHER, GEMMA: SHA}


def test_offline_takes_what_is_there(hub):
    take(components=["vae"], latest=True)
    assert take(components=["vae"], offline=True).revisions == {OWN: SHA}
    assert hub.downloads[-1] == (OWN, SHA, True)
    with pytest.raises(FileNotFoundError, match="lacks sana_dit/model.pt of generator"):
        take(components=["vae", "generator"], offline=True)
    with pytest.raises(ValueError, match="expected 40 hexadecimal digits"):
        take(components=["vae"], revisions={OWN: "main"}, offline=True)
    with pytest.raises(FileNotFoundError, match="not in the cache"):
        take(components=["vae"], revisions={OWN: OTHER}, offline=True)


def test_a_broken_download_goes_on_and_needs_only_the_rest(hub, tmp_path):
    parts = {"components": ["generator", "vae"], "revisions": {OWN: SHA}}
    hub.breaks_after = 1
    with pytest.raises(FileNotFoundError, match="run it again to resume: connection lost"):
        take(**parts)
    assert not (tmp_path / RECORD).exists()
    hub.breaks_after = None
    with pytest.raises(ValueError, match="not enough room .* disk"):
        take(**parts, machine=Machine(disk=209, ram=None, vram=None))
    take(**parts, machine=Machine(disk=210, ram=None, vram=None))


def test_too_small_a_disk_is_refused_before_a_byte_is_read(hub):
    with pytest.raises(ValueError, match="missing files of sana-wm-streaming: disk: needs"):
        take(components=["generator", "text"], latest=True, machine=Machine(3613, None, None))
    assert not hub.downloads


def test_a_changed_layout_is_named(hub, monkeypatch):
    monkeypatch.setitem(FILES, OWN, {"weights.bin": 1})
    with pytest.raises(FileNotFoundError, match="has no ltx2_causal_vae for vae; .* layout"):
        take(components=["vae"], latest=True)


def test_hub_errors_become_one_line(hub):
    with pytest.raises(FileNotFoundError, match="cannot get .*bidirectional at main: no such"):
        take(components=["settings"], latest=True)


def test_a_damaged_record_is_refused(hub, tmp_path):
    for text in ("{", '{"a/b": "main"}', "[1]"):
        (tmp_path / RECORD).write_text(text)
        with pytest.raises(ValueError, match="is damaged .*delete it and give --revision"):
            take(components=["vae"])


def test_unknown_parts_are_refused(hub):
    with pytest.raises(ValueError, match="given component 'dit'; sana-wm-streaming has"):
        take(components=["dit"], latest=True)
    with pytest.raises(ValueError, match="given release 'sana'; expected one of"):
        release("sana")


def test_what_revision_says():
    assert revisions_of(STREAMING, [SHA, f"{GEMMA}=main"]) == {OWN: SHA, GEMMA: "main"}
    for wrong in ("a/b=main", f"{OWN}=", ""):
        with pytest.raises(ValueError, match="given --revision"):
            revisions_of(STREAMING, [wrong])


def test_absent_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install sana_wm_gym\[hub\]"):
        take()


def test_the_real_package_reads_its_cache(tmp_path):
    """The layout that the stand-in and `plan` assume is that of huggingface_hub."""
    pytest.importorskip("huggingface_hub")
    vae = Hub(tmp_path).folder(OWN, SHA) / "ltx2_causal_vae"
    vae.mkdir(parents=True)
    (vae / "config.json").write_text("{}")
    got = take(components=["vae"], revisions={OWN: SHA}, offline=True, cache=tmp_path)
    assert got.paths["vae"].samefile(vae)
    with pytest.raises(FileNotFoundError, match="cannot get .*fetch once without --offline"):
        take(components=["vae"], revisions={OWN: OTHER}, offline=True, cache=tmp_path)
