"""Size and names: files stay short, signatures too, and a class name means one class."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("sana_wm_gym", "agents", "benchmarks")
LINES = 400
PARAMETERS = 8

# The keywords of the environments are the public API; each becomes an `EnvConfig` at once.
WIDE = {"SanaWMEnv.__init__", "SanaWMVectorEnv.__init__"}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_file_is_long() -> None:
    lengths = {
        name_of(p): len(p.read_text(encoding="utf-8").splitlines())
        for p in sources(*FOLDERS, "tests")
    }
    assert {name: count for name, count in lengths.items() if count > LINES} == {}


def test_no_signature_is_wide() -> None:
    wide = []
    for path in sources(*FOLDERS):
        for scope in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for node in ast.iter_child_nodes(scope):
                if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                name = f"{scope.name}.{node.name}" if isinstance(scope, ast.ClassDef) else node.name
                given = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                count = len([one for one in given if one.arg not in ("self", "cls")])
                if count > PARAMETERS and name not in WIDE:
                    wide.append(f"{name_of(path)}:{node.lineno} {name} takes {count}")
    assert wide == []


def test_no_two_public_classes_share_a_name() -> None:
    places = defaultdict(list)
    for path in sources(*FOLDERS):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name_of(path))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
