"""The image, without an engine: every RUN executed, the command started as the image would, compose checked.

What a Docker engine alone can show (that the base image has what the scripts need, and mounts) is not shown here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from hub.config import yaml
from hub.config.settings import load_settings
from tests.support.ports import free_port
from tests.support.schemas import schema_errors

ROOT = Path(__file__).parent.parent.parent
DOCKER = ROOT / "docker"
TOKEN = "let-me-in"
_FLOW = "id: hello\nnamespace: img\ntriggers: [{id: h, type: webhook, key: k}]\ntasks: [{id: t, type: return, value: 1}]\n"


def _instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order."""
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.M)
    lines = re.sub(r"\\\n\s*", "", text).split("\n")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines) if name]


INSTRUCTIONS = _instructions()
LAST_STAGE = INSTRUCTIONS[max(i for i, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM") :]
COMPOSE = yaml.parse((DOCKER / "compose.yaml").read_text()).root.plain()
SERVICE = COMPOSE["services"]["hub"]


def _of_image(name: str) -> str:
    [found] = [rest for one, rest in LAST_STAGE if one == name]
    return found


def _exec_form(text: str) -> list[str]:
    """``["program", "argument"]``: nothing between the file and the program."""
    found = json.loads(text)
    assert isinstance(found, list)
    return found


HEALTH_CHECK = _exec_form(_of_image("HEALTHCHECK").partition("CMD ")[2])
ENVIRONMENT = dict(one.split("=", 1) for one in shlex.split(_of_image("ENV")))


@dataclass(frozen=True)
class Image:
    """A folder that stands for the image's file system."""

    root: Path

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def mapped(self, words: Sequence[str]) -> list[str]:
        """A command of the image with its absolute paths in the folder and its user's number ours."""
        uid = {str(_uid()): str(os.getuid())}
        return [str(self.path(word)) if word.startswith("/") else uid.get(word, word) for word in words]

    def environment(self, **more: str) -> dict[str, str]:
        """The image's environment in the folder; what a command needs of this machine stays."""
        places = {name: value for name, value in ENVIRONMENT.items() if name != "PATH"}
        path = ":".join([str(self.path("/opt/hub/bin")), os.defpath])
        mapped = {
            name: str(self.path(value)) if value.startswith("/") else value for name, value in places.items()
        }
        return {"PATH": path, **mapped, **more}

    def health(self, port: int) -> int:
        [program, *arguments] = self.mapped(HEALTH_CHECK)
        environment = self.environment(HUB_PORT=str(port))
        found = shutil.which(program, path=environment["PATH"])
        assert found
        assert found.startswith(str(self.root))
        return subprocess.run(
            [found, *arguments], env=environment, capture_output=True, check=False
        ).returncode


def _uid() -> int:
    user, _, group = _of_image("USER").partition(":")
    assert user == group
    return int(user)


def _context(folder: Path) -> None:
    """What .dockerignore lets an engine see of this project."""
    rules = [
        line for line in (ROOT / ".dockerignore").read_text().split("\n") if line and not line.startswith("#")
    ]
    assert rules[0] == "*"
    hidden = [rule.removeprefix("**/") for rule in rules[1:] if not rule.startswith("!")]

    def ignored(where: str, names: list[str]) -> set[str]:
        below = Path(where).relative_to(ROOT)
        return {
            name for name in names if any(fnmatch(name, rule) or str(below / name) == rule for rule in hidden)
        }

    for name in (rule[1:] for rule in rules if rule.startswith("!")):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy2(source, folder / name)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Every instruction that makes files, carried out in a folder; nothing is fetched that the lock's set-up has not."""
    image = Image(tmp_path_factory.mktemp("image"))
    image.path("/etc").mkdir()
    work = "/"
    for name, rest in INSTRUCTIONS:
        if name == "WORKDIR":
            work = rest
            image.path(work).mkdir(parents=True, exist_ok=True)
        elif name == "COPY" and rest == ". .":
            _context(image.path(work))
        elif name == "COPY" and rest.startswith("--from="):
            _, source, target = rest.split()
            # one folder stands for both stages
            assert source == target
            assert image.path(source).is_dir()
        elif name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                to = image.path(target) / Path(source).name if target.endswith("/") else image.path(target)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / source, to)
        elif name == "RUN":
            _run(image, _exec_form(rest), image.path(work))
    return image


def _run(image: Image, words: list[str], work: Path) -> None:
    found = shutil.which("uv") or str(ROOT / ".cache" / "uv" / "bin" / "uv")
    # the builder of wheels comes from this project's own environment
    offline = {
        "UV_OFFLINE": "1",
        "UV_NO_BUILD_ISOLATION": "1",
        "UV_PYTHON": str(ROOT / ".venv" / "bin" / "python"),
        "PATH": f"{Path(found).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        image.mapped(words),
        cwd=work,
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def _running(image: Image, port: int, env: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The image's command in its folder, ready."""
    [program, *arguments] = _exec_form(_of_image("ENTRYPOINT")) + _exec_form(_of_image("CMD"))
    process = subprocess.Popen(
        [str(image.path("/opt/hub/bin") / program), *arguments],
        cwd=image.path(_of_image("WORKDIR")),
        env=image.environment(HUB_PORT=str(port), **env),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert " ready at " in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def settled(image: Image) -> Image:
    """The image with its own settings, whose absolute paths lead into the folder."""
    settings = image.path("/etc/hub/hub.yaml")
    text = settings.read_text()
    for folder in ("/flows", "/files"):
        assert folder in text
        assert image.path(folder).is_dir()
        text = text.replace(folder, str(image.path(folder)))
    settings.write_text(text)
    (image.path("/flows") / "hello.hub.yaml").write_text(_FLOW)
    return image


def test_every_run_is_a_script_of_the_docker_folder() -> None:
    runs = [_exec_form(rest) for name, rest in INSTRUCTIONS if name == "RUN"]
    assert runs
    for shell, script, *_ in runs:
        assert shell == "sh"
        path = DOCKER / Path(script).name
        assert path.is_file()
        assert "set -eu" in path.read_text()


def test_the_environment_holds_the_wheel_and_nothing_that_only_development_needs(image: Image) -> None:
    done = subprocess.run(
        [str(image.path("/opt/hub/bin/hub")), "plugins", "list", "-o", "json"],
        env=image.environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert {one["state"] for one in json.loads(done.stdout)} == {"loaded"}
    [site] = image.path("/opt/hub/lib").glob("python*/site-packages")
    names = {path.name for path in site.iterdir()}
    assert {"hub", "plugins_core"} <= names
    assert not {"pytest", "mypy", "hatchling", "_asynchub.pth"} & names
    assert list((site / "hub").glob("__pycache__/*.pyc"))
    assert list((site / "hub" / "_blueprints").rglob("*.hub.yaml"))


def test_the_hub_runs_as_a_user_of_its_own(image: Image) -> None:
    assert _uid() >= 10_000
    assert f"hub:x:{os.getuid()}:{os.getuid()}:asynchub:/data:" in image.path("/etc/passwd").read_text()
    for folder in ("/data", "/files", "/flows"):
        assert image.path(folder).stat().st_uid == os.getuid()
    assert image.path("/data").stat().st_mode & 0o777 == 0o700


def test_without_a_token_it_does_not_start(settled: Image) -> None:
    done = subprocess.run(
        [str(settled.path("/opt/hub/bin/hub")), "serve"],
        cwd=settled.path("/etc/hub"), env=settled.environment(HUB_PORT="0"), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "set HUB_TOKEN (or HUB_TOKEN_FILE)" in done.stderr


def test_it_serves_is_healthy_takes_an_event_and_stops_at_its_signal(settled: Image, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "hub_token").write_text(f"{TOKEN}\n")
    assert settled.health(port) != 0
    with _running(settled, port, {"HUB_TOKEN_FILE": str(tmp_path / "hub_token")}) as process:
        assert settled.health(port) == 0
        url = f"http://127.0.0.1:{port}/api/v1"
        with urlopen(
            Request(f"{url}/flows", headers={"Authorization": f"Bearer {TOKEN}"}), timeout=30
        ) as answer:
            assert [one["id"] for one in json.loads(answer.read())["items"]] == ["hello"]
        with urlopen(Request(f"{url}/webhooks/img/hello/k", method="POST"), timeout=30) as answer:
            assert answer.status == 202
        # a command inside the container finds its hub
        listed = subprocess.run(
            [str(settled.path("/opt/hub/bin/hub")), "executions", "list", "-o", "json"],
            cwd=tmp_path, env=settled.environment(HUB_TOKEN=TOKEN), capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert json.loads(listed.stdout)[0]["flow"] == "hello"
        process.send_signal(getattr(signal, _of_image("STOPSIGNAL")))
        assert process.wait(60) == 0
    assert (settled.path("/data") / "hub.db").is_file()


def test_the_image_says_where_it_listens_and_what_it_keeps() -> None:
    assert _of_image("EXPOSE") == ENVIRONMENT["HUB_PORT"] == "8484"
    assert _of_image("VOLUME") == ENVIRONMENT["HUB_DATA"] == "/data"
    assert ENVIRONMENT["HUB_HOST"] == "0.0.0.0"
    assert not [name for name in ENVIRONMENT if "TOKEN" in name or "SECRET" in name]


def test_the_python_of_the_image_is_one_that_the_project_names() -> None:
    [version] = [rest.partition("=")[2] for name, rest in INSTRUCTIONS if name == "ARG"]
    assert f"Python :: {version}" in (ROOT / "pyproject.toml").read_text()


def test_nothing_but_what_the_image_is_made_of_reaches_an_engine(tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    _context(context)
    assert {path.name for path in context.iterdir()} == {
        "LICENSE", "README.md", "blueprints", "docker", "hub", "plugin-template", "plugins_core", "pyproject.toml", "uv.lock",
    }  # fmt: skip
    hidden = {"__pycache__", "hub_token", "secrets.env"}
    assert not [path for path in context.rglob("*") if path.name in hidden]


# -- compose


def test_compose_holds_to_its_schema(tmp_path: Path) -> None:
    assert schema_errors(DOCKER / "compose.yaml", builtin="compose-spec") == ""
    spoilt = tmp_path / "compose.yaml"
    spoilt.write_text((DOCKER / "compose.yaml").read_text().replace("restart:", "restarts:"))
    assert "restarts" in schema_errors(spoilt, builtin="compose-spec")


def test_the_cluster_holds_to_the_schema_too() -> None:
    assert schema_errors(DOCKER / "compose.cluster.yaml", builtin="compose-spec") == ""


def test_the_cluster_is_two_hubs_with_a_data_folder_each_over_one_database(tmp_path: Path) -> None:
    cluster = yaml.parse((DOCKER / "compose.cluster.yaml").read_text()).root.plain()
    services, common = cluster["services"], cluster["x-hub"]
    hubs = [services["hub-1"], services["hub-2"]]
    data = {volume.split(":")[0] for one in hubs for volume in one["volumes"] if volume.endswith(":/data")}
    assert data == {"data-1", "data-2"}
    assert common["healthcheck"]["test"] == ["CMD", *HEALTH_CHECK]
    assert (common["read_only"], common["cap_drop"]) == (True, ["ALL"])
    named = {name for one in (common, services["postgres"]) for name in one["secrets"]}
    assert named == set(cluster["secrets"])
    shutil.copy(DOCKER / "hub.cluster.yaml", tmp_path / "hub.yaml")
    settings = load_settings({}, folder=tmp_path).settings
    assert settings.storage == "postgresql://hub@postgres/hub"


def test_compose_names_what_there_is() -> None:
    build = SERVICE["build"]
    assert (DOCKER / build["context"] / build["dockerfile"]).resolve() == DOCKER / "Dockerfile"
    assert SERVICE["secrets"] == list(COMPOSE["secrets"])
    assert SERVICE["environment"]["HUB_TOKEN_FILE"] == f"/run/secrets/{SERVICE['secrets'][0]}"
    mounts = dict(one.split(":")[:2] for one in SERVICE["volumes"])
    assert {name for name in mounts if not name.startswith(".")} == set(COMPOSE["volumes"])
    assert set(mounts.values()) == {"/data", "/files", "/flows", "/etc/hub/hub.yaml"}
    assert (DOCKER / "hub.yaml").is_file()
    assert SERVICE["healthcheck"]["test"] == ["CMD", *HEALTH_CHECK]


def test_compose_keeps_the_hub_in_its_place() -> None:
    assert SERVICE["restart"] == "unless-stopped"
    assert SERVICE["ports"] == [f"127.0.0.1:8484:{ENVIRONMENT['HUB_PORT']}"]
    assert SERVICE["read_only"] is True
    assert SERVICE["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in SERVICE["security_opt"]
    assert "privileged" not in SERVICE
    # the drain of 30 s, and time to write
    assert int(SERVICE["stop_grace_period"].removesuffix("s")) >= 35


def test_the_settings_of_the_image_are_settings(tmp_path: Path) -> None:
    shutil.copy(DOCKER / "hub.yaml", tmp_path)
    settings: Any = load_settings({}, folder=tmp_path).settings
    assert (settings.flows, settings.files.roots) == (["/flows"], ["/files"])
