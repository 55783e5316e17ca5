"""Renames modules and identifiers of the whole repository by a map: `rename.py map.toml [ROOT]`.

The map has four parts. `modules` moves a module or a package, with everything below it that has no
line of its own. `tokens` renames an identifier everywhere, `scoped` only in the listed files (old
module names; `*` ends a prefix). `words` are replaced in comments, strings and Markdown too.
What stands in strings as a dotted module name or as a path of a moved file follows the move.
A new name that a file already uses for something else is reported.

It was run once, at the commit that moved the packages below `sluice/`; it is kept so that the move
can be read and repeated. `verify.py` shows that tests assert the same before and after.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

TEXTS: Final = (".md", ".toml", ".yml", ".yaml", ".sh", ".ini", ".j2", ".txt", ".json")
NAMED: Final = ("Makefile", "Dockerfile", "run")
LEFT_ALONE: Final = ("docs/adr/", "locks/", "bench/results/", "CHANGELOG.md", "tests/snapshots/")
ATTRIBUTE_CALLS: Final = frozenset({"setattr", "getattr", "hasattr", "delattr"})


@dataclass(slots=True)
class Map:
    """What is renamed. modules: dotted name to dotted name, the longest match counts.

    import_roots: folders whose content is imported without their name.
    """

    modules: dict[str, str]
    tokens: dict[str, str]
    words: dict[str, str]
    scoped: list[tuple[tuple[str, ...], dict[str, str]]]
    import_roots: tuple[str, ...] = ()
    roots: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def read(cls, path: Path) -> "Map":
        document = tomllib.loads(path.read_text())
        scoped = [(tuple(one["files"]), dict(one["tokens"])) for one in document.get("scoped", [])]
        modules = dict(document["modules"])
        return cls(
            modules,
            dict(document.get("tokens", {})),
            dict(document.get("words", {})),
            scoped,
            tuple(document.get("import_roots", ())),
            frozenset(name.partition(".")[0] for name in modules),
        )

    def module(self, name: str) -> str:
        """The new name of a module; the same where it does not move."""
        parts = name.split(".")
        for count in range(len(parts), 0, -1):
            found = self.modules.get(".".join(parts[:count]))
            if found is not None:
                return ".".join([found, *parts[count:]])
        return name

    def names_in(self, module: str) -> dict[str, str]:
        """The identifiers that are renamed in a file, by its old module name."""
        names = dict(self.tokens)
        for files, tokens in self.scoped:
            for pattern in files:
                if pattern == module or (pattern[-1] == "*" and module.startswith(pattern[:-1])):
                    names |= tokens
        return names


def tracked(root: Path) -> list[str]:
    """Paths of the files that git tracks."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True
    )
    return [line for line in listed.stdout.split("\n") if line]


def module_of(path: str) -> str:
    """The dotted name of a Python file."""
    name = path.removesuffix(".py").replace("/", ".")
    return name.removesuffix(".__init__")


def is_package_file(path: str) -> bool:
    return path.endswith("/__init__.py")


def new_path(path: str, names: Map) -> str:
    """Where a tracked file goes: Python files by their module, others with their folder."""
    if path.startswith(LEFT_ALONE) and not path.endswith(".py"):
        return path
    if path.endswith(".py"):
        moved = names.module(module_of(path)).replace(".", "/")
        return moved + ("/__init__.py" if is_package_file(path) else ".py")
    folder, _, name = path.rpartition("/")
    if not folder or "." in folder.replace("python3-", ""):
        return path
    return f"{names.module(folder.replace('/', '.')).replace('.', '/')}/{name}"


@dataclass(frozen=True, slots=True)
class Edit:
    """Characters `start` to `end` of a file become `text`."""

    start: int
    end: int
    text: str


class Source:
    """A Python file and what is to be changed in it."""

    def __init__(self, path: str, text: str, names: Map, modules: frozenset[str]) -> None:
        self.path, self.text, self.names, self.modules = path, text, names, modules
        self.module = module_of(path)
        self.tree = ast.parse(text)
        starts = [0]
        for line in text.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        self.starts = starts
        self.renamed = names.names_in(self.module)
        self.used = identifiers(self.tree)
        self.edits: list[Edit] = []
        self.problems: list[str] = []

    def at(self, line: int, column: int) -> int:
        """Offset in characters of a token's position."""
        return self.starts[line - 1] + column

    def at_bytes(self, line: int, column: int) -> int:
        """Offset in characters of a node's position, whose column counts bytes."""
        start = self.starts[line - 1]
        whole = self.text[start : self.starts[line]] if line < len(self.starts) else ""
        return start + len(whole.encode()[:column].decode())

    def rewritten(self) -> str:
        imports = list(self._imports())
        self._identifiers([(edit.start, edit.end) for edit in imports])
        self.edits += imports
        text = self.text
        for edit in sorted(self.edits, key=lambda one: one.start, reverse=True):
            text = text[: edit.start] + edit.text + text[edit.end :]
        return text

    def _imports(self) -> Iterator[Edit]:
        """Import statements of modules that move, and new names for modules used as objects."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield from self._import_from(node, node.module)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    moved = self.names.module(alias.name)
                    if alias.name in self.modules and moved != alias.name:
                        start = self.at_bytes(alias.lineno, alias.col_offset)
                        yield Edit(start, start + len(alias.name), moved)
                        if not alias.asname:
                            self.problems.append(f"plain import of {alias.name}")

    def _import_from(self, node: ast.ImportFrom, module: str) -> Iterator[Edit]:
        if module not in self.modules:
            return
        by_module: dict[str, list[str]] = {}
        for alias in node.names:
            whole = f"{module}.{alias.name}"
            if whole in self.modules:
                package, _, tail = self.names.module(whole).rpartition(".")
                if alias.asname is None and tail != alias.name:
                    if tail in self.used:
                        tail = f"{tail} as {alias.name}"
                    else:
                        self.renamed[alias.name] = tail
            else:
                package, tail = self.names.module(module), self.renamed.get(alias.name, alias.name)
            name = tail
            if alias.asname:
                name = f"{tail} as {self.renamed.get(alias.asname, alias.asname)}"
            by_module.setdefault(package, []).append(name)
        indent = " " * node.col_offset
        lines = [
            f"from {package} import {', '.join(names)}" for package, names in by_module.items()
        ]
        start = self.at_bytes(node.lineno, node.col_offset)
        end = self.at_bytes(node.end_lineno or node.lineno, node.end_col_offset or 0)
        old = self.text[start:end]
        if "#" in old:
            self.problems.append(f"line {node.lineno}: a comment within an import")
        yield Edit(start, end, f"\n{indent}".join(lines))

    def _identifiers(self, skipped: list[tuple[int, int]]) -> None:
        names = {old: new for old, new in self.renamed.items() if old != new}
        for old, new in list(names.items()):
            if old in self.used and new in self.used and new not in names:
                self.problems.append(f"{old} -> {new}: {new} is in use")
        attributes = self._attribute_strings()
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            start, end = self.at(*token.start), self.at(*token.end)
            if any(low <= start < high for low, high in skipped):
                continue
            text = self._token(token, names, start in attributes)
            if text != token.string:
                self.edits.append(Edit(start, end, text))

    def _token(self, token: tokenize.TokenInfo, names: dict[str, str], attribute: bool) -> str:
        text = token.string
        if token.type == tokenize.NAME:
            return names.get(text, text)
        if token.type == tokenize.COMMENT:
            return self.prose(text)
        if token.type == tokenize.STRING:
            if attribute or self._is_type(text):
                quote = text[0]
                text = f"{quote}{names.get(text.strip(quote), text.strip(quote))}{quote}"
            elif "f" in text[: text.index(text[-1])].lower():
                text = self._f_string(text, names)
            return self.prose(text)
        return text

    def _attribute_strings(self) -> set[int]:
        """Offsets of strings that name an attribute: of `__slots__`, setattr and its like."""
        nodes: list[ast.expr] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id in {"__slots__", "__all__"}
                for target in node.targets
            ):
                nodes += [one for one in ast.walk(node.value) if isinstance(one, ast.Constant)]
            elif isinstance(node, ast.Call):
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else ""
                name = function.id if isinstance(function, ast.Name) else name
                if name in ATTRIBUTE_CALLS and len(node.args) > 1:
                    nodes.append(node.args[1])
        return {self.at_bytes(node.lineno, node.col_offset) for node in nodes}

    def _is_type(self, text: str) -> bool:
        """Whether a string may be the name of a type that is defined further down."""
        return text.strip(text[0]) in self.renamed and text[1:2].isupper()

    def _f_string(self, text: str, names: dict[str, str]) -> str:
        """The text with the expressions between its braces renamed."""
        result, depth, begin = [], 0, 0
        for index, sign in enumerate(text):
            if sign == "{":
                if depth == 0:
                    result.append(text[begin : index + 1])
                    begin = index + 1
                depth += 1
            elif sign == "}" and depth:
                depth -= 1
                if depth == 0:
                    result.append(renamed(text[begin:index], names))
                    begin = index
        return "".join(result) + text[begin:]

    def prose(self, text: str) -> str:
        return prose(text, self.names, self.modules)


def identifiers(tree: ast.AST) -> set[str]:
    """Every identifier of a file, but for the paths of imported modules."""
    found: set[str] = set()
    for node in ast.walk(tree):
        for name in ("id", "attr", "arg", "name", "asname"):
            value = getattr(node, name, None)
            if isinstance(value, str) and "." not in value:
                found.add(value)
        found.update(name for name in getattr(node, "names", ()) if isinstance(name, str))
    return found


def renamed(code: str, names: dict[str, str]) -> str:
    return re.sub(r"[A-Za-z_]\w*", lambda found: names.get(found[0], found[0]), code)


def prose(text: str, names: Map, modules: frozenset[str]) -> str:
    """Comments, strings and documents: dotted module names, paths of files, and whole words."""

    def dotted(found: re.Match[str]) -> str:
        whole = found[0]
        parts = whole.split(".")
        for count in range(len(parts), 1, -1):
            name = ".".join(parts[:count])
            if name in modules:
                return ".".join([names.module(name), *parts[count:]])
        return whole

    def path(found: re.Match[str]) -> str:
        whole = found[0].rstrip("/")
        slash = found[0][len(whole) :]
        name = whole.removesuffix(".py").replace("/", ".")
        moved = names.module(name) if name in modules else name
        if moved == name:
            return found[0]
        return moved.replace(".", "/") + (".py" if whole.endswith(".py") else "") + slash

    roots = "|".join(sorted(names.roots))
    text = re.sub(rf"(?<![\w./-])(?:{roots})(?:\.\w+)+", dotted, text)
    text = re.sub(rf"(?<![\w./-])(?:{roots})(?:/\w+)+(?:\.py\b|/)?", path, text)
    text = re.sub(rf"(?<![\w./-])(?:{roots})/(?![\w])", path, text)
    if names.words:
        words = "|".join(map(re.escape, names.words))
        text = re.sub(rf"(?<![\w.-])(?:{words})(?!\w)", lambda one: names.words[one[0]], text)
    return text


def main(map_path: Path, root: Path) -> int:
    """Rename, report what was not done, and return 1 when there was something of it."""
    names = Map.read(map_path)
    files = tracked(root)
    python = [path for path in files if path.endswith(".py")]
    modules = frozenset(module_of(path) for path in python) | frozenset(
        path.rpartition("/")[0].replace("/", ".") for path in python if "/" in path
    )
    modules |= {
        name.removeprefix(f"{module_of(root)}.")
        for root in names.import_roots
        for name in modules
        if name.startswith(f"{module_of(root)}.")
    }
    unknown = [name for name in names.modules if name not in modules]
    problems = [f"no module {name}" for name in unknown]
    written: dict[str, str] = {}
    for path in files:
        if path.endswith(".py") and not path.startswith("docs/adr/"):
            source = Source(path, (root / path).read_text(), names, modules)
            written[path] = source.rewritten()
            problems += [f"{path}: {problem}" for problem in source.problems]
        elif path.startswith(LEFT_ALONE):
            continue
        elif path.endswith(TEXTS) or path.rpartition("/")[2] in NAMED:
            written[path] = prose((root / path).read_text(), names, modules)
    for path in files:
        target = new_path(path, names)
        if target != path:
            (root / target).parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["git", "mv", path, target], cwd=root, check=True)
        if path in written:
            (root / target).write_text(written[path])
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else ".")))
