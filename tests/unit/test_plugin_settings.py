"""``plugins.<name>`` in ``hub.yaml``: checked with the plugin's own model, a mistake named with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr

from hub.config.plugins import with_plugin_settings
from hub.config.settings import Settings, load_settings
from hub.errors import InvalidSettings
from hub.plugin import Model, Task, TaskContext
from hub.registry import Registry
from tests.support.plugins import giving, load, module_of, point


class AcmeSettings(BaseModel):
    """As somebody writes it who has not read that names are camelCase."""

    api_url: str = "https://example.test"
    retries: int = Field(3, ge=0)
    token: SecretStr | None = None


class Needy(BaseModel):
    api_url: str


class Do(Task):
    """Does it."""

    type = "acme.do"

    async def run(self, ctx: TaskContext) -> None: ...


def registry_with(model: Any, given: dict[str, Any] | None = None) -> Registry:
    module = module_of("acme", settings_model=giving(model), register_tasks=giving([Do]))
    return load(point("acme", "asynchub-acme", module=module), settings=given)[0]


def settings_of(folder: Path, text: str) -> Settings:
    (folder / "hub.yaml").write_text(text)
    return load_settings({}, folder=folder).settings


def test_a_plugins_settings_are_handed_out_as_its_own_model(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "plugins: {acme: {apiUrl: x, retries: '5', enabled: true}}\n")
    found = with_plugin_settings(registry_with(AcmeSettings), settings).settings_of(Do)
    assert isinstance(found, AcmeSettings)
    assert (found.api_url, found.retries) == ("x", 5)


@pytest.mark.parametrize("text", ["{}\n", "plugins: {acme: {}}\n", "plugins: {acme: }\n"])
def test_settings_that_nobody_set_are_the_defaults(tmp_path: Path, text: str) -> None:
    found = with_plugin_settings(registry_with(AcmeSettings), settings_of(tmp_path, text)).settings_of(Do)
    assert found.api_url == "https://example.test"


def test_a_plugin_without_a_model_has_no_settings() -> None:
    assert with_plugin_settings(registry_with(None), Settings()).settings_of(Do) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "plugins:\n  acme:\n    retries: -1\n",
            ":3:14  error: plugins.acme.retries: expected at least 0, got -1",
        ),
        (
            "plugins:\n  acme:\n    apiUrk: x\n",
            ":3:5  error: plugins.acme.apiUrk: unknown setting",
        ),
        ("plugins:\n  acme:\n    api_url: x\n", ":3:5  error: plugins.acme.api_url: unknown setting"),
        ("plugins:\n  acme: 5\n", ":2:9  error: plugins.acme: expected a mapping"),
        ("plugins: {acme: {enabled: nope}}\n", "plugins.acme.enabled: expected true or false"),
        ("plugins:\n  acmi: {}\n", ":2:3  error: plugins.acmi: no plugin of this name is installed"),
        ("plugins: {acmi: {enabled: false}}\n", "plugins.acmi: no plugin of this name is installed"),
        ("plugins: {local: {x: 1}}\n", "plugins.local: the plugin has no settings"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidSettings) as raised:
        with_plugin_settings(registry_with(AcmeSettings), settings_of(tmp_path, text))
    assert message in raised.value.message


@pytest.mark.parametrize(
    ("text", "near"), [("plugins: {acme: {apiUrk: x}}\n", "apiUrl"), ("plugins: {acmi: {}}\n", "acme")]
)
def test_a_near_name_is_offered(tmp_path: Path, text: str, near: str) -> None:
    with pytest.raises(InvalidSettings, match=f'did you mean "{near}"'):
        with_plugin_settings(registry_with(AcmeSettings), settings_of(tmp_path, text))


def test_what_is_required_and_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"hub\.yaml:1:17  error: plugins\.acme\.apiUrl: is required"):
        with_plugin_settings(registry_with(Needy), settings_of(tmp_path, "plugins: {acme: {}}\n"))


def test_a_plugin_that_needs_settings_and_has_none_is_left_out_and_says_so() -> None:
    registry = with_plugin_settings(registry_with(Needy), Settings())
    [report] = [one for one in registry.plugins if one.name == "acme"]
    assert (report.state, report.types) == ("failed", ())
    assert report.error == 'plugin "acme" needs settings: plugins.acme.apiUrl. Set them in hub.yaml'
    assert "acme.do" not in registry.tasks
    assert registry.explain("task", "acme.do") == report.error


def test_a_setting_of_a_plugin_that_cannot_be_loaded_stops_the_start(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "plugins:\n  acme: {apiUrl: x}\n")
    with pytest.raises(InvalidSettings, match=r':2:3  error: plugins\.acme: plugin "acme" cannot be loaded'):
        with_plugin_settings(registry_with(5), settings)


@pytest.mark.parametrize("name", ["acme", "local"])
def test_a_plugin_that_is_switched_off_has_no_settings_to_check(tmp_path: Path, name: str) -> None:
    given = {name: {"enabled": False, "retries": "many"}}
    registry = with_plugin_settings(registry_with(AcmeSettings, given), Settings(plugins=given))
    assert name not in registry.values


def test_a_plugin_that_is_not_there_may_be_switched_off() -> None:
    given = {"kafka": {"enabled": False}}
    registry = with_plugin_settings(registry_with(AcmeSettings, given), Settings(plugins=given))
    assert registry.is_switched_off("kafka.publish")
    assert "switched off" in (registry.explain("task", "kafka.publish") or "")


def test_a_model_inside_the_settings_must_take_what_users_write() -> None:
    class Inner(BaseModel):
        api_url: str = ""

    class Outer(BaseModel):
        cluster: Inner = Inner()

    class OursInside(BaseModel):
        class Ours(Model):
            api_url: str = ""

        cluster: Ours = Ours(api_url="")

    def error_of(model: Any) -> str | None:
        return next(one.error for one in registry_with(model).plugins if one.name == "acme")

    assert 'settings_model: the model Inner reads "api_url", users write "apiUrl"' in (error_of(Outer) or "")
    assert "derive Inner from hub.plugin.Model" in (error_of(Outer) or "")
    assert error_of(OursInside) is None


def test_the_one_setting_of_the_hub_itself_cannot_be_a_plugins() -> None:
    class Mine(BaseModel):
        enabled: bool = True

    error = next(one.error for one in registry_with(Mine).plugins if one.name == "acme")
    assert '"enabled" is the hub\'s own setting' in (error or "")
