"""Every blueprint, used as its page says and served by a real hub; each trigger fires, each failure fails."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hub.config import yaml
from tests.support.following import ends_of, until
from tests.support.hub_process import Answer, HubProcess, hub_command
from tests.support.mail_server import PASSWORD, MailServer, Received, mail_server
from tests.support.ports import free_port
from tests.support.set_clock import START as WITH_CLOCK
from tests.support.set_clock import set_clock

ROOT = Path(__file__).parent.parent.parent
BLUEPRINTS = ROOT / "blueprints"
NAMES = sorted(path.name for path in BLUEPRINTS.iterdir())
SECRET = "whsec_of-this-test"


class Project:
    """A folder with nothing in it but the flows of some blueprints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()

    def use(self, name: str) -> None:
        """Copy a blueprint; where its flows name the hub's port, it is that of this hub."""
        done = hub_command("blueprints", "use", name, cwd=self.folder)
        assert done.returncode == 0, done.stderr
        for path in (self.folder / "flows").iterdir():
            path.write_text(path.read_text().replace("127.0.0.1:8484", f"127.0.0.1:{self.port}"))

    def edit(self, flow: str, old: str, new: str) -> None:
        """Change a line as its user would."""
        path = self.folder / "flows" / f"{flow}.hub.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def serve(self, *, clock: str | None = None, **env: str) -> HubProcess:
        """A hub for it; with ``clock``, by a clock that shows this moment."""
        if clock is None:
            return HubProcess(self.folder, port=self.port, env=env)
        set_clock(self.clock, clock)
        start = [*WITH_CLOCK, str(self.clock)]
        return HubProcess(self.folder, port=self.port, start=start, env=env)

    @property
    def clock(self) -> Path:
        return self.folder / "clock"

    def type(self, line: str) -> str:
        """Run a line of a page in a shell; the port it names is that of this hub."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
        line = line.replace("127.0.0.1:8484", f"127.0.0.1:{self.port}")
        done = subprocess.run(
            ["sh", "-ec", line], cwd=self.folder, env=env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def page_of(name: str) -> str:
    return (BLUEPRINTS / name / "README.md").read_text()


def lines_of(name: str) -> list[str]:
    """The lines that a blueprint's page gives to type."""
    return [
        line for block in re.findall(r"```sh\n(.*?)```", page_of(name), re.S) for line in block.splitlines()
    ]


# -- all of them


def test_each_has_a_page_that_uses_it_and_flows_that_are_fit_to_copy(tmp_path: Path) -> None:
    offered = json.loads(hub_command("blueprints", "list", "-o", "json", cwd=tmp_path).stdout)
    assert [one["name"] for one in offered] == NAMES
    for one in offered:
        assert page_of(one["name"]).startswith(f"# {one['name']}\n")
        assert f"hub blueprints use {one['name']}" in page_of(one["name"])
        assert all(flow["description"] for flow in one["flows"])
        assert f"`{one['name']}`" in (ROOT / "README.md").read_text()
    assert hub_command("validate", str(BLUEPRINTS), cwd=tmp_path).returncode == 0
    assert hub_command("fmt", "--check", str(BLUEPRINTS), cwd=tmp_path).returncode == 0


def test_all_of_them_live_side_by_side(project: Project) -> None:
    for name in NAMES:
        project.use(name)
    secrets = {"HUB_SECRET_GITHUB_WEBHOOK_SECRET": "a", "HUB_SECRET_STRIPE_WEBHOOK_SECRET": SECRET}
    with project.serve(**secrets) as hub:
        flows = hub.call("GET", "/api/v1/flows").json["items"]
        assert len(flows) == len(list(BLUEPRINTS.glob("*/*.hub.yaml")))
        triggers = hub.call("GET", "/api/v1/triggers").json["items"]
        # nobody has said where a cluster is: they wait for that, and the others do not
        kafka = [one for one in triggers if one["type"] == "kafka.messages"]
        assert {one["state"] for one in triggers if one not in kafka} == {"running"}, triggers
        assert {one["error"].partition(" (")[0] for one in kafka} == {
            'no Kafka cluster "default" in the settings'
        }


# -- hello, github-push, file-drop


def test_hello_greets(project: Project) -> None:
    project.use("hello")
    call, look = lines_of("hello")
    with project.serve() as hub:
        [id] = json.loads(project.type(call))["executionIds"]
        assert hub.ended(id)["taskRuns"][0]["outputs"] == {"value": "Hello, Ada!"}
        assert "Hello, Ada!" in project.type(look)


def test_a_github_push_to_main_is_summed_up_and_told(project: Project) -> None:
    project.use("hello")
    project.use("github-push")
    push = {
        "ref": "refs/heads/main", "repository": {"full_name": "ada/engine"}, "pusher": {"name": "ada"},
        "commits": [{"message": "first\n\nmore"}, {"message": "second"}],
    }  # fmt: skip
    hub = project.serve(HUB_SECRET_GITHUB_WEBHOOK_SECRET="shh")

    def deliver(body: Any, id: str, secret: bytes = b"shh") -> Answer:
        raw = json.dumps(body).encode()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Delivery": id,
            "X-Hub-Signature-256": "sha256=" + hmac.new(secret, raw, hashlib.sha256).hexdigest(),
        }
        return hub.call("POST", "/api/v1/webhooks/demo.github/push/push", raw, headers)

    with hub:
        with ends_of(hub, "demo") as greeted:
            ended = hub.ended(deliver(push, "1").json["executionIds"][0])
            assert (ended["error"], ended["outputs"]) == (None, {"titles": ["first", "second"]})
            assert greeted.next()["taskRuns"][0]["outputs"] == {"value": "Hello, ada, 2 commits!"}
        assert deliver(push, "1").json["duplicate"] is True
        assert deliver(push, "2", b"guessed").status == 401
        elsewhere = deliver({**push, "ref": "refs/heads/other"}, "3").json
        assert (elsewhere["executionIds"], "refs/heads/other" in elsewhere["reason"]) == ([], True)


def test_a_dropped_file_is_read_row_by_row_and_put_away(project: Project) -> None:
    project.use("file-drop")
    folder = project.folder
    [drop] = re.findall(r"Drop a file: `(.*?)`", page_of("file-drop"))
    with project.serve() as hub:
        until(folder, (folder / "inbox").is_dir)
        project.type(drop)
        until(folder, (folder / "done" / "orders.csv").exists)
        [execution] = hub.all_of("/api/v1/executions?namespace=demo.files")
        assert execution["state"] == "SUCCESS"
        assert hub.call("GET", f"/api/v1/executions/{execution['id']}").json["outputs"] == {"count": 2}
        (folder / "inbox" / "bad.csv").write_text("article,quantity\nbolts\n")
        until(folder, (folder / "failed" / "bad.csv").exists)
    assert (folder / "reports" / "orders.csv.txt").read_text() == "orders.csv: 2 orders\n"


# -- stripe-payment


class Stripe:
    """Deliveries as Stripe signs them, https://docs.stripe.com/webhooks/signature."""

    def __init__(self, hub: HubProcess) -> None:
        self._hub = hub

    def send(self, event: Any, *, secret: str = SECRET, age: int = 0) -> Answer:
        raw = json.dumps(event).encode()
        moment = int(time.time()) - age
        digest = hmac.new(secret.encode(), f"{moment}.".encode() + raw, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "Stripe-Signature": f"t={moment},v1={digest}"}
        return self._hub.call("POST", "/api/v1/webhooks/demo.stripe/payment/payment", raw, headers)

    @staticmethod
    def event(id: str, type: str = "payment_intent.succeeded", **payment: Any) -> dict[str, Any]:
        given = {"object": "payment_intent", "amount_received": 1099, "currency": "eur", **payment}
        return {"id": id, "object": "event", "type": type, "data": {"object": {"id": f"pi_{id}", **given}}}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("shop"))
    project.use("stripe-payment")
    return project


@pytest.fixture(scope="module")
def paying(shop: Project) -> Iterator[HubProcess]:
    """A hub that Stripe calls, for all tests of that blueprint."""
    with shop.serve(HUB_SECRET_STRIPE_WEBHOOK_SECRET=SECRET) as hub:
        yield hub


def test_stripe_gets_the_receipt_as_its_answer_once(paying: HubProcess, shop: Project) -> None:
    stripe = Stripe(paying)
    before = len(paying.all_of("/api/v1/executions"))
    answer = stripe.send(stripe.event("a"))
    assert (answer.status, answer.json) == (200, {"receipt": {"number": "pi_a", "total": "10.99 EUR"}})
    assert (shop.folder / "receipts" / "pi_a.txt").read_text() == "10.99 EUR received\n"
    again = stripe.send(stripe.event("a"), age=30)
    assert (again.status, again.json) == (200, answer.json)
    yen = stripe.send(stripe.event("b", amount_received=500, currency="jpy"))
    assert yen.json["receipt"]["total"] == "500 JPY"
    other = stripe.send(stripe.event("c", "payment_intent.created")).json
    assert (other["executionIds"], "payment_intent.created" in other["reason"]) == ([], True)
    assert len(paying.all_of("/api/v1/executions")) == before + 2


def test_what_stripe_has_not_signed_just_now_is_refused(paying: HubProcess) -> None:
    stripe = Stripe(paying)
    before = paying.all_of("/api/v1/events")
    assert stripe.send(stripe.event("d"), secret="whsec_guessed").status == 401
    assert stripe.send(stripe.event("d"), age=600).status == 401
    assert paying.all_of("/api/v1/events") == before


def test_stripe_hears_of_a_failure_and_of_its_mending(paying: HubProcess, shop: Project) -> None:
    stripe = Stripe(paying)
    in_the_way = shop.folder / "receipts" / "pi_e.txt"
    in_the_way.mkdir(parents=True)
    failed = stripe.send(stripe.event("e"))
    assert (failed.status, failed.json["code"]) == (500, "execution_failed")
    again = stripe.send(stripe.event("e"), age=10)
    assert (again.status, again.json) == (500, failed.json)
    in_the_way.rmdir()
    id = failed.json["details"]["executionId"]
    assert hub_command("executions", "restart", id, "--follow", cwd=shop.folder).returncode == 0
    assert stripe.send(stripe.event("e"), age=20).json["receipt"]["number"] == "pi_e"
    script = stripe.send(stripe.event("f", amount_received=None))
    assert script.status == 500
    assert 'task "receipt" failed' in script.json["message"]


def test_the_line_that_tries_stripe_without_stripe(paying: HubProcess, shop: Project) -> None:
    [line] = lines_of("stripe-payment")
    assert "answered 200" in shop.type(line)
    assert "10.99 EUR" in shop.type("cat receipts/pi_1.txt")
    assert "a delivery that is known" in shop.type(line)


# -- nightly-report


def test_the_nightly_report_is_written_at_two_in_paris(project: Project) -> None:
    project.use("nightly-report")
    (project.folder / "flows" / "bad.hub.yaml").write_text(
        "id: bad\nnamespace: shop\ntasks: [{id: t, type: execution.fail, message: no stock}]\n"
    )
    with project.serve(clock="2026-06-10T14:00:00+02:00") as hub:
        failed = hub.call("POST", "/api/v1/flows/shop/bad/executions", {}).json["id"]
        assert hub.ended(failed)["state"] == "FAILED"
        with ends_of(hub, "demo.report") as ends:
            set_clock(project.clock, "2026-06-11T01:59:59+02:00")
            night = ends.next()
        assert (night["state"], night["error"]) == ("SUCCESS", None)
        assert night["trigger"]["localDate"] == "2026-06-11T02:00:00+02:00"
        assert night["outputs"] == {"executions": 1, "failed": 1}
        assert [run["state"] for run in night["taskRuns"] if run["path"] == "tell"] == ["SUCCESS"]
        report = (project.folder / "reports" / "2026-06-11.md").read_text()
        assert report.startswith("# 2026-06-11\n\nExecutions: 1, failed: 1\n")
        assert f'- shop/bad {failed}: task "t" failed: no stock\n' in report


def test_a_night_that_the_hub_slept_through_is_made_up_for_once(project: Project) -> None:
    project.use("nightly-report")
    with project.serve(clock="2026-06-10T14:00:00+02:00") as hub:
        hub.stop()
        set_clock(project.clock, "2026-06-11T09:00:00+02:00")
        hub.start()
        [night] = _at_least_one(hub, "/api/v1/executions?namespace=demo.report")
        assert hub.ended(night["id"])["trigger"]["localDate"] == "2026-06-11T02:00:00+02:00"


def _at_least_one(hub: HubProcess, path: str) -> list[dict[str, Any]]:
    """A list once something is in it, told by the stream's replay or news."""
    with ends_of(hub, "demo.report") as ends:
        return hub.all_of(path) or [ends.next()]


def test_a_report_that_cannot_be_made_is_told(project: Project) -> None:
    project.use("nightly-report")
    project.edit("nightly", f"127.0.0.1:{project.port}", "127.0.0.1:9")
    project.edit("nightly", "interval: PT1S", "interval: PT0.01S")
    with project.serve() as hub:
        done = hub_command("run", "demo.report/nightly", cwd=project.folder)
        assert done.returncode == 1
        assert re.search(r"ERROR alert  to oncall: no report: (?:all|failed), .*127\.0\.0\.1:9", done.stdout)
        assert hub.all_of("/api/v1/executions")[0]["state"] == "FAILED"


# -- mail-report


def _with_mail(project: Project, server: MailServer) -> None:
    """Settings and password as the page has them, with a mail server of this machine."""
    project.use("mail-report")
    [settings] = re.findall(r"```yaml\n(.*?)```", page_of("mail-report"), re.S)
    real = f"host: 127.0.0.1, port: {server.port}, caFile: {server.ca_file}"
    assert "host: smtp.example.org" in settings
    text = textwrap.dedent(settings).replace("host: smtp.example.org", real)
    (project.folder / "hub.yaml").write_text(text)
    (project.folder / "secrets.env").write_text(f"SMTP_PASSWORD={PASSWORD}\n")
    (project.folder / "secrets.env").chmod(0o600)


async def _next_mail(server: MailServer) -> Received:
    async with asyncio.timeout(60):
        await server.arrived.wait()
    server.arrived.clear()
    return server.received[-1]


async def test_the_report_goes_out_by_mail_at_seven_with_its_file(project: Project, tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server:
        await asyncio.to_thread(_with_mail, project, server)
        hub = project.serve(clock="2026-06-10T12:00:00Z")
        try:
            await asyncio.to_thread(hub.start)
            set_clock(project.clock, "2026-06-11T06:59:59Z")
            arrived = await _next_mail(server)
            assert (arrived.recipients, arrived.login) == (["team@example.org"], "hub")
            assert arrived.mail["Subject"] == "Orders of 2026-06-11"
            html = arrived.mail.get_body(("html",))
            assert html is not None
            assert "<b>2026-06-11</b>" in html.get_content()
            [file] = arrived.mail.iter_attachments()
            assert file.get_filename() == "orders.csv"
            assert file.get_content() == "article,quantity\nbolts,40\nnuts,12\n"
            [line] = re.findall(r"in another shell `(hub run [^`]+)`", page_of("mail-report"))
            assert " SUCCESS  in " in await asyncio.to_thread(project.type, line)
            assert (await _next_mail(server)).mail["Subject"] == "Orders of yesterday"
            [look] = re.findall(r"^4\. `([^`]+)`", page_of("mail-report"), re.M)
            assert "Orders of yesterday" in await asyncio.to_thread(project.type, look)
        finally:
            await asyncio.to_thread(hub.stop)


async def test_who_looks_after_the_report_hears_of_failures_once_an_hour(
    project: Project, tmp_path: Path
) -> None:
    async with mail_server(tmp_path) as server:
        await asyncio.to_thread(_with_mail, project, server)
        project.edit("report", "printf ", "exit 3; printf ")
        hub = project.serve(clock="2026-06-10T12:00:00Z")
        run = ("run", "demo.mail/report")
        try:
            await asyncio.to_thread(hub.start)
            for _ in range(3):
                done = await asyncio.to_thread(hub_command, *run, cwd=project.folder)
                assert done.returncode == 1
            first = await _next_mail(server)
            assert (first.recipients, first.mail["Subject"]) == (["ops@example.org"], "report is FAILED")
            assert "exit" in str(first.mail.get_body())
            notices = (await asyncio.to_thread(hub.call, "GET", "/api/v1/notices")).json["items"]
            assert len(notices) == 3
            set_clock(project.clock, "2026-06-10T13:00:01Z")
            second = await _next_mail(server)
            assert second.recipients == ["ops@example.org"]
            assert len(server.received) == 2
        finally:
            await asyncio.to_thread(hub.stop)


# -- retry-and-fallback


class Source:
    """An HTTP server that answers with the statuses it is told, the last one for ever."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}/rates"
        self.statuses: list[int] = []
        self.asked = 0

    def next(self) -> int:
        self.asked += 1
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]


@contextmanager
def source() -> Iterator[Source]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"EUR": 1.08}'
            self.send_response(found.next())
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Source(server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_goes_wrong_is_tried_again_then_done_otherwise_then_told(project: Project) -> None:
    project.use("retry-and-fallback")
    project.edit("rates", "interval: PT1S", "interval: PT0.2S")
    with source() as rates:
        project.edit("rates", f"http://127.0.0.1:{project.port}/health/ready", rates.url)
        with project.serve(clock="2026-06-10T12:10:00Z") as hub, ends_of(hub, "demo.retry") as ends:
            rates.statuses = [503, 500, 200]
            set_clock(project.clock, "2026-06-10T12:14:59Z")
            good = ends.next()
            assert (good["state"], good["triggerId"]) == ("SUCCESS", "often")
            assert good["outputs"] == {"rates": '{"EUR": 1.08}', "fresh": True}
            [fetch] = [run for run in good["taskRuns"] if run["path"] == "fetch"]
            assert (fetch["attempts"], rates.asked) == (3, 3)

            rates.statuses = [503]
            set_clock(project.clock, "2026-06-10T12:29:59Z")
            old = ends.next()
            assert (old["state"], old["error"]) == ("WARNING", None)
            assert old["outputs"] == {"rates": '{"EUR": 1.08}', "fresh": False}
            assert rates.asked == 3 + 4

            (project.folder / "rates" / "last.json").unlink()
            done = hub_command("run", "demo.retry/rates", cwd=project.folder)
            assert done.returncode == 1
            assert "ERROR alert  to oncall: no rates at all: last, " in done.stdout
            assert ends.next()["state"] == "FAILED"


def test_a_source_that_does_not_answer_is_as_good_as_one_that_refuses(project: Project) -> None:
    project.use("retry-and-fallback")
    project.edit("rates", "interval: PT1S", "interval: PT0.01S")
    [line] = re.findall(r"`(hub run demo.retry/rates -i [^`]+)`", page_of("retry-and-fallback"))
    with project.serve():
        assert " SUCCESS  in " in project.type("hub run demo.retry/rates")
        assert " WARNING  in " in project.type(line)


# -- flow-chain


def test_an_order_that_goes_well_has_its_invoice_and_no_other(project: Project) -> None:
    project.use("flow-chain")
    [line] = lines_of("flow-chain")
    with project.serve() as hub, ends_of(hub, "demo.chain") as ends:
        bad = hub.call("POST", "/api/v1/webhooks/demo.chain/order/order", {"article": "nuts"})
        refused = ends.next()
        assert (refused["id"], refused["state"]) == (bad.json["executionIds"][0], "FAILED")
        [order] = json.loads(project.type(line))["executionIds"]
        both = {one["flow"]: one for one in (ends.next(), ends.next())}
        assert {name: one["state"] for name, one in both.items()} == {
            "order": "SUCCESS",
            "invoice": "SUCCESS",
        }
        assert both["invoice"]["outputs"] == {"order": order, "total": 10.0}
        assert [path.name for path in (project.folder / "invoices").iterdir()] == [f"{order}.txt"]
        assert project.type("cat invoices/*.txt") == "bolts: 10.0\n"


def test_each_order_has_one_invoice_though_the_hub_dies_between_the_two(project: Project) -> None:
    project.use("flow-chain")
    order = {"article": "bolts", "quantity": 1, "price": 2}
    with project.serve() as hub:
        for _ in range(20):
            hub.call("POST", "/api/v1/webhooks/demo.chain/order/order", order)
        hub.kill()
        hub.start()
        with ends_of(hub, "demo.chain") as ends:
            while len(_done(hub, "invoice")) < 20:
                ends.next()
        assert {one["outputs"]["order"] for one in map(_whole(hub), _done(hub, "invoice"))} == {
            one["id"] for one in _done(hub, "order")
        }
        assert len(hub.all_of("/api/v1/executions?flow=invoice")) == 20


def _done(hub: HubProcess, flow: str) -> list[dict[str, Any]]:
    return hub.all_of(f"/api/v1/executions?flow={flow}&state=SUCCESS")


def _whole(hub: HubProcess) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def get(one: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = hub.call("GET", f"/api/v1/executions/{one['id']}").json
        return found

    return get


# -- four-triggers


def _keep_trigger(project: Project, id: str) -> None:
    """Delete the other triggers, and change nothing else."""
    path = project.folder / "flows" / "refresh.hub.yaml"
    lines = path.read_text().splitlines(keepends=True)
    kept = [
        line
        for line in lines
        if not line.startswith("  - {id: ") or f"  - {{id: {id}," in line or "type: STRING" in line
    ]
    path.write_text("".join(kept))
    assert [one["id"] for one in yaml.parse(path.read_text()).root.plain()["triggers"]] == [id]
    assert len(lines) - len(kept) == 3


def _call_it(project: Project, hub: HubProcess) -> None:
    project.type(lines_of("four-triggers")[0])


def _let_it_be_six(project: Project, hub: HubProcess) -> None:
    set_clock(project.clock, "2026-06-11T05:59:59Z")


def _drop_it(project: Project, hub: HubProcess) -> None:
    until(project.folder, (project.folder / "refresh").is_dir)
    project.type(lines_of("four-triggers")[1])


def _emit_it(project: Project, hub: HubProcess) -> None:
    project.type(lines_of("four-triggers")[2])


@pytest.mark.parametrize(
    ("trigger", "fire", "because"),
    [
        ("web", _call_it, "new prices"),
        ("clock", _let_it_be_six, "it is 06:00"),
        ("folder", _drop_it, "the file today.now"),
        ("bus", _emit_it, "3 articles changed"),
    ],
)
def test_the_same_flow_is_started_by_each_trigger_alone(
    project: Project, trigger: str, fire: Callable[[Project, HubProcess], None], because: str
) -> None:
    project.use("four-triggers")
    _keep_trigger(project, trigger)
    clock = "2026-06-10T12:00:00Z" if trigger == "clock" else None
    with project.serve(clock=clock) as hub, ends_of(hub, "demo.anyhow") as ends:
        fire(project, hub)
        ended = ends.next()
    assert (ended["state"], ended["triggerId"], ended["outputs"]) == (
        "SUCCESS",
        trigger,
        {"because": because},
    )


def test_all_ways_of_the_page_start_it_side_by_side(project: Project) -> None:
    project.use("four-triggers")
    lines: Sequence[str] = lines_of("four-triggers")
    with project.serve() as hub, ends_of(hub, "demo.anyhow") as ends:
        until(project.folder, (project.folder / "refresh").is_dir)
        for line in lines:
            project.type(line)
        ended = [ends.next() for _ in lines]
        assert {one["state"] for one in ended} == {"SUCCESS"}
        assert {one["triggerId"] for one in ended} == {"web", "folder", "bus", "clock", None}
        until(project.folder, lambda: not (project.folder / "refresh" / "today.now").exists())
        told = {event["source"] for event in hub.all_of("/api/v1/events")}
        assert {f"/demo.anyhow/refresh/{id}" for id in ("web", "folder", "clock")} <= told
