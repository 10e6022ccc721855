"""Files of the Hugging Face hub at one commit, by an address: "hf://owner/name@commit"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

SCHEME = "hf://"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
WORLD = "world.safetensors"
"""Where a repository of a world has its world file."""


def snapshot(
    hub_id: str,
    commit: str,
    patterns: Sequence[str],
    kind: Literal["model", "dataset"] = "model",
    *,
    offline: bool = False,
) -> Path:
    """A folder with the files of a repository that fit the patterns, fetched if they are not in
    the hub's cache.

    Args:
        hub_id: As in "owner/name".
        commit: 40 hexadecimal digits.
        patterns: Globs.
        kind: Of repository.
        offline: Use only the cache. The variable HF_HUB_OFFLINE has the same effect.

    Raises:
        ImportError: huggingface_hub is not installed.
        FileNotFoundError: The hub, or offline the cache, has no such repository or commit.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError(f"{hub_id} is on the hub: pip install sana_wm_gym[hub]") from error
    try:
        path = snapshot_download(
            hub_id,
            repo_type=kind,
            revision=commit,
            allow_patterns=list(patterns),
            local_files_only=offline,
        )
    # The hub's errors are OSError or ValueError, depending on its version.
    except (OSError, ValueError) as error:
        hint = "; fetch it once without offline" if offline else ""
        reason = " ".join(str(error).split())[:300]
        raise FileNotFoundError(f"cannot get {hub_id} at {commit}{hint}: {reason}") from error
    return Path(path)


def require_address(address: str) -> tuple[str, str]:
    """Hub id and commit of an address; ValueError for another text."""
    hub_id, _, commit = address.removeprefix(SCHEME).partition("@")
    if not (address.startswith(SCHEME) and HUB_ID.fullmatch(hub_id) and COMMIT.fullmatch(commit)):
        raise ValueError(
            f"given {address!r}, expected hf://owner/name@commit with a commit of 40 hexadecimal "
            "digits: branches and tags move"
        )
    return hub_id, commit


def fetch_world(address: str) -> Path:
    """The world file of an address. It is the only file that is fetched, and no code.

    Raises:
        ValueError: The address is malformed.
        ImportError: huggingface_hub is not installed.
        FileNotFoundError: The hub has no such repository or commit, or no world is in it.
    """
    path = snapshot(*require_address(address), [WORLD]) / WORLD
    if not path.is_file():
        raise FileNotFoundError(f"{address} has no {WORLD}, so it is no world")
    return path
