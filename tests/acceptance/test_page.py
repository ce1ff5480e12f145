"""The page at / in a real browser: rows come by themselves, nothing is loaded from elsewhere, axe finds nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, TimeoutError, expect, sync_playwright

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
_WAITING = """id: waiting
namespace: page
triggers: [{id: hook, type: webhook, key: k}]
tasks:
  - {id: nap, type: flow.sleep, duration: PT1H}
"""
_TELLING = """id: telling
namespace: page
triggers: [{id: hook, type: webhook, key: k}]
tasks:
  - {id: tell, type: notify, to: nobody, subject: "a <b>subject</b>", message: "hello {{ trigger.body.name }}"}
"""
_TOKEN = "let-me-in"
_BEARER = {"Authorization": f"Bearer {_TOKEN}"}
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
    (folder / "flows" / "waiting.hub.yaml").write_text(_WAITING)
    (folder / "flows" / "telling.hub.yaml").write_text(_TELLING)
    (folder / "flows" / "broken.hub.yaml").write_text("id: broken\nnamespace: page\ntasks: 5\n")
    with HubProcess(folder, flows=folder / "flows") as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "flows").mkdir()
    (folder / "flows" / "greet.hub.yaml").write_text(_FLOW)
    with HubProcess(folder, flows=folder / "flows", env={"HUB_TOKEN": _TOKEN}) as running:
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


def _deliver(hub: HubProcess, to: str = "greet", **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = hub.call("POST", f"/api/v1/webhooks/page/{to}/k", body).json
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
    broken = opened.page.get_by_role("region", name="Flow files with errors")
    expect(broken).to_contain_text("broken.hub.yaml")
    expect(broken.get_by_role("listitem")).to_contain_text(['3:8 "tasks" is a list'])
    opened.page.get_by_role("button", name="page/greet").click()
    expect(opened.page.locator("#detail pre").first).to_contain_text("description: Says <b>hello</b>")


def test_what_waits_says_until_when_and_can_be_killed(opened: Opened, hub: HubProcess) -> None:
    id = _deliver(hub, "waiting")["executionIds"][0]
    row = opened.page.locator(f'tr[data-id="{id}"]')
    expect(row).to_contain_text("PAUSED until")
    row.click()
    detail = opened.page.locator("#detail")
    expect(detail.get_by_role("row", name="nap")).to_contain_text("PAUSED until")
    detail.get_by_role("button", name="Kill").click()
    expect(row).to_contain_text("KILLED")
    expect(detail.get_by_role("button", name="Restart from the failure")).to_be_visible()


def test_an_event_is_replayed_by_a_click(opened: Opened, hub: HubProcess) -> None:
    opened.page.get_by_role("link", name="Events").click()
    event = _deliver(hub, name="Ada")["eventId"]
    opened.page.get_by_role("button", name=f"Event {event}").click()
    detail = opened.page.locator("#detail")
    expect(detail.get_by_role("row", name="page/greet/hook")).to_contain_text("started")
    with opened.page.expect_response(f"**/events/{event}/replay") as replayed:
        detail.get_by_role("button", name="Replay").click()
    assert replayed.value.status == 202
    expect(detail.get_by_role("button", name=f"…{event[-12:]}")).to_be_visible()


def test_a_change_elsewhere_leaves_what_was_unfolded(opened: Opened, hub: HubProcess) -> None:
    id = _deliver(hub, "waiting", name="Ada")["executionIds"][0]
    opened.page.get_by_role("button", name=f"Execution {id}").click()
    detail = opened.page.locator("#detail")
    detail.get_by_text("Trigger", exact=True).click()
    with opened.page.expect_response(f"**/executions/{id}"):
        _deliver(hub)
    expect(detail.locator("details pre")).to_contain_text('"name": "Ada"')


def test_the_token_is_asked_for_once_and_never_shown_again(browser: Browser, guarded: HubProcess) -> None:
    context = browser.new_context()
    opened = Opened(context.new_page(), guarded.url)
    page = opened.page
    asked: list[str] = []
    page.on("request", lambda one: asked.append(f"{one.url} {one.headers.get('referer')}"))
    first = page.goto(guarded.url)
    assert first is not None
    assert first.status == 401
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("That is not the token of this hub.")
    page.get_by_label("Token").fill(_TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#live")).to_have_text("live")
    # the browser itself reports the two pages that were answered 401, as it does any
    assert [one for one in opened.wrong if "401 (Unauthorized)" not in one] == []
    opened.wrong.clear()

    id = _deliver(guarded, name="Ada")["executionIds"][0]
    row = page.locator(f'tr[data-id="{id}"]')
    expect(row).to_contain_text("SUCCESS")
    row.click()
    with page.expect_response(f"**/executions/{id}/replay") as replayed:
        page.locator("#detail").get_by_role("button", name="Replay").click()
    assert replayed.value.status == 201
    assert opened.wrong == []
    assert not any(_TOKEN in one for one in asked)
    assert page.evaluate("document.cookie + JSON.stringify([localStorage, sessionStorage])") == "[{},{}]"
    [cookie] = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["expires"]) == (True, "Strict", -1)
    assert _TOKEN not in cookie["value"]
    assert _TOKEN not in guarded.log.read_text()

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    assert context.cookies() == []
    context.close()


def test_a_session_that_has_ended_leads_back_to_the_form(browser: Browser, guarded: HubProcess) -> None:
    context = browser.new_context()
    page, other = context.new_page(), context.new_page()
    for one in (page, other):
        one.goto(guarded.url)
    page.get_by_label("Token").fill(_TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#live")).to_have_text("live")
    other.goto(guarded.url)
    other.get_by_role("button", name="Sign out").click()
    expect(other.get_by_label("Token")).to_be_visible()
    with suppress(TimeoutError):  # it may have noticed by itself, and be the form already
        page.get_by_label("Flow", exact=True).fill("greet", timeout=3000)
    expect(page.get_by_label("Token")).to_be_visible()
    context.close()


@pytest.fixture
def neighbour(tmp_path: Path) -> Iterator[str]:
    """Another web server on another port of this machine."""
    (tmp_path / "index.html").write_text("<p>hi</p>")
    serve = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def test_a_page_of_another_site_does_nothing_with_the_cookie(
    browser: Browser, guarded: HubProcess, neighbour: str
) -> None:
    """Another port of the same host: the cookie is sent to it as well, so the hub has to tell."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(guarded.url)
    page.get_by_label("Token").fill(_TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#live")).to_have_text("live")
    before = len(guarded.call("GET", "/api/v1/executions", headers=_BEARER).json["items"])
    page.goto(neighbour)
    statuses = page.evaluate(
        """async (hub) => {
          const get = (mode) => fetch(`${hub}/api/v1/flows`, { mode, credentials: "include" });
          const start = fetch(`${hub}/api/v1/flows/page/greet/executions`,
            { method: "POST", mode: "no-cors", credentials: "include", body: "{}" });
          return (await Promise.allSettled([get("cors"), get("no-cors"), start])).map((one) => one.value?.status ?? "refused");
        }""",
        guarded.url,
    )
    assert statuses == ["refused", 0, 0]
    with page.expect_response("**/executions") as sent:
        page.evaluate(
            """(hub) => { const form = document.createElement("form"); form.method = "post";
            form.action = `${hub}/api/v1/flows/page/greet/executions`; document.body.append(form); form.submit(); }""",
            guarded.url,
        )
    assert sent.value.status == 403
    assert len(guarded.call("GET", "/api/v1/executions", headers=_BEARER).json["items"]) == before
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_form(browser: Browser, guarded: HubProcess, scheme: Any) -> None:
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(guarded.url)
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    context.close()


def test_triggers_show_where_and_when(opened: Opened, hub: HubProcess) -> None:
    opened.page.get_by_role("link", name="Triggers").click()
    table = opened.page.locator("#list")
    expect(table).to_contain_text(f"{hub.url}/api/v1/webhooks/page/greet/k")
    expect(table).to_contain_text("schedule.cron")


def test_a_notice_shows_where_it_stands_and_what_it_says(opened: Opened, hub: HubProcess) -> None:
    opened.page.get_by_role("link", name="Notices").click()
    id = _deliver(hub, "telling", name="Ada")["executionIds"][0]
    row = opened.page.locator("#list tbody tr").first
    # nobody is called so, and the row changes by itself
    expect(row).to_contain_text("dead")
    expect(row).to_contain_text("a <b>subject</b>")
    row.get_by_role("button").click()
    detail = opened.page.locator("#detail")
    expect(detail).to_contain_text('no notifier is called "nobody"')
    expect(detail).to_contain_text("hello Ada")
    detail.get_by_role("button", name="Drop").click()
    expect(row).to_contain_text("dropped")
    expect(detail.get_by_role("button", name="Drop")).to_have_count(0)
    opened.page.get_by_label("Delivery").select_option("delivered")
    expect(opened.page.locator("#empty")).to_have_text("Nothing matches.")
    opened.page.goto(f"{hub.url}/#executions")
    opened.page.get_by_role("button", name=f"Execution {id}").click()
    expect(detail.get_by_role("button", name="Notice to nobody")).to_be_visible()


def test_a_filter_narrows_the_list(opened: Opened, hub: HubProcess) -> None:
    id = _deliver(hub, fail=True)["executionIds"][0]
    opened.page.get_by_label("State").select_option("FAILED")
    expect(opened.page.locator(f'tr[data-id="{id}"]')).to_be_visible()
    opened.page.get_by_label("Flow", exact=True).fill("nothing")
    expect(opened.page.locator("#empty")).to_have_text("Nothing matches.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["executions", "events", "flows", "triggers", "notices"])
def test_axe_finds_nothing(browser: Browser, hub: HubProcess, scheme: Any, view: str) -> None:
    id = _deliver(hub)["executionIds"][0]
    _deliver(hub, "telling", name="Ada")
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
