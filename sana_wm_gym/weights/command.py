"""Released weights from the command line: what they take, download, and a check of a file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sana_wm_gym.flags import FlagParser
from sana_wm_gym.tables import Table
from sana_wm_gym.weights.fetch import default_cache, fetch, known_revisions, revisions_of
from sana_wm_gym.weights.generator import check_generator, check_values
from sana_wm_gym.weights.names import Variant
from sana_wm_gym.weights.plan import Precision, memory_bytes, options, rows
from sana_wm_gym.weights.preflight import Machine, gigabytes, this_machine
from sana_wm_gym.weights.releases import RELEASES, Release, release

EPILOG = """\
releases:
  sana-wm-streaming                4 steps per chunk, endless; what the env runs
  sana-wm-chunk-causal             60 steps, chunk by chunk; the streaming one's teacher
  sana-wm-bidirectional            60 steps, the whole clip at once
  sana-wm-bidirectional-diffusers  the same weights in the layout of diffusers

examples:
  sana-wm weights plan sana-wm-streaming              sizes, licences; nothing is fetched
  sana-wm weights fetch sana-wm-streaming --latest    add --component NAME for single parts
  sana-wm weights fetch sana-wm-streaming --offline   prints where everything is
"""


def build_parser() -> FlagParser:
    """Command line."""
    parser = FlagParser(
        "sana-wm weights", "Plan for, fetch and check the released SANA-WM weights.", epilog=EPILOG
    )
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("release", choices=[one.name for one in RELEASES])
    common.add_argument("--cache", type=Path, help="cache folder (default: the hub's own)")

    commands.add_parser(
        "plan",
        parents=[common],
        help="sizes on disk and in memory, licences, and what fits this machine",
        description="Nothing is fetched or loaded. Parts that are in the cache are measured.",
    )
    get = commands.add_parser(
        "fetch",
        parents=[common],
        help="download, or find what was downloaded; resumes",
        description="Download parts of a release at known commits. Interrupted downloads resume. "
        "The commits are printed and recorded in the cache, so later fetches take the same.",
    )
    get.add_argument(
        "--revision",
        action="append",
        default=[],
        metavar="[HUB_ID=]COMMIT",
        help="commit of the generator's repository, or of another of the release's; repeatable",
    )
    get.add_argument(
        "--latest",
        action="store_true",
        help="take the newest commit of repositories without a known one, and record it",
    )
    get.add_argument(
        "--component",
        action="append",
        metavar="NAME",
        help="only this part (see plan); repeatable; default: all",
    )
    get.add_argument("--offline", action="store_true", help="only what is in the cache")

    check = commands.add_parser(
        "check",
        help="compare a generator's file with the released names and shapes",
        description="Every name and shape of the 2.66 B-parameter generator, and that every value "
        "is finite. Reads the file once; needs little memory.",
    )
    check.add_argument("path", type=Path, help="file, index of shards, or folder of a release")
    check.add_argument("--variant", choices=[*map(str, Variant)], help="the one that is expected")
    check.add_argument("--quick", action="store_true", help="names and shapes only")
    return parser


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    """Command line; returns the exit status."""
    args = build_parser().parse_args(arguments)
    console = console or Console()
    if args.command == "plan":
        cache = args.cache or default_cache()
        show_plan(release(args.release), cache, this_machine(cache), console)
    elif args.command == "fetch":
        show_fetch(args, console)
    else:
        show_check(args, console)
    return 0


def show_plan(chosen: Release, cache: Path, machine: Machine, console: Console) -> None:
    """Print the tables of `plan`."""
    table = rows(chosen, cache)
    parts = [
        {
            "part": row.component.name + (" (optional)" if row.component.optional else ""),
            "for": row.component.purpose,
            "on disk": gigabytes(row.disk) + ("" if row.disk is None else f" ({row.disk_source})"),
            **{f"memory {p}": gigabytes(row.memory[p]) for p in Precision},
        }
        for row in table
    ]
    Table.of(f"{chosen.name}: parts", parts).print(console)

    commits = known_revisions(chosen.components, cache)
    sources = [
        {
            "hub id": repository.hub_id,
            "parts": ", ".join(p.name for p in chosen.components if p.repository == repository),
            "commit": commits.get(repository.hub_id, "give --revision"),
            "licence": repository.licence,
        }
        for repository in dict.fromkeys(part.repository for part in chosen.components)
    ]
    Table.of("repositories of the hub", sources).print(console)

    known = [row.disk for row in table if row.disk is not None]
    open_ = [row.component.name for row in table if row.disk is None]
    unknown = f" for the known parts; unknown: {', '.join(open_)}" if open_ else ""
    console.print(f"On disk: {gigabytes(sum(known))}{unknown}.")
    gpu = "no GPU" if machine.vram == 0 else f"{gigabytes(machine.vram)} on {machine.gpu}"
    console.print(
        f"Free now: disk {gigabytes(machine.disk)}, RAM {gigabytes(machine.ram)}, VRAM {gpu}."
    )
    fits = {None: "unknown", True: "yes", False: "no"}
    settings = [
        {
            "setting": option.name,
            "VRAM": gigabytes(option.vram),
            "number is": option.source,
            "fits": fits[option.fits] + (f" ({option.reason})" if option.reason else ""),
        }
        for option in options(chosen, table, machine)
    ]
    Table.of("GPU memory at 704x1280, by setting", settings).print(console)
    if chosen.variant is Variant.STREAMING:
        console.print(
            f"Between chunks the generator remembers {gigabytes(memory_bytes())} at 704x1280 "
            "(first chunk and one more), however long the rollout."
        )


def show_fetch(args: argparse.Namespace, console: Console) -> None:
    """Run `fetch` and print where everything is."""
    chosen = release(args.release)
    fetched = fetch(
        chosen,
        revisions=revisions_of(chosen, args.revision),
        components=args.component,
        latest=args.latest,
        offline=args.offline,
        cache=args.cache,
        report=lambda line: console.print(line, soft_wrap=True),
    )
    for name, path in fetched.paths.items():
        commit = fetched.revisions[chosen.component(name).repository.hub_id]
        console.print(f"{name}  {commit}  {path}", soft_wrap=True)


def show_check(args: argparse.Namespace, console: Console) -> None:
    """Run `check` and print what the file is."""
    checked = check_generator(args.path, None if args.variant is None else Variant(args.variant))
    if not args.quick:
        check_values(checked)
    stored = checked.container.stored.values()
    dtypes = ", ".join(sorted({item.dtype for item in stored}))
    values = "values not read" if args.quick else "all values finite"
    console.print(
        f"ok: {checked.container.files[0]}: {checked.variant or 'variant not stated'}, "
        f"{len(checked.names)} tensors with the released names and shapes, {dtypes}, {values}",
        soft_wrap=True,
    )
