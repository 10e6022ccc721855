"""Poses from pixels with COLMAP: SIFT features and its incremental mapper. A second opinion.

Needs `pycolmap` (BSD), the extra `eval`. More accurate than the default where it converges, ten
or more times slower, and without an answer on clips that only turn.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import invert
from sana_wm_gym.poses.protocol import EstimatorInfo, Frames, Intrinsics, PoseEstimate, check_input

_LEAST_WIDTH = 256  # pixels; SIFT finds too little in smaller frames
_OVERLAP = 10  # following frames that every frame is matched with
_SEED = 0


@dataclass(frozen=True)
class ColmapSift:
    """SIFT, sequential matching and incremental mapping with fixed intrinsics.

    Frames under 256 pixels wide are enlarged. Frames outside the largest reconstruction are
    invalid; where there is none, all are.

    Source: Schoenberger and Frahm, Structure-from-Motion Revisited, CVPR 2016.
    """

    def estimate(
        self, frames: Frames, intrinsics: npt.ArrayLike | None, fps: float
    ) -> PoseEstimate:
        """Place every frame; see `PoseEstimator.estimate`. `fps` is not used.

        Raises:
            ImportError: `pycolmap` is missing.
        """
        frames, used, assumed = check_input(frames, intrinsics, fps)
        colmap = _pycolmap()
        zoom = max(1.0, _LEAST_WIDTH / frames.shape[2])
        with tempfile.TemporaryDirectory() as folder:
            images = Path(folder) / "images"
            images.mkdir()
            for index, frame in enumerate(frames):
                large = cv2.resize(frame, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
                cv2.imwrite(str(images / f"{index:06d}.png"), large[..., ::-1])
            height, width = large.shape[:2]
            # Sides are rounded to whole pixels; pixel centres are at half-integers here and there.
            across, down = width / frames.shape[2], height / frames.shape[1]
            scaled = used[0] * across, used[1] * down, used[2] * across, used[3] * down
            model = _map(colmap, Path(folder), images, scaled)

        c2w = np.tile(np.eye(4), (len(frames), 1, 1))
        valid, error = np.zeros(len(frames), bool), None
        if model is not None:
            for image in model.images.values():
                if image.has_pose:
                    index = int(Path(image.name).stem)
                    valid[index] = True
                    c2w[index, :3] = image.cam_from_world().matrix()
            c2w = invert(c2w)
            error = float(model.compute_mean_reprojection_error()) / across
        info = EstimatorInfo(
            "colmap_sift", colmap.__version__, "estimated", "full", error, used, assumed
        )
        return PoseEstimate.of(c2w, valid, info)


def _pycolmap() -> Any:
    try:
        colmap = import_module("pycolmap")
    except ImportError as error:
        raise ImportError(
            "ColmapSift needs pycolmap (BSD licence): pip install 'sana_wm_gym[eval]'"
        ) from error
    colmap.logging.minloglevel = 3  # a mapper that tries and fails warns each time
    return colmap


def _map(colmap: Any, folder: Path, images: Path, intrinsics: Intrinsics) -> Any | None:
    """The largest reconstruction of all images in a folder, or None."""
    database = folder / "database.db"
    reader = colmap.ImageReaderOptions(
        camera_model="PINHOLE", camera_params=",".join(f"{value:.17g}" for value in intrinsics)
    )
    # One thread, one seed: the same frames give the same poses.
    features = colmap.FeatureExtractionOptions(num_threads=1, use_gpu=False)
    matching = colmap.FeatureMatchingOptions(num_threads=1, use_gpu=False)
    pairing = colmap.SequentialPairingOptions(overlap=_OVERLAP)
    mapping = colmap.IncrementalPipelineOptions(
        num_threads=1,
        random_seed=_SEED,
        multiple_models=False,
        ba_refine_focal_length=False,
        ba_refine_principal_point=False,
        ba_refine_extra_params=False,
    )
    colmap.set_random_seed(_SEED)
    colmap.extract_features(
        database,
        images,
        camera_mode=colmap.CameraMode.SINGLE,
        reader_options=reader,
        extraction_options=features,
    )
    colmap.match_sequential(database, matching_options=matching, pairing_options=pairing)
    models = colmap.incremental_mapping(database, images, folder, options=mapping)
    return max(models.values(), key=lambda model: model.num_reg_images(), default=None)
