"""The benchmark at released size, on a tiny network: what it counts, writes, keeps and refuses."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from benchmarks import released_step
from benchmarks.released import cases, hardware, step, weights
from benchmarks.released.cases import Decode, Load, Roof, Write, as_json, from_json
from benchmarks.released.meter import Meter, place
from benchmarks.released.needs import RUNS, SETTINGS, Card, needs, reached
from benchmarks.released.step import TINY, Step
from benchmarks.released.tables import BEGIN, END, floor_seconds, markdown, renew_page
from benchmarks.released.weights import random_tensor, write_weights
from benchmarks.released.work import filled_state, pass_work, remembered_frames, state_bytes
from sana_wm_gym.models.numerics import R1_STREAMING
from sana_wm_gym.models.plan import ChunkPlan, MemoryWindow
from sana_wm_gym.models.state import named_tensors
from sana_wm_gym.models.transformer import Conditioning, SanaWM
from sana_wm_gym.weights.generator import load_generator
from sana_wm_gym.weights.names import RELEASED, Variant, expected_shapes
from sana_wm_gym.weights.plan import memory_bytes
from sana_wm_gym.world.released.streaming import GENERATOR

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
INDEX = PAGE.parent / "index.md"
RESULT = PAGE.parent / "data" / "released_step.json"
STEP = Step(True, "shards", "bfloat16", "cpu", 64, 96, 2, 3)
WRITE = Write(True, "shards", "float32")
WINDOWS = (MemoryWindow(2), MemoryWindow(None))


def arguments(config, frames, rows, columns, window, state, levels, caption=12):
    """One call of the network, with random content."""
    conditioning = Conditioning(
        torch.eye(4).expand(1, frames, rows, columns, 4, 4),
        torch.zeros(1, 48, frames, rows, columns),
        torch.zeros(1, caption, config.text_channels),
        torch.ones(1, caption),
    )
    latents = torch.zeros(1, config.latent_channels, frames, rows, columns)
    timestep = torch.zeros((1, frames) if levels > 1 else (1,))
    return latents, timestep, conditioning, ChunkPlan(window=window), state


@pytest.mark.parametrize(
    ("config", "grid", "window", "levels"),
    [
        (TINY, (2, 3), WINDOWS[0], 3),
        (
            replace(TINY, conv_kernel=3, temporal_kernel=5, depth=3, softmax_every=3),
            (3, 2),
            WINDOWS[1],
            1,
        ),
        (replace(RELEASED, depth=4), (22, 40), WINDOWS[1], 3),
    ],
)
def test_work_is_what_torch_counts(config, grid, window, levels):
    """Operations of a real forward, counted by torch on tensors without values."""
    cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def attention(query, key, value, *_, out_shape=None, **__):
        return sdpa_flop_count(query, key, value)

    cells, chunks = grid[0] * grid[1], 5
    with FakeTensorMode(), torch.inference_mode():
        model = SanaWM(config, replace(R1_STREAMING, bf16_softmax=False))
        state = filled_state(config, cells, window, chunks, torch.float32, "cpu")
        call = arguments(config, 3, *grid, window, state, levels)
        with FlopCounterMode(display=False, custom_mapping={cpu: attention}) as counter:
            model(*call)
    remembered = remembered_frames(window, chunks)
    assert remembered == (7 if window.chunks else 16)
    work = pass_work(config, 3, cells, remembered, 12, levels)
    assert work.total == counter.get_total_flops()


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("chunks", [1, 2, 4])
def test_filled_state_is_what_chunks_leave(window, chunks):
    """Names, shapes and types of the state after real chunks."""
    model = SanaWM(TINY, R1_STREAMING).bfloat16().eval()
    state = None
    with torch.inference_mode():
        for chunk in range(chunks):
            call = arguments(TINY, 3 if chunk else 4, 2, 3, window, state, 1)
            _, state = model(call[0].bfloat16(), *call[1:])
    filled = filled_state(TINY, 6, window, chunks, torch.bfloat16, "cpu")

    def shapes(value):
        return {name: (t.shape, t.dtype) for name, t in named_tensors(value).items()}

    assert shapes(filled) == shapes(state)
    assert filled.frames == state.frames
    if chunks > 1 and window.chunks:
        frames = 8  # one int64, which the plan leaves out
        assert state_bytes(filled) == memory_bytes(TINY, 6) + frames


def test_both_containers_hold_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "SHARD_BYTES", 200_000)
    config = replace(TINY, position_entries=7)
    loaded = []
    for container in weights.CONTAINERS:
        written = write_weights(tmp_path / container, config, container, torch.float32, 3)
        assert written.tensors == len(expected_shapes(config))
        path = tmp_path / container / GENERATOR
        assert written.bytes == sum(file.stat().st_size for file in path.iterdir())
        model = load_generator(path, Variant.STREAMING, config=TINY, dtype=torch.float32)
        loaded.append(model.state_dict())
    assert len(list((tmp_path / "shards" / GENERATOR).glob("*.safetensors"))) > 1
    assert all(torch.equal(loaded[0][name], loaded[1][name]) for name in loaded[0])
    name, shape = "blocks.0.attn.qkv.weight", expected_shapes(TINY)["blocks.0.attn.qkv.weight"]
    assert torch.equal(loaded[0][name], random_tensor(name, shape, 3, torch.float32))
    assert not torch.equal(loaded[0][name], random_tensor(name, shape, 4, torch.float32))
    with pytest.raises(ValueError, match="given container 'zip'; expected one of"):
        write_weights(tmp_path, config, "zip", torch.float32, 0)


@pytest.mark.parametrize(
    "case", [STEP, Write(True, "shards", "float32"), Roof("float32", "cpu", 8)]
)
def test_a_case_survives_json(case):
    assert from_json(json.loads(json.dumps(as_json(case)))) == case


def test_unknown_types_are_refused():
    with pytest.raises(ValueError, match="given type 'int8'"):
        place("int8")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_meter_sees_a_peak_that_has_gone():
    meter = Meter(torch.device("cpu"))
    with meter.timing():
        block = torch.ones(20 * 10**6)  # 80 MB
        del block
    assert meter.seconds > 0
    assert 70e6 < meter.peak() < 160e6
    assert meter.peak(total=True) > meter.peak()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with tiny weights in shards."""
    path = tmp_path_factory.mktemp("released")
    WRITE.run(path)
    return path


def test_a_chunk_and_its_clean_pass(folder):
    chunk = replace(STEP, repeats=2).run(folder)
    assert len(chunk["pass_s"]) == 5
    assert chunk["s"] >= 0.9 * sum(chunk["pass_s"]) > 0
    assert chunk["finite"] and chunk["difference"] is None
    clean = replace(STEP, passes=1).run(folder)
    assert len(clean["pass_s"]) == 1
    assert 4.9 < chunk["operations"] / clean["operations"] < 5.5
    assert chunk["read_bytes"] == 5 * clean["read_bytes"]
    whole = replace(STEP, passes=1, window=None).run(folder)
    assert whole["state_bytes"] > clean["state_bytes"]
    assert whole["operations"] > clean["operations"]


def test_what_compilers_change_is_measured(folder, monkeypatch):
    """The difference to the plain pass, here of a compiler that doubles the output."""
    asked = []

    def doubling(model, backend):
        asked.append(backend)
        model.final_layer.linear.weight.mul_(2)

    monkeypatch.setattr(step, "compile_step", doubling)
    found = replace(STEP, compiler="inductor", passes=1).run(folder)
    assert asked == ["inductor"]
    assert found["difference"] == pytest.approx(1)


def test_fused_kernels_need_a_gpu(folder):
    with pytest.raises(ValueError, match="need a CUDA device"):
        replace(STEP, fused=True).run(folder)


def test_decoding(folder):
    pytest.importorskip("diffusers")
    one = Decode("float32", "cpu", 64, 64, 1, tiny=True).run(folder)
    two = Decode("float32", "cpu", 64, 64, 2, tiny=True).run(folder)
    assert (one["frames"], two["frames"]) == (8, 16)
    assert two["operations"] == 2 * one["operations"] > 0
    assert one["finite"] and one["state_bytes"] == two["state_bytes"] > 0


def test_floor_takes_the_slower_of_work_and_bytes():
    roof = {"operations_per_s": 10, "bytes_per_s": 2}
    assert floor_seconds({"operations": 100, "read_bytes": 4}, roof) == 10
    assert floor_seconds({"operations": 100, "read_bytes": 40}, roof) == 20


def record(kind, **result):
    """A record at released size with only what the tables of hardware read."""
    case = {"kind": kind, "height": 704, "width": 1280, "dtype": "bfloat16", "device": "cpu"}
    case |= {"tiny": False, "window": 2, "passes": 5}
    return {"case": case, "device": "1 thread on a CPU", "result": result}


DECODE = record(
    "decode",
    working_bytes=10**9,
    state_bytes=6 * 10**8,
    processor_s=2,
    frames=8,
    operations=10**13,
)


def test_needs_add_up():
    found = needs([DECODE, record("step", working_bytes=3 * 10**9, processor_s=10)])
    assert found.decode_operations == 3 * 10**13
    assert found.processor_s == 16
    plain, away, fp8 = SETTINGS[:3]
    assert found.stepping(plain) - found.stepping(away) == min(found.vae, found.step - found.decode)
    assert found.stepping(plain) > found.stepping(fp8) > found.encoding(fp8) - found.text
    assert found.setting(Card(80, "large", 1, (8, 0))) == plain
    assert found.setting(Card(4, "small", 1, (12, 0))) is None
    # Just too small for bf16: with fp8 only where the card has it.
    tight = found.stepping(away) // 2**30
    assert found.setting(Card(tight, "old", 1, (8, 9))) is None
    smaller = found.setting(Card(tight, "new", 1, (9, 0)))
    assert smaller is not None and smaller.precision is fp8.precision
    large = Card(80, "large", 1, (8, 0))
    count = found.worlds(large, plain)
    assert found.stepping(plain, count) <= large.bytes < found.stepping(plain, count + 1)
    with pytest.raises(ValueError, match="no record of"):
        needs([DECODE])


def test_published_runs_stay_below_the_peak():
    """A run above its card's peak would show that operations are counted too high."""
    assert all(0 < reached(run) < 1 for run in RUNS)


def test_first_page_shows_the_stored_results():
    assert hardware.of_results(RESULT.parent) in INDEX.read_text()


def in_this_process(case, folder):
    """`run_case` without the cost of new processes."""
    record = {"case": as_json(case), "commit": "0" * 40 + "+edited", "device": "here"}
    return record | {"date": "today", "load_average": [0, 0], "result": case.run(folder)}


def test_script_writes_a_page_and_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(released_step, "run_case", in_this_process)
    page, out = tmp_path / "page.md", tmp_path / "out"
    page.write_text(f"# Speed\n{BEGIN}\nold\n{END}\nThe end.\n")
    line = ["--tiny", "--device", "cpu", "--sizes", "64x96", "--repeats", "1", "--out", str(out)]
    line += ["--parts", "write", "load", "roof", "step"]
    assert released_step.main([*line, "--containers", "shards"]) == 0
    assert "pictures do not" in capsys.readouterr().out
    done = []

    def watched(case, folder):
        done.append(case)
        return in_this_process(case, folder)

    monkeypatch.setattr(released_step, "run_case", watched)
    line += ["--containers", "shards", "model.pt", "--page", str(page), "--clean"]
    assert released_step.main(line) == 0
    assert done == [Write(True, "model.pt", "float32"), Load(True, "model.pt", "bfloat16", "cpu")]
    result = json.loads((out / "released_step.json").read_text())
    kinds = ["write", "write", "load", "load", "roof", "step", "step"]
    assert [record["case"]["kind"] for record in result["cases"]] == kinds
    assert page.read_text() == f"# Speed\n{BEGIN}\n{markdown(result)}{END}\nThe end.\n"
    assert "Random weights" in markdown(result) and "000000000000+edited" in markdown(result)
    assert sorted(path.name for path in out.iterdir()) == ["cases", "released_step.json"]
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no <!--"):
        renew_page(page, result)
    # A later step finds the weights gone and has them written again.
    done.clear()
    assert released_step.main([*line[:7], *line[7:9], "--parts", "step", "--passes", "1"]) == 0
    assert [type(case) for case in done] == [Write, Step, Step]


def test_a_case_prints_its_record(tmp_path, capsys):
    assert cases.main(json.dumps(as_json(WRITE)), str(tmp_path)) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert from_json(record["case"]) == WRITE
    assert record["result"]["bytes"] > 0
    for key in ("commit", "device", "date", "load_average"):
        assert record[key]


def test_a_case_in_a_process_of_its_own_fails_alone(tmp_path):
    record = released_step.run_case(Load(True, "shards", "bfloat16", "cpu"), tmp_path)
    assert record["failed"].startswith("FileNotFoundError: no weights at")


@pytest.mark.parametrize(
    "line",
    [
        ["--sizes", "700x1280"],
        ["--sizes", "32x64"],
        ["--sizes", "wide"],
        ["--windows", "0"],
        ["--history", "0"],
        ["--parts", "refine"],
    ],
)
def test_bad_arguments_end_before_any_work(line):
    with pytest.raises(SystemExit) as end:
        released_step.main(line)
    assert end.value.code == 2


def test_page_shows_the_stored_result():
    """The tables of the page are those of the json file beside it."""
    assert markdown(json.loads(RESULT.read_text())) in PAGE.read_text()
