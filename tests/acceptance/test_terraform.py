"""Terraform's generic REST provider, Mastercard/restapi, against a real hub: the calls that it makes.

The provider itself is a binary that only Terraform's registry has. What is here follows its source: how it makes
paths, methods, headers and bodies out of a resource, and how it compares what it has with what it reads. The
values come from ``examples/terraform/main.tf``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.config import yaml
from tests.support.hub_process import Answer, HubProcess

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "terraform"
CODE = (EXAMPLE / "main.tf").read_text()
FLOW = (EXAMPLE / "flows" / "orders.hub.yaml").read_text()
TOKEN = "let-me-in"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with HubProcess(tmp_path_factory.mktemp("hub"), env={"HUB_TOKEN": TOKEN}) as running:
        yield running


class RestApiObject:
    """One ``restapi_object`` of the example."""

    def __init__(self, hub: HubProcess, source: str) -> None:
        self._hub = hub
        self.source = source
        root = yaml.parse(source).root.plain()
        self.key = f"{root['namespace']}/{root['id']}"
        namespace, self.id = self.key.split("/")
        self._create_method = attribute("create_method")
        self._path = attribute("path").replace('${split("/", each.key)[0]}', namespace)
        self._create_path = attribute("create_path").replace("${each.key}", self.key)
        assert '"Bearer ${var.hub_token}"' in CODE
        self._headers = {"Accept": header("Accept"), "Authorization": f"Bearer {TOKEN}"}
        self._ignored = json.loads(attribute("ignore_changes_to", quoted=False))
        assert re.findall(r"^    (\w+) +=", CODE.split("jsonencode")[1], re.M) == [
            "namespace",
            "id",
            "source",
        ]
        self.data = {"namespace": namespace, "id": self.id, "source": source}

    def create(self) -> Answer:
        return self._send(self._create_method, self._create_path, self.data)

    def update(self) -> Answer:
        return self._send("PUT", f"{self._path}/{self.id}", self.data)

    def delete(self) -> Answer:
        return self._send("DELETE", f"{self._path}/{self.id}")

    def read(self) -> Answer:
        return self._send("GET", f"{self._path}/{self.id}")

    def drift(self) -> dict[str, Any]:
        """What a plan would want to change: each field that differs, and each that the server added."""
        there = self.read().json
        names = (self.data.keys() | there.keys()) - set(self._ignored)
        return {name: there.get(name) for name in names if self.data.get(name) != there.get(name)}

    def _send(self, method: str, path: str, body: Any = None) -> Answer:
        assert "{" not in path
        # as Go's encoding/json writes it
        text = json.dumps(body).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
        given = {"Content-Type": "application/json"} if body is not None else {}
        return self._hub.call(
            method, path, text.encode() if body is not None else None, {**given, **self._headers}
        )


def attribute(name: str, *, quoted: bool = True) -> str:
    found = re.search(rf"^  {name} += (.+)$", CODE, re.M)
    assert found, name
    return found[1][1:-1] if quoted else found[1]


def header(name: str) -> str:
    found = re.search(rf'^    {name} += "(.+)"$', CODE, re.M)
    assert found, name
    return found[1]


def test_a_flow_is_created_read_updated_and_deleted_without_drift(hub: HubProcess) -> None:
    one = RestApiObject(hub, FLOW)
    assert one.create().status == 201
    assert one.drift() == {}
    assert one.read().json["revision"] == 1
    changed = RestApiObject(hub, FLOW.replace("with its number", "with <b>its</b> number & é"))
    assert set(changed.drift()) == {"source"}
    assert changed.update().json["changed"] is True
    assert changed.drift() == {}
    assert changed.update().json["changed"] is False
    assert changed.read().json["revision"] == 2
    raw = hub.call("GET", f"/api/v1/flows/{one.key}", headers={"Authorization": f"Bearer {TOKEN}"})
    assert raw.raw == changed.source.encode()
    assert changed.delete().status == 204
    # this tells the provider to forget it, and a plan to create it again
    assert changed.read().status == 404
    assert changed.create().status in (200, 201)
    assert changed.drift() == {}


@pytest.mark.parametrize("end", ["\n", "", "\r\n", "\n\n# é ☃ \U0001f600\n"])
def test_a_source_comes_back_as_it_was_sent(hub: HubProcess, end: str) -> None:
    one = RestApiObject(hub, FLOW.rstrip("\n").replace("orders", "ends") + end)
    assert one.create().status in (200, 201)
    assert one.drift() == {}


def test_a_change_made_elsewhere_is_drift(hub: HubProcess) -> None:
    one = RestApiObject(hub, FLOW.replace("id: orders", "id: drifts"))
    one.create()
    other = RestApiObject(hub, one.source + "# by hand\n")
    other.update()
    assert one.drift() == {"source": other.source}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"source": "id: x\nnamespace: shop\n"}, '"tasks" is required'),
        ({"source": FLOW}, "this is the flow shop/orders, not shop/x"),
        ({"source": FLOW, "id": "orders"}, "the body is for the flow shop/orders, the address for shop/x"),
        ({"source": FLOW, "sauce": 1}, 'unknown property "sauce"'),
        ({"source": 1}, "source: expected text, got 1"),
        ({}, "source is required"),
        ([], "the body: expected a mapping"),
    ],
)
def test_a_body_that_is_wrong_is_refused_with_what_is_wrong(hub: HubProcess, body: Any, words: str) -> None:
    answer = hub.call("PUT", "/api/v1/flows/shop/x", body, {"Authorization": f"Bearer {TOKEN}"})
    assert answer.status == 422
    assert words in answer.json["message"]


def test_the_source_itself_is_answered_unless_json_is_asked_for(hub: HubProcess) -> None:
    RestApiObject(hub, FLOW).create()
    for accept, is_json in (
        (None, False),
        ("*/*", False),
        ("application/yaml, application/json;q=0.9", False),
        ("application/json, application/yaml", False),
        ("application/json;q=0", False),
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/yaml;q=0.5, application/json", True),
        ("application/json, text/plain, */*", True),
    ):
        headers = {"Authorization": f"Bearer {TOKEN}", **({"Accept": accept} if accept else {})}
        answer = hub.call("GET", "/api/v1/flows/shop/orders", headers=headers)
        assert answer.headers["content-type"].startswith("application/json") == is_json, accept
        assert (answer.headers["vary"], answer.headers["x-hub-revision"]) == ("Accept", str(_revision(hub)))
        assert (answer.json["source"] if is_json else answer.raw.decode()) == FLOW


def _revision(hub: HubProcess) -> int:
    answer = hub.call(
        "GET", "/api/v1/flows/shop/orders/revisions", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    revision: int = answer.json["items"][0]["revision"]
    return revision


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not on the path")
def test_the_example_is_terraform_and_names_each_flow(tmp_path: Path) -> None:
    assert subprocess.run(["terraform", "fmt", "-check", str(EXAMPLE)], check=False).returncode == 0
    # the provider's own parts taken out, what is left needs no provider
    locals_ = CODE[CODE.index("locals {") : CODE.index("resource ")]
    (tmp_path / "main.tf").write_text(locals_)
    shutil.copytree(EXAMPLE / "flows", tmp_path / "flows")
    done = subprocess.run(
        ["terraform", "console"], input="jsonencode(local.flows)\n", cwd=tmp_path, capture_output=True, text=True,
        check=True, env={**os.environ, "CHECKPOINT_DISABLE": "1"},
    )  # fmt: skip
    assert json.loads(json.loads(done.stdout)) == {"shop/orders": FLOW}
