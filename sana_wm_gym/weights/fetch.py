"""Parts of a release from the hub, at known commits, into its cache.

The first fetch of a repository requires a commit, or takes the newest. The commit is recorded next
to the cache, and every later fetch, offline too, takes the same. `huggingface_hub` resumes
interrupted downloads.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sana_wm_gym.files import write_json
from sana_wm_gym.weights.preflight import Machine, Need, require, this_machine
from sana_wm_gym.weights.releases import Component, Release

RECORD = "sana_wm_gym_revisions.json"
NEWEST = "main"
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Fetched:
    """Where a release is on this machine.

    Attributes:
        release: Which one.
        paths: File or folder of each part that was asked for.
        revisions: Commit of each repository.
    """

    release: Release
    paths: Mapping[str, Path]
    revisions: Mapping[str, str]


def fetch(
    release: Release,
    *,
    revisions: Mapping[str, str] | None = None,
    components: Sequence[str] | None = None,
    latest: bool = False,
    offline: bool = False,
    cache: Path | None = None,
    machine: Machine | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Fetched:
    """Bring parts of a release onto this machine, or find them there.

    Args:
        release: Which one.
        revisions: Revisions by hub id; a branch or tag is resolved to its commit.
        components: Names of parts; None takes all.
        latest: Take the newest commit of repositories that have no revision yet.
        offline: Use only what an earlier fetch left in the cache.
        cache: Folder of the cache; None is the hub's own.
        machine: Free disk to compare with; None is this machine.
        report: Called with a line per repository.

    Raises:
        ImportError: huggingface_hub is not installed.
        ValueError: No such component, no revision is known, or the disk is too small.
        FileNotFoundError: The hub cannot be reached or lacks the repository, revision or files;
            offline, the cache lacks them.
    """
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise ImportError("releases are on the hub: pip install sana_wm_gym[hub]") from error
    cache = default_cache() if cache is None else Path(cache)
    names = [part.name for part in release.components] if components is None else components
    groups: dict[str, list[Component]] = {}
    for name in dict.fromkeys(names):
        part = release.component(name)
        groups.setdefault(part.repository.hub_id, []).append(part)
    wanted = known_revisions(release.components, cache) | dict(revisions or {})
    unpinned = ", ".join(sorted(groups.keys() - wanted.keys()))
    if unpinned and offline:
        raise ValueError(f"no commit is known for {unpinned}; fetch once without --offline")
    if unpinned and not latest:
        raise ValueError(
            f"no commit is known for {unpinned}; give --revision COMMIT (or --revision "
            "HUB_ID=COMMIT), or --latest to take the newest and record it"
        )

    commits: dict[str, str] = {}
    missing = 0
    for hub_id, parts in groups.items():
        revision = wanted.get(hub_id, NEWEST)
        if offline:
            commits[hub_id] = _require_commit(hub_id, revision)
        else:
            commits[hub_id], size = _ask(hub, hub_id, revision, parts, cache)
            missing += size
            report(f"{hub_id} at {commits[hub_id]}")
    if not offline:
        free = this_machine(cache) if machine is None else machine
        require(Need(disk=missing), free, f"the missing files of {release.name}")
    paths: dict[str, Path] = {}
    for hub_id, parts in groups.items():
        folder = _download(hub, hub_id, commits[hub_id], parts, offline, cache)
        for part in parts:
            if not part.files(folder):
                raise FileNotFoundError(
                    f"{folder} lacks {part.path or 'the files'} of {part.name}; "
                    "fetch it without --offline"
                )
            paths[part.name] = folder / part.path
        record = _read_record(cache) | {hub_id: commits[hub_id]}
        write_json(cache / RECORD, dict(sorted(record.items())))
    return Fetched(release, paths, commits)


def known_revisions(parts: Sequence[Component], cache: Path) -> dict[str, str]:
    """Commits of the parts' repositories, recorded ones before pinned ones."""
    recorded = _read_record(cache)
    repositories = [part.repository for part in parts]
    known = {one.hub_id: recorded.get(one.hub_id, one.pin) for one in repositories}
    return {hub_id: commit for hub_id, commit in known.items() if commit is not None}


def revisions_of(release: Release, arguments: Sequence[str]) -> dict[str, str]:
    """Revisions by hub id of `--revision` arguments; a bare one is the generator repository's.

    Raises:
        ValueError: Another repository than the release's is named, or an empty revision.
    """
    own = release.component("generator").repository.hub_id
    ids = {part.repository.hub_id for part in release.components}
    found = {}
    for argument in arguments:
        hub_id, _, revision = argument.rpartition("=")
        hub_id = hub_id or own
        if hub_id not in ids or not revision:
            raise ValueError(
                f"given --revision {argument}; expected COMMIT, or HUB_ID=COMMIT of {sorted(ids)}"
            )
        found[hub_id] = revision
    return found


def default_cache() -> Path:
    """The hub's own cache; also where huggingface_hub is not installed."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")) / "hub"
    return Path(constants.HF_HUB_CACHE)


def _require_commit(hub_id: str, revision: str) -> str:
    if not _COMMIT.fullmatch(revision):
        raise ValueError(
            f"given revision {revision!r} of {hub_id} offline; expected 40 hexadecimal digits"
        )
    return revision


def _ask(
    hub: Any, hub_id: str, revision: str, parts: Sequence[Component], cache: Path
) -> tuple[str, int]:
    """Commit of a revision, and the bytes of the parts' files that are not in the cache."""
    try:
        info = hub.HfApi().model_info(hub_id, revision=revision, files_metadata=True)
    # The hub's errors are OSError or ValueError, depending on its version.
    except (OSError, ValueError) as error:
        raise _unreachable(hub_id, revision, error, "") from error
    commit = _require_commit(hub_id, str(info.sha))
    files = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    owned: dict[str, int] = {}
    for part in parts:
        own = {name: size for name, size in files.items() if part.owns(name)}
        if not own:
            raise FileNotFoundError(
                f"{hub_id} at {commit} has no {part.path or 'files'} for {part.name}; "
                "the release has changed its layout"
            )
        owned |= own
    missing = 0
    for name, size in owned.items():
        stored = hub.try_to_load_from_cache(hub_id, name, cache_dir=cache, revision=commit)
        missing += 0 if isinstance(stored, str) else size
    return commit, missing


def _download(
    hub: Any, hub_id: str, commit: str, parts: Sequence[Component], offline: bool, cache: Path
) -> Path:
    try:
        folder = hub.snapshot_download(
            hub_id,
            revision=commit,
            allow_patterns=[pattern for part in parts for pattern in part.patterns],
            local_files_only=offline,
            cache_dir=cache,
        )
    except (OSError, ValueError) as error:
        hint = "; fetch once without --offline" if offline else "; run it again to resume"
        raise _unreachable(hub_id, commit, error, hint) from error
    return Path(folder)


def _unreachable(hub_id: str, revision: str, error: Exception, hint: str) -> FileNotFoundError:
    reason = " ".join(str(error).split())[:300]
    return FileNotFoundError(f"cannot get {hub_id} at {revision}{hint}: {reason}")


def _read_record(cache: Path) -> dict[str, str]:
    path = cache / RECORD
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(hub_id): _require_commit(hub_id, commit) for hub_id, commit in content.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it and give --revision") from error
