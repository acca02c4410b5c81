"""The package as its syntax tree shows it: modules, functions, imports, cycles. Nothing is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_SHAPE = re.compile(
    r"\((\.\.\.|[A-Z]|\d+)\s*,[^()]*\)|\([^()]*,\s*(\.\.\.|[A-Z]|\d+|[\w* ]+ \* C|dims\[\d\])?\s*\)"
    r"|\bscalars?\b|\bshapes?\b"
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A file.  name: without the package's, "" for the package itself.  path: below the package."""

    name: str
    path: Path
    tree: ast.Module
    lines: int

    @property
    def room(self) -> str:
        """`tasks.pretrain.fcmae` lives in `tasks.pretrain`, `ops.grn` in `ops`, `errors` is a room of its own."""
        parts = self.name.split(".")
        return ".".join(parts[:2] if parts[0] == "tasks" else parts[:1])


@dataclass(frozen=True)
class Place:
    """A function.  owner: the public class that it is a method of.  outer: not inside another function."""

    module: Module
    node: Function
    owner: ast.ClassDef | None
    outer: bool

    @property
    def name(self) -> str:
        """As path:line name."""
        inside = f"{self.owner.name}." if self.owner else ""
        return f"{self.module.path}:{self.node.lineno} {inside}{self.node.name}"

    @property
    def lines(self) -> int:
        """From `def` to the end."""
        return (self.node.end_lineno or self.node.lineno) - self.node.lineno + 1

    def arguments(self) -> list[ast.arg]:
        """All but self and cls."""
        a = self.node.args
        found = [*a.posonlyargs, *a.args, *filter(None, [a.vararg]), *a.kwonlyargs, *filter(None, [a.kwarg])]
        return [arg for arg in found if arg.arg not in ("self", "cls")]

    def is_public(self) -> bool:
        """Whether others may call it: the name, its class and its module bear no leading underscore."""
        names = [self.node.name, *([self.owner.name] if self.owner else [])]
        return self.outer and not any(name.startswith("_") for name in names)

    def has_tensors(self) -> bool:
        """Whether it takes or returns tensors, by its annotations."""
        annotations = [arg.annotation for arg in self.arguments()] + [self.node.returns]
        return any(re.search(r"\bTensor\b", ast.unparse(each)) for each in annotations if each is not None)

    def docstring(self, classes: Mapping[str, list[ast.ClassDef]]) -> str:
        """Its own docstring, or that of the method of a base class that it is in place of; "" if there is none.

        classes: those of the package by name.
        """
        found, owners = ast.get_docstring(self.node), [self.owner]
        while owners and not found:
            names = [ast.unparse(base) for owner in owners if owner for base in owner.bases]
            owners = [c for name in names for c in classes.get(name.partition("[")[0].rpartition(".")[2], [])]
            methods = [node for owner in owners for node in owner.body if isinstance(node, Function)]
            found = next((ast.get_docstring(m) for m in methods if m.name == self.node.name), None)
        return found or ""

    def says_shapes(self, classes: Mapping[str, list[ast.ClassDef]]) -> bool:
        """Whether its docstring or its class's gives a shape."""
        about = ast.get_docstring(self.owner) if self.owner else None
        return bool(_SHAPE.search(self.docstring(classes)) or _SHAPE.search(about or ""))


def read(source: Path) -> list[Module]:
    """All modules of the package `convnextv2` in a folder of sources."""
    root, found = source / "convnextv2", []
    for path in sorted(root.rglob("*.py")):
        text, inside = path.read_text(encoding="utf-8"), path.relative_to(root)
        parts = inside.with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, inside, ast.parse(text), len(text.splitlines())))
    if not found:
        raise SystemExit(f"no package convnextv2 in {source}: give the folder that holds it, as --source src")
    return found


def imports(module: Module, known: set[str]) -> Iterator[tuple[str, bool]]:
    """Yield (our module imported, whether it is loaded with the file) for every import of ours that is ever run.

    In the package's own file the names of modules, as "convnextv2.loading", are imports on use, too.
    """

    def visit(node: ast.AST, now: bool) -> Iterator[tuple[str, bool]]:
        for name in _imported(node, module):
            first, _, inside = name.partition(".")
            if first == "convnextv2":
                while inside and inside not in known:  # a name out of a module, or out of the package itself
                    inside = inside.rpartition(".")[0]
                yield inside, now
        if not module.name and isinstance(node, ast.Constant) and str(node.value).startswith("convnextv2."):
            yield str(node.value).removeprefix("convnextv2."), False
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        later = isinstance(node, Function | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, now and not later)

    return visit(module.tree, True)


def _imported(node: ast.AST, module: Module) -> list[str]:
    """The full names that an import statement takes; none for any other node."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    start = node.module or ""
    if node.level:
        here = ["convnextv2", *filter(None, module.name.split("."))]
        up = len(here) + (module.path.name == "__init__.py") - node.level
        start = ".".join([*here[:up], *filter(None, [node.module])])
    return [f"{start}.{alias.name}" for alias in node.names]


def classes(modules: list[Module]) -> dict[str, list[ast.ClassDef]]:
    """All classes by name."""
    found: dict[str, list[ast.ClassDef]] = {}
    for node in (node for module in modules for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)):
        found.setdefault(node.name, []).append(node)
    return found


def functions(modules: list[Module]) -> list[Place]:
    """Every function and method, those inside others included."""

    def visit(node: ast.AST, module: Module, owner: ast.ClassDef | None, outer: bool) -> Iterator[Place]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield Place(module, child, owner, outer)
                yield from visit(child, module, None, False)
            else:
                yield from visit(child, module, child if isinstance(child, ast.ClassDef) else owner, outer)

    return [place for module in modules for place in visit(module.tree, module, None, True)]


def cycles(modules: list[Module], known: set[str]) -> list[list[str]]:
    """Groups of two modules or more that import each other, at any time (Tarjan's components)."""
    edges = {m.name: sorted({t for t, _ in imports(m, known) if t != m.name}) for m in modules}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in edges[name]:
            if target not in index:
                visit(target)
            if target in stack:
                low[name] = min(low[name], low[target])
        if low[name] == index[name]:
            at = stack.index(name)
            group, stack[at:] = stack[at:], []
            if len(group) > 1:
                found.append(sorted(group))

    for name in edges:
        if name not in index:
            visit(name)
    return found
