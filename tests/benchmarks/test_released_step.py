"""The benchmark at released size, on tiny networks: what it counts, measures and refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import released_step
from benchmarks.released_network import (
    TINY,
    StepCase,
    filled_state,
    random_call,
    random_generator,
    run_empty,
)
from sana_wm_gym.models.plan import ChunkPlan, MemoryWindow
from sana_wm_gym.models.state import named_tensors
from sana_wm_gym.weights.names import RELEASED
from sana_wm_gym.weights.plan import memory_bytes

CASE = StepCase(True, torch.bfloat16, torch.device("cpu"), (64, 96), 3, 5, "", 1)
WINDOWS = (MemoryWindow(2), MemoryWindow(None))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("chunks", [1, 2, 4])
def test_filled_state_is_what_chunks_leave(window: MemoryWindow, chunks: int) -> None:
    """Names, shapes and types of the state after real chunks; `weights plan` counts the same."""
    case = replace(CASE, history=chunks)
    model, state = random_generator(case), None
    with torch.inference_mode():
        for chunk in range(chunks):
            noise, conditioning = random_call(case, chunk == 0)
            plan = ChunkPlan(window=window)
            _, state = model(noise, torch.zeros(1), conditioning, plan, state)
    filled = filled_state(case, window)

    def shapes(value: Any) -> dict[str, Any]:
        return {name: (t.shape, t.dtype) for name, t in named_tensors(value).items()}

    assert shapes(filled) == shapes(state)
    assert filled.frames == state.frames
    if chunks > 1 and window.chunks:
        frames = 8  # one int64, which the plan leaves out
        size = sum(tensor.nbytes for tensor in named_tensors(filled).values())
        assert size == memory_bytes(TINY, 6) + frames


def test_operations_grow_with_the_window_and_the_network() -> None:
    counts = [run_empty(CASE, window, 4)[0] for window in WINDOWS]
    assert 0 < counts[0] < counts[1]
    released = replace(CASE, tiny=False, size=(704, 1280))
    one = replace(RELEASED, depth=4, position_entries=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepCase, "config", one)
        operations, state = run_empty(released, WINDOWS[0], 3)
    # A pass of all twenty blocks takes 15.2e12 operations, counted by hand from the sizes.
    assert operations == pytest.approx(15.2e12 * 4 / 20, rel=0.02)
    assert len(state.blocks) == 4


def test_script_measures_every_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("diffusers")
    line = ["--tiny", "--device", "cpu", "--size", "64x96", "--out", str(tmp_path)]
    assert released_step.main(line) == 0
    assert "no pictures" in capsys.readouterr().out
    stored = json.loads((tmp_path / "released_step.json").read_text())
    assert stored["command"].startswith("python -m benchmarks.released_step")
    results = stored["results"]
    assert [one["part"] for one in results] == ["roof", "load", "step", "step", "decode"]
    roof, load, window, whole, decoded = results
    assert roof["operations_per_s"] > 0 and load["bytes"] > 0
    assert len(window["pass_s"]) == 5 and window["s"] >= 0.9 * sum(window["pass_s"]) > 0
    assert whole["state_bytes"] > window["state_bytes"]
    assert whole["operations"] > window["operations"]
    assert decoded["frames"] == 24


def test_the_clean_pass_alone_and_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(released_step, "compile_step", lambda model, name: asked.append(name))
    line = ["--tiny", "--device", "cpu", "--size", "64x96", "--out", str(tmp_path)]
    line += ["--parts", "step", "--passes", "1", "--windows", "2", "--repeats", "2"]
    assert released_step.main([*line, "--compile", "inductor"]) == 0
    [one] = json.loads((tmp_path / "released_step.json").read_text())["results"]
    assert asked == ["inductor"] and len(one["pass_s"]) == 1


@pytest.mark.parametrize(
    "line",
    [
        ["--size", "700x1280"],
        ["--size", "32x64"],
        ["--size", "wide"],
        ["--windows", "0"],
        ["--history", "0"],
        ["--parts", "refine"],
    ],
)
def test_bad_arguments_end_before_any_work(line: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        released_step.main(line)
    assert end.value.code == 2
