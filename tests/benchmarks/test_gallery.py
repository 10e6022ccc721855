"""The gallery: every template is drawn, and the picture arrives whole."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks import gallery
from sana_wm_gym.camera.synthesis import synthesise
from sana_wm_gym.camera.templates import HARD, SIMPLE


def test_one_picture_of_all_twenty(tmp_path, capsys):
    out = tmp_path / "new" / "gallery.png"
    assert gallery.main(["--out", str(out)]) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    assert [p.name for p in out.parent.iterdir()] == ["gallery.png"]
    pixels = np.asarray(Image.open(out).convert("RGB"))
    assert pixels.shape[1] == 1300
    # Every fifth of every half of the page has ink and colour.
    for half in np.array_split(pixels, 2):
        for cell in np.array_split(half, 5, axis=1):
            assert (np.ptp(cell.astype(int), axis=-1) > 60).mean() > 0.002


def test_every_name_is_in_the_captions():
    trajectories = [synthesise(t, frames=241, fps=4.0) for t in (SIMPLE[0], HARD[0])]
    figure = gallery.compose([("Simple", trajectories[:1]), ("Hard", trajectories[1:])])
    titles = " ".join(a.get_title(loc="left") for a in figure.get_axes())
    assert "s curve" in titles
    assert "staircase" in titles


@pytest.mark.parametrize(
    "arguments", [["--out", "picture.txt"], ["--median-depth", "0"], ["--median-depth", "nan"]]
)
def test_bad_arguments_end_before_work(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        gallery.main(arguments)
    assert exit_.value.code == 2
    assert "expected" in capsys.readouterr().err
