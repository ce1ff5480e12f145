"""Trees of folders: removed and looked through however deep they are, and no link is followed."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from hub.plugin import remove_tree, tree_names
from tests.support.deep import DEEP, cleared, make_deep


def test_a_tree_is_removed_with_all_that_is_in_it(tmp_path: Path) -> None:
    for name in ("a/b/c", "a/d", "e"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        (tmp_path / "tree" / name / "file").write_text("x")
    os.mkfifo(tmp_path / "tree" / "pipe")
    remove_tree(tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_removed_and_never_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("mine")
    (tmp_path / "tree" / "in").mkdir(parents=True)
    (tmp_path / "tree" / "in" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    assert sorted(tree_names(tmp_path / "tree")) == ["in", "link"]
    remove_tree(tmp_path / "tree")
    with pytest.raises(OSError, match="link"):
        remove_tree(tmp_path / "link")
    assert (tmp_path / "outside" / "file").read_text() == "mine"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link", "outside"]


def test_a_tree_may_be_deeper_than_recursion_and_paths_go(tmp_path: Path) -> None:
    with cleared(tmp_path):
        make_deep(tmp_path / "tree")
        assert list(tree_names(tmp_path / "tree")) == ["d"] * DEEP + ["bottom"]
        remove_tree(tmp_path / "tree")
        assert list(tmp_path.iterdir()) == []


def test_two_descriptors_are_enough_and_all_are_given_back(tmp_path: Path) -> None:
    with cleared(tmp_path):
        make_deep(tmp_path / "tree")
        free = [os.dup(0) for _ in range(3)]
        for handle in free:
            os.close(handle)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(free) + 1, limit[1]))
        try:
            remove_tree(tmp_path / "tree")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        again = os.dup(0)
        os.close(again)
    assert again == free[0]


def test_what_is_not_there_or_no_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        remove_tree(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError):
        remove_tree(tmp_path / "file")
    assert (tmp_path / "file").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may remove everything")
def test_what_cannot_be_removed_stays_and_the_rest_goes(tmp_path: Path) -> None:
    (tmp_path / "tree" / "closed").mkdir(parents=True)
    (tmp_path / "tree" / "closed" / "file").write_text("x")
    (tmp_path / "tree" / "open").mkdir()
    (tmp_path / "tree" / "closed").chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            remove_tree(tmp_path / "tree")
        assert [one.name for one in (tmp_path / "tree").iterdir()] == ["closed"]
    finally:
        (tmp_path / "tree" / "closed").chmod(0o700)
