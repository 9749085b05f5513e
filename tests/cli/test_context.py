"""The context file of one-shot commands."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dkv.cli.errors import CliError
from dkv.cli.session import ContextFile, hint_here
from dkv.config import config_file
from dkv.user_dirs import config_dir


def test_the_context_file_is_written_read_and_cleared(tmp_path: Path) -> None:
    context = ContextFile({"XDG_CONFIG_HOME": str(tmp_path)})
    assert context.read() == []
    context.write(["a:1", "b:2"])
    assert context.read() == ["a:1", "b:2"]
    (tmp_path / "dkv" / "context.json").write_text("{")
    with pytest.raises(CliError, match="cannot be read"):
        context.read()
    context.clear()
    assert context.read() == []
    (tmp_path / "file").write_text("")
    with pytest.raises(CliError, match="cannot be written"):
        ContextFile({"XDG_CONFIG_HOME": str(tmp_path / "file")}).write(["a:1"])


@pytest.mark.parametrize("xdg", [None, "/x", "x"])
def test_it_is_beside_the_settings(xdg: str | None) -> None:
    environ = {"HOME": "/h"} | ({"XDG_CONFIG_HOME": xdg} if xdg else {})
    assert config_file(environ) == Path(config_dir(environ), "dkv.toml")
    assert config_dir(environ) == ("/x/dkv" if xdg == "/x" else "/h/.config/dkv")


def test_a_manager_that_listens_here_is_offered_where_none_is_connected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert hint_here(port) == f"Connect-DkvManager 127.0.0.1:{port}"
    assert hint_here(port) == ""
