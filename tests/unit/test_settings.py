"""Settings: what must not be taken by accident is refused, with the name of what gave it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.config.settings import Settings, load_settings
from hub.errors import InvalidSettings


def load(folder: Path, environ: dict[str, str], **server: object) -> Settings:
    flags: dict[tuple[str, ...], object] = {("server", name): value for name, value in server.items()}
    return load_settings(environ, folder=folder, flags=flags).settings


def token(folder: Path, environ: dict[str, str]) -> str | None:
    given = load(folder, environ).server.token
    return given.get_secret_value() if given else None


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"HUB_TOKEN": ""}, "HUB_TOKEN is set and blank"),
        ({"HUB_TOKEN": " \n"}, "HUB_TOKEN is set and blank"),
        ({"HUB_TOKEN_FILE": ""}, "HUB_TOKEN_FILE is set and blank"),
        ({"HUB_TOKEN_FILE": "{blank}"}, "blank, which is blank"),
        ({"HUB_TOKEN_FILE": "{binary}"}, "binary, which is not UTF-8 text"),
        ({"HUB_TOKEN_FILE": "{missing}"}, "missing, which cannot be read"),
        ({"HUB_TOKEN_FILE": "{folder}"}, "folder, which cannot be read"),
        ({"HUB_TOKEN": " a"}, "HUB_TOKEN: a token is one line"),
        ({"HUB_TOKEN": "a\nb"}, "HUB_TOKEN: a token is one line"),
    ],
)
def test_a_token_that_is_none_is_an_error_that_names_it(
    tmp_path: Path, environ: dict[str, str], named: str
) -> None:
    (tmp_path / "blank").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "folder").mkdir()
    given = {name: value.replace("{", f"{tmp_path}/").replace("}", "") for name, value in environ.items()}
    with pytest.raises(InvalidSettings) as refused:
        load(tmp_path, given)
    assert named in refused.value.message


def test_a_token_ends_where_its_line_ends(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("let-me-in\n")
    assert token(tmp_path, {"HUB_TOKEN": "let me in\r\n"}) == "let me in"
    assert token(tmp_path, {"HUB_TOKEN_FILE": str(tmp_path / "token")}) == "let-me-in"
    assert token(tmp_path, {}) is None


def test_a_blank_token_in_the_file_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text('server: {token: ""}\n')
    with pytest.raises(InvalidSettings, match=r"hub\.yaml:1:17 .*the token is blank"):
        load(tmp_path, {})


@pytest.mark.parametrize(
    "url",
    [
        "hub.example.org",
        "ftp://hub.example.org",
        "https://",
        "https:///path",
        "https://hub.example.org?x=1",
        "https://hub.example.org/#top",
        "https://me:secret@hub.example.org",
        "https://hub.example.org:99999",
        "https://hub .example.org",
        "https://hub.example.org/a\nb",
        "",
    ],
)
def test_a_public_url_that_is_no_address_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidSettings, match="--public-url: expected http://HOST"):
        load(tmp_path, {}, publicUrl=url)


@pytest.mark.parametrize(
    "url", ["https://Hub.example.org/base/", "http://[::1]:8484", "HTTPS://hub.example.org"]
)
def test_a_public_url_may_have_a_port_and_a_path(tmp_path: Path, url: str) -> None:
    assert load(tmp_path, {}, publicUrl=url).server.public_url == url.rstrip("/")


def test_a_host_is_named_and_a_time_out_is_a_length(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="--host"):
        load(tmp_path, {}, host="")
    (tmp_path / "hub.yaml").write_text("limits: {requestTimeout: PT0S}\n")
    with pytest.raises(InvalidSettings, match=r"requestTimeout: expected at least"):
        load(tmp_path, {})


def test_a_setting_is_called_by_what_gave_it(tmp_path: Path) -> None:
    assert load(tmp_path, {"HUB_HOST": "0.0.0.0"}).origin_of("server", "host") == "HUB_HOST"
    assert load(tmp_path, {"HUB_HOST": "::1"}, host="::").origin_of("server", "host") == "--host"
    assert load(tmp_path, {}).origin_of("server", "host") == "server.host"
