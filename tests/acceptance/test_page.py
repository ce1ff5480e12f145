"""The page at / in a real browser: rows come by themselves, nothing is loaded from elsewhere, axe finds nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.hub_process import HubProcess

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(_CHROMIUM is None, reason="needs Chromium on this machine")

_FLOW = """id: greet
namespace: page
description: Says <b>hello</b> to whoever calls.
triggers:
  - {id: hook, type: webhook, key: k, when: "{{ trigger.body.go ?? true }}"}
  - {id: daily, type: schedule.cron, cron: "0 2 * * *"}
tasks:
  - {id: say, type: log, message: "hello {{ trigger.body.name ?? 'world' }}"}
  - {id: give, type: return, value: "{{ trigger.body.name ?? 'world' }}"}
  - {id: fail, type: execution.fail, when: "{{ trigger.body.fail ?? false }}", message: it was asked for}
"""
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=_CHROMIUM, args=_ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "flows").mkdir()
    (folder / "flows" / "greet.hub.yaml").write_text(_FLOW)
    (folder / "flows" / "broken.hub.yaml").write_text("id: broken\nnamespace: page\ntasks: 5\n")
    with HubProcess(folder, flows=folder / "flows") as running:
        yield running


class Opened:
    """The page, and everything that was wrong with it."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.wrong: list[str] = []
        page.on("console", lambda told: self.wrong.append(told.text) if told.type == "error" else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda asked: self._check(asked.url, origin))

    def _check(self, url: str, origin: str) -> None:
        if not url.startswith((origin, "data:")):
            self.wrong.append(f"asked {url}")


@pytest.fixture
def opened(browser: Browser, hub: HubProcess) -> Iterator[Opened]:
    context = browser.new_context()
    found = Opened(context.new_page(), hub.url)
    found.page.goto(hub.url)
    expect(found.page.locator("#live")).to_have_text("live")
    yield found
    assert found.wrong == []
    context.close()


def _deliver(hub: HubProcess, **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = hub.call("POST", "/api/v1/webhooks/page/greet/k", body).json
    return answer


def test_a_row_appears_by_itself_and_shows_its_end(opened: Opened, hub: HubProcess) -> None:
    id = _deliver(hub, name="Ada")["executionIds"][0]
    row = opened.page.locator(f'tr[data-id="{id}"]')
    expect(row).to_contain_text("SUCCESS")
    expect(row).to_contain_text("page/greet")


def test_a_click_shows_task_runs_and_log(opened: Opened, hub: HubProcess) -> None:
    id = _deliver(hub, name="<img src=x onerror=alert(1)>")["executionIds"][0]
    opened.page.get_by_role("button", name=f"Execution {id}").click()
    detail = opened.page.locator("#detail")
    expect(detail).to_contain_text("hello <img src=x onerror=alert(1)>")
    expect(detail.get_by_role("cell", name="give")).to_be_visible()
    assert detail.locator("img").count() == 0
    opened.page.keyboard.press("Escape")
    expect(detail).to_be_hidden()


def test_a_click_replays_and_restarts(opened: Opened, hub: HubProcess) -> None:
    id = _deliver(hub, fail=True)["executionIds"][0]
    opened.page.get_by_role("button", name=f"Execution {id}").click()
    with opened.page.expect_response(f"**/executions/{id}/restart") as restarted:
        opened.page.get_by_role("button", name="Restart from the failure").click()
    assert restarted.value.status == 200
    hub.ended(id)
    expect(opened.page.locator("#detail").get_by_role("button", name="Replay")).to_be_visible()
    with opened.page.expect_response(f"**/executions/{id}/replay") as replayed:
        opened.page.get_by_role("button", name="Replay").click()
    assert replayed.value.status == 201
    expect(opened.page.locator("#detail")).to_contain_text("FAILED")
    assert hub.ended(id)["restarts"] == 1
    lists = hub.call("GET", "/api/v1/executions?limit=5").json["items"]
    assert id in {one["replayOf"] for one in lists}


def test_an_event_says_why_it_started_nothing(opened: Opened, hub: HubProcess) -> None:
    opened.page.get_by_role("link", name="Events").click()
    event = _deliver(hub, go=False)["eventId"]
    row = opened.page.locator(f'tr[data-id="{event}"]')
    expect(row).to_contain_text("refused: when is false")
    expect(row).to_contain_text("trigger.body.go = false")


def test_flows_show_their_source_and_files_that_cannot_be_used(opened: Opened) -> None:
    opened.page.get_by_role("link", name="Flows").click()
    expect(opened.page.locator("#problem")).to_contain_text("broken.hub.yaml")
    opened.page.get_by_role("button", name="page/greet").click()
    expect(opened.page.locator("#detail pre").first).to_contain_text("description: Says <b>hello</b>")


def test_triggers_show_where_and_when(opened: Opened, hub: HubProcess) -> None:
    opened.page.get_by_role("link", name="Triggers").click()
    table = opened.page.locator("#list")
    expect(table).to_contain_text(f"{hub.url}/api/v1/webhooks/page/greet/k")
    expect(table).to_contain_text("schedule.cron")


def test_a_filter_narrows_the_list(opened: Opened, hub: HubProcess) -> None:
    id = _deliver(hub, fail=True)["executionIds"][0]
    opened.page.get_by_label("State").select_option("FAILED")
    expect(opened.page.locator(f'tr[data-id="{id}"]')).to_be_visible()
    opened.page.get_by_label("Flow", exact=True).fill("nothing")
    expect(opened.page.locator("#empty")).to_have_text("Nothing matches.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["executions", "events", "flows", "triggers"])
def test_axe_finds_nothing(browser: Browser, hub: HubProcess, scheme: Any, view: str) -> None:
    id = _deliver(hub)["executionIds"][0]
    context = browser.new_context(color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{hub.url}/#{view}")
    expect(page.locator("#live")).to_have_text("live")
    expect(page.locator("#list tbody tr").first).to_be_visible()
    if view == "executions":
        page.get_by_role("button", name=f"Execution {id}").click()
        expect(page.locator("#detail")).to_be_visible()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    context.close()
