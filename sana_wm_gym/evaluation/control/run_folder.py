"""A run's files: what it is a run of, and one result per scene, each written whole.

    run.json                      the run's identity: world, weights, seed, scoring
    scenes/<split>/<scene>.json   result, or why there is none
    frames/<split>/<scene>.png    a few frames
    paths/<split>/<scene>.png     camera paths
    made/<split>/<scene>.json     what making the video took; written after the video

A run may be stopped at any point and started again: what has a file is not done again. A folder
never mixes runs: another identity, or a scene whose files changed, is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sana_wm_gym.evaluation.bench.files import BenchDataError, Record
from sana_wm_gym.evaluation.bench.reader import SceneEntry
from sana_wm_gym.evaluation.control.score_video import Scoring
from sana_wm_gym.files import remove_leftovers, sha256, write_json

FORMAT = 1
"""Of scene results; another one is never mixed with this."""


def claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Make a folder this run's, or check that it is.

    Raises:
        ValueError: It holds another run; the message lists what differs.
    """
    remove_leftovers(folder)
    old = read_json(folder / "run.json")
    if old is None:
        write_json(folder / "run.json", identity)
    else:
        refuse_mix("this run", folder, old, identity)


def scene_file(folder: Path, kind: str, split: str, scene: str) -> Path:
    """A scene's file in a run's folder: of kind `scenes`, `frames`, `paths` or `made`."""
    suffix = "json" if kind in ("scenes", "made") else "png"
    return folder / kind / split / f"{scene}.{suffix}"


def scoring_identity(scoring: Scoring) -> dict[str, Any]:
    """What of the scoring a result depends on, as plain values."""
    kind = type(scoring.estimator)
    shown = repr(scoring.estimator) if hasattr(kind, "__dataclass_fields__") else kind.__qualname__
    return {"format": FORMAT, **vars(scoring), "estimator": f"{kind.__module__}: {shown}"}


def refuse_mix(what: str, folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse to mix results of two runs in a folder.

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
    return dict(Record.read(path).row) if path.is_file() else None


def scene_digest(entry: SceneEntry, videos: Sequence[Path] = ()) -> str:
    """Digest of everything that a scene's result depends on: its rows, first frame and camera,
    and the video where somebody else made it. Files that are missing count as missing."""
    trajectory = None if entry.trajectory is None else dict(entry.trajectory.row)
    digest = hashlib.sha256(json.dumps([dict(entry.manifest.row), trajectory]).encode())
    files = list(videos)
    for key in ("image_path", "camera_path"):
        try:
            files.append(entry.manifest.file(key, entry.root))
        except BenchDataError:
            continue  # reading the scene will say what is wrong with it
    for path in files:
        digest.update(sha256(path).encode() if path.is_file() else b"missing")
    return digest.hexdigest()
