"""The command line: the list of tools, their help, and errors of one line."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from sana_wm_gym import __version__, cli
from sana_wm_gym.cli import TOOLS
from sana_wm_gym.extras import extras, message_of

ROOT = Path(__file__).parents[1]
NAMES = [tool.name for tool in TOOLS]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_list_names_every_tool_and_imports_none() -> None:
    code = "import sys; from sana_wm_gym.cli import main; status = main({}); "
    code += "sys.exit(status or sum(m in sys.modules for m in ('torch', 'hydra', 'scipy')))"
    bare, help_ = (run("-c", code.format(arguments)) for arguments in ("[]", "['--help']"))
    assert bare.returncode == help_.returncode == 0, bare.stderr
    assert bare.stdout == help_.stdout
    assert [line.split("  ")[1] for line in bare.stdout.splitlines() if line[:2] == "  "] == NAMES


def test_the_package_runs_as_a_module() -> None:
    assert run("-m", "sana_wm_gym", "--version").stdout == f"sana_wm_gym {__version__}\n"


@pytest.mark.parametrize("tool", TOOLS, ids=NAMES)
def test_every_extra_exists(tool: cli.Tool) -> None:
    assert tool.extra is None or tool.extra in extras()
    assert callable(import_module(f"sana_wm_gym.{tool.module}").main)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("trian", "no tool trian, did you mean train?"),
        ("bench rnu", "no tool bench rnu, did you mean bench run?"),
        ("xyz", "no tool xyz; sana-wm lists them"),
        ("demo --wrld tiny", "unknown argument --wrld, did you mean --world?"),
        ("demo --world tinny", "did you mean tiny?"),
        ("score --vidoes .", "unknown argument --vidoes, did you mean --videos?"),
        ("weights plan --cahce x sana-wm-streaming", "--cahce, did you mean --cache?"),
        ("weights paln", "did you mean plan?"),
        ("train agnt=ppo", "unknown setting agnt, did you mean agent?"),
        ("plan planner.candidate=3", "planner.candidate, did you mean planner.candidates?"),
        ("bench run wrold=tiny", "unknown setting wrold, did you mean world?"),
        ("train --mutlirun", "unknown flag --mutlirun, did you mean --multirun?"),
        ("train steps=", "steps is '', expected an integer"),
        ("train device=mps", "device is 'mps', which is not supported"),
        ("train-world device=mps", "device is 'mps', which is not supported"),
        ("clone", "Missing mandatory value: dataset"),
        ("weights check nowhere", "nowhere"),
        ("play --world tinny", "unknown world 'tinny'"),
        ("play --world procedural --fodler x", "unknown argument --fodler, did you mean --folder?"),
        ("play --world procedural --port 65536", "port 65536: "),
        ("play --world procedural --task gaol", "task"),
        ("play --image nowhere.png", "nowhere.png"),
        ("play --seed -1", "seed is -1"),
        ("play --policy nowhere", "no run at nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    command: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = cli.main(command.split())
    except SystemExit as end:  # from argparse
        status = int(end.code or 0)
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "tool", "extra"),
    [
        ("hydra", "plan", "agents"),
        ("stable_baselines3", "train", "agents"),
        ("uvicorn", "play", "play"),
    ],
)
def test_a_missing_package_is_one_line_that_installs_it(
    module: str,
    tool: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    [path] = [f"sana_wm_gym.{one.module}" for one in TOOLS if one.name == tool]
    monkeypatch.delitem(sys.modules, path, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    assert cli.main([tool]) == 2
    error = capsys.readouterr().err
    assert error == f"error: {module} is not installed: pip install 'sana_wm_gym[{extra}]'\n"


def test_the_extra_that_brings_a_package_is_found() -> None:
    missing = ModuleNotFoundError("No module named 'minari'", name="minari")
    for preferred in (None, "agents", "data"):
        assert message_of(missing, preferred).endswith("pip install 'sana_wm_gym[data]'")
    other = ModuleNotFoundError("No module named 'einops'", name="einops")
    assert message_of(other, "agents") == "einops is not installed: pip install einops"


def test_doctor_lists_every_world(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    for title in ("versions", "devices", "caches", "extras", "worlds"):
        assert f"{title}:\n" in text
    for world in ("tiny", "tiny-bf16", "twin", "procedural"):
        assert re.search(rf"^  {world} +runs$", text, re.MULTILINE)
    assert re.search("^  sana-wm-streaming +(runs|on the CPU|no): ", text, re.MULTILINE)
