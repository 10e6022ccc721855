"""What does not fit is refused, with everything that is short in one line."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sana_wm_gym.weights.preflight import (
    Machine,
    Need,
    gigabytes,
    require,
    this_machine,
)

SIZE = st.integers(0, 10**12)


def test_this_machine_is_looked_at(tmp_path):
    machine = this_machine(tmp_path / "not" / "yet" / "there")
    assert machine.disk is not None and machine.disk > 0
    assert machine.ram is None or machine.ram > 0
    assert machine.vram is not None and (machine.vram > 0) == (machine.gpu is not None)


def test_everything_short_is_named():
    machine = Machine(disk=10**9, ram=2 * 10**9, vram=0)
    with pytest.raises(ValueError, match="not enough room for the job") as caught:
        require(Need(disk=5 * 10**9, ram=10**9, vram=3 * 10**9), machine, "the job")
    text = str(caught.value)
    assert "disk: needs 5.0 GB, 1.0 GB free; VRAM: needs 3.0 GB, 0.0 MB free" in text
    assert "RAM: needs 1.0" not in text and "weights plan" in text


@given(SIZE, SIZE, SIZE)
def test_exactly_enough_is_enough(disk, ram, vram):
    need = Need(disk, ram, vram)
    require(need, Machine(disk, ram, vram), "the job")
    less = Machine(max(disk - 1, 0), max(ram - 1, 0), max(vram - 1, 0))
    short = sum(size > 0 for size in (disk, ram, vram))
    with pytest.raises(ValueError, match="not enough room") if short else nullcontext() as caught:
        require(need, less, "the job")
    assert not short or str(caught.value).count("needs") == short


def test_unknown_sizes_forbid_nothing():
    require(Need(10**15, 10**15, 10**15), Machine(None, None, None), "the job")


def test_sizes_for_people():
    shown = [gigabytes(size) for size in (None, 0, 1_500_000, 99_999_999, 10**8, 5_324_983_336)]
    assert shown == ["unknown", "0.0 MB", "1.5 MB", "100.0 MB", "0.1 GB", "5.3 GB"]
