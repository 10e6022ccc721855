"""The report on a learned world: values with bounds, tables, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sana_wm_gym.evaluation.held_out import Frames, HeldOutClip
from sana_wm_gym.evaluation.localiser_scores import BOUNDS, LEAST_RECOGNISED
from sana_wm_gym.evaluation.pictures import Strip, write_moving, write_strips
from sana_wm_gym.tables import Table

LEAST_PSNR_DB = 24.0
LEAST_MARGIN_DB = 10.0
LEAST_LONG_PSNR_DB = 21.0
LEAST_CODEC_DB = 31.0
LEAST_NEAREST = 0.9
LEAST_SPEED_RATIO = 1.5

_PICTURED = 4
_AGREEMENT = ("video", "span_s", "agreement", "away_px", "still_px", "sampson_px", "pairs")


def checks_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Every value of the result that has a bound; None where there is no value."""
    found: list[dict[str, Any]] = []

    def check(name: str, value: float | None, bound: float, least: bool = True) -> None:
        passed = None if value is None else value >= bound if least else value <= bound
        words = f"{'>=' if least else '<='} {bound:g}"
        found.append({"name": name, "value": value, "bound": words, "passed": passed})

    rollouts, minute, report = document["rollouts"], document["minute"], document["localiser"]
    own = rollouts["psnr_own"]
    for k in range(1, len(own)):
        check(f"PSNR, chunk {k + 1}, dB", own[k], LEAST_PSNR_DB)
    for other in ("repeat", "shuffled"):
        for k in range(1, len(own)):
            margin = own[k] - rollouts[f"psnr_{other}"][k]
            check(f"PSNR over {other}, chunk {k + 1}, dB", margin, LEAST_MARGIN_DB)
    last = minute["chunks"]
    check(f"PSNR, chunk {last}, dB", minute["psnr_own"][-1], LEAST_LONG_PSNR_DB)
    check("codec ceiling, lowest chunk, dB", min(rollouts["psnr_codec"]), LEAST_CODEC_DB)
    for name, words in (
        ("metres", "localiser, median, m"),
        ("degrees", "localiser, median, deg"),
        ("metres_p95", "localiser, 95th percentile, m"),
        ("degrees_p95", "localiser, 95th percentile, deg"),
    ):
        check(words, report and report["overall"][name], BOUNDS[name], least=False)
    recognised = report and report["recognition"][-1]["at_false_alarms"]
    check("foreign pictures recognised", recognised, LEAST_RECOGNISED)
    variants = document["conditions"][0]["variants"]
    check("named variant is the nearest one", variants and variants["true"], LEAST_NEAREST)
    check("env steps/s over first version", document["speed"]["ratio"], LEAST_SPEED_RATIO)
    check("chunks with NaN or inf", float(minute["broken_chunks"]), 0, least=False)
    inside = minute["statistics"]["generated"]["inside"]
    check(f"fraction of chunk {last} in range", inside, 1)
    return found


def tables_of(document: dict[str, Any]) -> dict[str, Table]:
    """The tables of the written result, by name."""

    def per_chunk(title: str, values: dict[str, Any], marks: Sequence[int]) -> Table:
        rows = [(name, v) for name, v in values.items() if name.startswith("psnr_")]
        for other in ("repeat", "shuffled"):
            margin = values[f"own_over_{other}_db"]
            rows += [(f"own over {other}", margin["mean"])]
            rows += [(f"  95 % {end}", margin[end]) for end in ("low", "high")]
        return Table.of(
            title,
            [{"dB": name, **{f"chunk {k}": v[k - 1] for k in marks}} for name, v in rows],
        )

    conditions, minute = document["conditions"], document["minute"]
    last = minute["chunks"]
    tables = {
        "rollouts": per_chunk(
            f"{document['rollouts']['clips']} held-out rollouts, {document['anchor']} anchor",
            document["rollouts"],
            range(1, len(document["rollouts"]["psnr_own"]) + 1),
        ),
        "conditions": Table.of(
            "Own commands, and variants shown",
            [
                {
                    "condition": one["name"],
                    "clips": one["clips"],
                    "PSNR dB, chunks 1 to n": " ".join(f"{v:.1f}" for v in one["psnr_own"]),
                    **{
                        name: None if one["variants"] is None else one["variants"][name]
                        for name in ("pairs", "true", "hidden_pairs", "hidden_true", "decided")
                    },
                }
                for one in conditions
            ],
            notes="true: pairs of clip and surface whose nearest variant is the true one; hidden: "
            "of surfaces that the first frame does not show; decided: nearer to one variant than "
            "to the mean of variants",
        ),
        "minute": per_chunk(
            f"A minute, {minute['clips']} held-out rollouts",
            minute,
            sorted({k for k in (1, 2, 4, 10, 20, 40, last) if k <= last}),
        ),
        "camera": Table.of(
            "Camera, mean of the errors of each clip",
            [
                {"convention": one["convention"], "error": error, **one[error]}
                for one in document["camera"]
                for error in ("rot_err", "trans_err")
                if one[error] is not None
            ],
            digits=3,
            notes=", ".join(f"{k} {v}" for k, v in list(document["camera"][0].items())[1:8]),
        ),
        "speed": Table.of("Environment steps per second", [document["speed"]]),
        "agreement": Table.of(
            "Command agreement: 0 follows the command, 1 is a still picture",
            [{name: row[name] for name in _AGREEMENT} for row in document["agreement"]],
            digits=3,
        ),
        "checks": Table.of("Bounds", document["checks"], digits=3),
    }
    if conditions[0]["variants"] is not None:
        # The last two conditions are of the first clips alone.
        tables["surfaces"] = Table.of(
            "Nearest variant is the true one, by surface",
            [
                {"surface": name, "clips": pairs}
                | {one["name"]: one["variants"]["surfaces"][name][1] for one in conditions[:-2]}
                for name, (pairs, _) in conditions[0]["variants"]["surfaces"].items()
            ],
        )
    if document["localiser"] is not None:
        report = document["localiser"]
        tables["localiser"] = Table.of("Localiser, held-out starts", [report["overall"]], digits=3)
        tables["foreign"] = Table.of("Foreign pictures recognised", report["recognition"])
    return tables


def spread(clips: Sequence[HeldOutClip], count: int) -> list[int]:
    """Indices of clips that begin far from each other: greedily, by position and heading."""
    poses = np.stack([clip.start.scene_c2w for clip in clips if clip.start.scene_c2w is not None])
    # Opposite headings are as far apart as 4 m.
    places = np.concatenate([poses[:, [0, 2], 3], 2 * poses[:, [0, 2], 2]], axis=1)
    chosen = [0]
    while len(chosen) < min(count, len(clips)):
        distance = np.linalg.norm(places[:, None] - places[chosen], axis=-1).min(axis=1)
        chosen.append(int(distance.argmax()))
    return chosen


def draw(out: Path, rolled: dict[str, tuple[Sequence[HeldOutClip], Frames]], fps: float) -> None:
    """Draw a few clips, truth over generated, as OUT/NAME.png, and play the first kind."""

    def pairs(clips: Sequence[HeldOutClip], frames: Frames, picks: Any) -> list[Strip]:
        return [
            Strip([("truth", clips[i].truth[picks]), ("generated", frames[i][picks])])
            for i in spread(clips, _PICTURED)
        ]

    for name, (clips, frames) in rolled.items():
        picks = np.linspace(0, frames.shape[1] - 1, 9).round().astype(int)
        times = [f"{index / fps:.1f} s" for index in picks]
        write_strips(out / f"{name}.png", pairs(clips, frames, picks), times)
    write_moving(out / "rollout.webp", pairs(*next(iter(rolled.values())), slice(None)), fps)
