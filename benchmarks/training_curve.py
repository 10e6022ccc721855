"""How did the embedded world's training go? Draws a run's logs into one picture.

python -m benchmarks.training_curve outputs/tiny --out docs/images/training.png
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt


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
    """Draw loss and held-out PSNR over training time; written under a temporary name first."""
    loss, held_out = (read_columns(folder / name) for name in ("loss.csv", "validation.csv"))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    left.plot([60 * h for h in loss["hours"]], loss["loss"], color="tab:blue")
    left.set(xlabel="minutes", ylabel="weighted latent error", title="training loss")
    minutes = [60 * h for h in held_out["hours"]]
    for chunk, colour in zip(
        range(1, 5), ("0.75", "tab:blue", "tab:green", "tab:red"), strict=True
    ):
        right.plot(minutes, held_out[f"own_{chunk}"], "o-", color=colour, label=f"chunk {chunk}")
        right.plot(minutes, held_out[f"shuffled_{chunk}"], ":", color=colour)
        right.axhline(held_out[f"repeat_{chunk}"][0], color=colour, lw=0.5)
    right.set(
        xlabel="minutes",
        ylabel="PSNR / dB",
        title="held-out walks; dotted: shuffled commands, thin: repeat",
    )
    right.legend(fontsize=8)
    figure.tight_layout()
    temporary = path.with_name(path.stem + ".partial.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(temporary, dpi=110)
    plt.close(figure)
    os.replace(temporary, path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the training run")
    parser.add_argument("--out", type=Path, default=Path("outputs/training.png"), help="picture")
    arguments = parser.parse_args()
    draw(arguments.folder, arguments.out)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
