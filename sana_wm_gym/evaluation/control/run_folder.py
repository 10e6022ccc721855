"""A run's files: what it is a run of, and one result per scene, each written whole.

    run.json                      the run's identity: world, weights, seed, scoring
    scenes/<split>/<scene>.json   result, or why there is none
    scenes/<split>/<scene>.png    a few frames
    made/<split>/<scene>.json     what making the video took; written after the video

A run may be stopped at any point and started again: what has a file is not done again. A folder
never mixes runs: another identity, or a scene whose files changed, is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sana_wm_gym.evaluation.bench.files import BenchDataError, inside, parse_object, read_text
from sana_wm_gym.evaluation.bench.layout import FOLDERS, MANIFEST, SceneEntry
from sana_wm_gym.files import remove_leftovers, sha256, write_json


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps its files.

    Attributes:
        path: The folder.
    """

    path: Path

    def claim(self, identity: Mapping[str, Any]) -> None:
        """Make the folder this run's, or check that it is.

        Raises:
            ValueError: It holds another run; says in what they differ.
        """
        remove_leftovers(self.path)
        target = self.path / "run.json"
        if target.is_file():
            differ("this run", self.path, parse_object(read_text(target), target), identity)
        else:
            write_json(target, identity)

    def result_file(self, split: str, scene: str) -> Path:
        """Result of a scene."""
        return self.path / "scenes" / split / f"{scene}.json"

    def strip_file(self, split: str, scene: str) -> Path:
        """A few frames of a scene's video."""
        return self.path / "scenes" / split / f"{scene}.png"

    def made_file(self, split: str, scene: str) -> Path:
        """What making a scene's video took."""
        return self.path / "made" / split / f"{scene}.json"


def differ(what: str, folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse to mix.

    Raises:
        ValueError: `old` and `new` differ; names each key with both values.
    """
    plain = json.loads(json.dumps(dict(new)))
    changed = [
        f"{key} was {_short(old.get(key))}, now {_short(plain.get(key))}"
        for key in dict.fromkeys([*old, *plain])
        if old.get(key) != plain.get(key)
    ]
    if changed:
        raise ValueError(
            f"{folder} holds results of something else than {what}: {'; '.join(changed)}. Results "
            "are not mixed: give another folder, or remove this one"
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:24] + "..." + text[-16:]


def read_json(path: Path) -> dict[str, Any] | None:
    """A document of the run, or None before it is written.

    Raises:
        BenchDataError: The file is no json object.
    """
    return dict(parse_object(read_text(path), path)) if path.is_file() else None


def scene_digest(entry: SceneEntry, videos: Sequence[Path] = ()) -> str:
    """Digest of everything that a scene's result depends on: its rows, first frame and camera,
    and the video where somebody else made it. Files that are missing count as missing."""
    digest = hashlib.sha256(json.dumps([dict(entry.row), entry.trajectory]).encode())
    manifest = entry.root / FOLDERS[entry.split] / MANIFEST
    files = list(videos)
    for key in ("image_path", "camera_path"):
        try:
            files.append(inside(entry.root, entry.row, key, manifest, entry.id))
        except (BenchDataError, KeyError):
            continue  # reading the scene will say what is wrong with it
    for path in files:
        digest.update(sha256(path).encode() if path.is_file() else b"missing")
    return digest.hexdigest()
