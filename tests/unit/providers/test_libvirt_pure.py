"""Where machines go, what their volumes are called, and the seed, without a hypervisor."""

from __future__ import annotations

import pytest

from orchestrator.providers.libvirt.place import Room, Size, choose
from orchestrator.providers.libvirt.seed import SECTOR, Address, done, seed
from orchestrator.providers.libvirt.text import Tag

ONE = Size(1, 10)
TAG = Tag("alice", "try", "farm")


@pytest.mark.parametrize(
    ("avoid", "used", "chosen"),
    [
        ((), {}, "big"),
        (("big",), {}, "small"),
        (("big", "small"), {}, "big"),
        ((), {"x": Size(3, 10)}, "small"),
        ((), {"x": Size(1, 55)}, "small"),
        (("small",), {"x": Size(4, 10)}, "small"),
    ],
)
def test_the_most_free_cores_win(avoid: tuple[str, ...], used: dict[str, Size], chosen: str) -> None:
    assert choose({"big": Room(Size(4, 60), used), "small": Room(Size(2, 60))}, ONE, avoid) == chosen


def test_nobody_has_room() -> None:
    assert choose({"full": Room(Size(1, 60), {"x": ONE}), "tight": Room(Size(8, 9))}, ONE, ()) is None


def test_the_name_of_a_volume_tells_whose_it_is() -> None:
    name = TAG.volume("try-w-1", "log")
    assert TAG.owner(name) == ("try-w-1", "log")
    assert TAG.owner(f"{name}.0") == ("try-w-1", "log")  # virtlogd began another file
    assert TAG.owner(TAG.volume("try-w-1", "other")) is None
    assert Tag("alice", "try", "rack").owner(name) is None
    assert TAG.owner("worker.qcow2") is None


def test_only_a_seed_wiped_to_its_end_is_done() -> None:
    address = Address("10.1.0.9", 24, "10.1.0.1", ("10.1.0.2",))
    made = seed("try-w-1", "/opt/orchestrate/try", '{"name": "try-w-1"}', "echo secret @ROOT@\n", address)
    assert made[16 * SECTOR : 16 * SECTOR + 6] == b"\1CD001"
    assert made[16 * SECTOR + 40 : 16 * SECTOR + 46] == b"cidata"
    assert b"echo secret @ROOT@" in made  # nothing in the user data is replaced
    script = made.index(b"#!/bin/sh")
    assert script % SECTOR == 0
    assert b"seek=%d;" % (script // SECTOR) in made
    assert not done(made[-SECTOR:])
    assert done(b"\n" * SECTOR)
    assert not done(b"")
