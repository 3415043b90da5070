"""What a rollout records of a host's kernel log: the line that condemns its kernel, else what the kernels write."""

from collections.abc import Iterable, Sequence

from controller.domain.record.events import LogFinding
from controller.domain.record.journey import Side
from controller.domain.state.attempt import MOST_FINDINGS, Attempt
from controller.gate.kernel_log import Finding, KnownLine, Severity

# A kernel lives on after it: under the old kernel it says what that one writes, not that the host is broken.
_LIVED_THROUGH = "warning_in_mm"


def learnt_from_log(
    attempt: Attempt,
    others: Iterable[Attempt],
    known_lines: Sequence[KnownLine],
    findings: Sequence[Finding],
    replaced: Finding | None,
) -> tuple[LogFinding | None, tuple[LogFinding, ...]]:
    """Return the line that condemns, None when none does, and all lines that are new for their boot and do not.

    A fatal line condemns unless an operator has excepted it, this host's old kernel writes it, or the old kernel
    writes it on as many hosts of the stratum as the new one does. `replaced` is a finding that `findings` tells whole.
    """
    others = tuple(others)
    for one in findings:
        if one.severity is Severity.FATAL and not _excused(attempt, others, known_lines, one):
            return _recorded(one), ()
    known = {one.signature for one in attempt.findings if one.boot_id in {each.boot_id for each in findings}}
    if replaced is not None:
        known.discard(replaced.signature)
    fresh = {one.signature: one for one in reversed(findings) if one.signature not in known}
    told = [fresh[name] for name in sorted(fresh) if fresh[name].severity is not Severity.COUNT]
    serious = [one for one in told if one.severity is Severity.SERIOUS][: max(0, MOST_FINDINGS - len(known))]
    return None, tuple(_recorded(one) for one in told if one.severity is not Severity.SERIOUS or one in serious)


def _recorded(one: Finding) -> LogFinding:
    return LogFinding(signature=one.signature, line=one.line, boot_id=one.boot_id, severity=one.severity.value)


def _excused(attempt: Attempt, others: Sequence[Attempt], known_lines: Sequence[KnownLine], one: Finding) -> bool:
    side = attempt.ran_on(one.boot_id)
    if any(known.covers(one) for known in known_lines) or (side is Side.OLD and one.kind == _LIVED_THROUGH):
        return True
    if any(
        told.signature == one.signature and told.boot_id != one.boot_id and attempt.ran_on(told.boot_id) is Side.OLD
        for told in attempt.findings
    ):
        return True
    stratum = [each for each in others if each.stratum == attempt.stratum]
    old = _writing(stratum, one.signature, Side.OLD)
    new = _writing(stratum, one.signature, Side.NEW) | {attempt.host}
    return side is Side.NEW and len(old) >= len(new)


def _writing(attempts: Iterable[Attempt], signature: str, side: Side) -> set[str]:
    return {
        one.host
        for one in attempts
        if any(told.signature == signature and one.ran_on(told.boot_id) is side for told in one.findings)
    }
