"""Which of our modules, and which foreign packages, a program imports: by reading sources, not running them."""

from __future__ import annotations

import ast
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.errors import UserError

# Python 3.11 counts the depth of all threads' trees together and raises SystemError (gh-106905).
_PARSING = threading.Lock()


@dataclass(slots=True)
class Closure:
    """``modules``: our sources by dotted name. ``always``: foreign top-level packages imported as soon as
    the entry is, with the chain of modules that leads there. ``sometimes``: those imported only
    inside functions or where a failing import is caught.
    """

    modules: dict[str, Path] = field(default_factory=dict)
    always: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sometimes: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Import:
    names: tuple[str, ...]  # candidates, longest first: the first that is a module of ours counts
    lazy: bool


def closure(entry: str, roots: Sequence[Path], ours: Collection[str]) -> Closure:
    """Everything reachable from module ``entry``.

    Our modules are those of the top-level packages ``ours``, found under ``roots``.
    UserError when ``entry`` is not there. A module reached only through a lazy import is taken too,
    but nothing it imports counts as ``always``.
    """

    def locate(name: str) -> Path | None:
        return _locate(name, roots) if name.partition(".")[0] in ours else None

    if locate(entry) is None:
        raise UserError(f"there is no module {entry} under {', '.join(map(str, roots))}", module=entry)
    result = Closure()
    later: list[tuple[str, tuple[str, ...]]] = []
    todo: list[tuple[str, tuple[str, ...]]] = [(entry, ())]
    lazy = False
    while todo or later:
        if not todo:
            todo, later, lazy = later, [], True
        name, chain = todo.pop(0)
        if (path := locate(name)) is None or name in result.modules:
            continue
        result.modules[name] = path
        chain = (*chain, name)
        if "." in name:
            todo.append((name.rpartition(".")[0], chain))
        for found in _imports(path, name):
            own = [n for n in found.names if locate(n)]
            if own:
                (later if found.lazy else todo).append((own[0], chain))
            elif (top := found.names[-1].partition(".")[0]) not in sys.stdlib_module_names:
                kind = result.sometimes if lazy or found.lazy else result.always
                kind.setdefault(top, chain)
    return result


def _locate(name: str, roots: Sequence[Path]) -> Path | None:
    for root in roots:
        base = root.joinpath(*name.split("."))
        for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
            if path.is_file():
                return path
    return None


def _imports(path: Path, name: str) -> Iterator[_Import]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    with _PARSING:
        tree = ast.parse(path.read_bytes(), str(path))
    yield from _walk(tree, package, lazy=False)


def _walk(node: ast.AST, package: str, *, lazy: bool) -> Iterator[_Import]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import(names=names):
                for alias in names:
                    yield _Import((alias.name,), lazy)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = ".".join(package.split(".")[: len(package.split(".")) - level + 1]) if level else ""
                origin = ".".join(part for part in (base, module or "") if part)
                for alias in names:
                    yield _Import((f"{origin}.{alias.name}", origin), lazy)
            case ast.If(test=test) if "TYPE_CHECKING" in ast.dump(test):
                for other in child.orelse:
                    yield from _walk(ast.Module([other], []), package, lazy=lazy)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                yield from _walk(child, package, lazy=True)
            case ast.Try(handlers=handlers):
                caught = any(h.type is None or "ImportError" in ast.dump(h.type) for h in handlers)
                yield from _walk(child, package, lazy=lazy or caught)
            case _:
                yield from _walk(child, package, lazy=lazy)
