"""Every kind of component has its section in ``docs/plugins/kinds.md``, with a diagram, its hook and its contract."""

from __future__ import annotations

import re

import pytest

import hub.testing
from hub.plugin import hookspecs
from tests.support.installed import ROOT

PAGE = (ROOT / "docs" / "plugins" / "kinds.md").read_text()
SECTIONS = {part.partition("\n")[0]: part.partition("\n")[2] for part in PAGE.split("\n## ")[1:]}
HOOKS = sorted(name for name, one in vars(hookspecs).items() if hasattr(one, "hub_spec"))
CONTRACTS = sorted(name for name in hub.testing.__all__ if name.endswith("Contract"))


@pytest.mark.parametrize("hook", HOOKS)
def test_what_a_hook_brings_has_its_section(hook: str) -> None:
    assert [name for name, text in SECTIONS.items() if f"(../hooks.md#{hook})" in text]


@pytest.mark.parametrize("kind", sorted(SECTIONS))
def test_a_kind_has_a_diagram(kind: str) -> None:
    assert re.search(r"```text\n.*(?:►|accept).*```", SECTIONS[kind], re.S)


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_contract_is_named_by_its_kind_and_explained(contract: str) -> None:
    assert f"contract: `{contract}`" in PAGE
    assert f"| `{contract}` |" in (ROOT / "docs" / "plugins" / "testing.md").read_text()
