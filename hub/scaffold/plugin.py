"""A new plugin project: the template's files under the plugin's own name, with the parts that were asked for.

The template is a real project (``plugin-template`` in the checkout, ``hub/_plugin_template`` in the package) whose
tests pass as it stands. A part is a module or a folder in its package: ``tasks.py`` is ``task``, ``storage/`` is
``storage``. To add one, add it there with its hook in ``plugin.py`` and its ``tests/test_….py``: what belongs
to a part that is left out is found by what it imports and names.
"""

from __future__ import annotations

import ast
import keyword
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hub.errors import Conflict, InvalidInput, did_you_mean

PACKAGE = "asynchub_example"
_SHARED = {"__init__", "plugin", "settings", "client"}
"""Modules that are no part by themselves: the hooks, and what parts share."""
_ON_REQUEST = {"notifier", "secret-source", "storage"}
"""Parts that few plugins have: only where they are asked for."""
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*\Z")
_LONGEST_NAME = 50
_CACHES = {"__pycache__", ".pytest_cache", ".venv", "build", "dist", ".mypy_cache", ".ruff_cache"}
_LONGEST_LINE = 110
_TYPE = re.compile(r"\bexample\.[a-z]\w*|\bexample_[a-z]\w*")
"""What files call the template's components and functions."""


@dataclass(frozen=True)
class PluginName:
    """A plugin's name in each spelling."""

    name: str
    """``my-tool``: the plugin's, and the beginning of its types."""

    @property
    def snake(self) -> str:
        return self.name.replace("-", "_")

    @property
    def camel(self) -> str:
        return "".join(part.capitalize() for part in self.snake.split("_"))

    @property
    def distribution(self) -> str:
        return f"asynchub-{self.name}"

    @property
    def package(self) -> str:
        return f"asynchub_{self.snake}"

    def applied(self, text: str) -> str:
        """A text of the template with this name in it."""
        for pattern, ours in (
            (r"asynchub_example", self.package),
            (r"asynchub-example", self.distribution),
            (r"\bexample_(?=[a-z])", f"{self.snake}_"),
            (r"\bexample\b", self.name),
            (r"\bExample(?=[A-Z]|\b)", self.camel),
            (r"\bEXAMPLE(?=_|\b)", self.snake.upper()),
        ):
            text = re.sub(pattern, ours, text)
        return text


def plugin_name(given: str, taken: Iterable[str] = ()) -> PluginName:
    """The name of a new plugin, as ``matrix`` or ``asynchub-matrix``. Raises ``InvalidInput`` saying why it is none."""
    name = given.removeprefix("asynchub-").removeprefix("asynchub_").replace("_", "-")
    if not _NAME.match(name) or len(name) > _LONGEST_NAME:
        raise InvalidInput(
            f'"{given[:80]}" cannot be the name of a plugin',
            hint="lower-case letters and digits, parts joined by -, beginning with a letter; at most 50 characters",
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise InvalidInput(f'"{name}" is a word of Python and cannot be the name of a plugin')
    if name in taken or name in ("hub", "local"):
        raise InvalidInput(
            f'a plugin "{name}" is there already', hint="types of two plugins of one name would clash"
        )
    return PluginName(name)


def template_folder() -> Path:
    """Where the template is: in the installed package, else in the checkout around it."""
    import hub

    package = Path(hub.__file__).parent
    installed = package / "_plugin_template"
    return installed if installed.is_dir() else package.parent / "plugin-template"


def parts_of(template: Path) -> Mapping[str, str]:
    """The parts that a template has: what each is called, and its module."""
    modules = sorted(
        path.stem
        for path in (template / PACKAGE).iterdir()
        if (path.suffix == ".py" or (path.is_dir() and (path / "__init__.py").is_file()))
        and path.stem not in _SHARED
        and path.name not in _CACHES
    )
    return {module.replace("_", "-").removesuffix("s"): module for module in modules}


def default_parts(there: Iterable[str]) -> list[str]:
    """The parts that a new plugin begins with unless somebody says otherwise."""
    return [part for part in there if part not in _ON_REQUEST]


def write_plugin(
    into: Path, name: PluginName, *, parts: Sequence[str] | None = None, template: Path | None = None
) -> Path:
    """Write a new plugin's project into a folder of its own; answers that folder.

    Raises ``InvalidInput`` for a part that there is not, ``Conflict`` where the folder exists. It is there whole or
    not at all.
    """
    template = template or template_folder()
    modules = _chosen(parts_of(template), parts)
    target = into / name.distribution
    if os.path.lexists(target):
        raise Conflict(
            f"{target} is there already", hint="take another name, or another folder to make it in"
        )
    files = _Copy(_files(template), modules).kept()
    try:
        made = Path(tempfile.mkdtemp(prefix=f".{name.distribution}-", dir=into))
    except OSError as error:
        raise InvalidInput(f"{into} cannot be written to: {error.strerror}") from error
    try:
        for path, text in files.items():
            ours = made / name.applied(path)
            ours.parent.mkdir(parents=True, exist_ok=True)
            ours.write_text(name.applied(text), encoding="utf-8")
        made.chmod(0o755)
        made.rename(target)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return target


def _chosen(there: Mapping[str, str], parts: Sequence[str] | None) -> set[str]:
    if parts is None:
        return {module for part, module in there.items() if part in default_parts(there)}
    for part in parts:
        if part not in there:
            hint = did_you_mean(part, list(there)) or f"there are {', '.join(there)}"
            raise InvalidInput(f'the template has no part "{part[:40]}"', hint=hint)
    if not parts:
        raise InvalidInput("a plugin without any part brings nothing", hint=f"there are {', '.join(there)}")
    return {there[part] for part in parts}


def _files(template: Path) -> dict[str, str]:
    """Every file of the template, by its path in it."""
    found: dict[str, str] = {}
    for folder, inner, names in os.walk(template):
        inner[:] = sorted(one for one in inner if one not in _CACHES and not one.endswith(".egg-info"))
        for name in sorted(names):
            if not name.endswith((".pyc", ".whl")):
                path = Path(folder, name)
                found[path.relative_to(template).as_posix()] = path.read_text(encoding="utf-8")
    return found


class _Copy:
    """Which of the template's files are kept, and what of each."""

    def __init__(self, files: Mapping[str, str], modules: set[str]) -> None:
        self._files = files
        self._modules = self._with_what_they_import(modules)
        every = {self._module_of(path) for path in files} - {None}
        self._dropped = {str(one) for one in every} - self._modules - {"__init__", "plugin"}
        self._names = self._names_dropped()

    def kept(self) -> dict[str, str]:
        """The files of the project, by path."""
        first = {path: text for path, text in self._files.items() if self._is_kept(path, text)}
        blueprints = {path.split("/")[1] for path in first if re.match(r"blueprints/[^/]+/.+\.yaml", path)}
        first = {path: text for path, text in first.items() if self._has_subject(path, blueprints)}
        return {path: self._pruned(path, text, first) for path, text in first.items()}

    # what belongs to whom

    @staticmethod
    def _module_of(path: str) -> str | None:
        """The module of the package that a file is, or is a file of."""
        parts = PurePosixPath(path).parts
        return PurePosixPath(parts[1]).stem if len(parts) > 1 and parts[0] == PACKAGE else None

    def _with_what_they_import(self, modules: set[str]) -> set[str]:
        """The chosen modules, and those that they need."""
        found, waiting = set(modules), list(modules)
        while waiting:
            module = waiting.pop()
            for path, text in self._files.items():
                if self._module_of(path) != module:
                    continue
                needed = set(re.findall(rf"{PACKAGE}\.(\w+)", text))
                if "ctx.settings" in text or "self.settings" in text:
                    needed.add("settings")
                waiting += needed - found
                found |= needed
        return found

    def _names_dropped(self) -> set[str]:
        """Types and functions that only modules name which are left out."""

        def named(is_dropped: bool) -> set[str]:
            return {
                name
                for path, text in self._files.items()
                if (module := self._module_of(path)) not in (None, "plugin", "__init__")
                and (module in self._dropped) is is_dropped
                for name in _TYPE.findall(text)
            }

        return named(True) - named(False)

    def _is_kept(self, path: str, text: str) -> bool:
        parts = PurePosixPath(path).parts
        if parts[0] == PACKAGE:
            return self._module_of(path) not in self._dropped
        if parts[0] == "tests" and parts[-1].startswith("test_"):
            return PurePosixPath(path).stem.removeprefix("test_") not in self._dropped
        return not (parts[0] == "blueprints" and path.endswith(".yaml") and self._names_any(text))

    @staticmethod
    def _has_subject(path: str, blueprints: set[str]) -> bool:
        """Whether what a file is about is there too."""
        if path.startswith("blueprints/"):
            return path.split("/")[1] in blueprints
        return path != "tests/test_blueprints.py" or bool(blueprints)

    def _names_any(self, text: str) -> bool:
        return not self._names.isdisjoint(_TYPE.findall(text))

    # what is left of a file

    def _pruned(self, path: str, text: str, kept: Mapping[str, str]) -> str:
        if path.endswith(".py"):
            return _python(text, self._dropped)
        if path == "README.md":
            return self._readme(text, kept)
        return text

    def _readme(self, text: str, kept: Mapping[str, str]) -> str:
        """Without the rows of files that are not there, and the sections about what is not."""
        sections = re.split(r"(?m)^(?=## )", text)
        lines = "".join(one for one in sections if not self._is_about_dropped(one)).splitlines(keepends=True)
        return "".join(line for line in lines if not _names_missing(line, kept))

    def _is_about_dropped(self, section: str) -> bool:
        if not section.startswith("## "):
            return False
        title = section.split("\n", 1)[0].removeprefix("## ").lower()
        if title in self._dropped or f"{title}s" in self._dropped:
            return True
        return any(self._names_any(fence) for fence in re.findall(r"```.*?```", section, re.S))


def _names_missing(line: str, kept: Mapping[str, str]) -> bool:
    """Whether a row of a table or list begins with a path that is not in the project."""
    row = re.match(rf"[|-] `({PACKAGE}/[\w./-]+|tests/[\w./-]+|blueprints/[\w./-]+)`", line)
    return row is not None and not any(path == row[1] or path.startswith(f"{row[1]}/") for path in kept)


def _python(text: str, dropped: set[str]) -> str:
    """A module without what it takes from modules that are left out, and without what nobody uses then."""
    tree = ast.parse(text)
    gone: set[str] = set()
    cut: list[tuple[int, int, str]] = []
    rest: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and _is_of(node, dropped):
            gone |= {one.asname or one.name for one in node.names}
            cut.append((node.lineno, node.end_lineno or node.lineno, ""))
        else:
            rest.append(node)
    if not gone:
        return text
    used: set[str] = set()
    imports: list[ast.ImportFrom | ast.Import] = []
    for node in rest:
        names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
        if isinstance(node, ast.ImportFrom | ast.Import):
            imports.append(node)
        elif names & gone:
            first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
            cut.append((first, node.end_lineno or node.lineno, ""))
        else:
            used |= names
    for statement in imports:
        kept = [one for one in statement.names if (one.asname or one.name).split(".")[0] in used]
        if len(kept) < len(statement.names):
            cut.append((statement.lineno, statement.end_lineno or statement.lineno, _import(statement, kept)))
    lines: list[str] = text.splitlines(keepends=True)
    for first, last, instead in sorted(cut, reverse=True):
        lines[first - 1 : last] = [instead] if instead else []
    left = re.sub(r"\n{3,}(?=(?:from|import) )", "\n\n", "".join(lines))
    return re.sub(r"\n{4,}", "\n\n\n", left).rstrip("\n") + "\n"


def _is_of(statement: ast.ImportFrom, modules: set[str]) -> bool:
    package, _, module = (statement.module or "").partition(".")
    return package == PACKAGE and module.split(".")[0] in modules


def _import(statement: ast.ImportFrom | ast.Import, kept: Sequence[ast.alias]) -> str:
    """An import statement of what is kept of it; nothing where nothing is."""
    if not kept:
        return ""
    names = [ast.unparse(one) for one in kept]
    if isinstance(statement, ast.Import):
        return f"import {', '.join(names)}\n"
    line = f"from {'.' * statement.level}{statement.module or ''} import {', '.join(names)}\n"
    if len(line) <= _LONGEST_LINE:
        return line
    return f"{line.split(' import ')[0]} import (\n" + "".join(f"    {name},\n" for name in names) + ")\n"
