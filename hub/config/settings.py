"""The hub's settings: a flag, then ``HUB_*``, then ``HUB_*_FILE``, then ``hub.yaml``, then the default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, field_validator

from hub.config import yaml
from hub.config.components import field_names, message_of, names_at
from hub.config.notify import NotifyRuleSettings
from hub.config.text import render_problem
from hub.errors import InvalidFlow, InvalidSettings, Position, Problem, did_you_mean
from hub.plugin.component import Model
from hub.plugin.fields import Duration

FILE_NAME = "hub.yaml"


class Server(Model):
    """Where and how the HTTP server listens."""

    host: str = Field(
        "127.0.0.1", min_length=1, description="The address to listen on; others than loopback need a token."
    )
    port: int = Field(8484, ge=0, le=65535, description="The port; 0 takes a free one.")
    public_url: str | None = Field(
        None, description="How the world reaches this hub; begins every printed webhook URL."
    )
    token: SecretStr | None = Field(None, description="What `Authorization: Bearer` must carry.")

    @field_validator("public_url")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        return value if value is None else _public_url(value)

    @field_validator("token")
    @classmethod
    def _is_something(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        # a file's last line break, or that of a shell's $(cat …), is no part of it
        text = value.get_secret_value().rstrip("\r\n")
        if not text.strip():
            raise ValueError("the token is blank; leave it out to serve without one")
        if text != text.strip() or not text.isprintable():
            raise ValueError("a token is one line without blanks around it")
        return SecretStr(text)


def _public_url(text: str) -> str:
    """A URL that may begin every other one. Raises ``ValueError``."""
    wanted = "expected http://HOST or https://HOST, with a path at most"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"{wanted}, got {text}") from None
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.username is not None
        or "?" in text
        or "#" in text
        or not text.isprintable()
        or " " in text
        or port == 0
    ):
        raise ValueError(f"{wanted}, got {text}")
    return text.rstrip("/")


class Files(Model):
    """What of the file system flows may use."""

    roots: list[str] = Field(["."], description="Folders that file tasks and triggers may touch.")
    store: str | None = Field(
        None,
        description="Where payloads and files are kept: the type of a file store that a plugin brings; by default the"
        " one that goes with the storage, `local` or `postgres`.",
    )


class Limits(Model):
    """Bounds of this node."""

    body_bytes: int = Field(1024 * 1024, ge=1024, description="The largest request body, in bytes.")
    request_timeout: Duration = Field(
        timedelta(seconds=30),
        ge=timedelta(seconds=1),
        description="How long a request's head, and then its body, may take to come.",
    )
    max_concurrent_executions: int = Field(500, ge=1, description="How many executions run at a time.")
    longest_block: Duration | None = Field(
        timedelta(minutes=5),
        ge=timedelta(seconds=2),
        description="How long one call of a plugin may keep the whole hub from everything else: then the hub ends"
        " itself, to be started again by what started it; null: it waits for ever.",
    )


class RetentionRuleSettings(Model):
    """How long the executions and events of a namespace or flow are kept."""

    namespace: str = Field(description="The namespace.")
    flow: str | None = Field(None, description="The flow's id; all of the namespace where none is named.")
    executions: Duration | None = Field(
        timedelta(days=30), description="How long ended executions stay, with logs and files; null: for ever."
    )
    events: Duration | None = Field(timedelta(days=7), description="How long events stay; null: for ever.")


class RetentionSettings(Model):
    """How long the past is kept."""

    executions: Duration | None = Field(
        timedelta(days=30), description="How long ended executions stay, with logs and files; null: for ever."
    )
    events: Duration | None = Field(
        timedelta(days=7),
        description="How long events stay that no kept execution came from; null: for ever.",
    )
    rules: list[RetentionRuleSettings] = Field(
        [], description="Other times for namespaces and flows; the closest rule decides."
    )


class Settings(Model):
    """Everything ``hub.yaml`` may hold."""

    storage: str | None = Field(
        None, description="The storage's URL, `sqlite:///hub.db`; by default `hub.db` in the data folder."
    )
    flows: list[str] = Field(["flows"], description="Folders whose `*.hub.yaml` files are flows.")
    files: Files = Field(default_factory=Files, description="What of the file system flows may use.")
    server: Server = Field(default_factory=Server, description="Where the HTTP server listens.")
    plugins: dict[str, Any] = Field({}, description="Each plugin's own settings, by its name.")
    notifiers: dict[str, Any] = Field(
        {}, description="Who is told, by name: each with its `type` and what that type takes."
    )
    notify: list[NotifyRuleSettings] = Field(
        [], description="Which ends are told of, whatever the flows themselves say; the closest rule first."
    )
    limits: Limits = Field(default_factory=Limits, description="Bounds of this node.")
    retention: RetentionSettings = Field(
        default_factory=RetentionSettings, description="How long the past is kept."
    )

    @field_validator("notify", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, Mapping) else value

    _origins: dict[tuple[str, ...], str] = PrivateAttr(default_factory=dict)
    _document: yaml.Document | None = PrivateAttr(None)

    def of_one_run(self) -> Settings:
        """The same for a flow that runs by itself and leaves nothing behind, once it has ended."""
        once = {"storage": "memory:", "flows": [], "files": self.files.model_copy(update={"store": "local"})}
        return self.model_copy(update=once)

    def origin_of(self, *path: str) -> str:
        """What a message calls a setting: the flag or variable that gave it, else its own name."""
        return self._origins.get(path, ".".join(path))

    def mistake(
        self, path: tuple[str, ...], message: str, hint: str | None = None, *, at_key: bool = False
    ) -> InvalidSettings:
        """The error for a setting that turned out to be wrong, with what gave it: a flag, a variable, a place."""
        return _mistake(path, message, hint, self._document, self._origins, at_key=at_key)


ENVIRONMENT: Mapping[str, tuple[str, ...]] = {
    "HUB_STORAGE": ("storage",),
    "HUB_FLOWS": ("flows",),
    "HUB_HOST": ("server", "host"),
    "HUB_PORT": ("server", "port"),
    "HUB_PUBLIC_URL": ("server", "publicUrl"),
    "HUB_TOKEN": ("server", "token"),
}
"""The settings that have an environment variable; each also as ``…_FILE``, the path of a file that holds it."""


@dataclass(frozen=True)
class Loaded:
    """Settings and where they come from."""

    settings: Settings
    folder: Path
    """The folder of ``hub.yaml``, else the current one; relative paths start here."""
    file: Path | None
    document: yaml.Document | None
    """The parsed ``hub.yaml``."""
    origins: Mapping[tuple[str, ...], str]
    """The flag or variable that gave a setting, by the setting's path, where it is not ``hub.yaml``."""


def load_settings(
    environ: Mapping[str, str],
    *,
    folder: Path,
    flags: Mapping[tuple[str, ...], Any] | None = None,
) -> Loaded:
    """The settings of a folder. Raises ``InvalidSettings`` with the place of what is wrong.

    ``flags`` are values by their path, ``{("server", "port"): 8000}``; None ones are left out.
    """
    file = folder / FILE_NAME
    document: yaml.Document | None = None
    data: dict[str, Any] = {}
    if file.is_file():
        document = _read(file)
        data = document.root.plain()
    origins: dict[tuple[str, ...], str] = {}
    for name, path in ENVIRONMENT.items():
        found = from_environment(environ, name)
        if found is not None:
            value, origins[path] = found
            _put(data, path, value.split(":") if path == ("flows",) else value)
    for path, value in (flags or {}).items():
        if value is not None:
            _put(data, path, value)
            origins[path] = "--" + path[-1].replace("publicUrl", "public-url")
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        raise _invalid(error, document, origins) from error
    settings._origins.update(origins)
    settings._document = document
    return Loaded(settings, folder, file if document is not None else None, document, origins)


def _read(file: Path) -> yaml.Document:
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{file} cannot be read: {error}") from error
    if not any(line.strip() and not line.lstrip().startswith("#") for line in source.splitlines()):
        source = "{}"
    try:
        document = yaml.parse(source, str(file))
    except InvalidFlow as error:
        raise InvalidSettings(render_problem(error.problems[0], source)) from error
    if document.problems:
        raise InvalidSettings(render_problem(document.problems[0], source))
    if document.root.kind != "mapping":
        raise InvalidSettings(f"{file}:1:1  settings are a mapping", hint="write server: {port: 8484}")
    return document


_NEVER_BLANK = frozenset({"HUB_TOKEN"})
"""What is blank by accident must not be taken for not given: the hub would be open to everybody."""


def from_environment(environ: Mapping[str, str], name: str) -> tuple[str, str] | None:
    """A variable's value and where it was found: in it, or in the file that its ``…_FILE`` names.

    Raises ``InvalidSettings``.
    """
    for variable in (name, f"{name}_FILE"):
        if name in _NEVER_BLANK and variable in environ and not environ[variable].strip():
            raise InvalidSettings(f"{variable} is set and blank", hint="unset it, or give it a value")
    if environ.get(name):
        return environ[name], name
    path = environ.get(f"{name}_FILE")
    if not path:
        return None
    try:
        value = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InvalidSettings(f"{name}_FILE names {path}, which cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidSettings(f"{name}_FILE names {path}, which is not UTF-8 text") from error
    if name in _NEVER_BLANK and not value:
        raise InvalidSettings(f"{name}_FILE names {path}, which is blank")
    return value, f"{name}_FILE"


def _put(data: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for step in path[:-1]:
        inner = data.get(step)
        if inner is not None and not isinstance(inner, Mapping):
            return  # left as it is, to be found wrong with its place
        data[step] = dict(inner) if isinstance(inner, Mapping) else {}
        data = data[step]
    data[path[-1]] = value


def _invalid(
    error: ValidationError, document: yaml.Document | None, origins: Mapping[tuple[str, ...], str]
) -> InvalidSettings:
    one = error.errors(include_url=False)[0]
    path = tuple(str(step) for step in one["loc"])
    if one["type"] != "extra_forbidden":
        return _mistake(path, message_of(one), None, document, origins)
    hint = did_you_mean(path[-1], names_at(Settings, path[:-1]) or field_names(Settings))
    return _mistake(path, "unknown setting", hint, document, origins, at_key=True)


def _mistake(
    path: tuple[str, ...],
    message: str,
    hint: str | None,
    document: yaml.Document | None,
    origins: Mapping[tuple[str, ...], str],
    *,
    at_key: bool = False,
) -> InvalidSettings:
    """``at_key``: the name itself is wrong, not what is set."""
    for origin_path, origin in origins.items():
        if path[: len(origin_path)] == origin_path:
            return InvalidSettings(f"{origin}: {message}", hint=hint)
    name = ".".join(path)
    if document is None:
        return InvalidSettings(f"{name}: {message}", hint=hint)
    node = document.root
    position = node.position
    for step in path:
        if node.kind == "mapping" and step in node.value:
            position = (node.keys if at_key else node.value)[step].position
            node = node.value[step]
        elif node.kind == "list" and step.isdigit() and int(step) < len(node.value):
            node = node.value[int(step)]
            position = node.position
    problem = Problem(
        f"{name}: {message}", Position(position.line, position.column), hint, file=document.file
    )
    return InvalidSettings(render_problem(problem, document.source))
