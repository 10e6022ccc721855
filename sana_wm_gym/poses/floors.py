"""What each estimator makes of true frames, measured once and stored: no score means less.

`python -m benchmarks.estimator_floor --store` measures; the file next to this module holds the
result, and every score prints the entry that fits it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

from sana_wm_gym.poses.protocol import EstimatorInfo

FLOORS = Path(__file__).with_name("floors.json")


@dataclass(frozen=True)
class Floor:
    """Errors of an estimator on true frames under `release`, medians and worst over clips.

    Attributes:
        estimator: Its name.
        version: Its version; another version has another floor.
        width: Frame width, pixels.
        soft: Whether frames were blurred, dimmed and made noisy first.
        clips: Clips in all.
        scored: Of those, clips with a score.
        rot_err: Median RotErr, degrees.
        rot_err_worst: Largest.
        trans_err: Median TransErr, metres.
        trans_err_worst: Largest.
        cpu_seconds: Mean CPU time per clip.
        frames: Frames per clip.
        date: Of the measurement, ISO.
        commit: Of the code.
        device: CPU.
        command: That measured it.
    """

    estimator: str
    version: str
    width: int
    soft: bool
    clips: int
    scored: int
    rot_err: float
    rot_err_worst: float
    trans_err: float
    trans_err_worst: float
    cpu_seconds: float
    frames: int
    date: str
    commit: str
    device: str
    command: str

    def __str__(self) -> str:
        frames = "soft true frames" if self.soft else "true frames"
        return (
            f"{self.rot_err:.2f} deg, {self.trans_err:.3f} m on {frames} at {self.width} px "
            f"(median of {self.scored} of {self.clips} clips; worst {self.rot_err_worst:.2f} deg, "
            f"{self.trans_err_worst:.3f} m; {self.date}, {self.commit[:10]})"
        )


@lru_cache
def read_floors(path: Path = FLOORS) -> tuple[Floor, ...]:
    """All stored floors; none where the file does not exist.

    Raises:
        ValueError: A row lacks a field; names it.
    """
    rows = json.loads(path.read_text())["floors"] if path.is_file() else []
    names = {field.name for field in fields(Floor)}
    for index, row in enumerate(rows):
        if missing := names - row.keys():
            raise ValueError(f"{path}: row {index} lacks {', '.join(sorted(missing))}")
    return tuple(Floor(**{name: row[name] for name in names}) for row in rows)


def floor_of(info: EstimatorInfo, width: int, path: Path = FLOORS) -> Floor | None:
    """The floor to print next to a score.

    Frames that the estimator took for soft are compared with soft true frames, and of the
    resolutions measured the largest not above `width` counts: more pixels never make a floor
    worse. None for poses that were known, for other versions, and under the smallest resolution.

    Args:
        info: Of the estimate.
        width: Of its frames, pixels.
        path: Where floors are stored.
    """
    soft = info.look not in ("", "sharp")
    fitting = [
        floor
        for floor in read_floors(path)
        if (floor.estimator, floor.version, floor.soft) == (info.name, info.version, soft)
        and floor.width <= width
        and info.source != "oracle"
    ]
    return max(fitting, key=lambda floor: floor.width, default=None)
