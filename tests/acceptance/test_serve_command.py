"""``hub serve``: how it starts, what it says when it cannot, how it stops."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import ordinary
from tests.support.hub_process import START, HubProcess, hub_command


def _fails(done: subprocess.CompletedProcess[str], code: int, words: str) -> None:
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "fault of the hub" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("storage", ["sqlite:", "sqlite://", "sqlite:x.db", "sqlite://host/x.db", "sqlite:///",
                                     "sqlite:///.", "sqlite:///a?b", "sqlite:///there", "odd:", "nothing"])  # fmt: skip
def test_a_storage_that_cannot_be_opened_is_named(tmp_path: Path, storage: str) -> None:
    (tmp_path / "there").write_text("this is no database, and it is long enough to be read as one\n" * 10)
    done = hub_command("serve", "--port", "0", "--storage", storage, cwd=tmp_path)
    _fails(done, 3, "storage")


def test_a_password_is_not_in_the_message() -> None:
    from hub.app import shown_url

    assert shown_url("postgresql://me:s3cret@host/db") == "postgresql://me:***@host/db"
    assert shown_url("sqlite:///a@b") == "sqlite:///a@b"


def test_a_data_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "closed").mkdir(mode=0o500)
    (tmp_path / "circle").symlink_to("circle")
    for data in ("file/x", "closed/x", "closed", "circle/x", "/proc/x", "x" * 300):
        done = subprocess.run(
            [*ordinary.START, "serve", "--port", "0", "--data", data],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        _fails(done, 3, "cannot be used: ")


@pytest.mark.parametrize("text", ["", "garbage", "[]", "5", "{}", '{"url": 5}', "[" * 5000, '{"url": "x y"}'])
def test_an_address_file_that_says_nothing_is_no_hub(tmp_path: Path, text: str) -> None:
    (tmp_path / "hub.address").write_text(text)
    _fails(hub_command("flows", "list", cwd=tmp_path), 6, "no hub")


def test_settings_that_are_no_mapping_are_found_even_beside_a_flag(tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text("# mine\nserver: 5\n")
    _fails(hub_command("serve", "--port", "0", cwd=tmp_path), 3, "hub.yaml:2:9")


def test_the_ready_line_counts_from_the_start_of_the_process_and_names_both_addresses(tmp_path: Path) -> None:
    slow = ("sh", "-c", 'sleep 1; exec "$@"', "sh", *START)
    with HubProcess(tmp_path, start=slow, arguments=["--public-url", "https://hub.example.test"]) as hub:
        pattern = r"ready at https://hub.example.test in ([\d.]+) s · listening at http://127.0.0.1:\d+ "
        found = re.search(pattern, hub.lines[-1])
        assert found
        assert float(found[1]) >= 1


def test_a_command_takes_the_token_of_the_folder_and_gives_it_to_no_other_server(tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text("server: {token: a-token-of-hub-yaml}\n")
    with HubProcess(tmp_path) as hub:
        assert hub.call("GET", "/api/v1/flows").status == 401
        assert hub_command("flows", "list", cwd=tmp_path).returncode == 0
        _fails(hub_command("flows", "list", "--server", hub.url, cwd=tmp_path), 5, "token")
        env = {"HUB_TOKEN": "another"}
        _fails(hub_command("flows", "list", cwd=tmp_path, env=env), 5, "token")


@pytest.mark.parametrize("pipe", ["token", "secrets.env"])
def test_a_sigterm_while_it_starts_ends_it_with_0(tmp_path: Path, pipe: str) -> None:
    # the hub reads the pipe before anything runs, or while it opens: the test knows where it stands
    path = tmp_path / pipe
    os.mkfifo(path)
    env = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    if pipe == "token":
        env["HUB_TOKEN_FILE"] = str(path)
    process = subprocess.Popen(
        [sys.executable, "-m", "hub", "serve", "--port", "0"],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with path.open("w") as writing:
        process.send_signal(signal.SIGTERM)
        if pipe == "token":
            assert process.wait(30) == 0
        else:
            # whoever reads it from here on finds a file
            (tmp_path / "file").write_text("A=b\n")
            (tmp_path / "file").replace(path)
            writing.write("A=b\n")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err


def test_signals_until_the_very_end_change_nothing_about_how_it_ends(tmp_path: Path) -> None:
    """An impatient supervisor repeats itself; the last moments of a process hear the system's own answer to it."""
    for number in (signal.SIGTERM, signal.SIGINT) * 2:
        with HubProcess(tmp_path) as hub:
            assert hub.process is not None
            while hub.process.poll() is None:
                hub.process.send_signal(number)
                time.sleep(0.0005)
            assert hub.process.returncode == 0
