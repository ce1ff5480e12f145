"""``hub plugins new``: what is copied, what is renamed, what is left out, what is refused."""

from __future__ import annotations

import ast
import re
import shutil
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from hub.errors import Conflict, InvalidInput
from hub.scaffold.plugin import PACKAGE, parts_of, plugin_name, template_folder, write_plugin

PARTS = list(parts_of(template_folder()))


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    "parts", [list(some) for count in range(1, len(PARTS) + 1) for some in combinations(PARTS, count)]
)
def test_no_choice_of_parts_leaves_anything_of_another(tmp_path: Path, parts: list[str]) -> None:
    made = files(write_plugin(tmp_path, plugin_name("my-tool2"), parts=parts))
    everything = "\n".join([*made, *made.values()])
    assert not re.findall(r"(?i)example(?!s)", everything)
    modules = {Path(path).stem for path in made if path.startswith("asynchub_my_tool2/")}
    for path, text in made.items():
        if path.endswith(".py"):
            tree = ast.parse(text)
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("asynchub_my_tool2."):
                    assert str(node.module).split(".")[1] in modules, path
            names = {one.id for one in ast.walk(tree) if isinstance(one, ast.Name)}
            imported = {
                (one.asname or one.name).split(".")[0]
                for node in tree.body
                if isinstance(node, ast.ImportFrom | ast.Import)
                for one in node.names
            }
            assert not imported - names - {"annotations"}, path
            assert "\n\n\n\n" not in text
            assert not re.search(r"\n\n\n(?:from|import) ", text), path
    types = set(re.findall(r'= "(my-tool2\.\w+)"', everything))
    assert set(re.findall(r"my-tool2\.(?!hub)[a-z]\w*", made["README.md"])) <= {*types, "my-tool2.toml"} | (
        {"plugins.my-tool2"} if "asynchub_my_tool2/settings.py" in made else set()
    )
    for part in PARTS:
        test = f"tests/test_{parts_of(template_folder())[part]}.py"
        assert (test in made) == (part in parts)
    for path in re.findall(r"^\| `([^`]+)`", made["README.md"], re.M):
        assert any(one == path or one.startswith(f"{path}/") for one in made), path


@pytest.mark.parametrize(
    ("given", "package", "camel"),
    [
        ("slack", "asynchub_slack", "Slack"),
        ("asynchub-slack", "asynchub_slack", "Slack"),
        ("my-tool", "asynchub_my_tool", "MyTool"),
        ("my_tool", "asynchub_my_tool", "MyTool"),
        ("s3", "asynchub_s3", "S3"),
        ("a1-b2-c3", "asynchub_a1_b2_c3", "A1B2C3"),
        ("x" * 50, f"asynchub_{'x' * 50}", "X" + "x" * 49),
    ],
)
def test_a_name_in_each_spelling(tmp_path: Path, given: str, package: str, camel: str) -> None:
    name = plugin_name(given)
    assert (name.package, name.camel) == (package, camel)
    folder = write_plugin(tmp_path, name)
    assert [path.name for path in tmp_path.iterdir()] == [name.distribution]
    made = files(folder)
    for path, text in made.items():
        if path.endswith(".py"):
            ast.parse(text)
    assert not {"secret_source.py", "storage.py"} & {Path(path).name for path in made}
    assert f"class {camel}Settings(Model)" in made[f"{package}/settings.py"]
    flow = yaml.safe_load(made["blueprints/send-new/send-new.hub.yaml"])
    assert flow["tasks"][0]["type"] == f"{name.name}.send"
    assert f'{name.name} = "{package}.plugin"' in made["pyproject.toml"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "cannot be the name"),
        ("asynchub-", "cannot be the name"),
        ("Slack", "cannot be the name"),
        ("7zip", "cannot be the name"),
        ("-x", "cannot be the name"),
        ("x-", "cannot be the name"),
        ("x--y", "cannot be the name"),
        ("../up", "cannot be the name"),
        ("a/b", "cannot be the name"),
        ("a b", "cannot be the name"),
        ("slack\n", "cannot be the name"),
        ("ümlaut", "cannot be the name"),
        ("x" * 51, "cannot be the name"),
        ("class", "a word of Python"),
        ("import", "a word of Python"),
        ("match", "a word of Python"),
        ("http", "is there already"),
        ("local", "is there already"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(given: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        plugin_name(given, ["http", "core"])


def test_a_part_that_is_not_there_is_refused_with_a_near_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match='no part "tsk"') as raised:
        write_plugin(tmp_path, plugin_name("x"), parts=["tsk"])
    assert raised.value.hint == 'did you mean "task"?'
    with pytest.raises(InvalidInput, match="brings nothing"):
        write_plugin(tmp_path, plugin_name("x"), parts=[])
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "asynchub-x").mkdir()
    with pytest.raises(Conflict, match="is there already"):
        write_plugin(tmp_path, plugin_name("x"))
    assert [path.name for path in tmp_path.iterdir()] == ["asynchub-x"]
    assert list((tmp_path / "asynchub-x").iterdir()) == []


def test_a_part_that_is_added_to_the_template_needs_nothing_else(tmp_path: Path) -> None:
    template = tmp_path / "template"
    shutil.copytree(template_folder(), template, ignore=shutil.ignore_patterns("__pycache__"))
    (template / PACKAGE / "listener").mkdir()
    (template / PACKAGE / "listener" / "__init__.py").write_text(
        f'from {PACKAGE}.settings import ExampleSettings\n\n\nclass ExampleListener:\n    type = "example"\n'
    )
    (template / "tests" / "test_listener.py").write_text(
        f"from {PACKAGE}.listener import ExampleListener\n\n\ndef test_it(): ...\n"
    )
    plugin = template / PACKAGE / "plugin.py"
    plugin.write_text(
        plugin.read_text().replace("HUB_API", f"from {PACKAGE}.listener import ExampleListener\n\nHUB_API")
        + "\n\n@hookimpl\ndef register_listeners():\n    return [ExampleListener]\n"
    )
    assert "listener" in parts_of(template)
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    name = plugin_name("my-tool")
    with_it = files(write_plugin(tmp_path / "with", name, parts=["listener"], template=template))
    without = files(write_plugin(tmp_path / "without", name, parts=["task"], template=template))
    assert {path for path in with_it if path.startswith(("asynchub", "tests"))} == {
        "asynchub_my_tool/__init__.py",
        "asynchub_my_tool/plugin.py",
        "asynchub_my_tool/settings.py",
        "asynchub_my_tool/listener/__init__.py",
        "tests/test_plugin.py",
        "tests/test_listener.py",
    }
    assert "return [MyToolListener]" in with_it["asynchub_my_tool/plugin.py"]
    assert "istener" not in "\n".join([*without, *without.values()])
