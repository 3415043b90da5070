"""The agent's smaller decisions: session, spool, kernel log, platform, memory, backoff."""

from dataclasses import replace

import pytest

from agent.domain.errors import ProtocolViolation
from agent.domain.host.facts import Platform, PlatformHints, architecture_name, parse_swaps, platform_of
from agent.domain.host.memory import TIB, cost_mib_per_tib, parked_pages, parse_meminfo
from agent.domain.host.swap_header import EDGE_BYTES, Content, content_of, first_mark
from agent.domain.results import KernelRecord
from agent.domain.session import kernel_log, spool
from agent.domain.session.backoff import pause_s
from agent.domain.session.commands import Command, Unsupported
from agent.domain.session.session import (
    Acknowledged,
    CommandReceived,
    Goodbye,
    Phase,
    SessionState,
    UnknownMessage,
    Welcome,
    react,
)

WELCOME = Welcome(protocol_version=1, epoch=3, heartbeat_interval_s=10.0)
COMMAND = CommandReceived(
    command=Command(command_id="c1", epoch=3, timeout_s=1.0, body=Unsupported(why="for this test"))
)
OPEN = react(SessionState(), WELCOME).state


def test_a_welcome_opens_the_session() -> None:
    reaction = react(SessionState(), WELCOME)
    assert reaction.opened
    assert (reaction.state.phase, reaction.state.epoch, reaction.state.heartbeat_interval_s) == (Phase.OPEN, 3, 10.0)


@pytest.mark.parametrize(("told", "kept"), [(0.0, 10.0), (0.001, 0.1), (1e9, 300.0)])
def test_the_heartbeat_interval_is_kept_sensible(told: float, kept: float) -> None:
    welcome = Welcome(protocol_version=1, epoch=3, heartbeat_interval_s=told)
    assert react(SessionState(), welcome).state.heartbeat_interval_s == kept


def test_another_major_version_ends_the_session() -> None:
    with pytest.raises(ProtocolViolation, match="speaks protocol version 2"):
        react(SessionState(), Welcome(protocol_version=2, epoch=1, heartbeat_interval_s=1.0))


@pytest.mark.parametrize("message", [COMMAND, Acknowledged(report_ids=frozenset({"r"}))])
def test_nothing_comes_before_the_welcome(message: CommandReceived | Acknowledged) -> None:
    with pytest.raises(ProtocolViolation):
        react(SessionState(), message)


def test_a_second_welcome_has_no_place() -> None:
    with pytest.raises(ProtocolViolation):
        react(OPEN, WELCOME)


def test_an_open_session_obeys_forgets_and_ignores() -> None:
    assert react(OPEN, COMMAND).obey == COMMAND.command
    assert react(OPEN, Acknowledged(report_ids=frozenset({"r"}))).forget == {"r"}
    assert react(OPEN, UnknownMessage()).state == OPEN


def test_goodbye_ends_and_names_the_pause() -> None:
    state = react(OPEN, Goodbye(reason="moved", retry_after_s=5.0)).state
    assert (state.phase, state.reason, state.retry_after_s) == (Phase.ENDED, "moved", 5.0)
    with pytest.raises(ProtocolViolation):
        react(state, COMMAND)


def entry(number: int, size_bytes: int, lost_records: int = 0) -> spool.Entry:
    return spool.Entry(
        number=number,
        report_id=f"r{number}",
        size_bytes=size_bytes,
        boot_id="boot-1",
        lost_records=lost_records,
        droppable=lost_records > 0,
    )


def test_a_full_spool_drops_kernel_log_oldest_first_and_never_results() -> None:
    queue = spool.Queue(limit_bytes=100)
    for each in (entry(1, 40, 7), entry(2, 40), entry(3, 15, 2)):
        queue = spool.admit(queue, each).queue
    admission = spool.admit(queue, entry(4, 30))
    assert [each.number for each in admission.dropped] == [1]
    assert admission.lost_records == 7
    assert [each.number for each in admission.queue.entries] == [2, 3, 4]
    admission = spool.admit(admission.queue, entry(5, 90))
    assert [each.number for each in admission.queue.entries] == [2, 4, 5]
    assert "160 bytes of results wait" in admission.queue.no_room
    # What tells of lost records alone takes nobody's place.
    loss = replace(entry(6, 50, 9), droppable=False)
    full = spool.admit(spool.Queue(limit_bytes=100), entry(1, 90, 7)).queue
    assert [each.number for each in spool.admit(full, loss).queue.entries] == [1, 6]
    assert [each.number for each in spool.admit(spool.admit(full, loss).queue, entry(7, 60)).dropped] == [1]
    # A new batch gives way itself when nothing else can.
    assert [each.number for each in spool.admit(admission.queue, entry(6, 1, 4)).dropped] == [6]


def test_acknowledged_reports_go_and_their_numbers_do_not_come_back() -> None:
    queue = spool.admit(spool.Queue(limit_bytes=100), entry(1, 10)).queue
    queue = spool.acknowledge(queue, frozenset({"r1", "never seen"})).queue
    assert queue.entries == ()
    assert queue.next_number == 2
    assert queue.no_room == ""


@pytest.mark.parametrize(
    ("raw", "record"),
    [
        (
            b"4,120,5140900,-;swap: table full\n SUBSYSTEM=block\n",
            KernelRecord(sequence=120, monotonic_us=5140900, level=4, text="swap: table full"),
        ),
        (b"6,7,0,c;x;y\n", KernelRecord(sequence=7, monotonic_us=0, level=6, text="x;y")),
        # Facility 1 is user space: whoever writes "BUG:" there is not the kernel.
        (b"12,8,0,-;BUG: not really\n", None),
        (b"nonsense", None),
        (b"", None),
    ],
)
def test_kernel_log_records(raw: bytes, record: KernelRecord | None) -> None:
    assert kernel_log.parse_record(raw) == record


def test_which_records_are_worth_reporting() -> None:
    def worth(level: int, text: str) -> bool:
        return kernel_log.worth_reporting(KernelRecord(sequence=1, monotonic_us=1, level=level, text=text))

    assert worth(4, "anything")
    assert worth(6, "Adding 1073741820k swap on /dev/nvme1n1")
    assert not worth(5, "random: crng init done")


def test_gaps_count_what_was_overwritten() -> None:
    assert kernel_log.gap(-1, 0) == 0
    assert kernel_log.gap(-1, 3) == 3
    assert kernel_log.gap(10, 11) == 0
    assert kernel_log.gap(10, 14) == 3


@pytest.mark.parametrize(
    ("hints", "platform"),
    [
        (
            PlatformHints(cpuinfo="model name\t: QEMU TCG CPU version 2.5+\nflags\t\t: fpu hypervisor"),
            Platform.EMULATED,
        ),
        (PlatformHints(cpuinfo="flags\t\t: fpu hypervisor", clocksources="kvm-clock tsc acpi_pm"), Platform.VM),
        (PlatformHints(cpuinfo="flags\t\t: fpu hypervisor", dmi_vendor="QEMU"), Platform.UNKNOWN),
        (PlatformHints(device_tree="linux,dummy-virt"), Platform.UNKNOWN),
        (PlatformHints(cpuinfo="flags\t\t: fpu hypervisor", dmi_vendor="VMware, Inc."), Platform.VM),
        (PlatformHints(cpuinfo="Features\t: fp", dmi_vendor="Amazon EC2", dmi_product="m7g.large"), Platform.VM),
        (PlatformHints(cpuinfo="Features\t: fp", dmi_vendor="Amazon EC2", dmi_product="m7g.metal"), Platform.METAL),
        (PlatformHints(cpuinfo="flags\t\t: fpu", dmi_vendor="Dell Inc."), Platform.METAL),
        (PlatformHints(hypervisor_type="xen"), Platform.VM),
        (PlatformHints(cpuinfo="Features\t: fp", device_tree="raspberrypi,4-model-b"), Platform.METAL),
        (PlatformHints(), Platform.UNKNOWN),
    ],
)
def test_platform(hints: PlatformHints, platform: Platform) -> None:
    assert platform_of(hints) is platform


ARM = "Features\t: fp asimd\nCPU implementer\t: 0x41"


@pytest.mark.parametrize(
    ("vendor", "product", "platform"),
    [
        ("Apple Inc.", "Apple Virtualization Generic Platform", Platform.VM),
        ("Hetzner", "vServer", Platform.VM),
        ("Alibaba Cloud", "Alibaba Cloud ECS", Platform.VM),
        ("Tencent Cloud", "CVM", Platform.VM),
        ("Oracle Corporation", "VirtualBox", Platform.VM),
        ("innotek GmbH", "VirtualBox", Platform.VM),
        ("KubeVirt", "None", Platform.VM),
        ("Nutanix", "AHV", Platform.VM),
        ("OpenStack Foundation", "OpenStack Nova", Platform.VM),
        ("VMware, Inc.", "VMware20,1", Platform.VM),
        ("Parallels International GmbH.", "Parallels ARM Virtual Machine", Platform.VM),
        ("Microsoft Corporation", "Virtual Machine", Platform.VM),
        ("Google", "Google Compute Engine", Platform.VM),
        ("DigitalOcean", "Droplet", Platform.VM),
        ("Red Hat", "KVM", Platform.VM),
        ("BHYVE", "BHYVE", Platform.VM),
        ("QEMU", "KVM Virtual Machine", Platform.VM),
        ("Example Hosting", "Virtual Server", Platform.VM),
        ("QEMU", "QEMU Virtual Machine", Platform.UNKNOWN),
        # Nobody knows of these whether a hypervisor made them.
        ("Scaleway", "SCW-AMP2-C1-4G", Platform.UNKNOWN),
        ("Huawei Cloud", "kc2.large", Platform.UNKNOWN),
        ("Apple Inc.", "Mac14,2", Platform.UNKNOWN),
        ("Oracle Corporation", "ORACLE SERVER", Platform.UNKNOWN),
        ("Hetzner", "", Platform.UNKNOWN),
        ("Dell Cloud", "Instance", Platform.UNKNOWN),
        ("To be filled by O.E.M.", "To be filled by O.E.M.", Platform.UNKNOWN),
        ("Unknown", "Unknown Product", Platform.UNKNOWN),
        ("", "", Platform.UNKNOWN),
        ("Dell Inc.", "PowerEdge", Platform.METAL),
        ("GIGABYTE", "R272-P30", Platform.METAL),
        ("HPE", "ProLiant RL300 Gen11", Platform.METAL),
        ("Supermicro", "ARS-210M", Platform.METAL),
        ("Ampere(R)", "Mt. Jade", Platform.METAL),
        ("NVIDIA", "Grace CPU", Platform.METAL),
        ("Amazon EC2", "m7g.metal", Platform.METAL),
    ],
)
def test_an_arm64_guest_of_a_vendor_that_nobody_knows_is_never_metal(
    vendor: str, product: str, platform: Platform
) -> None:
    assert platform_of(PlatformHints(cpuinfo=ARM, dmi_vendor=vendor, dmi_product=product)) is platform


@pytest.mark.parametrize(
    ("tree", "platform"),
    [
        ("raspberrypi,4-model-b brcm,bcm2711", Platform.METAL),
        ("apple,j274 apple,t8103", Platform.METAL),
        ("linux,dummy-virt", Platform.UNKNOWN),
        ("xen,xenvm-4.17 xen,xenvm", Platform.VM),
        ("jailhouse,cell", Platform.VM),
        ("hpe,unheard-of nvidia,tegra234", Platform.METAL),
        ("solidrun,clearfog marvell,armada388", Platform.METAL),
        ("sophgo,pioneer", Platform.METAL),
        ("nobody,knows-this", Platform.UNKNOWN),
        ("crosvm,guest", Platform.UNKNOWN),
        ("microsoft,hyperv", Platform.UNKNOWN),
        ("arm,foundation-aarch64 arm,vexpress", Platform.UNKNOWN),
        # Only the vendor counts, and only a whole one.
        ("nobody,ti,board", Platform.UNKNOWN),
        ("tiny,board", Platform.UNKNOWN),
        ("board", Platform.UNKNOWN),
    ],
)
def test_a_device_tree_describes_a_board_unless_a_hypervisor_wrote_it(tree: str, platform: Platform) -> None:
    assert platform_of(PlatformHints(cpuinfo=ARM, dmi_vendor="Unknown", device_tree=tree)) is platform


def test_architecture_names() -> None:
    assert [architecture_name(word) for word in ("aarch64", "x86_64", "riscv64")] == ["arm64", "x86_64", "riscv64"]


def test_proc_swaps() -> None:
    text = (
        "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
        "/dev/nvme1n1                            partition\t1073741820\t8\t-2\n"
        "/swap\\040file\\040(deleted)               file\t\t1024\t0\t-3\n"
    )
    first, second = parse_swaps(text)
    assert (first.path, first.size_bytes, first.used_bytes) == ("/dev/nvme1n1", TIB - 4096, 8192)
    assert second.path == "/swap file (deleted)"


def test_meminfo() -> None:
    text = "MemTotal: 1000 kB\nMemFree: 300 kB\nMemAvailable: 400 kB\nSUnreclaim: 5 kB\nVmallocUsed: 7 kB\n"
    memory = parse_meminfo(text)
    assert memory.used_bytes == 600 * 1024
    assert memory.kernel_bytes == 12 * 1024
    with pytest.raises(ValueError, match="MemAvailable"):
        parse_meminfo("MemTotal: 1000 kB\nMemFree: 300 kB\n")


def test_pages_on_the_processors_own_lists_are_free() -> None:
    zoneinfo = (
        "Node 0, zone    DMA32\n  pages free     2000\n  pagesets\n    cpu: 0\n              count:    212\n"
        "              high:     378\n    cpu: 1\n              count:    88\n  start_pfn:           4096\n"
    )
    assert parked_pages(zoneinfo) == 300
    text = "MemTotal: 1000 kB\nMemFree: 300 kB\nMemAvailable: 400 kB\n"
    memory = parse_meminfo(text, parked_bytes=100 * 1024)
    assert (memory.used_bytes, memory.taken_bytes) == (600 * 1024, 500 * 1024)


def test_cost_is_per_tib_of_device() -> None:
    assert cost_mib_per_tib(102 << 20, TIB // 8) == 816
    with pytest.raises(ValueError, match="positive"):
        cost_mib_per_tib(1, 0)


def test_backoff_doubles_to_its_limit_and_is_spread() -> None:
    assert [pause_s(attempt, base_s=0.5, limit_s=3.0, jitter=0.0) for attempt in range(4)] == [0.25, 0.5, 1.0, 1.5]
    assert pause_s(10_000, base_s=0.5, limit_s=3.0, jitter=0.999) < 3.0


@pytest.mark.parametrize("page_size", [4096, 16384, 65536])
def test_our_swap_area_is_known_for_every_page_size(page_size: int) -> None:
    head = bytearray(EDGE_BYTES)
    head[1052:1060] = b"kernroll"
    head[page_size - 10 : page_size] = b"SWAPSPACE2"
    assert content_of(bytes(head), bytes(EDGE_BYTES)) is Content.OURS
    head[1060] = ord("2")
    assert content_of(bytes(head), bytes(EDGE_BYTES)) is Content.FOREIGN


def test_blank_means_both_ends() -> None:
    blank = bytes(EDGE_BYTES)
    assert content_of(blank, blank) is Content.BLANK
    assert content_of(blank, b"\1" + blank[1:]) is Content.FOREIGN
    assert first_mark(blank) is None
    assert first_mark(b"\0\0\1") == 2
