"""How the source is built, in numbers: rooms, arrows, cycles, sizes, documentation, and the way of a setting.

    python benchmarks/structure.py [--source src] [--before ../before/src] [--list]

Prints a table of one tree, or of two beside each other; --list names what was counted. All but the last rows are read
from the syntax tree, nothing is imported. What is counted:

rooms: folders with Python files; the root is none.
arrows: pairs of rooms of which one imports from the other when it is loaded. Here a room is as `tests/test_rooms.py`
draws it: a top-level folder, each folder below tasks/, and each module at the root (errors, records, ...), which all
others may read; the second number leaves these out.
upward arrows: imports of a room that does not lie on a lower floor, a module at the root not counted. The floors come
from the table MAY_IMPORT of the tests beside the tree (a room lies one floor above the highest that it may import),
else from FLOORS. The package itself, whose public names stand for all below them, lies between cli and the rest.
cycles: groups of modules that import each other, imports inside functions and the package's own on use included, those
for type checkers not.
function: with its decorators left out, and with the functions inside it; so `lines` is from `def` to the last line.
arguments: all but self and cls.
public: of a name without a leading underscore, a function of a module or a method of a public class, not __dunder__.
documented: with a docstring, or in place of a method of a base class of ours that has one.
shapes: that docstring, or that of the class, has a shape such as (B, C, H, W), or says "scalar" or "shape".
untyped mappings that carry an architecture: what is annotated `Mapping[str, Any]` or `dict` of Any or object (a
parameter, an attribute of a class or a module, or what a function returns) and is an encoder's arguments: its name, or
the function's if it is returned, says so (CARRIERS), or at least two of KEYS are its keys, where it is written down or
read. The second number counts those that are the saved form of a typed record, where the record is saved or read:
`to_dict`, and functions that make the record of the mapping on the spot (they call a ...Config or ...Request).
rooms a setting visits: see visits.py.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from source_tree import Function, Module, Place, classes, cycles, functions, imports, read

FLOORS = (
    ("errors", "records", "text", "atomic", "settings", "_version"),
    ("ops", "data", "figures", "report"),
    ("models",),
    ("weights", "checkpoints"),
    ("engine",),
    ("inference",),
    ("loading", "runs"),
    ("tasks.*",),
    ("verbs", "zoo", "interop"),
    ("",),
    ("cli",),
    ("__main__",),
)
KEYS = {"in_chans", "stem_stride", "depths", "dims"}
CARRIERS = {"architecture", "arguments", "asked", "held", "wanted", "shape"}
MOST_LINES, MOST_ARGUMENTS = 60, 12
_UNTYPED = re.compile(r"\b(Mapping|MutableMapping|dict|Dict)\[str, (Any|object)\]")


def floors(source: Path, rooms: set[str]) -> dict[str, float]:
    """The floor of each room, by the table of the tests beside the tree, else by FLOORS."""
    test = source.parent / "tests" / "test_rooms.py"
    table = _may_import(test) if test.is_file() else None
    found: dict[str, float] = {}
    for room in rooms:
        if table is not None:
            found[room] = _floor(room, table)
        else:
            found[room] = next((i for i, names in enumerate(FLOORS) if any(fnmatch(room, n) for n in names)), 0)
    top = max(floor for room, floor in found.items() if room not in ("", "cli", "__main__"))
    return found | {"": top + 1, "cli": top + 2, "__main__": top + 3}


def _may_import(test: Path) -> dict[str, list[str]]:
    """The table of a test of rooms, with the constants before it that it is made of."""
    values: dict[str, Any] = {}
    for node in ast.parse(test.read_text(encoding="utf-8")).body:
        name = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""
        if name.startswith("BELOW") or name in ("SHARED", "MAY_IMPORT"):
            exec(compile(ast.Module([node], []), str(test), "exec"), values)  # the tree's own test
    return values["MAY_IMPORT"]


def _floor(room: str, table: dict[str, list[str]]) -> int:
    pattern = next((p for p in table if fnmatch(room, p)), None)
    if pattern is None:
        return 0
    below = {"tasks.*" if p.startswith("tasks") else p.partition(".")[0] for p in table[pattern]}
    return 1 + max((_floor(each, table) for each in below if each != pattern), default=-1)


def untyped(modules: list[Module], places: list[Place]) -> tuple[list[str], list[str]]:
    """The untyped mappings that carry an architecture, and those that are a record's saved form."""
    carried: list[str] = []
    saved: list[str] = []
    for place in places:
        keys = _keys(place.node)
        names = [(arg.arg, arg.annotation) for arg in place.arguments()] + [(place.node.name, place.node.returns)]
        for name, annotation in names:
            returned = name == place.node.name
            held = keys.get("" if returned else name, set())
            if _is_untyped(annotation) and (CARRIERS & set(name.split("_")) or len(KEYS & held) > 1):
                record = place.node.name == "to_dict" or _makes_record(place.node)
                (saved if record else carried).append(f"{place.name}{'' if returned else f'({name})'}")
    for module in modules:
        bodies = [module.tree, *(node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef))]
        for node in (node for body in bodies for node in body.body if isinstance(node, ast.AnnAssign)):
            name = ast.unparse(node.target)
            written = {_text(key) for each in ast.walk(node) if isinstance(each, ast.Dict) for key in each.keys}
            if _is_untyped(node.annotation) and (CARRIERS & set(name.lower().split("_")) or len(KEYS & written) > 1):
                carried.append(f"{module.path}:{node.lineno} {name}")
    return carried, saved


def _is_untyped(annotation: ast.expr | None) -> bool:
    return annotation is not None and _UNTYPED.search(ast.unparse(annotation)) is not None


def _text(node: ast.expr | None) -> str | None:
    """The text that a node spells out, if it does."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _keys(function: Function) -> dict[str, set[str | None]]:
    """The keys read from each name in a function, as name["key"]; under "" those of dictionaries that it returns."""
    found: dict[str, set[str | None]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            found.setdefault(node.value.id, set()).add(_text(node.slice))
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Dict):
            found.setdefault("", set()).update(map(_text, node.value.keys))
    return found


def _makes_record(function: Function) -> bool:
    calls = (ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call))
    return any(re.search(r"(Config|Request)(\.\w+)?$", call) for call in calls)


def measure(source: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The rows of the table by name, and what was counted in those that count something to be mended."""
    modules = read(source)
    known, named, places = {module.name for module in modules}, classes(modules), functions(modules)
    arrows = {
        (module.room, target.room)
        for module in modules
        for name, now in imports(module, known)
        for target in modules
        if now and target.name == name and target.room != module.room
    }
    folders = {m.name if m.path.name == "__init__.py" else m.name.rpartition(".")[0] for m in modules}
    at_root = {m.name for m in modules if "." not in m.name and m.path.name != "__init__.py"}
    floor = floors(source, {module.room for module in modules})
    public, rings = [p for p in places if p.is_public()], cycles(modules, known)
    tensors = [p for p in public if p.has_tensors()]
    documented = [p for p in public if p.docstring(named)]
    carried, saved = untyped(modules, places)
    found = {
        "upward arrows": [
            f"{a} -> {b or 'the package'}" for a, b in sorted(arrows) if floor[a] <= floor[b] and b not in at_root
        ],
        "cycles": [", ".join(name or "the package" for name in ring) for ring in rings],
        f"functions over {MOST_LINES} lines": [f"{p.name} ({p.lines})" for p in places if p.lines > MOST_LINES],
        f"functions of over {MOST_ARGUMENTS} arguments": [
            f"{p.name} ({len(p.arguments())})" for p in places if len(p.arguments()) > MOST_ARGUMENTS
        ],
        "public functions of tensors without shapes": [p.name for p in tensors if not p.says_shapes(named)],
        "public functions without a docstring": [p.name for p in public if p not in documented],
        "untyped mappings that carry an architecture": carried,
        "a typed record's saved form": saved,
    }
    largest, longest = max(modules, key=lambda m: m.lines), max(places, key=lambda p: p.lines)
    most, inner = max(places, key=lambda p: len(p.arguments())), [pair for pair in arrows if pair[1] not in at_root]
    rows = {
        "files, lines": f"{len(modules)}, {sum(m.lines for m in modules):,}",
        "rooms (folders with files)": str(len(folders - {""})),
        "arrows between rooms; without the modules at the root": f"{len(arrows)}; {len(inner)}",
        "upward arrows": str(len(found["upward arrows"])),
        "cycles; modules in them": f"{len(rings)}; {sum(map(len, rings))}",
        "largest file": f"{largest.lines} ({largest.path})",
        "largest function": f"{longest.lines} ({longest.name})",
        f"functions over {MOST_LINES} lines": str(len(found[f"functions over {MOST_LINES} lines"])),
        "most arguments": f"{len(most.arguments())} ({most.name})",
        f"functions of over {MOST_ARGUMENTS} arguments": str(
            len(found[f"functions of over {MOST_ARGUMENTS} arguments"])
        ),
        "public functions of tensors that give shapes": _share(
            sum(p.says_shapes(named) for p in tensors), len(tensors)
        ),
        "public functions that are documented": _share(len(documented), len(public)),
        "untyped mappings that carry an architecture; a record's saved form": f"{len(carried)}; {len(saved)}",
    }
    return rows, found


def _share(part: int, whole: int) -> str:
    return f"{part / max(1, whole):.0%} ({part} of {whole})"


def visits(source: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The rows about the way of a setting, measured by visits.py in a process of its own."""
    script = Path(__file__).with_name("visits.py")
    environment = os.environ | {"PYTHONPATH": str(source.resolve()), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{script} failed in {source}:\n{done.stderr}")
    seen = json.loads(done.stdout.splitlines()[-1])
    rows = {"`classify` to the end of the first step enters": _entered(seen["all"])}
    rows |= {f"... with `{name}` in hand": _entered(where) for name, where in seen["with"].items()}
    return rows, {f"functions with {name} in hand": where for name, where in seen["with"].items()}


def _entered(functions: list[str]) -> str:
    """functions: as module:name."""
    entered = {each.partition(":")[0] for each in functions}
    rooms = {module.rpartition(".")[0] for module in entered}
    return f"{len(entered)} modules in {len(rooms)} rooms ({len(functions)} functions)"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path("src"), help="the folder that holds the package")
    parser.add_argument("--before", type=Path, help="that of another version, to stand beside it")
    parser.add_argument("--list", action="store_true", help="also name what was counted")
    args = parser.parse_args()
    trees = {**({"before": args.before} if args.before else {}), "after" if args.before else "now": args.source}
    tables, lists = {}, {}
    for name, source in trees.items():
        (rows, found), (way, entered) = measure(source), visits(source)
        tables[name], lists[name] = rows | way, found | entered
    print("| | " + " | ".join(tables) + " |\n|" + " --- |" * (len(tables) + 1))
    for row in next(iter(tables.values())):
        print(f"| {row} | " + " | ".join(table[row] for table in tables.values()) + " |")
    for name, found in lists.items() if args.list else ():
        for what, members in found.items():
            print(f"\n{name}, {what}:" + "".join(f"\n    {member}" for member in members))


if __name__ == "__main__":
    main()
