"""`metrics/trajectory_synthesis`: the steps that turn waypoints into a camera path."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks.parity_checks.check import (
    Array,
    GoldenError,
    Outcome,
    Skip,
    compare_named,
    largest_difference,
)
from benchmarks.parity_checks.files import entry, read_json, read_npz
from sana_wm_gym.camera.splines import (
    arc_length,
    catmull_rom,
    laplacian_smooth,
    limit_turn,
    resample,
    squad,
)

INPUTS = ("points", "yaw_pitch_deg")


def check(path: Path) -> Iterator[Outcome]:
    """Curves, clamped turns, smoothing and equal steps of every set of waypoints."""
    content = read_json(path)
    arrays = read_npz(path.with_suffix(".npz"))
    if not arrays:
        raise GoldenError(f"{path.with_suffix('.npz').name}: holds no arrays")
    tolerance = entry(content, "tolerance", float, path.name)
    for name, case in entry(content, "cases", dict, path.name).items():
        prefix = f"{name}__"
        stored = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        if not set(INPUTS) <= stored.keys():
            yield Skip(name, "its waypoints are absent from the npz file")
            continue
        ours = _steps(stored, case)
        results = {key: value for key, value in stored.items() if key not in INPUTS}
        yield from compare_named(
            prefix,
            ours,
            results,
            lambda full, a, b: largest_difference(full, a, b, tolerance),
        )


def _steps(stored: Mapping[str, Array], case: Mapping[str, Any]) -> dict[str, Array]:
    """Each step by itself: those after the curves start from the curves."""
    points, angles = (stored[key] for key in INPUTS)
    samples = entry(case, "samples_per_segment", int, "case")
    at = np.arange((len(points) - 1) * samples + 1) / samples
    curve = catmull_rom(points, at)
    turned = squad(Rotation.from_euler("YX", angles, degrees=True), at)
    clamp, laplacian = entry(case, "clamp", dict, "case"), entry(case, "laplacian", dict, "case")
    clamped = limit_turn(turned, math.radians(clamp["deg_per_s"] / clamp["fps"]))
    length = arc_length(curve)
    return {
        "catmull_rom": curve,
        "squad_matrix": turned.as_matrix(),
        "clamped_matrix": clamped.as_matrix(),
        "laplacian": laplacian_smooth(curve, laplacian["weight"], laplacian["iterations"]),
        "arclength_97": resample(curve, length, np.linspace(0.0, length[-1], 97)),
    }
