"""A walk on disk: video, trajectory, snapshot, or the walk itself, which can be replayed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path

from sana_wm_gym.checks import require_choice
from sana_wm_gym.files import atomic_path
from sana_wm_gym.play.session import Session
from sana_wm_gym.video import VideoWriter


def _video(session: Session, path: Path) -> Iterator[None]:
    """Every frame, generated again from the walk."""
    walk = session.walk
    again = Session(session.simulation.config, walk.seed)
    with VideoWriter(path, session.spec.fps) as writer:
        writer.add([again.first_frame()])
        for chunk in again.replay(walk):
            writer.add(chunk.frames)
            yield


def _trajectory(session: Session, path: Path) -> Iterator[None]:
    """Commanded poses [n, 4, 4], intrinsics and rate, as json."""
    values = {
        "c2w": session.poses().tolist(),
        "intrinsics": list(session.here.intrinsics),
        "fps": session.spec.fps,
    }
    with atomic_path(path) as partial:
        Path(partial).write_text(json.dumps(values), encoding="utf-8")
    yield


def _snapshot(session: Session, path: Path) -> Iterator[None]:
    session.snapshot().save(path, session.simulation.world, session.simulation.task)
    yield


def _walk(session: Session, path: Path) -> Iterator[None]:
    session.walk.save(path)
    yield


KINDS: Mapping[str, tuple[str, Callable[[Session, Path], Iterator[None]]]] = {
    "video": ("mp4", _video),
    "trajectory": ("json", _trajectory),
    "snapshot": ("safetensors", _snapshot),
    "walk": ("walk.json", _walk),
}
"""What can be saved: suffix and writer."""


def save_walk(session: Session, what: str, folder: Path) -> Iterator[Path]:
    """Write a walk as it is now under the next free number, in steps of a chunk at most; each step
    gives the file, which is there after the last one.

    Raises:
        ValueError: There is no such kind, the walk began at a snapshot, or the world's states
            cannot be written.
        OSError: The folder cannot be written.
    """
    require_choice("what", what, KINDS)
    suffix, write = KINDS[what]
    folder.mkdir(parents=True, exist_ok=True)
    taken = {p.name[:9] for p in folder.glob("walk-*")}
    name = next(name for n in count() if (name := f"walk-{n:04}") not in taken)
    path = folder / f"{name}.{suffix}"
    for _ in write(session, path):
        yield path
