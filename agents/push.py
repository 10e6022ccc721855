"""Send a world, a policy or a dataset to the Hugging Face hub, with a card of its evaluation.

    sana-wm push world outputs/tiny/tiny.safetensors owner/name --evaluation scores.json
    sana-wm push policy outputs/agents/RUN owner/name
    sana-wm push dataset image_goal/expert-v0 owner
    sana-wm push policy outputs/agents/RUN owner/name --dry-run

It prints the address, hf://owner/name@commit, which `world=` and `load_policy` take. Worlds and
policies are safetensors and JSON: the .zip of stable-baselines3 stays here. Datasets lie as Minari
lays them out, so that `minari download` finds them. The hub's own login or HF_TOKEN is used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sana_wm_gym.files import read_json
from sana_wm_gym.flags import FlagParser
from sana_wm_gym.tables import Table, cell, plain_markdown
from sana_wm_gym.weights.hub import HUB_ID, SCHEME, WORLD

_PROVENANCE = ("command", "commit", "device", "date")
_GROUP = "namespace_metadata.json"
_ROWS = 80  # of a card's table; the file has all


@dataclass(frozen=True)
class Upload:
    """What goes to the hub.

    Attributes:
        hub_id: Repository, as in "owner/name".
        kind: Of repository.
        files: By their place in it.
        card: Text of its README.md.
        dataset: Its Minari id, "group/name-v0"; None for a world or policy.
    """

    hub_id: str
    kind: Literal["model", "dataset"]
    files: Mapping[str, Path]
    card: str
    dataset: str | None = None


def world_upload(source: str, hub_id: str, evaluation: Path | None) -> Upload:
    """A world file, read once before.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no world, or the evaluation is no JSON.
    """
    from sana_wm_gym.weights.world_file import read_world_file
    from sana_wm_gym.world.learned.world_files import world_of

    path = Path(source)
    spec = world_of(read_world_file(path)).spec
    facts = [
        f"A world of `sana_wm_gym`: {spec.height} x {spec.width} pixels, {spec.fps:g} frames per "
        f"second, {spec.frames_per_chunk} per step.",
        f'    gym.make("SanaWM/World-v0", world="{SCHEME}{hub_id}@COMMIT")',
    ]
    files = {WORLD: path}
    if evaluation is None:
        facts.append("It was not evaluated.")
    else:
        document, files["evaluation.json"] = read_json(evaluation), evaluation
        facts += [_source(document), _table(document)]
    return Upload(hub_id, "model", files, _card(hub_id, ["world-model"], facts))


def policy_upload(source: str, hub_id: str, evaluation: Path | None) -> Upload:
    """The newest checkpoint of an evaluated run.

    Raises:
        FileNotFoundError: There is no run, or it has no checkpoint or evaluation.
        ValueError: A file is damaged, or the run's world is a file of this machine.
    """
    from sana_wm_gym.evaluation.episodes import read_evaluation

    from .policy import load_policy
    from .training.checkpoint import LEARNER
    from .training.run_folder import open_run

    run = open_run(Path(source))
    world = run.settings["world"].get("name", "")
    if world.endswith(".safetensors"):
        raise ValueError(
            f"the run's world is the file {world}, which others do not have: push it, and train "
            "with world=hf://owner/name@commit"
        )
    if run.checkpoint is None:
        raise FileNotFoundError(f"the run in {run.folder} has no checkpoint to push")
    load_policy(run.folder)
    path = evaluation or run.folder / "evaluation.json"
    found = read_evaluation(path)
    learner = run.checkpoint / LEARNER
    facts = [
        f"A policy of `sana_wm_gym` for the task `{found.task}`, trained in the world `{world}`.",
        "    from sana_wm_gym.agents.policy import load_policy\n"
        f'    policy = load_policy("{SCHEME}{hub_id}@COMMIT")',
        f"{len(found.episodes)} episodes in `{found.world}`. {_source(read_json(path))}",
        found.table("").markdown(),
    ]
    files = {
        "run.json": run.folder / "run.json",
        "evaluation.json": path,
        learner.relative_to(run.folder).as_posix(): learner,
    }
    return Upload(hub_id, "model", files, _card(hub_id, ["reinforcement-learning"], facts))


def dataset_upload(source: str, owner: str, folder: str | None) -> Upload:
    """A recorded dataset, where Minari looks for it: `image_goal/expert-v0` of an owner is the
    folder `expert-v0` of their repository `image_goal`.

    Raises:
        FileNotFoundError: There is no such dataset.
        ValueError: The name is malformed or not in one group, or its files are damaged.
        ImportError: Minari is not installed.
    """
    from sana_wm_gym.envs.dataset import dataset_path, open_dataset

    dataset, place = open_dataset(source, folder), dataset_path(source, folder)
    if source.count("/") != 1:  # others it does not find there
        raise ValueError(f"dataset is {source!r}, expected a name in one group: group/name-v0")
    files = {
        path.relative_to(place.parent).as_posix(): path
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }
    known = {k: v for k, v in dataset.storage.metadata.items() if "space" not in k}
    facts = [
        "Episodes of `sana_wm_gym`, a [Minari](https://minari.farama.org) dataset.",
        f"    MINARI_REMOTE=hf://{owner} minari download {source}",
        _table({k: v for k, v in known.items() if k not in ("env_spec", "eval_env_spec")}),
    ]
    card = _card(source, ["minari", "reinforcement-learning"], facts)
    return Upload(f"{owner}/{place.parent.name}", "dataset", files, card, source)


def push(upload: Upload, private: bool = False) -> str:
    """Send it in one commit, whose address is returned; a repository is made if there is none.
    Older checkpoints of a policy, and what else was in the dataset's folder, are removed.

    Raises:
        ImportError: huggingface_hub is not installed.
        OSError: The hub refuses it or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    owned, card = "checkpoints/", "README.md"
    if upload.dataset is not None:
        owned = f"{Path(upload.dataset).name}/"
        card = f"{owned}README.md"
    files: dict[str, Path | bytes] = {**upload.files, card: upload.card.encode()}
    try:
        api.create_repo(upload.hub_id, repo_type=upload.kind, private=private, exist_ok=True)
        if upload.dataset is not None:
            files[_GROUP] = _group(api, upload.hub_id, upload.dataset)
        there = api.list_repo_files(upload.hub_id, repo_type=upload.kind)
        stale = [name for name in there if name.startswith(owned) and name not in files]
        done = api.create_commit(
            upload.hub_id,
            [CommitOperationAdd(name, content) for name, content in files.items()]
            + [CommitOperationDelete(name) for name in stale],
            commit_message="sana-wm push",
            repo_type=upload.kind,
        )
    except (OSError, ValueError) as error:  # which of them depends on the hub's version
        raise OSError(f"{upload.hub_id} was not pushed: {' '.join(str(error).split())}") from error
    return f"{SCHEME}{upload.hub_id}@{done.oid}"


def _group(api: Any, hub_id: str, dataset: str) -> bytes:
    """Minari's list of the datasets of a group, with this one."""
    facts: dict[str, Any] = {}
    if api.file_exists(hub_id, _GROUP, repo_type="dataset"):
        facts = read_json(api.hf_hub_download(hub_id, _GROUP, repo_type="dataset"))
    return json.dumps({**facts, "datasets": sorted({*facts.get("datasets", ()), dataset})}).encode()


def _card(name: str, tags: Sequence[str], facts: Sequence[str]) -> str:
    head = "\n".join(f"- {tag}" for tag in ("sana_wm_gym", *tags))
    return (
        f"---\nlibrary_name: sana_wm_gym\ntags:\n{head}\n---\n\n# {name}\n\n"
        + "\n\n".join(fact.rstrip() for fact in facts if fact)
        + "\n"
    )


def _source(document: Mapping[str, Any]) -> str:
    """Where an evaluation comes from, in a line."""
    known = [plain_markdown(f"{name} {document[name]}") for name in _PROVENANCE if name in document]
    return f"Measured with {', '.join(known)}." if known else ""


def _table(document: Mapping[str, Any]) -> str:
    """The numbers and texts of a JSON document as Markdown, lists left out."""

    def leaves(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
        for name, value in values.items():
            if isinstance(value, Mapping):
                yield from leaves(value, f"{within}{name}.")
            elif not isinstance(value, list) and name not in _PROVENANCE:
                yield f"{within}{name}", cell(value, 3)

    rows = list(leaves(document))
    more = f"\n{len(rows) - _ROWS} more are in evaluation.json.\n" if len(rows) > _ROWS else ""
    return Table("", ("", "value"), tuple(rows[:_ROWS])).markdown() + more


def main(arguments: Sequence[str]) -> int:
    """Command line; returns the exit status."""
    parser = FlagParser("sana-wm push", __doc__)
    parser.add_argument("kind", choices=("world", "policy", "dataset"))
    parser.add_argument("source", help="world file, folder of a run, or name of a dataset")
    parser.add_argument("to", help="owner/name; of a dataset, the owner")
    parser.add_argument("--evaluation", type=Path, help="JSON for the card (default: the run's)")
    parser.add_argument("--folder", help="where datasets are (default: Minari's place)")
    parser.add_argument("--private", action="store_true", help="if the repository is new")
    parser.add_argument("--dry-run", action="store_true", help="print files and card, send nothing")
    given = parser.parse_args(arguments)
    if given.kind == "dataset":
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", given.to) or given.evaluation:
            parser.error("a dataset takes an owner, without a name, and no --evaluation")
        upload = dataset_upload(given.source, given.to, given.folder)
    else:
        if not HUB_ID.fullmatch(given.to) or given.folder:
            parser.error(f"a {given.kind} takes owner/name, and no --folder")
        make: Callable[[str, str, Path | None], Upload]
        make = world_upload if given.kind == "world" else policy_upload
        upload = make(given.source, given.to, given.evaluation)
    if not given.dry_run:
        print(push(upload, given.private))
        return 0
    for name, path in upload.files.items():
        print(f"{path.stat().st_size / 1e6:8.2f} MB  {name}")
    print(f"\n{upload.card}", end="")
    return 0
