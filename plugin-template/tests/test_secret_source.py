"""Secrets out of a JSON file."""

import json

import pytest
from asynchub_example.secret_source import JsonFileSource

from hub.plugin import InvalidInput
from hub.testing import SecretSourceContract

HELD = {"TOKEN": "the value of it", "OTHER": " with spaces "}


class TestJsonFileSource(SecretSourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        (tmp_path / "secrets.json").write_text(json.dumps(HELD))
        return JsonFileSource({}, tmp_path)

    @pytest.fixture
    def held(self):
        return HELD


async def test_a_broken_file_is_named_without_what_it_holds(tmp_path):
    (tmp_path / "secrets.json").write_text('{"TOKEN": "the value of it"')
    with pytest.raises(InvalidInput, match=r"secrets\.json is not JSON: line 1") as raised:
        await JsonFileSource({}, tmp_path).get("TOKEN")
    assert "the value of it" not in str(raised.value)


async def test_a_flow_asks_it(run_task, tmp_path):
    (tmp_path / "secrets.json").write_text(json.dumps(HELD))
    result = await run_task("log", message="{{ secret('TOKEN') }}")
    assert (result.state, result.logs) == ("SUCCESS", ("******",))
