"""A run's folder: run.json with its identity, and the files of every scene in scenes/, frames/,
paths/ and made/. What has a file is not done again when a stopped run is started again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sana_wm_gym.evaluation.bench.files import Record
from sana_wm_gym.evaluation.control.score_video import Scoring
from sana_wm_gym.files import remove_leftovers, write_json

_FORMAT = 1  # of scene results


def claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Make a folder this run's; `ValueError` lists what differs where it holds another run."""
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
    return {"format": _FORMAT, **vars(scoring), "estimator": f"{kind.__module__}: {shown}"}


def refuse_mix(what: str, folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise `ValueError` where `old` and `new` differ, naming each key with both values."""
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
    """A document of the run, or None before it is written; `BenchDataError` for a damaged one."""
    return dict(Record.read(path).row) if path.is_file() else None
