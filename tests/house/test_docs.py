"""The docs say what is true: links lead somewhere, flows load, figures have their form."""

from __future__ import annotations

import re
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hub.config.flows import load_flow
from hub.config.notifiers import read_notifiers, read_notify
from hub.config.plugins import with_plugin_settings
from hub.config.settings import load_settings
from hub.expressions import builtin_functions
from hub.model.execution import ExecutionState
from hub.model.task_run import TaskRunState
from hub.plugin import Notifier
from hub.registry import load_plugins
from tests.support.hub_process import hub_command

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("blueprints/**/*.md")])
REGISTRY = load_plugins({})
FUNCTIONS = builtin_functions(lambda: datetime.now(UTC)).with_functions(REGISTRY.functions)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


# what these pages build is run as it stands, with the types that they bring (test_plugin_pages.py)
FLOW_PAGES = [page for page in PAGES if page != ROOT / "docs" / "plugins" / "first-plugin.md"]


@pytest.mark.parametrize("page", FLOW_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_flow_in_the_docs_can_be_saved(page: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S):
        if block.startswith("id: ") and "\nnamespace: " in block:
            load_flow(block, registry=REGISTRY, functions=FUNCTIONS)


@pytest.mark.parametrize(
    "path",
    sorted([*ROOT.glob("blueprints/**/*.hub.yaml"), *ROOT.glob("examples/**/*.hub.yaml")]),
    ids=lambda path: path.name,
)
def test_every_blueprint_and_example_can_be_saved(path: Path) -> None:
    load_flow(path.read_text(), file=str(path), registry=REGISTRY, functions=FUNCTIONS)


def test_the_readme_shows_the_blueprint_as_it_is() -> None:
    blueprint = (ROOT / "blueprints" / "hello" / "hello.hub.yaml").read_text()
    assert f"```yaml\n{blueprint}```" in (ROOT / "README.md").read_text()


def test_the_terraform_page_shows_the_example_as_it_is() -> None:
    example = (ROOT / "examples" / "terraform" / "main.tf").read_text()
    assert f"```terraform\n{example}```" in (ROOT / "docs" / "how-to" / "terraform.md").read_text()


def test_the_reference_pages_are_what_the_code_says(tmp_path: Path) -> None:
    made = hub_command("reference", str(tmp_path), cwd=ROOT)
    assert made.returncode == 0, made.stderr
    for page in sorted(tmp_path.iterdir()):
        committed = ROOT / "docs" / "reference" / page.name
        assert committed.exists(), f"run make docs: {page.name} is new"
        assert committed.read_text() == page.read_text(), f"run make docs: {page.name} has changed"


def test_every_layer_is_on_the_map() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    packages = {
        path.name for path in (ROOT / "hub").iterdir() if path.is_dir() and (path / "__init__.py").exists()
    }
    for name in packages:
        assert f"hub/{name}" in page, name


def test_every_task_type_is_in_the_table() -> None:
    page = (ROOT / "docs" / "flows.md").read_text()
    built_in = [name for name, task in REGISTRY.tasks.items() if task.__module__.startswith("plugins_core")]
    for name in built_in:
        assert f"`{name}`" in page, name


@pytest.mark.parametrize(
    "component",
    [
        one
        for one in (*REGISTRY.tasks.values(), *REGISTRY.triggers.values())
        if one.__module__.startswith("plugins_core")
    ],
    ids=lambda one: one.type,
)
def test_a_component_is_described_and_its_examples_load(component: type) -> None:
    assert component.__doc__
    assert component.examples  # type: ignore[attr-defined]
    for name, field in component.model_fields.items():  # type: ignore[attr-defined]
        if "then" not in name:
            assert field.description, name
    for example in component.examples:  # type: ignore[attr-defined]
        is_task = component in REGISTRY.tasks.values()
        indented = "\n".join(f"    {line}" for line in example.splitlines()).replace("    ", "  - ", 1)
        inputs = (
            "inputs: [{id: day, type: DATE, required: false}, {id: name, type: STRING, required: false}]\n"
        )
        hook = "triggers:\n  - {id: t0, type: webhook, key: k}\n"
        if is_task:
            source = f"id: x\nnamespace: y\n{inputs}{hook}tasks:\n{indented}\n"
        else:
            source = (
                f"id: x\nnamespace: y\ntriggers:\n{indented}\ntasks: [{{id: a0, type: log, message: x}}]\n"
            )
        load_flow(source, registry=REGISTRY, functions=FUNCTIONS)


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "proxy").iterdir()), ids=lambda path: path.name)
def test_the_proxy_page_shows_each_file_as_it_is(path: Path) -> None:
    assert f"\n{path.read_text()}```" in (ROOT / "docs" / "how-to" / "behind-a-proxy.md").read_text()


WORDS = (
    "flow", "trigger", "event", "execution", "task", "task run", "attempt", "input", "output", "storage",
    "file store", "notifier", "plugin", "component", "blueprint", "node", "incarnation", "worker group",
    "namespace", "revision", "kill", "restart", "replay",
)  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_every_word_of_the_house_is_in_the_glossary(word: str) -> None:
    assert f"\n| **{word}** | " in (ROOT / "docs" / "glossary.md").read_text()


@pytest.mark.parametrize(
    ("heading", "states"), [("an execution", ExecutionState), ("a task run", TaskRunState)], ids=str
)
def test_the_glossary_names_every_state_and_which_are_ends(
    heading: str, states: type[ExecutionState] | type[TaskRunState]
) -> None:
    page = (ROOT / "docs" / "glossary.md").read_text()
    part = page.partition(f"## States of {heading}\n")[2].partition("\n## ")[0]
    told = re.findall(r"^\| `([A-Z]+)` \| (yes|no) \|", part, re.M)
    assert told == [(state.value, "yes" if state.is_terminal else "no") for state in states]


@pytest.mark.parametrize(
    "notifier",
    [one for one in REGISTRY.notifiers.values() if one.__module__.startswith("plugins_core")],
    ids=lambda one: one.type,
)
def test_a_notifier_is_described_and_its_examples_load(notifier: type[Notifier], tmp_path: Path) -> None:
    assert notifier.__doc__
    assert notifier.examples
    for name, field in notifier.model_fields.items():
        assert field.description, name
    for example in notifier.examples:
        assert _notifiers_of(tmp_path, "notifiers:\n  oncall:\n" + textwrap.indent(example, "    ")) == [
            "oncall"
        ]


def test_the_settings_of_the_notifications_page_can_be_used(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "notifications.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.S)
    names = _notifiers_of(tmp_path, blocks[0])
    assert names == ["oncall", "team", "pager"]
    [rules] = [block for block in blocks if block.startswith("notify:\n  - ")]
    assert _notifiers_of(tmp_path, blocks[0] + rules) == names
    [shared] = [block for block in blocks if block.startswith("plugins:")]
    assert _notifiers_of(tmp_path, shared) == ["oncall"]


def _notifiers_of(folder: Path, text: str) -> list[str]:
    """The names under ``notifiers:`` in settings that can be used."""
    (folder / "hub.yaml").write_text(text)
    settings = load_settings({}, folder=folder).settings
    registry = with_plugin_settings(REGISTRY, settings)
    notifiers = read_notifiers(settings, registry, FUNCTIONS)
    read_notify(settings, notifiers, FUNCTIONS)
    return list(notifiers)
