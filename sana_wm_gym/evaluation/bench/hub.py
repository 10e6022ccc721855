"""A bench by name: a folder on this machine, or one commit of a dataset of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sana_wm_gym.evaluation.bench.layout import (
    EXPORT,
    FOLDERS,
    IMAGES,
    KEPT_SCENES,
    MANIFEST,
    TRAJECTORIES,
    split_of,
)
from sana_wm_gym.weights.hub import COMMIT, HUB_ID, snapshot

PUBLIC_BENCH = "Efficient-Large-Model/SANA-WM-Bench"
"""Hub id of the published bench."""


def bench_root(
    source: str | Path,
    revision: str | None = None,
    *,
    splits: Sequence[str] = tuple(FOLDERS),
    offline: bool = False,
) -> Path:
    """The folder that a bench is in, fetched if it is a hub id.

    Args:
        source: A folder, or a hub id as in "owner/name".
        revision: Commit of the hub dataset, 40 hexadecimal digits.
        splits: Which splits to fetch.
        offline: Use only what an earlier fetch left in the hub's cache.

    Raises:
        ValueError: Neither a folder nor a hub id, a revision that is no commit or given for a
            folder, or no such split.
        ImportError: huggingface_hub is needed and not installed.
        FileNotFoundError: The hub, or offline the cache, has no such dataset or commit.
    """
    if Path(source).is_dir():
        if revision is not None:
            raise ValueError(f"revision {revision} is for hub datasets, {source} is a folder")
        return Path(source)
    if not HUB_ID.fullmatch(str(source)):
        raise ValueError(f"no folder {source}, expected one or a hub id such as {PUBLIC_BENCH}")
    allowed = patterns(splits)
    if revision is None or not COMMIT.fullmatch(revision):
        raise ValueError(
            f"revision of {source} is {revision!r}, expected a commit of 40 hexadecimal digits: "
            "branches and tags move, and scores would no longer compare. The dataset's page lists "
            "commits under Files, History"
        )
    return snapshot(str(source), revision, allowed, "dataset", offline=offline)


def patterns(splits: Sequence[str] = tuple(FOLDERS)) -> list[str]:
    """Glob patterns of a bench's files for some splits; `ValueError` for none or an unknown one."""
    if not splits:
        raise ValueError("no splits given, expected at least one")
    found = [f"{IMAGES}/*.png", KEPT_SCENES]
    for folder in dict.fromkeys(FOLDERS[split_of(split)] for split in splits):
        found += [f"{folder}/{TRAJECTORIES}", f"{folder}/{MANIFEST}", f"{folder}/{EXPORT}/*.npz"]
    return found
