"""What the kernel logs of a stratum's hosts say of the new kernel, set against what the old one writes."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from controller.gate.evidence.seen import HostEvidence
from controller.gate.kernel_log import Finding, KnownLine, Severity
from controller.gate.verdict import Verdict
from controller.words import count_text

# A sentence names so many lines and counts the others.
_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """One thing that a host showed, and what it asks for."""

    verdict: Verdict
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRules:
    """What an operator fixed beforehand about kernel logs."""

    known_lines: tuple[KnownLine, ...] = ()
    # Why logs with holes, and logs that nobody can read, do not hold; empty: they hold.
    accept_missing_logs: str = ""
    # Whether no more data will come.
    final: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsRead:
    """What the logs of a stratum amount to."""

    rulings: tuple[Ruling, ...]
    # What counts for neither kernel, and why: without full stops.
    told: tuple[str, ...]

    @property
    def remark(self) -> str:
        """What is told, as sentences with a space before them; empty when there is nothing."""
        more = f" {len(self.told) - _NAMED} more lines count for neither kernel." if len(self.told) > _NAMED else ""
        return "".join(f" {text[:1].upper()}{text[1:]}." for text in self.told[:_NAMED]) + more


def read_logs(rules: LogRules, hosts: Sequence[HostEvidence]) -> LogsRead:
    """Judge the findings of one stratum's hosts, sorted by name."""
    hosts, excepted = _without_known_lines(rules.known_lines, hosts)
    unread, accepted = _unread(rules, hosts)
    fatal, of_both = _fatal(hosts)
    return LogsRead(
        rulings=(*fatal, *_serious(hosts), *unread),
        told=(*of_both, *excepted, *accepted, *_unread_of_old(hosts)),
    )


def _fatal(hosts: Sequence[HostEvidence]) -> tuple[list[Ruling], list[str]]:
    """A fatal line fails on first sight, unless the old kernel writes it on as many hosts."""
    old: dict[str, set[str]] = defaultdict(set)
    new: dict[str, set[str]] = defaultdict(set)
    first: dict[str, tuple[HostEvidence, Finding]] = {}
    for host in hosts:
        for finding in host.old_findings:
            old[finding.signature].add(host.host)
        for finding in host.findings:
            if finding.severity is Severity.FATAL:
                new[finding.signature].add(host.host)
                first.setdefault(finding.signature, (host, finding))
    rulings, told = [], []
    for signature, (host, finding) in first.items():
        before, after = (count_text(len(hosts[signature]), "host") for hosts in (old, new))
        counts = f"{before} with the old kernel, {after} with the new one"
        if len(old[signature]) >= len(new[signature]):
            told.append(f'both kernels write "{finding.line}" ({counts}), which is held against neither')
            continue
        also = f" ({counts})" if old[signature] else ""
        text = f'{host.host}: the kernel log of the new kernel says "{finding.line}"{also}.'
        rulings.append(Ruling(verdict=Verdict.FATAL, sentence=text))
    return rulings, told


def _serious(hosts: Sequence[HostEvidence]) -> Iterable[Ruling]:
    """A serious line that the old kernel does not write fails when a second host or boot confirms it."""
    old = {finding.signature for host in hosts for finding in host.old_findings}
    seen: dict[str, set[tuple[str, str]]] = defaultdict(set)
    first: dict[str, tuple[str, Finding]] = {}
    for host in hosts:
        for finding in host.findings:
            if finding.severity is Severity.SERIOUS and finding.signature not in old:
                seen[finding.signature].add((host.host, finding.boot_id))
                first.setdefault(finding.signature, (host.host, finding))
    for signature in sorted(seen):
        name, finding = first[signature]
        text = f'{name}: the kernel log of the new kernel says "{finding.line}", which the old kernel does not'
        if len(seen[signature]) > 1:
            text += f"; seen {len(seen[signature])} times on {len({host for host, _ in seen[signature]})} hosts."
            yield Ruling(verdict=Verdict.FAIL, sentence=text)
        else:
            text += "; seen once, a second host or boot must confirm it."
            yield Ruling(verdict=Verdict.INCONCLUSIVE, sentence=text)


def _unread(rules: LogRules, hosts: Sequence[HostEvidence]) -> tuple[list[Ruling], list[str]]:
    """What of a log was not read may be the line that condemns the kernel: no data is never a pass."""
    found = [(host.host, one) for host in hosts for one in host.findings if one.severity is Severity.UNREAD]
    if not found:
        return [], []
    name, first = found[0]
    others = len({host for host, _ in found}) - 1
    more = f" (and those of {count_text(others, 'host')} more)" if others else ""
    text = f"the kernel log of {name} was not read whole{more}: {first.line}"
    if rules.accept_missing_logs:
        return [], [f"{text}; that is accepted (accept_missing_logs): {rules.accept_missing_logs.rstrip('.')}"]
    verdict = Verdict.INCONCLUSIVE if rules.final else Verdict.NEED_MORE_DATA
    text += "; so it does not count as clean, unless accept_missing_logs says why it may."
    return [Ruling(verdict=verdict, sentence=text)], []


def _unread_of_old(hosts: Sequence[HostEvidence]) -> list[str]:
    """What the old kernel wrote where nobody read it can only excuse lines of the new one, so that it holds nothing."""
    found = [(host.host, one) for host in hosts for one in host.old_findings if one.severity is Severity.UNREAD]
    if not found:
        return []
    name, first = found[0]
    others = len({host for host, _ in found}) - 1
    more = f" (and those of {count_text(others, 'host')} more)" if others else ""
    text = f"the kernel log of {name} under the old kernel was not read whole{more}: {first.line}"
    return [f"{text}; what stood there excuses nothing of the new kernel"]


def _without_known_lines(
    known_lines: Sequence[KnownLine], hosts: Sequence[HostEvidence]
) -> tuple[Sequence[HostEvidence], list[str]]:
    """Return the evidence without the lines that an operator excepted, and a sentence for each that was met."""
    if not known_lines:
        return hosts, []
    met: dict[KnownLine, set[str]] = {}

    def kept(host: str, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        left = []
        for finding in findings:
            known = next((one for one in known_lines if one.covers(finding)), None)
            if known is None or finding.severity is Severity.UNREAD:
                left.append(finding)
            else:
                met.setdefault(known, set()).add(host)
        return tuple(left)

    without = [
        replace(one, findings=kept(one.host, one.findings), old_findings=kept(one.host, one.old_findings))
        for one in hosts
    ]
    told = [
        f'"{known.line.strip()}" is a known line, met on {count_text(len(met[known]), "host")}, and counts nowhere:'
        f" {known.reason.rstrip('.')}"
        for known in known_lines
        if known in met
    ]
    return without, told
