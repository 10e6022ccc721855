"""Compare this implementation with reference tensors, one number per tensor.

    python -m benchmarks.parity DIR [--only NAME ...] [--worst-first] [--summary]
                                    [--allow-rounding-noise]

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

import torch

from benchmarks.parity_checks import (
    camera,
    forward,
    manifests,
    metrics,
    schedules,
    streaming,
    synthesis,
)
from benchmarks.parity_checks.check import Check, GoldenError, Outcome, Skip, fold_names
from benchmarks.parity_checks.rounding import excuse

Checker = Callable[[Path], Iterator[Outcome]]


@dataclass(frozen=True)
class Source:
    """A kind of reference file and what compares it.

    Attributes:
        pattern: File name, or a pattern of names.
        checker: Yields the outcomes of one such file.
        companion: File read with it, in the same folder: its name, or a suffix in place of its own.
    """

    pattern: str
    checker: Checker
    companion: str = ""

    def companion_of(self, path: Path) -> Path:
        """Where the companion of one file should be; the file itself where it needs none."""
        if not self.companion:
            return path
        by_suffix = self.companion.startswith(".")
        return path.with_suffix(self.companion) if by_suffix else path.with_name(self.companion)


SOURCES = (
    Source("schedules.json", schedules.check),
    Source("camera.json", camera.check_description),
    Source("camera_actions.npz", camera.check_actions, "camera.json"),
    Source("camera_demos.npz", camera.check_demos, "camera.json"),
    Source("camera_intrinsics.npz", camera.check_intrinsics, "camera.json"),
    Source("camera_model_inputs.npz", camera.check_model_inputs, "camera.json"),
    Source("metrics/trajectory_metrics.json", metrics.check_trajectories, ".npz"),
    Source("metrics/trajectory_synthesis.json", synthesis.check, ".npz"),
    Source("metrics/frame_metrics.json", metrics.check_frames, ".npz"),
    Source("manifest_*.json", manifests.check),
    Source("dit_bidirectional*.safetensors", forward.check, ".json"),
    Source("dit_chunk_causal*.safetensors", forward.check, ".json"),
    Source("dit_streaming*.safetensors", streaming.check, ".json"),
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
    def noted(self) -> list[Check]:
        """Comparisons that pass only with a note: above the stated tolerance, and why."""
        return [c for c in self.checks if c.passed and c.note]

    @property
    def skips(self) -> list[Skip]:
        """What was not compared."""
        return [o for o in self.outcomes if isinstance(o, Skip)]


def examine(
    directory: Path, name: str, source: Source, review: Callable[[Outcome], Outcome]
) -> FileReport:
    """Run one file's comparisons; a file that cannot be used ends in a problem, not a crash.

    Args:
        directory: Where the file is.
        name: Its name there.
        source: What it is.
        review: Applied to each outcome.
    """
    path = directory / name
    companion = source.companion_of(path)
    if not companion.exists():
        return FileReport(name, (Skip(name, f"{companion.name}, which it needs, is absent"),))
    outcomes: list[Outcome] = []
    try:
        outcomes.extend(map(review, source.checker(path)))
    except GoldenError as error:
        return FileReport(name, tuple(outcomes), str(error))
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return FileReport(name, tuple(outcomes), f"{name}: unexpected content ({reason[:300]})")
    return FileReport(name, tuple(outcomes))


def as_compared(outcome: Outcome) -> Outcome:
    """The outcome, unchanged."""
    return outcome


def find(directory: Path, only: Sequence[str] = ()) -> tuple[dict[str, Source], list[str]]:
    """Reference files to compare, and the names that are absent or not known.

    Args:
        directory: Where to look.
        only: Keep names that start with one of these; empty keeps all.
    """
    found: dict[str, Source] = {}
    left_out: list[str] = []
    for source in SOURCES:
        names = sorted(str(p.relative_to(directory)) for p in directory.glob(source.pattern))
        found |= dict.fromkeys(names, source)
        if not names:
            left_out.append(f"{source.pattern}: absent")
    used = {directory / name for name in found}
    used |= {source.companion_of(directory / name) for name, source in found.items()}
    for path in sorted(directory.rglob("*")):
        if path.suffix in (".json", ".npz", ".safetensors") and path not in used:
            left_out.append(f"{path.relative_to(directory)}: not a known reference file")

    def chosen(name: str) -> bool:
        return not only or any(name.startswith(prefix) for prefix in only)

    return (
        {name: source for name, source in found.items() if chosen(name)},
        [name for name in left_out if chosen(name)],
    )


def print_report(report: FileReport, worst_first: bool, summary: bool) -> None:
    """Print one file: a line per comparison, then what was skipped."""
    print(f"\n{report.name}")
    checks = report.checks
    if worst_first:
        checks = sorted(checks, key=lambda c: c.severity, reverse=True)
    for check in checks:
        if summary and check.passed and not check.note:
            continue
        mark = "ok  " if check.passed else "MISS"
        note = f"  ({check.note})" if check.note else ""
        print(
            f"  {mark} {check.error:9.2e} <= {check.tolerance:7.1e} "
            f"{check.unit:<11}  {check.name}{note}"
        )
    reasons: dict[str, list[str]] = {}
    for skip in report.skips:
        reasons.setdefault(skip.reason, []).append(skip.name)
    for reason, names in reasons.items():
        print(f"  skipped, {reason}:")
        for line in fold_names(names):
            print(f"    {line}")
    if report.problem:
        print(f"  ERROR {report.problem}")


def print_summary(reports: Sequence[FileReport], left_out: Sequence[str]) -> None:
    """Print one line per file and the total."""
    width = max((len(report.name) for report in reports), default=4)
    print(f"\n{'file':<{width}}  compared  missed  noted  skipped  worst error / tolerance")
    for report in reports:
        worst = max(report.checks, key=lambda c: c.severity, default=None)
        tail = "unreadable" if report.problem else "-"
        if worst is not None:
            tail = f"{worst.error:.1e} / {worst.tolerance:.0e}  {worst.name}"
        print(
            f"{report.name:<{width}}  {len(report.checks):8d}  {len(report.misses):6d}  "
            f"{len(report.noted):5d}  {len(report.skips):7d}  {tail}"
        )
    for line in left_out:
        print(f"skipped  {line}")
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
    parser.add_argument(
        "--allow-rounding-noise",
        action="store_true",
        help="measure by how much last-bit noise moves a missed bfloat16 tensor, and let the miss "
        "pass with a note where that explains it",
    )
    args = parser.parse_args(arguments)

    if not args.directory.is_dir():
        parser.error(f"not a directory: {args.directory}")
    found, left_out = find(args.directory, args.only)
    if not found:
        what = f" whose name starts with {' or '.join(args.only)}" if args.only else ""
        parser.error(f"no reference file{what} in {args.directory}")

    torch.set_num_threads(1)  # as the reference was made; small networks are faster so, too
    review = excuse if args.allow_rounding_noise else as_compared
    reports = []
    for name, source in found.items():
        report = examine(args.directory, name, source, review)
        print_report(report, args.worst_first, args.summary)
        reports.append(report)
    print_summary(reports, left_out)

    if any(report.problem for report in reports):
        return 2
    return 1 if any(report.misses for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
