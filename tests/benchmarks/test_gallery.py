"""The gallery: every template is drawn, and the picture arrives whole."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks import gallery


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


@pytest.mark.parametrize(
    "arguments", [["--out", "picture.txt"], ["--median-depth", "0"], ["--median-depth", "nan"]]
)
def test_bad_arguments_end_before_work(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        gallery.main(arguments)
    assert exit_.value.code == 2
    assert "expected" in capsys.readouterr().err
