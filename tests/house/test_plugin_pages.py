"""The first-plugin page is run as it is written, from an empty folder; the testing page's tests pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.installed import ROOT, also, build_wheel, install

PAGE = ROOT / "docs" / "plugins" / "first-plugin.md"
_FENCE = re.compile(r"```(\w+)\n(.*?)```\n", re.S)
_FILE = re.compile(r"`([\w./-]+\.(?:py|yaml|toml))`")
_PIP = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from tests.support.installed import install_as_source
    assert sys.argv[1:] == ["install", "-e", ".[test]"], sys.argv
    install_as_source(Path.cwd(), Path({commands!r}))
"""


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    commands = install(build_wheel(folder / "dist"), folder / "venv")
    also(commands, "pytest", "pytest-asyncio")
    # no index is asked in tests: what this one installs is the project in the current folder alone
    pip = commands / "pip"
    pip.write_text(f"#!{sys.executable}\n" + dedent(_PIP.format(root=str(ROOT), commands=str(commands))))
    tested = commands / "pytest"
    tested.write_text(f"#!{commands / 'python'}\nimport pytest\nraise SystemExit(pytest.console_main())\n")
    for one in (pip, tested):
        one.chmod(0o755)
    return commands


def blocks(page: Path) -> Iterator[tuple[str, str | None, str]]:
    """Each block: its language, the file that the line before it names, its text."""
    parts = _FENCE.split(page.read_text())
    for prose, language, text in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        named = _FILE.findall(prose.strip().rpartition("\n\n")[2])
        yield language, named[-1] if named else None, text


@pytest.mark.timeout(600)
def test_the_first_plugin_page_works_from_an_empty_folder(commands: Path, tmp_path: Path) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HUB_", "PYTHON"))
    }
    environment["PATH"] = f"{commands}:{environment['PATH']}"
    here, said = tmp_path, ""
    for language, file, text in blocks(PAGE):
        if language == "sh":
            script = f"set -e\n{text}\npwd > {tmp_path / '.here'}\n"
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=here,
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            said = done.stdout
            assert done.returncode == 0, f"{text}\n{done.stdout[-4000:]}\n{done.stderr[-3000:]}"
            here = Path((tmp_path / ".here").read_text().strip())
        elif language == "text":
            for line in text.splitlines():
                assert line in said, f"{line!r} is not in\n{said[-4000:]}"
        else:
            assert file is not None, f"no file is named before\n{text}"
            (here / file).parent.mkdir(parents=True, exist_ok=True)
            (here / file).write_text(text)
    assert here == tmp_path / "asynchub-weather"


def test_the_tests_on_the_testing_page_pass(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "plugins" / "testing.md").read_text()
    texts = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(texts) == 5
    (tmp_path / "test_page.py").write_text("\n\n".join(texts))
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert "21 passed" in done.stdout
