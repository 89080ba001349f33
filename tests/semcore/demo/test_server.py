from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from semcore.demo.server import check_address, private_folder
from semcore.runtime.errors import UserError
from tests.semcore.demo.conftest import free_port


def test_a_free_port_can_be_used_at_once() -> None:
    port = free_port()
    check_address("127.0.0.1", port)
    check_address("localhost", port)


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError) as error:
            check_address("127.0.0.1", port)
    beside = port + 1 if port < 65_535 else port - 1
    assert str(error.value) == f"port {port} of 127.0.0.1 is in use; choose another with --port, such as {beside}"


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "a" * 300])
def test_an_address_of_another_machine_is_named(host: str) -> None:
    with pytest.raises(UserError) as error:
        check_address(host, free_port())
    assert str(error.value) == f"{host!r} is no address of this machine; choose another --host, such as 127.0.0.1"


def test_a_port_of_the_system_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(UserError, match="^port 80 is for the system's services; choose one above 1023 with --port$"):
        check_address("127.0.0.1", 80)


def test_files_and_settings_of_the_page_are_gone_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    with private_folder() as folder:
        (folder / "dropped.png").write_bytes(b"picture")
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
        assert os.environ["NO_PROXY"].split(",") == ["example.org", "127.0.0.1", "localhost", "::1"]
    assert not Path(folder).exists()
    assert os.environ["NO_PROXY"] == "example.org" and "GRADIO_TEMP_DIR" not in os.environ
