"""How did the embedded world's training go? Draws a run's logs into one picture.

python -m benchmarks.training_curve outputs/tiny --out docs/images/training.png
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from sana_wm_gym.files import atomic_path


def read_columns(path: Path) -> dict[str, list[float]]:
    """Columns of a csv log by name.

    Raises:
        ValueError: The log is missing or empty.
    """
    if not path.is_file():
        raise ValueError(f"no log at {path}; expected the folder of a training run")
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    if not rows:
        raise ValueError(f"{path} has no rows yet")
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def draw(folder: Path, path: Path) -> None:
    """Draw loss and held-out PSNR over CPU hours.

    Raises:
        ValueError: A log is missing or empty.
    """
    loss, held_out = (read_columns(folder / name) for name in ("loss.csv", "validation.csv"))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    left.plot(loss["cpu_hours"], loss["loss"], lw=0.8)
    left.set(xlabel="CPU hours", ylabel="weighted latent error", yscale="log")
    left.set_title(f"training loss, {int(loss['step'][-1]):,} steps")
    for name in (name for name in held_out if name.startswith("own_")):
        chunk = name.removeprefix("own_")
        [line] = right.plot(held_out["cpu_hours"], held_out[name], ".-", label=f"chunk {chunk}")
        right.axhline(held_out[f"repeat_{chunk}"][0], color=line.get_color(), lw=0.7, ls=":")
    right.set(xlabel="CPU hours", ylabel="PSNR / dB")
    right.set_title("held-out rollouts; dotted: repeat first frame")
    right.legend(fontsize=8)
    figure.tight_layout()
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_curve")
    parser.add_argument("folder", type=Path, help="folder of the training run")
    parser.add_argument("--out", type=Path, default=Path("outputs/training.png"), help="picture")
    options = parser.parse_args(arguments)
    try:
        draw(options.folder, options.out)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
