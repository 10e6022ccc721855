"""Each probe's result as a markdown table."""

from __future__ import annotations

from collections.abc import Sequence

from sana_wm_gym.evaluation.probes.gates import GateStability
from sana_wm_gym.evaluation.probes.horizon import Horizon
from sana_wm_gym.evaluation.probes.novel_control import NovelControl
from sana_wm_gym.evaluation.probes.persistence import Likeness, Persistence
from sana_wm_gym.metrics import RELEASE

Result = Persistence | GateStability | Horizon | NovelControl


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in (heads, *rows)]
    lines.insert(1, "|" + "---|" * len(heads))
    return "\n".join(lines)


def markdown(result: Result) -> str:
    """The result's table with a line on how it was taken."""
    match result:
        case Persistence():
            return _persistence_table(result)
        case GateStability():
            return _gates_table(result)
        case Horizon():
            return _horizon_table(result)
        case NovelControl():
            return _novel_table(result)


def _persistence_table(result: Persistence) -> str:
    def cell(likeness: Likeness | None) -> str:
        return "-" if likeness is None else f"{likeness.psnr_db} / {likeness.ssim}"

    heads = ("away for", "elapsed", "unseen", "world", "twin", "stayed", "stuck", "mean colour")
    rows = [
        (
            f"{r.hold_chunks} chunk{'' if r.hold_chunks == 1 else 's'}",
            f"{r.elapsed_s:g} s",
            f"{r.unseen_s:.1f} s",
            *(cell(one) for one in (r.world, r.twin, r.stayed, r.stuck, r.mean_colour)),
            cell(r.away),
            cell(r.away_repeat),
        )
        for r in result.returns
    ]
    return (
        f"Persistence of `{result.world}`: {result.starts} starts, turn of {result.turn_deg:.0f} "
        "degrees. PSNR dB / SSIM against the first view, mean ± standard deviation over starts; "
        "the last two columns against the true away view.\n\n"
        + table((*heads, "away", "away, repeated"), rows)
    )


def _gates_table(result: GateStability) -> str:
    runs = [
        (
            run.name,
            f"{run.sound_chunks} of {run.asked_chunks}",
            f"{run.largest_transition_norm:.6g}",
            f"{run.largest_state_norm:.3g}",
            f"{run.resident_mb[0]:g} → {run.resident_mb[1]:g}",
        )
        for run in result.runs
    ]
    heads = []
    for one in result.runs[0].heads:
        decay, write = one.decay, one.write_gate
        worst = max(one.streams, key=lambda stream: stream.transition_norm.highest)
        largest = max(stream.state_norm.highest for stream in one.streams)
        heads.append(
            (
                f"{one.block}.{one.head}",
                f"{decay.q05:.4g} / {decay.median:.4g} / {decay.q95:.4g}",
                f"{write.q05:.3g} / {write.median:.3g} / {write.q95:.3g}",
                f"{max(stream.write_energy.highest for stream in one.streams):.4f}",
                f"{worst.transition_norm.median:.4g} / {worst.transition_norm.highest:.6g}",
                f"{largest:.3g}",
            )
        )
    return (
        f"Gate stability of `{result.world}` on one walk. Sound chunks are those before the first "
        "value that is not finite; largest values are those of all finite ones.\n\n"
        + table(
            ("network", "sound chunks", "largest ‖T‖", "largest ‖M‖", "resident MB"),
            runs,
        )
        + f"\n\nBy block and head, {result.runs[0].name}; 5 % / median / 95 %.\n\n"
        + table(
            (
                "block.head",
                "decay",
                "write gate",
                "largest write energy",
                "‖T‖, median / largest",
                "largest ‖M‖",
            ),
            heads,
        )
    )


def _horizon_table(result: Horizon) -> str:
    rows = []
    for run in result.runs:
        for window in run.windows:
            headline = next(one for one in window.control if one.convention == RELEASE.name)
            rows.append(
                (
                    run.name,
                    f"{window.begin_s:g}-{window.end_s:g} s",
                    f"{window.psnr_db:.2f} ({window.psnr_low_db:.1f} .. {window.psnr_high_db:.1f})",
                    f"{window.repeat_db:.2f}",
                    str(headline.generated),
                    str(headline.motionless),
                    str(headline.floor),
                )
            )
    return (
        f"Control over horizon of `{result.world}`: {result.clips} walks, poses of "
        f"{result.pose_clips}. Pose errors are RotErr deg / TransErr m / CamMC under "
        f"`{RELEASE.name}` (clips scored of clips asked), or the reason why there are none.\n\n"
        + table(
            ("run", "window", "PSNR dB (clips)", "repeat dB", "poses", "motionless", "floor"), rows
        )
    )


def _novel_table(result: NovelControl) -> str:
    rows = []
    for one in result.outcomes:
        headline = next(c for c in one.control if c.convention == RELEASE.name)
        rows.append(
            (
                one.name,
                "; ".join(str(flag) for flag in one.flags) or "inside",
                str(one.psnr_db),
                str(one.repeat_db),
                str(one.margin_db),
                str(headline.generated),
                str(headline.motionless),
                str(headline.floor),
            )
        )
    return (
        f"Novel control of `{result.world}`: {result.seconds:g} s clips from {result.starts} "
        "starts. PSNR dB to the twin, mean ± standard deviation over clips; pose errors as RotErr "
        f"deg / TransErr m / CamMC under `{RELEASE.name}`.\n\n"
        + table(
            (
                "motion",
                "outside of training",
                "PSNR",
                "repeat",
                "margin",
                "poses",
                "motionless",
                "floor",
            ),
            rows,
        )
    )
