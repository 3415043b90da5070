"""Entries of the firmware's: what is written is read, and what others wrote does not lead astray."""

import pytest
from firmware_machine import PARTITION, active, arguments
from hypothesis import given
from hypothesis import strategies as st

from agent.boot.firmware import option
from agent.boot.firmware.option import Option, Partition

_FILE = r"\EFI\kernroll\kernel.efi"


@pytest.mark.parametrize("uuid", [PARTITION.uuid, "1a2b3c4d-03"])
def test_what_is_written_is_read_again(uuid: str) -> None:
    place = Partition(uuid=uuid, number=3, start=2048, blocks=204_800)
    data = option.made("kernroll trial", place, _FILE, "root=/dev/sda2 panic=10")
    assert option.read(data) == Option(label="kernroll trial", is_active=False, partition=uuid, file=_FILE)
    assert arguments(b"\7\0\0\0" + data) == "root=/dev/sda2 panic=10"
    assert option.read(active("debian", r"\EFI\debian\grubx64.efi")).is_active


def test_a_partition_is_named_as_the_specification_has_it() -> None:
    place = Partition(uuid="1a2b3c4d-03", number=3, start=0x800, blocks=0x1000)
    node = option.made("", place, _FILE, "")[8:50]
    assert node.hex() == ("04012a0003000000000800000000000000100000000000004d3c2b1a0000000000000000000000000101")


@given(st.binary(max_size=200))
def test_nothing_that_others_wrote_breaks_reading(data: bytes) -> None:
    found = option.read(data)
    assert isinstance(found.label, str)
