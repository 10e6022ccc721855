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

CASE = StepCase(True, torch.device("cpu"), (64, 96), history=3)
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
    # A pass of all twenty blocks takes 15.2e12 operations, derived from the sizes.
    assert operations == pytest.approx(15.2e12 * 4 / 20, rel=0.02)
    assert len(state.blocks) == 4


def test_script_measures_every_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("diffusers")
    line = ["--tiny", "--device", "cpu", "--size", "64", "96", "--out", str(tmp_path)]
    assert released_step.main(line) == 0
    assert "no pictures" in capsys.readouterr().out
    stored = json.loads((tmp_path / "released_step.json").read_text())
    assert stored["command"].startswith("python -m benchmarks.released_step")
    results = stored["results"]
    assert {part: len(rows) for part, rows in results.items()} == {
        "roof": 1,
        "load": 1,
        "step": 2,
        "decode": 1,
    }
    [load], (window, whole), [decoded] = (results[part] for part in ("load", "step", "decode"))
    assert min(results["roof"][0].values()) > 0 and load["result_gb"] > 0
    assert window["s"] > window["slowest_pass_s"] >= window["s"] / 5 > 0
    assert whole["state_gb"] > window["state_gb"]
    assert whole["tflop"] > window["tflop"]
    assert decoded["frames"] == 24


def test_a_compiler_and_its_warm_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, warmed = [], []
    monkeypatch.setattr(released_step, "compile_step", lambda model, name: given.append(name))
    monkeypatch.setattr(released_step, "step", lambda *call: warmed.append(call[-1]) or {"s": 1.0})
    line = ["--tiny", "--device", "cpu", "--parts", "step", "--out", str(tmp_path)]
    assert released_step.main([*line, "--compile", "inductor"]) == 0
    assert given == ["inductor"] and warmed == [True, True]


@pytest.mark.parametrize(
    "line", ["--size 700 1280", "--size 32 64", "--size wide", "--parts refine"]
)
def test_bad_arguments_end_before_any_work(line: str) -> None:
    with pytest.raises(SystemExit) as end:
        released_step.main(line.split())
    assert end.value.code == 2
