"""One crash in every form in which people keep kernel logs: found, with the same signature; others' lines never are."""

import json

import pytest

from controller.gate.kernel_log import Severity, classify, clean, console_lines, panic_line, read_log

OOPS = "BUG: unable to handle page fault for address: ffffea0004c2d008"
CRASH = (OOPS, "Oops: 0000 [#1] PREEMPT SMP NOPTI", "RIP: 0010:swap_free_nr+0x5c/0x1b0", " zap_pte_range+0x3aa/0xd20")
PANIC = "Kernel panic - not syncing: softlockup: hung tasks"
SIGNATURE = "null_or_paging: swap_free_nr < zap_pte_range"

PREFIXES = {
    "none": "",
    "dmesg": "[  412.100100] ",
    "dmesg of a short uptime": "[    0.1] ",
    "printk caller": "[  412.100100][  T201] ",
    "printk caller, processor": "[  412.100100][    C1] ",
    "dmesg -r": "<1>[  412.100100] ",
    "dmesg -T": "[Mon Mar  2 10:11:12 2026] ",
    "dmesg -T elsewhere": "[Mo Mär  2 10:11:12 2026] ",
    "dmesg -x": "kern  :alert : [  412.100100] ",
    "dmesg -x -T": "kern  :alert : [Mon Mar  2 10:11:12 2026] ",
    "dmesg -x -t": "kern  :alert : ",
    "dmesg -d": "[  412.100100 <    0.000300>] ",
    "dmesg -t -d": "[<    0.000300>] ",
    "dmesg -e": "[Mar 2 10:11] ",
    "dmesg -H, later": "[  +0.000300] ",
    "dmesg --time-format iso": "2026-03-02T10:11:12,100100+01:00 ",
    "journalctl -k": "Mar 02 10:11:12 canary-1 kernel: ",
    "short-precise": "Mar 02 10:11:12.100100 canary-1 kernel: ",
    "short-iso": "2026-03-02T10:11:12+0100 canary-1 kernel: ",
    "short-iso of new": "2026-03-02T10:11:12+01:00 canary-1 kernel: ",
    "short-iso-precise": "2026-03-02T10:11:12.100100+01:00 canary-1.example.org kernel: ",
    "short-full": "Mon 2026-03-02 10:11:12 CET canary-1 kernel: ",
    "short-unix": "1772446272.100100 canary-1 kernel: ",
    "short-monotonic": "[  412.100100] canary-1 kernel: ",
    "short-delta": "[  412.100100 <    0.000300 >] canary-1 kernel: ",
    "dmesg -T with caller": "[Mon Mar  2 10:11:12 2026] [  T201] ",
    "dmesg iso with caller": "2026-03-02T10:11:12,100100+01:00 [   T201] ",
    "dmesg -H with caller": "[  +0.000300] [   T201] ",
    "dmesg -T, French": "[lun. mars   2 10:11:12 2026] ",
    "dmesg -T, Chinese": "[一 3月  2 10:11:12 2026] ",
    "dmesg -T, Korean": "[월  3월  2 10:11:12 2026] ",
    "crash": "[Mon Mar  2 10:11:12 CET 2026] ",
    "journalctl, German": "Mär 02 10:11:12 canary-1 kernel: ",
    "journalctl, French": "févr. 02 10:11:12 canary-1 kernel: ",
    "journalctl, Russian": "мая 02 10:11:12 canary-1 kernel: ",
    "journalctl, Japanese": " 3月 02 10:11:12 canary-1 kernel: ",
    "short-precise, French": "mars 02 10:11:12.100100 canary-1 kernel: ",
    "short-full of a zone without a name": "Mon 2026-03-02 10:11:12 +03 canary-1 kernel: ",
    "RFC 5424 in a file": "2026-03-02T10:11:12.1+01:00 canary-1 kernel - - - ",
    "host and name": "canary-1 kernel: ",
    "host, level and name": "canary-1 kern.alert kernel: ",
    "host and name, with the kernel's time": "canary-1 kernel: [  412.100100] ",
    "a login": "canary-1 login: ",
    "a login, with the kernel's time": "canary-1 login: [  412.1] ",
    "a password": "Password: ",
    "a phone with processor": "<1>[  412.100100,2] ",
    "a phone with process": "[  412.100100s][pid:41,cpu2,kswapd0]",
    "a phone with level": "<1>[  412.100100] E[2:    kswapd0:   41] ",
    "a phone with module": "<1>[  412.100100]-(2)[41:kswapd0][name:fault&]",
    "a phone with caller and module": "[  412.100100] [T700041] kswapd0: [name:fault&]",
    "logcat with user": "03-02 10:11:12.100  root     0     0 E ",
    "logcat with year and tag": "2026-03-02 10:11:12.100     0     0 E KERNEL  : ",
    "syslog": "Mar  2 10:11:12 canary-1 kernel: [  412.100100] ",
    "syslog without the kernel's time": "Mar  2 10:11:12 canary-1 kernel: ",
    "syslog with a year": "Mar  2 2026 10:11:12 canary-1 kernel: [  412.100100] ",
    "syslog on the wire": "<1>Mar  2 10:11:12 canary-1 kernel: [  412.100100] ",
    "rsyslog": "2026-03-02T10:11:12.100100+01:00 canary-1 kernel: [  412.100100] ",
    "RFC 5424": "<1>1 2026-03-02T10:11:12.000003Z canary-1 kernel - - - [  412.100100] ",
    "RFC 5424 with data": '<1>1 2026-03-02T10:11:12Z canary-1 kernel - - [meta sequenceId="29"] ',
    "busybox": "Mar  2 10:11:12 canary-1 kern.alert kernel: [  412.100100] ",
    "logread": "Mon Mar  2 10:11:12 2026 kern.alert kernel: [  412.100100] ",
    "metalog": "Mar  2 10:11:12 [kernel] ",
    "no host": "Mar  2 10:11:12 kernel: [  412.100100] ",
    "name alone": "kernel: ",
    "kmsg": "1,4711,412100100,-;",
    "kmsg with caller": "1,4711,412100100,-,caller=T201;",
    "kmsg, continued": "4,4711,412100100,c;",
    "netconsole": "1,4711,412100100,-,ncfrag=0/31;",
    "netconsole with release": "6.12.48,1,4711,412100100,-;",
    "logcat": "03-02 10:11:12.100     0     0 E ",
    "last_kmsg": "<1>[  412.100100]  [2:    kswapd0:   41] ",
    "another phone": "<1>[  412.100100]  (2)[41:kswapd0]",
    "a logger of serial lines": "[2026-03-02 10:11:12] [  412.100100] ",
    "another logger": "2026-03-02 10:11:12.100 | [  412.100100] ",
    "a clock alone": "10:11:12.100 > [  412.100100] ",
    "a mail": "> [  412.100100] ",
    "grep": "dmesg.txt:[  412.100100] ",
    "grep -n": "4711:[  412.100100] ",
    "an unknown log": "2026/03/02 10:11:12 collector[kmsg] kernel: ",
    "terminal": "\x1b[32m[  412.100100] \x1b[0m",
}


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
def test_a_crash_is_found_behind_every_prefix(prefix: str) -> None:
    (found,) = read_log([f"{prefix}{line}" for line in CRASH])
    assert (found.severity, found.line, found.signature) == (Severity.FATAL, OOPS, SIGNATURE)
    assert panic_line(f"{prefix}Kernel panic - not syncing: x") == "Kernel panic - not syncing: x"


@pytest.mark.parametrize(
    "line",
    [
        f"Mar 02 10:11:12 canary-1 reporter[811]: {OOPS}",
        f"Mar 02 10:11:12 canary-1 reporter: {OOPS}",
        f"2026-03-02T10:11:12+01:00 canary-1 reporter[811]: [  412.100100] {OOPS}",
        f"<14>Mar  2 10:11:12 canary-1 reporter: {OOPS}",
        f"<14>[  412.100100] {OOPS}",
        f"<14>1 2026-03-02T10:11:12Z canary-1 reporter 811 - - {OOPS}",
        f"user  :alert : [  412.100100] {OOPS}",
        f"daemon:info  : [  412.100100] {OOPS}",
        f"12,4711,412100100,-;{OOPS}",
        f"[  412.100100] reporter[811]: {OOPS}",
        json.dumps({"MESSAGE": OOPS, "_TRANSPORT": "syslog", "SYSLOG_IDENTIFIER": "reporter"}),
        json.dumps({"MESSAGE": OOPS, "_TRANSPORT": "kernel", "SYSLOG_IDENTIFIER": "systemd"}),
        f"03-02 10:11:12.100   811   811 E reporter: {OOPS}",
        f"canary-1 reporter[811]: {OOPS}",
        f"canary-1 reporter: kernel: {OOPS}",
        f"мая 02 10:11:12 canary-1 reporter[811]: {OOPS}",
    ],
)
def test_what_user_space_writes_is_never_the_kernels(line: str) -> None:
    assert classify([line]) == ()


def entry(message: object, **more: object) -> dict[str, object]:
    return {"__CURSOR": "s=1", "_TRANSPORT": "kernel", "PRIORITY": "1", "MESSAGE": message, **more}


def test_the_formats_of_a_journal_that_are_not_lines() -> None:
    as_json = [json.dumps(entry(line)) for line in CRASH]
    as_bytes = [json.dumps(entry(list(line.encode()))) for line in CRASH]
    pretty = [row for line in CRASH for row in json.dumps(entry(line), indent=8).replace('":', '" :').splitlines()]
    export = [row for line in CRASH for row in (*(f"{name}={said}" for name, said in entry(line).items()), "")]
    of_others = [row.replace("_TRANSPORT=kernel", "_TRANSPORT=syslog") for row in export]
    verbose = [
        row
        for line in CRASH
        for row in (
            "Mon 2026-03-02 10:11:12.100100 CET [s=1;i=2;b=3;m=4;t=5;x=6]",
            "    PRIORITY=1",
            "    _TRANSPORT=kernel",
            f"    MESSAGE={line}",
            "    _HOSTNAME=canary-1",
        )
    ]
    dmesg = ["{", '   "dmesg": [']
    for line in CRASH:
        dmesg += [
            "      {",
            '         "pri": 1,',
            '         "time":    412.100100,',
            f'         "msg": "{line}"',
            "      },{",
        ]
    sse = [row for line in as_json for row in (f"data: {line}", "")]
    seq = [f"\x1e{line}" for line in as_json]
    for log in (sse, seq, as_json, as_bytes, pretty, export, verbose, dmesg):
        (found,) = read_log(log)
        assert (found.line, found.signature) == (OOPS, SIGNATURE), log
    assert classify(of_others) == ()


def test_an_entry_without_text_is_said_and_is_no_clean_log() -> None:
    lines = [json.dumps(entry("Linux version 7.1.13")), json.dumps(entry(None))]
    (found,) = read_log(lines)
    assert found.severity is Severity.UNREAD
    assert found.line == "1 of 2 entries have no text, their MESSAGE is null; journalctl --all tells it"


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (
            ["[    0.0] Linux version 7.1", "2026/03/02 10:11:12 kern E oops"],
            "1 of 2 lines are in a form that is not known",
        ),
        (["<Event><Level>1</Level></Event>"], "1 of 1 lines are in a form that is not known"),
        (['{"severity": "alert", "body": "x"}'], "1 of 1 lines are in a form that is not known"),
        (["hello world", "this is a text"], "none of its 2 lines looks like a kernel's"),
        (["Mar 02 10:11:12 canary-1 systemd[1]: Started x."], "none of its 1 lines looks like a kernel's"),
        (
            ['10.0.0.1 - - [02/Mar/2026:10:11:12 +0000] "GET / HTTP/1.1" 200 12'],
            "1 of 1 lines are in a form that is not",
        ),
        (["", ""], "none of its 2 lines looks like a kernel's"),
        *(
            ([line], "none of its 1 lines looks like a kernel's")
            for line in (
                "dmesg: read kernel buffer failed: Operation not permitted",
                "-bash: /bin/dmesg: Input/output error",
                "bash: line 1: journalctl: command not found",
                "ssh: connect to host canary-1 port 22: Connection refused",
                'Error from server (NotFound): pods "x" not found',
                "Failed to get journal access: Permission denied",
            )
        ),
        *(
            (
                ["[    0.0] Linux version 7.1", line],
                "lines have the words of a fault behind something that is not known",
            )
            for line in (
                f"[  412.100100] (XEN) {OOPS}",
                f"guest-1  | {OOPS}",
                f"   123\t{OOPS}",
                f"[    4.123456 0.000100] {OOPS}",
                f"a form that nobody knows ~ {PANIC}",
            )
        ),
        *(
            (["[    0.0] Linux version 7.1", line], "it says itself that messages were lost")
            for line in (
                "** 312 printk messages dropped **",
                "** 312 printk messages dropped ** [  412.100100] zram: Added device: zram0",
                "Mar 02 10:11:12 c systemd-journald[211]: Missed 412 kernel messages",
            )
        ),
    ],
)
def test_a_log_in_an_unknown_form_is_not_clean(lines: list[str], says: str) -> None:
    (found,) = read_log(lines)
    assert found.severity is Severity.UNREAD
    assert says in found.line


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["canary-1 kernel: Linux version 7.1.13"],
        ["[    5.0] reporter[811]: the last boot said: Kernel panic - not syncing: x"],
        ["[    5.0] x: the line 'Kernel panic - not syncing: x' is quoted"],
        ["Linux version 7.1.13", "ACPI: bus type PCI registered"],
        ["[    0.0] Linux version 7.1.13", "", "free text that was wrapped"],
        ["6,339,5140900,-;NET: Registered protocol family 10", " SUBSYSTEM=net", " DEVICE=+net:lo"],
    ],
)
def test_a_quiet_log_in_a_known_form_shows_nothing(lines: list[str]) -> None:
    assert read_log(lines) == ()


@pytest.mark.parametrize(
    "before",
    [
        "vm-1 login: ",
        "Password: ",
        "[  OK  ] Started getty@tty1.service - Getty on tty1.",
        "[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mx.service\x1b[0m",
        "         Starting x.service - X...",
        "[  941.800000] systemd[1]: Starting x.service",
        "root@vm-1:~# swapoff -a",
        "half a word",
    ],
)
@pytest.mark.parametrize("stamp", ["[  941.900112] ", "[  941.900112][    C1] "])
def test_a_panic_is_found_wherever_it_stands_in_a_console_line(before: str, stamp: str) -> None:
    assert panic_line(f"{before}{stamp}{PANIC}\r\n[  941.9] CPU: 0\r\n") == PANIC
    assert PANIC in console_lines(f"{before}{stamp}{PANIC}")
    assert [one.kind for one in classify([f"{before}{stamp}{PANIC}"])] == ["panic"]


@pytest.mark.parametrize("before", ["vm-1 login: ", "[  OK  ] Started x."])
def test_a_panic_without_the_kernels_time_is_found_where_a_line_was_broken_off(before: str) -> None:
    assert panic_line(f"{before}{PANIC}\r\n") == PANIC
    assert [one.kind for one in read_log([f"{before}{PANIC}"])] == ["panic"]


@pytest.mark.parametrize("before", ["agent: seen: ", '"', "reporter[811]: [  941.900112] "])
def test_a_program_that_quotes_a_panic_does_not_make_one(before: str) -> None:
    assert panic_line(f"Mar 02 10:11:12 vm-1 {before}{PANIC}") is None


def test_what_is_cleaned_from_a_line() -> None:
    assert clean("Mar  2 10:11:12 h kernel: <4>[   12.345678] zram: Added device: zram0") == "zram: Added device: zram0"
    assert clean("[   12.345678] [drm] ready") == "[drm] ready"
