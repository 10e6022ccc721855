"""`camera.json`, `camera_*.npz`: action rollouts, intrinsics, rays and Plücker maps."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.parity_checks.check import (
    Array,
    GoldenError,
    Outcome,
    Skip,
    equal,
    largest_difference,
    relative_or_absolute,
)
from benchmarks.parity_checks.files import entry, read_json, read_npz
from benchmarks.parity_checks.network import as_array, as_tensor
from sana_wm_gym.camera import (
    SANA_WM_2026_06,
    KeyMap,
    image,
    parse_action_string,
    rays,
    rollout_action_string,
)
from sana_wm_gym.camera.se3 import relative_to_first
from sana_wm_gym.models.layers import camera_rope_table, ray_transform, rigid_inverse, rope_table

ROLLOUT = 1e-6
INPUT = 1e-5
LANCZOS = 1.0


def check_description(path: Path) -> Iterator[Outcome]:
    """`camera.json`: rejected action strings, frame counts, crop sizes."""
    content = read_json(path)
    for text, expected in content.get("invalid", {}).items():
        try:
            parse_action_string(text, SANA_WM_2026_06)
            accepted = True
        except ValueError:
            accepted = False
        yield equal(f"invalid/{text!r}", accepted, expected == "accepted")
    for case in content.get("snap_num_frames", []):
        count, stride, bound = case["n"], case["stride"], case.get("upper_bound")
        snapped = image.snap_num_frames(count, stride, bound)
        yield equal(f"snap_num_frames/{count} by {stride} up to {bound}", snapped, case["result"])
    for case in content.get("crops", []):
        crop = _crop(case)
        name = f"crops/{case['name']}"
        yield equal(f"{name}/resized_wh", list(crop.resized[::-1]), case["resized_wh"])
        yield equal(f"{name}/crop_left_top", list(crop.offset[::-1]), case["crop_left_top"])
    known = {"invalid", "snap_num_frames", "crops", "actions", "demos", "model_inputs"}
    for name in sorted(content.keys() - known):
        yield Skip(name, "not a known section")


def check_actions(path: Path) -> Iterator[Outcome]:
    """`camera_actions.npz`: one rollout per action string."""
    arrays = read_npz(path)
    actions = _section(path, "actions")
    for name, reference in arrays.items():
        if name not in actions:
            yield Skip(name, "camera.json has no action string for it")
            continue
        poses = rollout_action_string(actions[name]["string"], _key_map(actions[name]))
        yield largest_difference(name, poses, reference, ROLLOUT)
    for name in sorted(actions.keys() - arrays.keys()):
        yield Skip(name, "absent from the file")


def check_demos(path: Path) -> Iterator[Outcome]:
    """`camera_demos.npz`: the published trajectories, to the last bit."""
    arrays = read_npz(path)
    for name, demo in _section(path, "demos").items():
        poses = rollout_action_string(demo["action"], _key_map(demo)).astype(np.float32)
        for kind in ("rollout", "pose"):
            if f"{name}_{kind}" in arrays:
                reference = arrays[f"{name}_{kind}"]
                yield largest_difference(f"{name}_{kind}", poses, reference, 0.0)
            else:
                yield Skip(f"{name}_{kind}", "absent from the file")


def check_intrinsics(path: Path) -> Iterator[Outcome]:
    """`camera_intrinsics.npz`: resize, crop and per-frame layouts."""
    arrays = read_npz(path)
    crops = {case["name"]: _crop(case) for case in _section(path, "crops")}
    for name, reference in arrays.items():
        if name.endswith("_in"):
            continue
        stem, _, suffix = name.rpartition("_out")
        given = arrays.get(f"{stem}_in")
        frames = re.fullmatch(r"_(\d+)frames", suffix)
        if given is None:
            yield Skip(name, f"{stem}_in absent from the file")
        elif frames:
            ours = image.intrinsics_per_frame(given, int(frames[1]))
            yield relative_or_absolute(name, ours, reference, INPUT)
        elif stem not in crops:
            yield Skip(name, "camera.json has no crop for it")
        elif given.dtype == np.uint8:
            cropped = image.crop_image(given, crops[stem])
            yield largest_difference(name, cropped, reference, LANCZOS)
        else:
            ours = image.crop_intrinsics(given, crops[stem])
            yield relative_or_absolute(name, ours, reference, INPUT)


def check_model_inputs(path: Path) -> Iterator[Outcome]:
    """`camera_model_inputs.npz`: what the generator reads of a camera path."""
    arrays = read_npz(path)
    cases = _section(path, "model_inputs")
    for case, description in cases.items():
        stored = {
            name.removeprefix(f"{case}_"): array
            for name, array in arrays.items()
            if name.startswith(f"{case}_")
        }
        if not {"c2w", "intrinsics"} <= stored.keys():
            yield Skip(case, "its c2w or intrinsics are absent from the file")
            continue
        ours = _model_inputs(description, stored)
        for name, reference in stored.items():
            if name in ours:
                yield relative_or_absolute(f"{case}_{name}", ours[name], reference, INPUT)
            elif name not in ("c2w", "intrinsics", "feat"):
                yield Skip(f"{case}_{name}", "nothing here computes it")
        for name in sorted(ours.keys() - stored.keys()):
            yield Skip(f"{case}_{name}", "absent from the file")


def _model_inputs(description: Mapping[str, Any], stored: Mapping[str, Array]) -> dict[str, Array]:
    height, width = entry(description, "target_size_hw", list, "model_inputs")
    _, stride_y, stride_x = entry(description, "vae_stride", list, "model_inputs")
    rows, columns = height // stride_y, width // stride_x
    c2w = relative_to_first(stored["c2w"].astype(np.float64))
    intrinsics = rays.latent_intrinsics(stored["intrinsics"], (height, width), (rows, columns))
    cameras = rays.latent_cameras(c2w, intrinsics)
    matrices = rays.ray_matrices(cameras.c2w, cameras.intrinsics, rows, columns)
    ours = {
        "raymap": rays.pose_vectors(cameras),
        "chunk_plucker": rays.plucker_windows(cameras, rows, columns),
        "raymats": matrices[None],
    }
    if "head_dim" in description:
        inverse = rays.invert_ray_matrices(matrices).reshape(1, -1, 4, 4)
        ours |= {"raymats_inv": inverse}
        ours |= _tables(matrices, description["head_dim"], stored.get("feat"))
    return ours


def _tables(matrices: Array, head_dim: int, features: Array | None) -> dict[str, Array]:
    """Rotary tables and the ray transform of some features [1, heads, n, head_dim]."""
    frames, rows, columns = matrices.shape[:3]
    start = torch.zeros(1, dtype=torch.int64)
    rope = rope_table(start, frames, rows, columns, head_dim)
    camera_rope = camera_rope_table(rope, head_dim)
    tables = {
        "rope_cos": rope.real,
        "rope_sin": rope.imag,
        "cam_rope_cos": camera_rope.real,
        "cam_rope_sin": camera_rope.imag,
    }
    named = {name: table.flatten(1, 2).transpose(1, 2) for name, table in tables.items()}
    if features is not None:
        ray_from_world = as_tensor(matrices)[None].flatten(2, 3)
        x = as_tensor(features).transpose(1, 2).unflatten(1, (frames, -1))
        moves = {
            "apply_q": (ray_from_world.transpose(-1, -2), camera_rope),
            "apply_kv": (rigid_inverse(ray_from_world), camera_rope),
            "apply_o": (ray_from_world, camera_rope.conj()),
        }
        for name, (matrix, table) in moves.items():
            named[name] = ray_transform(x, matrix, table).flatten(1, 2).transpose(1, 2)
    return {name: as_array(tensor) for name, tensor in named.items()}


def _section(path: Path, key: str) -> Any:
    """A section of the `camera.json` in a file's folder."""
    description = read_json(path.with_name("camera.json"))
    if key not in description:
        raise GoldenError(f"camera.json: missing entry {key!r}, which {path.name} needs")
    return description[key]


def _key_map(action: Mapping[str, Any]) -> KeyMap:
    base = SANA_WM_2026_06
    return replace(
        base,
        translation_speed=action.get("translation_speed", base.translation_speed),
        rotation_speed=_radians(action, "rotation_speed_deg", base.rotation_speed),
        pitch_limit=_radians(action, "pitch_limit_deg", base.pitch_limit),
        smoothing=base.smoothing if action.get("smooth", True) else None,
    )


def _radians(action: Mapping[str, Any], key: str, default: float) -> float:
    return math.radians(action[key]) if key in action else default


def _crop(case: Mapping[str, Any]) -> image.Crop:
    width, height = case["src_size_wh"]
    target_height, target_width = case["target_hw"]
    return image.centre_crop((height, width), (target_height, target_width))
