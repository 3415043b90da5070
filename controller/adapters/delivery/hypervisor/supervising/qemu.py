"""Pure: the QEMU command line of one boot. All paths are relative to the VM's directory, QEMU's working directory."""

from collections.abc import Sequence

from controller.adapters.delivery.hypervisor.definition import Disk, NetworkChannel, SerialChannel, VmDefinition
from controller.domain.kernels import Kernel

MODULES_SERIAL = "kernroll-modules"
# The guest finds its ports by these names under /sys/class/virtio-ports.
AGENT_PORT_NAME = "org.kernroll.agent"
ENROLL_PORT_NAME = "org.kernroll.enroll"
_RECONNECT_MS = 1000
# Outlives every QEMU of the VM: what a kernel writes there when it dies, the next boot reads (pstore).
KEPT_LOG_FILE = "kept-log.img"
_KEPT_LOG_BYTES = 1 << 20


def boot_dir(number: int) -> str:
    """Return the directory of a boot's files."""
    return f"boots/{number}"


def lock_file(number: int) -> str:
    """Return the file that QEMU of this boot holds locked as long as it lives."""
    return f"{boot_dir(number)}/lock"


def console_file(number: int) -> str:
    """Return the file that QEMU writes the guest's console to."""
    return f"{boot_dir(number)}/console.log"


def output_file(number: int) -> str:
    """Return the file that QEMU's own messages go to."""
    return f"{boot_dir(number)}/qemu.log"


def qmp_socket(number: int) -> str:
    """Return the socket on which QEMU takes commands."""
    return f"{boot_dir(number)}/qmp"


def pid_file(number: int) -> str:
    """Return the file that holds QEMU's process id."""
    return f"{boot_dir(number)}/pid"


def arguments(definition: VmDefinition, kernel: Kernel, number: int) -> list[str]:
    """Return QEMU's whole argument vector, the binary first."""
    command_line = " ".join(part for part in (definition.command_line, kernel.command_line) if part)
    disks = list(definition.disks)
    if "modules" in kernel.files:
        disks.append(Disk(path=kernel.files["modules"], format="raw", serial=MODULES_SERIAL, read_only=True))
    sandbox = ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    return [
        definition.qemu.binary,
        *definition.qemu.arguments,
        *(["-name", f"guest={_value(definition.name)}"]),
        *("-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot"),
        *(sandbox if definition.qemu.sandbox else ()),
        *("-machine", _machine(definition)),
        *("-accel", _accelerator(definition), "-cpu", definition.cpu_model),
        *("-smp", str(definition.vcpus), "-m", f"{definition.memory_mib}M"),
        *("-kernel", kernel.files["boot"], "-append", command_line),
        *(["-initrd", kernel.files["initrd"]] if "initrd" in kernel.files else ()),
        *("-chardev", f"file,id=console,path={console_file(number)}", "-serial", "chardev:console"),
        *("-qmp", f"unix:{qmp_socket(number)},server=on,wait=off", "-pidfile", pid_file(number)),
        *_kept_log(definition),
        *_disks(disks),
        *_channel(definition.channel),
    ]


def _machine(definition: VmDefinition) -> str:
    if definition.architecture == "x86_64":
        return "q35,hpet=off"
    # A real interrupt controller can only be passed on as it is.
    return f"virt,gic-version={'host' if definition.accelerator == 'kvm' else '3'}"


def _accelerator(definition: VmDefinition) -> str:
    if definition.accelerator == "tcg":
        return f"tcg,thread={'single' if definition.vcpus == 1 else 'multi'}"
    return definition.accelerator


def _kept_log(definition: VmDefinition) -> list[str]:
    """Give the machine a store for kernel logs (ACPI's ERST, built into Debian's kernels); arm64 boots without ACPI."""
    if definition.architecture != "x86_64":
        return []
    memory = f"memory-backend-file,id=kept-log,share=on,size={_KEPT_LOG_BYTES},mem-path={KEPT_LOG_FILE}"
    return ["-object", memory, "-device", "acpi-erst,memdev=kept-log"]


def _disks(disks: Sequence[Disk]) -> list[str]:
    found: list[str] = []
    for index, disk in enumerate(disks):
        drive = f"if=none,id=disk{index},file={_value(disk.path)},format={disk.format}"
        # The guest's trims give space back: the swap disk stays sparse.
        drive += ",read-only=on" if disk.read_only else ",discard=unmap"
        if disk.format == "qcow2" and not disk.read_only:
            # QEMU's NVMe takes a forced write for a common one, and a QEMU that is killed loses what it had not yet
            # written of qcow2's own tables: without this, what the guest has synchronised is not always there.
            drive += ",cache=writethrough"
        found += ["-drive", drive, "-device", f"nvme,drive=disk{index},serial={_value(disk.serial)}"]
    return found


def _channel(channel: SerialChannel | NetworkChannel) -> list[str]:
    match channel:
        case NetworkChannel():
            return ["-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile="]
        case SerialChannel():
            found = ["-nic", "none", "-device", "virtio-serial-pci,id=serial0"]
            for index, (name, port) in enumerate(
                ((AGENT_PORT_NAME, channel.agent_port), (ENROLL_PORT_NAME, channel.enroll_port)), start=1
            ):
                peer = f"host={_value(channel.host)},port={port},reconnect-ms={_RECONNECT_MS}"
                found += ["-chardev", f"socket,id=port{index},{peer}"]
                found += ["-device", f"virtserialport,bus=serial0.0,nr={index},chardev=port{index},name={name}"]
            return found


def _value(text: str) -> str:
    """QEMU's option syntax: a comma inside a value is written twice."""
    return text.replace(",", ",,")
