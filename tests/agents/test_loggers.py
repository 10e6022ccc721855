"""Logs of a run: csv tables that can be cut back, tensorboard, wandb."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("stable_baselines3")
pytest.importorskip("hydra")

from small_runs import EVALUATION, run

from sana_wm_gym.agents.training.loggers import CsvTable, Tensorboard, Wandb


@settings(max_examples=15)
@given(
    st.lists(st.dictionaries(st.sampled_from("xyz"), st.floats(allow_nan=False)), min_size=1),
    st.data(),
)
def test_a_table_cut_back_and_written_again_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, float]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("table")
    table = CsvTable(folder / "a.csv")
    states = [table.state]
    for row in rows:
        table.write({"step": 1, **row})
        states.append(table.state)
    kept = data.draw(st.integers(0, len(rows)))
    (folder / "b.csv").write_bytes((folder / "a.csv").read_bytes() + b"1,")
    again = CsvTable(folder / "b.csv", *states[kept])
    for row in rows[kept:]:
        again.write({"step": 1, **row})
    assert (folder / "b.csv").read_bytes() == (folder / "a.csv").read_bytes()


def test_a_table_that_lost_rows_is_refused(tmp_path: Path) -> None:
    table = CsvTable(tmp_path / "a.csv")
    for step in range(3):
        table.write({"step": step, "return": 0.125})
    text = (tmp_path / "a.csv").read_text()
    for kept in (0, 3, len(text) // 2, len(text) - 8):
        (tmp_path / "a.csv").write_text(text[:kept])
        with pytest.raises(ValueError, match=r"a\.csv has \d whole rows, its checkpoint 3"):
            CsvTable(tmp_path / "a.csv", *table.state)


def test_events_are_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    sink = Tensorboard().open(tmp_path, {}, 0)
    sink.write({"return": 1.0}, {"return": None}, 3)
    sink.close()
    assert list((tmp_path / "tensorboard").iterdir())


class FakeWandb:
    """Keeps what it is given."""

    Settings = dict

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.rows: list[tuple[int | None, dict[str, Any]]] = []
        self.artifacts: list[tuple[str, dict[str, Path]]] = []

    def init(self, **given: Any) -> FakeWandb:
        self.started.append(given)
        return self

    def log(self, row: dict[str, Any], step: int | None = None) -> None:
        self.rows.append((step, row))

    def Video(self, path: str, format: str) -> str:  # noqa: A002, N802 - wandb's names
        assert Path(path).is_file() and format == "mp4"
        return path

    def Artifact(self, name: str, type: str) -> FakeWandb:  # noqa: A002, N802 - wandb's names
        self.artifacts.append((name, {}))
        return self

    def add_file(self, path: str, name: str) -> None:
        self.artifacts[-1][1][name] = Path(path)

    def log_artifact(self, artifact: FakeWandb) -> None: ...

    def finish(self) -> None: ...


def test_a_resumed_run_continues_its_wandb_run_with_videos_and_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    how = {"logger": Wandb(group="seeds"), "evaluation": replace(EVALUATION, videos=1)}
    run(tmp_path / "a", steps=8, **how)
    run(tmp_path / "a", steps=16, **how)
    run(tmp_path / "b", steps=8, **how)
    first, again, other = fake.started
    assert (first["mode"], first["group"], first["job_type"]) == ("offline", "seeds", "train")
    assert first["resume"] == again["resume"] == "allow"
    assert first["id"] == again["id"] != other["id"]
    assert (first["config"]["steps"], again["config"]["steps"]) == (8, 16)
    # Rows come with the videos of their step; each of the three ends with its last evaluation.
    steps = [step for step, _ in fake.rows]
    assert steps == [0, 8, None, 16, None, 0, 8, None]
    assert all("eval/episode-10000" in row for _, row in fake.rows)
    assert "time/update_s" in fake.rows[0][1] and "return" in fake.rows[1][1]
    name, files = fake.artifacts[1]
    assert name == "a-policy"
    assert set(files) == {"run.json", "policy.zip", "checkpoints/step-0000000016/learner.pt"}


def test_wandb_itself_takes_these_calls(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    logger = Wandb(mode="disabled", group="seeds")
    run(tmp_path, steps=8, logger=logger, evaluation=replace(EVALUATION, videos=1))
    assert (tmp_path / "evaluation.json").is_file() and (tmp_path / "wandb_id").is_file()


@pytest.mark.parametrize(
    ("logger", "module"),
    [(Wandb(), "wandb"), (Tensorboard(), "torch.utils.tensorboard")],
)
def test_a_missing_package_is_named_with_its_install_command(
    logger: Any, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install sana_wm_gym\[agents\]"):
        logger.open(tmp_path, {}, 0)
