"""``hub triggers``: how each is reached, and what it lacks."""

from __future__ import annotations

from pathlib import Path

from tests.support.hub_process import HubProcess, hub_command

_FLOW = """id: {id}
namespace: tr
triggers: [{{id: hook, type: webhook, key: k, verify: {{scheme: github, secret: "{{{{ secret('{secret}') }}}}"}}}}]
tasks: [{{id: a, type: return, value: 1}}]
"""


def test_a_webhook_without_its_secret_is_said_at_the_start_and_has_no_url(tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    flows.mkdir()
    (flows / "good.hub.yaml").write_text(_FLOW.format(id="good", secret="THERE"))
    (flows / "bad.hub.yaml").write_text(_FLOW.format(id="bad", secret="LATER"))
    with HubProcess(tmp_path, flows=flows, env={"HUB_SECRET_THERE": "a secret"}) as hub:
        assert "trigger cannot be used" in hub.log.read_text()
        assert 'no secret "LATER"' in hub.log.read_text()
        listed = hub_command("triggers", "list", cwd=tmp_path).stdout
        assert 'no secret "LATER"' in listed
        assert "/tr/good/k" in listed
        assert "/tr/bad/k" not in listed


def test_triggers_of_one_flow_are_listed_by_its_full_name(tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    flows.mkdir()
    for id in ("one", "two"):
        (flows / f"{id}.hub.yaml").write_text(_FLOW.format(id=id, secret="THERE"))
    with HubProcess(tmp_path, flows=flows, env={"HUB_SECRET_THERE": "a secret"}):
        for name in ("tr/one", "one"):
            listed = hub_command("triggers", "list", "--flow", name, "-o", "name", cwd=tmp_path)
            assert listed.stdout == "tr/one/hook\n"
