"""A walk on disk: video, trajectory, snapshot, or the walk itself, which can be replayed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from sana_wm_gym.checks import require_choice
from sana_wm_gym.files import atomic_path
from sana_wm_gym.play.session import Session
from sana_wm_gym.video import VideoWriter


def _video(session: Session, path: Path) -> None:
    """Every frame, generated again from the walk."""
    again = Session(session.simulation.config, session.walk.seed)
    with VideoWriter(path, session.spec.fps) as writer:
        writer.add([again.first_frame()])
        for chunk in again.replay(session.walk):
            writer.add(chunk.frames)


def _trajectory(session: Session, path: Path) -> None:
    """Commanded poses [n, 4, 4], intrinsics and rate, as json."""
    values = {
        "c2w": session.poses().tolist(),
        "intrinsics": list(session.here.intrinsics),
        "fps": session.spec.fps,
    }
    with atomic_path(path) as partial:
        Path(partial).write_text(json.dumps(values), encoding="utf-8")


def _snapshot(session: Session, path: Path) -> None:
    session.snapshot().save(path, session.simulation.world, session.simulation.task)


def _walk(session: Session, path: Path) -> None:
    session.walk.save(path)


KINDS: Mapping[str, tuple[str, Callable[[Session, Path], None]]] = {
    "video": ("mp4", _video),
    "trajectory": ("json", _trajectory),
    "snapshot": ("safetensors", _snapshot),
    "walk": ("walk.json", _walk),
}
"""What can be saved: suffix and writer."""


def save_walk(session: Session, what: str, folder: Path) -> Path:
    """Write a walk under the next free number; returns the file.

    Raises:
        ValueError: There is no such kind, or the world's states cannot be written.
        OSError: The folder cannot be written.
    """
    require_choice("what", what, KINDS)
    suffix, write = KINDS[what]
    folder.mkdir(parents=True, exist_ok=True)
    taken = {int(p.name[5:9]) for p in folder.glob("walk-[0-9][0-9][0-9][0-9].*")}
    number = next(n for n in np.arange(10_000).tolist() if n not in taken)
    path = folder / f"walk-{number:04}.{suffix}"
    write(session, path)
    return path
