"""How large a report may be: controllers cut or refuse larger ones, and one that is refused keeps all others back."""

import math
from collections.abc import Mapping
from dataclasses import replace

from agent.domain.results import CommandOutcome, KernelLog, ReportBody, Sample, WorkloadRun

# Of one text of the evidence.
MOST_TEXT_BYTES = 512 << 10
# Of all of them together, and how many there may be.
MOST_EVIDENCE_BYTES = 1 << 20
MOST_TEXTS = 64
MOST_LINES = 16_384
# Of the sentence that says why a run or a command ended as it did.
MOST_SENTENCE_BYTES = 2 << 10
MOST_SAMPLES = 512
MOST_NAME_CHARACTERS = 128
# Names what does not fit into a report at all.
LEFT_OUT = "left_out"


def fitted(body: ReportBody) -> ReportBody:
    """Return a result cut to what a controller takes; it says what is left out."""
    match body:
        case WorkloadRun():
            return _fitted_run(body)
        case CommandOutcome(detail=detail):
            return replace(body, detail=cut(detail, MOST_SENTENCE_BYTES))
        case KernelLog():
            # Its batches are small by themselves.
            return body


def cut(text: str, most_bytes: int) -> str:
    """Return the text if it has at most so many bytes, else its beginning and how much is left out."""
    content = text.encode("utf-8", "replace")
    if len(content) <= most_bytes:
        return content.decode()
    # Computed with the largest number that it may name.
    room = most_bytes - len(_remark(len(content), len(content)))
    # A character that is cut in the middle is left out whole.
    kept = content[: max(0, room)].decode("utf-8", "ignore")
    return kept + _remark(len(content) - len(kept.encode()), len(content))


def short(text: str, most: int = MOST_NAME_CHARACTERS) -> str:
    """Return a name of at most so many characters, all of which can be sent."""
    return text[:most].encode("utf-8", "replace").decode()


def _remark(left_out: int, of: int) -> str:
    return f"\n[{left_out} of {of} bytes are left out]\n"


def _fitted_run(run: WorkloadRun) -> WorkloadRun:
    told = [each for each in run.samples if math.isfinite(each.value)]
    samples = tuple(
        Sample(metric=short(each.metric), value=each.value, unit=short(each.unit)) for each in told[:MOST_SAMPLES]
    )
    evidence = {short(name): text for name, text in list(run.evidence.items())[:MOST_TEXTS]}
    remarks = [
        f"{count} {what}"
        for count, what in (
            (len(run.samples) - len(told), "values that are no numbers"),
            (len(told) - len(samples), "values"),
            (len(run.evidence) - len(evidence), "texts"),
        )
        if count
    ]
    if remarks:
        while len(evidence) >= MOST_TEXTS:
            evidence.popitem()
        evidence[LEFT_OUT] = f"of this run's report: {', '.join(remarks)}"
    return replace(
        run,
        workload=short(run.workload),
        kernel_release=short(run.kernel_release),
        error=cut(run.error, MOST_SENTENCE_BYTES),
        samples=samples,
        evidence=_fitted_evidence(evidence),
    )


def _fitted_evidence(evidence: Mapping[str, str]) -> dict[str, str]:
    """Cut the largest texts, and only as far as all together demand it."""
    evidence = {name: _fewer_lines(text) for name, text in evidence.items()}
    sizes = {name: min(len(text.encode("utf-8", "replace")), MOST_TEXT_BYTES) for name, text in evidence.items()}
    left_bytes = MOST_EVIDENCE_BYTES
    limits = {}
    # Smallest first: what those do not take of their share is for the larger ones.
    for number, name in enumerate(sorted(sizes, key=sizes.__getitem__)):
        limits[name] = min(sizes[name], left_bytes // (len(sizes) - number))
        left_bytes -= limits[name]
    return {name: cut(text, max(limits[name], 0)) for name, text in evidence.items()}


def _fewer_lines(text: str) -> str:
    lines = text.count("\n")
    if lines < MOST_LINES:
        return text
    return "\n".join([*text.split("\n", MOST_LINES - 2)[:-1], f"[{lines + 2 - MOST_LINES} lines are left out]\n"])
