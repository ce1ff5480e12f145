"""Which paths flows may name: below the roots, never the hub's own, flow folders only for reading."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.engine.places import Places
from hub.errors import Denied


@pytest.fixture
def places(tmp_path: Path) -> Places:
    for name in ("hub/flows", "hub/inbox", "hub/data", "other/root"):
        (tmp_path / name).mkdir(parents=True)
    return Places(
        tmp_path / "hub",
        [".", "../other/root"],
        data_dir=tmp_path / "hub" / "data",
        flow_folders=[tmp_path / "hub" / "flows"],
        database=tmp_path / "hub" / "state.db",
    )


@pytest.mark.parametrize(
    "path", ["inbox", "inbox/a.csv", "./inbox/../inbox/a", "../other/root/x", "new/deep/x"]
)
def test_a_path_below_a_root_may_be_written(places: Places, tmp_path: Path, path: str) -> None:
    found = places.resolve(path, write=True)
    assert found == (tmp_path / "hub" / path).resolve()


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../other",
        "../other/rootless",
        "/etc/passwd",
        "/",
        "\0",
        "a\0b",
        "\ud800",
        "n/../../x",
        "../hubbub",
        "n/" * 300,
        "n" * 5000,
    ],
)
def test_a_path_elsewhere_may_not(places: Places, path: str) -> None:
    with pytest.raises(Denied):
        places.resolve(path)


@pytest.mark.parametrize(
    "path", ["hub.yaml", "secrets.env", "data", "data/hub.db", "data/anything", "state.db", "state.db-wal"]
)
def test_the_hubs_own_are_not_even_read(places: Places, path: str) -> None:
    with pytest.raises(Denied, match="belongs to the hub itself"):
        places.resolve(path)


@pytest.mark.parametrize("path", ["flows", "flows/a.hub.yaml", ".git/config", "inbox/.git", "x/.git/hooks/y"])
def test_flows_and_git_are_for_reading(places: Places, path: str) -> None:
    assert places.resolve(path)
    with pytest.raises(Denied, match="cannot be written"):
        places.resolve(path, write=True)


def test_a_name_that_only_begins_alike_is_another(places: Places) -> None:
    for path in ("flows2/x", "database", "hub.yaml.txt", "x.git/y", "state.dbx"):
        assert places.resolve(path, write=True)


def test_a_folder_goes_only_when_nothing_in_it_is_the_hubs(places: Places, tmp_path: Path) -> None:
    assert places.resolve("inbox", write=True, below=True)
    with pytest.raises(Denied):
        places.resolve(".", write=True, below=True)
    apart = Places(
        tmp_path / "hub", ["."], data_dir=tmp_path / "elsewhere", flow_folders=[tmp_path / "hub/x/flows"]
    )
    with pytest.raises(Denied, match="cannot be written"):
        apart.resolve("x", write=True, below=True)
    assert apart.resolve("x", write=True)


def test_links_are_followed_before_a_path_is_judged(places: Places, tmp_path: Path) -> None:
    (tmp_path / "hub" / "out").symlink_to("/etc")
    (tmp_path / "hub" / "own").symlink_to("data")
    (tmp_path / "hub" / "loop").symlink_to("loop")
    (tmp_path / "hub" / "fine").symlink_to("inbox")
    for path in ("out/passwd", "own/hub.db", "loop", "loop/x"):
        with pytest.raises(Denied):
            places.resolve(path)
    assert places.resolve("fine/a") == tmp_path / "hub" / "inbox" / "a"


def test_roots_inside_the_data_folder_open_only_themselves(tmp_path: Path) -> None:
    places = Places(tmp_path, ["inbox"], data_dir=tmp_path)
    assert places.resolve("inbox/x", write=True)
    for path in ("hub.db", "files/x", "other"):
        with pytest.raises(Denied):
            places.resolve(path)
