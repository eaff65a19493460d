"""Who may read documents: modes, owners and links."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from word_documents import Words, words_document

from bridge.state.documents import Document, StateFolder
from bridge.state.errors import StateError

pytestmark = pytest.mark.usefixtures("synced")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_state_folder_and_its_files_are_private(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "deep" / "state")
    umask = os.umask(0)
    try:
        folder.prepare()
        await words_document(folder).save(())
        with folder.hold():
            modes = {path.name: mode(path) for path in folder.path.iterdir()}
    finally:
        os.umask(umask)
    assert mode(folder.path) == 0o700
    assert modes == {"words.json": 0o600, ".words.lock": 0o600, ".daemon.lock": 0o600}


async def test_too_wide_file_modes_are_tightened(folder: StateFolder, caplog: pytest.LogCaptureFixture) -> None:
    words = words_document(folder)
    await words.save(("a",))
    words.path.chmod(0o644)
    folder.path.chmod(0o755)
    folder.prepare()
    assert await words.load() == ("a",)
    assert (mode(folder.path), mode(words.path)) == (0o700, 0o600)
    assert caplog.text.count("was accessible to other users") == 2


async def test_saving_replaces_a_symbolic_link_instead_of_following_it(tmp_path: Path, words: Document[Words]) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    words.path.symlink_to(target)
    words.path.with_name(".words.json.tmp").symlink_to(target)
    await words.save(("a",))
    assert target.read_bytes() == b"precious"
    assert not words.path.is_symlink()


async def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path, folder: StateFolder) -> None:
    (folder.path / ".words.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match=r"\.words\.lock cannot be locked"):
        await words_document(folder).save(())
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for another user")
async def test_files_written_by_root_belong_to_the_owner_of_the_folder(folder: StateFolder) -> None:
    os.chown(folder.path, 12345, 12345)
    await words_document(folder).save(())
    assert {path.stat().st_uid for path in folder.path.iterdir()} == {12345}
