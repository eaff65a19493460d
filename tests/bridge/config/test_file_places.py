"""Where bridge.toml is looked for, and a file that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config.file import load
from bridge.config.problems import ConfigError

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def test_the_configuration_file_is_looked_for_here_then_in_the_xdg_and_home_folders(tmp_path: Path) -> None:
    def put(folder: str, port: int) -> Path:
        path = tmp_path / folder / "bridge.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[server]\nport = {port}")
        return path

    environ = {"HOME": str(tmp_path / "home")}
    assert load(None, environ).source is None
    home = put("home/.config/lmarena-bridge", 1)
    assert load(None, environ).source == home
    environ["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
    assert load(None, environ).source is None
    xdg = put("xdg/lmarena-bridge", 2)
    assert (load(None, environ).source, load(None, environ).server.port) == (xdg, 2)
    here = put(".", 3)
    assert load(None, environ).source == here
    assert load(home, environ).source == home


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[server]\n# \xff", "2: is not UTF-8"),
        (b"[server]\nport = \n", "2:8: is not TOML: Invalid value"),
        (b"[server]\nport = [1,", "2:11: is not TOML: Invalid value"),
        (b"[upstream]\ncf_clearance = canary", "2:16: is not TOML: Invalid value"),
        (b"a = 1\na = 2", "2:6: is not TOML: Cannot overwrite a value"),
    ],
)
def test_a_file_that_is_not_valid_toml_is_rejected_with_line_and_column(data: bytes, said: str) -> None:
    path = Path("bridge.toml")
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert str(caught.value) == f"bridge.toml:{said}"


def test_a_missing_file_or_a_directory_is_reported_as_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^missing\.toml: cannot be read: No such file or directory$"):
        load(Path("missing.toml"), {})
    with pytest.raises(ConfigError, match=r": cannot be read: Is a directory$"):
        load(tmp_path, {})


def test_a_byte_order_mark_at_the_beginning_of_a_file_is_accepted() -> None:
    path = Path("bridge.toml")
    path.write_bytes(b"\xef\xbb\xbf[server]\r\nport = 1\r\n")
    assert load(path, {}).server.port == 1
