"""Compare this implementation with reference tensors, one number per tensor.

    python -m benchmarks.parity DIR [--only NAME ...] [--worst-first] [--summary]

DIR holds any of: `dit_*.safetensors` with their `.json`, `manifest_*.json`, `schedules.json`,
`camera.json`, `camera_*.npz`, and `metrics/`. Network sizes, cases and schedules are read from
those files. What is absent is skipped and named.

Exit status: 0 when every comparison is within tolerance, 1 when one is not, 2 when the arguments
are wrong or a file cannot be read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.parity_checks import camera, forward, manifests, metrics, schedules, streaming
from benchmarks.parity_checks.check import Check, GoldenError, Outcome, Skip, group_names

Checker = Callable[[Path], Iterator[Outcome]]


@dataclass(frozen=True)
class Source:
    """A reference file, or a pattern of file names, and what compares it."""

    pattern: str
    checker: Checker


SOURCES = (
    Source("schedules.json", schedules.check),
    Source("camera.json", camera.check_description),
    Source("camera_actions.npz", camera.check_actions),
    Source("camera_demos.npz", camera.check_demos),
    Source("camera_intrinsics.npz", camera.check_intrinsics),
    Source("camera_model_inputs.npz", camera.check_model_inputs),
    Source("metrics/trajectory_metrics.json", metrics.check_trajectories),
    Source("metrics/trajectory_synthesis.json", metrics.check_synthesis),
    Source("metrics/frame_metrics.json", metrics.check_frames),
    Source("manifest_*.json", manifests.check),
    Source("dit_bidirectional*.safetensors", forward.check),
    Source("dit_chunk_causal*.safetensors", forward.check),
    Source("dit_streaming*.safetensors", streaming.check),
)


@dataclass(frozen=True)
class FileReport:
    """Outcomes of one reference file.

    Attributes:
        name: File name relative to the directory.
        outcomes: Comparisons and skips in file order.
        problem: Why the file could not be compared to the end; empty when it was.
    """

    name: str
    outcomes: tuple[Outcome, ...]
    problem: str = ""

    @property
    def checks(self) -> list[Check]:
        """Comparisons that were made."""
        return [o for o in self.outcomes if isinstance(o, Check)]

    @property
    def misses(self) -> list[Check]:
        """Comparisons outside their tolerance."""
        return [c for c in self.checks if not c.passed]

    @property
    def skips(self) -> list[Skip]:
        """What was not compared."""
        return [o for o in self.outcomes if isinstance(o, Skip)]


def examine(path: Path, name: str, checker: Checker) -> FileReport:
    """Run one file's comparisons; a file that cannot be used ends in a problem, not a crash."""
    outcomes: list[Outcome] = []
    try:
        outcomes.extend(checker(path))
    except GoldenError as error:
        return FileReport(name, tuple(outcomes), str(error))
    return FileReport(name, tuple(outcomes))


def find(directory: Path, only: Sequence[str] = ()) -> tuple[list[tuple[str, Source]], list[str]]:
    """Reference files to compare, and the expected names that are absent.

    Args:
        directory: Where to look.
        only: Keep names that start with one of these; empty keeps all.
    """
    found: dict[str, Source] = {}
    absent = []
    for source in SOURCES:
        names = sorted(str(p.relative_to(directory)) for p in directory.glob(source.pattern))
        if not names:
            absent.append(source.pattern)
        for name in names:
            found.setdefault(name, source)

    def wanted(name: str) -> bool:
        return not only or any(name.startswith(prefix) for prefix in only)

    return (
        [(name, source) for name, source in found.items() if wanted(name)],
        [name for name in absent if wanted(name)],
    )


def print_report(report: FileReport, worst_first: bool, summary: bool) -> None:
    """Print one file: a line per comparison, then what was skipped."""
    print(f"\n{report.name}")
    checks = report.checks
    if worst_first:
        checks = sorted(checks, key=lambda c: c.severity, reverse=True)
    for check in checks:
        if summary and check.passed:
            continue
        verdict = "ok  " if check.passed else "MISS"
        note = f"  ({check.note})" if check.note else ""
        print(
            f"  {verdict} {check.error:9.2e} <= {check.tolerance:7.1e} "
            f"{check.unit:<11}  {check.name}{note}"
        )
    reasons: dict[str, list[str]] = {}
    for skip in report.skips:
        reasons.setdefault(skip.reason, []).append(skip.name)
    for reason, names in reasons.items():
        print(f"  skipped, {reason}:")
        for line in group_names(names):
            print(f"    {line}")
    if report.problem:
        print(f"  ERROR {report.problem}")


def print_summary(reports: Sequence[FileReport], absent: Sequence[str]) -> None:
    """Print one line per file and the total."""
    width = max((len(report.name) for report in reports), default=4)
    print(f"\n{'file':<{width}}  compared  missed  skipped  worst error / tolerance")
    for report in reports:
        worst = max(report.checks, key=lambda c: c.severity, default=None)
        tail = "unreadable" if report.problem else "-"
        if worst is not None:
            tail = f"{worst.error:.1e} / {worst.tolerance:.0e}  {worst.name}"
        print(
            f"{report.name:<{width}}  {len(report.checks):8d}  {len(report.misses):6d}  "
            f"{len(report.skips):7d}  {tail}"
        )
    for name in absent:
        print(f"{name:<{width}}  skipped: absent")
    for report in reports:
        if report.problem:
            print(f"error: {report.problem}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.parity",
        description="Compare this implementation with a directory of reference tensors.",
    )
    parser.add_argument("directory", type=Path, help="directory of reference files")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="only files whose name starts with NAME, e.g. dit_streaming or camera",
    )
    parser.add_argument("--worst-first", action="store_true", help="sort by error over tolerance")
    parser.add_argument("--summary", action="store_true", help="list misses and totals only")
    args = parser.parse_args(arguments)

    if not args.directory.is_dir():
        parser.error(f"not a directory: {args.directory}")
    found, absent = find(args.directory, args.only)
    if not found:
        what = f" whose name starts with {' or '.join(args.only)}" if args.only else ""
        parser.error(f"no reference file{what} in {args.directory}")

    reports = []
    for name, source in found:
        report = examine(args.directory / name, name, source.checker)
        print_report(report, args.worst_first, args.summary)
        reports.append(report)
    print_summary(reports, absent)

    if any(report.problem for report in reports):
        return 2
    return 1 if any(report.misses for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
