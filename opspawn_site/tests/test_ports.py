"""Ports: the one that was asked for, the one of last time, the first that is free."""
from __future__ import annotations

import pathlib
import socket
from collections.abc import Iterator

import pytest

from opspawn_site.fleet.errors import FleetError
from opspawn_site.fleet.folder import DataFolder
from opspawn_site.fleet.ports import OWN_RANGE, Claims, first_listener

HERE = "127.0.0.1"


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server((HERE, 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> DataFolder:
    made = DataFolder(tmp_path / "data")
    made.make()
    return made


def test_a_taken_port_that_was_asked_for_is_refused_by_name(taken: int) -> None:
    with pytest.raises(FleetError, match=f"port {taken} is taken.*--port"):
        first_listener(HERE, taken, 8000, "--port")
    with pytest.raises(FleetError, match=f"port {taken} is taken.*--flower-port"):
        Claims().first(HERE, taken, 5555, "--flower-port")


def test_without_a_wish_the_first_free_port_is_taken(taken: int) -> None:
    with first_listener(HERE, None, taken, "--port") as listener:
        assert listener.getsockname()[1] > taken


def test_an_address_of_another_machine_is_refused_with_the_cure() -> None:
    with pytest.raises(FleetError, match=r"HOST='192\.0\.2\.1'.*address of this machine"):
        first_listener("192.0.2.1", None, 8000, "--port")


def test_a_claimed_port_is_not_given_twice_though_nobody_listens_yet() -> None:
    one, other = Claims(), Claims()
    first = one.first(HERE, None, 31_000, "--flower-port")
    assert other.first(HERE, None, first, "--flower-port") > first


def test_a_port_is_kept_while_it_is_free_and_replaced_when_not(folder: DataFolder) -> None:
    port = Claims().kept(folder, "redis")
    assert OWN_RANGE[0] <= port < OWN_RANGE[1]
    assert Claims().kept(folder, "redis") == port
    with socket.create_server((HERE, port)):
        other = Claims().kept(folder, "redis")
    assert other != port
    assert Claims().kept(folder, "redis") == other
