"""The rooms of the package: who may import whom, what a plain import costs, and what files are called."""

import ast
import importlib
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

import convnextv2

ROOT = Path(convnextv2.__file__).parent
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))

SHARED = (
    "errors",
    "records",
    "text",
    "atomic",
    "seal",
    "settings",
    "signatures",
    "notebook",
    "_version",
)  # any room may read these
BELOW_TASKS = ["ops", "data", "figures", "report", "models", "weights", "engine", "inference", "loading", "runs"]
MAY_IMPORT = {  # besides SHARED and itself; "room" is the whole room, "room.file" that file only
    **{room: [] for room in SHARED},
    "ops": [],
    "data": [],
    "figures": [],
    "report": [],
    "models": ["ops"],
    "weights": ["models"],
    "engine": ["weights.files", "weights.strict"],
    "inference": ["data", "models", "weights", "engine"],
    "loading": ["models", "weights", "inference"],
    "runs": ["data", "figures", "models", "weights", "engine", "report"],
    "tasks": [],
    "tasks.*": BELOW_TASKS,
    **{room: [*BELOW_TASKS, "tasks"] for room in ("verbs", "interop", "export", "analysis", "compare", "serve")},
    "extend": BELOW_TASKS,  # the names that other packages build on
    # And anything inside a function:
    "cli": ["tasks.*.*settings", "verbs.*.settings", "verbs.settings", "inference.settings"],
    "": [],  # the package itself: anything inside a function
    "__main__": ["cli"],
}
LAZY = ("cli", "")  # rooms that import on use


def room_of(module):
    """`tasks.pretrain.fcmae` lives in `tasks.pretrain`, `ops.grn` in `ops`."""
    parts = module.split(".")
    return ".".join(parts[:2] if parts[0] == "tasks" else parts[:1])


def module_of(file):
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file) for file in FILES}


def imports(source, module, is_package):
    """Yields (our module imported, the code is run when the file is imported) for every import of ours."""

    def visit(node, now):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                here = ["convnextv2", *filter(None, module.split("."))]
                start = ".".join([*here[: len(here) + is_package - node.level], *filter(None, [node.module])])
            names = [f"{start}.{alias.name}" for alias in node.names]
        else:
            names = []
        for name in names:
            first, _, inside = name.partition(".")
            if first == "convnextv2":
                while inside and inside not in MODULES:  # a name out of a module, or out of the package itself
                    inside = inside.rpartition(".")[0]
                yield inside, now
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        later = typing_only or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, now and not later)

    return list(visit(ast.parse(source), True))


def forbidden(source, module, is_package=False):
    """The imports of a file that the floors do not allow."""
    room = room_of(module)
    pattern = next((p for p in MAY_IMPORT if fnmatch(room, p)), None)
    if pattern is None:
        return [f"{room!r} is not a room of the drawing"]
    wrong = []
    for target, now in imports(source, module, is_package):
        own = room_of(target) == room and target != ""
        shared = target in SHARED and room not in ("errors", "records")
        allowed = any(fnmatch(target, p) or fnmatch(target, f"{p}.*") for p in MAY_IMPORT[pattern])
        lazy = room in LAZY and not now
        the_package = room == "cli" and target == ""  # it loads its names on use, so it costs nothing
        if not (own or shared or allowed or lazy or the_package):
            wrong.append(target or "the package itself")
    return wrong


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_follow_the_floors(file):
    wrong = forbidden((ROOT / file).read_text(), module_of(file), file.name == "__init__.py")
    assert not wrong, f"{file} imports {', '.join(wrong)}"


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("models.block", "from convnextv2 import ops", []),
        ("models.block", "from convnextv2.errors import UserError", []),
        ("models.block", "from convnextv2.models.grid import Grid", []),
        ("models.block", "import convnextv2.data.files.folder as f", ["data.files.folder"]),
        ("models.block", "from convnextv2 import create_model", ["the package itself"]),
        ("ops.grn", "from convnextv2 import models", ["models"]),
        ("ops.grn", "def f():\n    from convnextv2.models import Size", ["models"]),
        ("ops.grn", "from ..models import sizes", ["models.sizes"]),
        ("ops.grn", "from . import registry", []),
        ("data.folder", "import convnextv2.ops", ["ops"]),
        ("report.page", "from convnextv2.engine import runlog", ["engine.runlog"]),
        ("weights.files", "from convnextv2.models.sizes import SIZES", []),
        ("weights.files", "from convnextv2.models import sizes", []),
        ("engine.loop", "from convnextv2.weights import files", []),
        ("engine.loop", "from convnextv2.report import write_report", ["report"]),
        ("engine.loop", "from convnextv2._version import __version__", []),
        ("engine.loop", "from convnextv2.models import create_model", ["models"]),
        ("engine.loop", "if TYPE_CHECKING:\n    from convnextv2.data.loading import loader", ["data.loading.loader"]),
        ("engine.loop", "from convnextv2.runs.settings import RunSettings", ["runs.settings"]),
        ("runs.runner", "from convnextv2.engine.loop import fit", []),
        ("runs.runner", "from convnextv2.models import create_model", []),
        ("runs.runner", "from convnextv2.tasks.pretrain.run import PRETRAIN", ["tasks.pretrain.run"]),
        ("tasks.pretrain.run", "from convnextv2.engine.loop import fit", []),
        ("tasks.pretrain.run", "from convnextv2.tasks.pretrain import masking", []),
        ("tasks.classify.run", "from convnextv2.tasks.pretrain import masking", ["tasks.pretrain.masking"]),
        ("tasks.classify.run", "import convnextv2.verbs", ["verbs"]),
        ("verbs.embed", "from convnextv2.tasks.pretrain import masking", []),
        ("verbs.embed", "from convnextv2.cli import main", ["cli"]),
        ("cli.pretrain", "from convnextv2.tasks.pretrain.settings import PretrainSettings", []),
        ("cli.pretrain", "from convnextv2.tasks.pretrain.run import run", ["tasks.pretrain.run"]),
        ("cli.pretrain", "def f():\n    from convnextv2.tasks.pretrain.run import run", []),
        ("errors", "import convnextv2.records", ["records"]),
        ("utils.text", "import os", ["'utils' is not a room of the drawing"]),
    ],
)
def test_the_check_itself_sees_every_way_to_import(module, source, wrong):
    assert forbidden(source, module) == wrong


def test_relative_imports_of_a_package_start_at_itself():
    assert forbidden("from .grid import Grid\nfrom ..engine import loop", "models", is_package=True) == ["engine.loop"]


def test_a_plain_import_loads_nothing_heavy():
    code = "import sys; before = set(sys.modules); import convnextv2; print(*set(sys.modules) - before)"
    added = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "torchvision", "triton", "timm", "transformers", "matplotlib", "onnx", "pycocotools", "numpy"}
    assert "convnextv2" in added
    assert not heavy & set(added)


def test_public_names_are_sorted_and_there():
    names = convnextv2.__all__
    assert names
    # as the linter sorts: CONSTANTS, then Classes, then functions
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    for name in names:
        assert getattr(convnextv2, name) is not None
    assert set(names) <= set(dir(convnextv2))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = convnextv2.nothing


@pytest.mark.parametrize("room", sorted({m.partition(".")[0] for m in MODULES} - {"", "__main__"}))
def test_the_public_names_of_a_room_are_there(room):
    package = importlib.import_module(f"convnextv2.{room}")
    names = getattr(package, "__all__", [])
    assert all(hasattr(package, name) for name in names)


def test_no_file_is_a_drawer_for_everything():
    drawers = {"utils", "util", "common", "misc", "base", "helpers", "helper"}
    assert not [str(path) for path in FILES if drawers & {*path.parts, path.stem}]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_functions_fit_on_a_page(file):
    """At most 60 lines from `def` to the last, and 12 arguments."""
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name
            assert len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]) <= 12, node.name
