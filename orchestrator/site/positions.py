"""YAML text → plain data in which the place of every key and value is known.

Our own walk over ruamel's node tree: all duplicate keys are told, not the first one; keys are the
text as written; dates stay text; aliases and merge keys (``<<``) work within limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Path = tuple[str | int, ...]

MAX_TEXT = 1_000_000  # characters; a site of 10,000 hosts has 600,000
MAX_NODES = 200_000  # after aliases: what a "billion laughs" file would exceed
MAX_DEPTH = 50
_CORE = "tag:yaml.org,2002:"


@dataclass(frozen=True, order=True)
class Mark:
    """Where something is: line and column from 1, and how many characters of that line it takes."""

    line: int
    column: int
    width: int = 1


@dataclass
class Tree:
    """A YAML document as plain data; ``faults`` are the mistakes in its writing, (mark, path, text, hint)."""

    data: Any = None
    keys: dict[Path, Mark] = field(default_factory=dict)
    values: dict[Path, Mark] = field(default_factory=dict)
    faults: list[tuple[Mark, Path, str, str]] = field(default_factory=list)
    broken: bool = False
    """True when the text is no YAML at all, so that nothing can be said of its content."""

    def mark(self, path: Path, *, key: bool = False) -> Mark:
        """The place of that key or value, or of the nearest thing around it that is in the file."""
        for end in range(len(path), -1, -1):
            first, second = (self.keys, self.values) if key or end < len(path) else (self.values, self.keys)
            if (found := first.get(path[:end]) or second.get(path[:end])) is not None:
                return found
        return Mark(1, 1)


def read(text: str) -> Tree:
    """The document in ``text``. Never raises: what is wrong is in ``faults``."""
    if len(text) > MAX_TEXT:
        return _broken(Mark(1, 1), f"the file has more than {MAX_TEXT:,} characters", "is it a site spec?")
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False  # YAML allows it, and the warning would print lines of the file
    try:
        node = yaml.compose(text)
    except MarkedYAMLError as error:
        if (tab := _tab(text)) is not None:
            return _broken(
                tab, "a tab is used for indentation", "YAML allows only spaces there; replace the tab"
            )
        return _malformed(error)
    except (YAMLError, ValueError, LookupError, AttributeError, TypeError, AssertionError) as error:
        # ruamel lets a few plain Python errors escape on odd input (bad escapes, bad directives).
        what = next(iter(str(error).splitlines()), "unreadable")
        return _broken(_bad_character(text), f"not YAML: {what}", "remove what is odd here")
    except RecursionError:
        return _broken(Mark(1, 1), "brackets or indentation are nested too deeply", "flatten the file")
    tree = Tree()
    if node is not None:
        tree.data = _Walk(tree, yaml.constructor).value(node, (), ())
    return tree


def lines(text: str) -> list[str]:
    """The lines as YAML counts them (specification 1.2, section 5.4, and ruamel's reader)."""
    return re.split("\r\n|[\n\r\x85\u2028\u2029]", text)


def _broken(mark: Mark, message: str, hint: str) -> Tree:
    return Tree(faults=[(mark, (), message, hint)], broken=True)


def _malformed(error: MarkedYAMLError) -> Tree:
    context, problem = error.context or "", error.problem or "unreadable"
    unclosed = "end of stream" in problem or "stream end" in problem
    mark = (error.context_mark if unclosed else None) or error.problem_mark or error.context_mark
    place = Mark(mark.line + 1, mark.column + 1) if mark else Mark(1, 1)
    hint = "close what is opened here" if unclosed else "mend the indentation, brackets or quotes around here"
    return _broken(place, f"not YAML: {f'{context}: ' if context else ''}{problem}", hint)


def _tab(text: str) -> Mark | None:
    for number, line in enumerate(lines(text), start=1):
        indent = line[: len(line) - len(line.lstrip(" \t"))]
        if "\t" in indent and not line.lstrip().startswith("#") and line.strip():
            return Mark(number, indent.index("\t") + 1)
    return None


def _bad_character(text: str) -> Mark:
    for number, line in enumerate(lines(text), start=1):
        for column, letter in enumerate(line, start=1):
            if not (letter.isprintable() or letter == "\t"):
                return Mark(number, column)
    return Mark(1, 1)


class _Walk:
    """Fills a tree's places from ruamel's nodes."""

    def __init__(self, tree: Tree, scalars: SafeConstructor) -> None:
        self.tree = tree
        self.scalars = scalars
        self.count = 0

    def _fault(self, node: Node, path: Path, message: str, hint: str) -> None:
        self.tree.faults.append((_mark(node), path, message, hint))

    def value(self, node: Node, path: Path, above: tuple[Node, ...]) -> Any:
        """The plain data of a node at ``path``, inside the nodes ``above``."""
        if node.start_mark.index < node.end_mark.index:  # `key:` with nothing behind: the key is the place
            self.tree.values.setdefault(path, _mark(node))
        self.count += 1
        if node in above:
            self._fault(node, path, "this alias contains itself", "write the value out instead")
            return None
        if self.count > MAX_NODES or len(above) >= MAX_DEPTH:
            if self.count <= MAX_NODES + 1:
                self._fault(
                    node, path, "too many or too deeply nested values", "use fewer aliases, flatten the file"
                )
            self.count = max(self.count, MAX_NODES) + 1
            return None
        if not str(node.tag).startswith(_CORE):
            self._fault(node, path, f"the tag {node.tag} means nothing here", "remove it")
        if isinstance(node, MappingNode):
            return self._mapping(node, path, (*above, node))
        if isinstance(node, SequenceNode):
            return [self.value(item, (*path, n), (*above, node)) for n, item in enumerate(node.value)]
        return self._scalar(node) if isinstance(node, ScalarNode) else None

    def _mapping(self, node: MappingNode, path: Path, above: tuple[Node, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            if str(key.tag) == _CORE + "merge":
                continue
            if not isinstance(key, ScalarNode):
                self._fault(key, path, "a key must be plain text", "write `name: value`")
                continue
            name, here = str(key.value), (*path, str(key.value))
            if name in found:
                first = self.tree.keys[here].line
                self._fault(
                    key, here, f"{name!r} is given twice, first on line {first}", "keep one of the two"
                )
                continue
            self.tree.keys[here] = _mark(key)
            found[name] = self.value(value, here, above)
        for key, value in self._merged(node, path, above):
            name, here = str(key.value), (*path, str(key.value))
            if isinstance(key, ScalarNode) and name not in found:
                self.tree.keys[here] = _mark(key)
                found[name] = self.value(value, here, above)
        return found

    def _merged(self, node: MappingNode, path: Path, above: tuple[Node, ...]) -> Iterator[tuple[Node, Node]]:
        for key, value in node.value:
            if str(key.tag) != _CORE + "merge":
                continue
            for source in value.value if isinstance(value, SequenceNode) else [value]:
                if not isinstance(source, MappingNode) or source in above:
                    self._fault(value, path, "<< takes a mapping", "write `<<: *name` of an anchor &name")
                    continue
                self.count += len(source.value)
                yield from (pair for pair in source.value if str(pair[0].tag) != _CORE + "merge")
                yield from self._merged(source, path, (*above, source))

    def _scalar(self, node: ScalarNode) -> Any:
        kind = str(node.tag).removeprefix(_CORE)
        try:
            if kind in ("int", "float", "bool", "null"):
                return getattr(self.scalars, f"construct_yaml_{kind}")(node)
        except (ValueError, LookupError, OverflowError, TypeError, AttributeError):
            pass  # "!!int x", or a number of thousands of digits: validation will say what was wanted
        return str(node.value)


def _mark(node: Node) -> Mark:
    start, end = node.start_mark, node.end_mark
    same = isinstance(node, ScalarNode) and start.line == end.line
    return Mark(start.line + 1, start.column + 1, max(1, end.column - start.column) if same else 1)
