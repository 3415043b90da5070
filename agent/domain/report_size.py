"""How large a report may be: controllers refuse larger messages, and one that is refused keeps all others back."""

from collections.abc import Mapping
from dataclasses import replace

from agent.domain.results import CommandOutcome, KernelLog, ReportBody, WorkloadRun

# Of one text of the evidence.
MOST_TEXT_BYTES = 512 << 10
# Of all of them together. A controller takes messages of 4 MiB; the rest is for samples and names.
MOST_EVIDENCE_BYTES = 3 << 20
# Of the sentence that says why a run or a command ended as it did.
MOST_SENTENCE_BYTES = 8 << 10


def fitted(body: ReportBody) -> ReportBody:
    """Return a result with every text cut to what a controller takes; each says how much of it is left out."""
    match body:
        case WorkloadRun(error=error, evidence=evidence):
            return replace(body, error=cut(error, MOST_SENTENCE_BYTES), evidence=_fitted_evidence(evidence))
        case CommandOutcome(detail=detail):
            return replace(body, detail=cut(detail, MOST_SENTENCE_BYTES))
        case KernelLog():
            # Its batches are small by themselves.
            return body


def cut(text: str, most_bytes: int) -> str:
    """Return the text if it has at most so many bytes, else its beginning and how much is left out."""
    content = text.encode("utf-8", "replace")
    if len(content) <= most_bytes:
        return text
    # Computed with the largest number that it may name.
    room = most_bytes - len(_remark(len(content), len(content)))
    # A character that is cut in the middle is left out whole.
    kept = content[: max(0, room)].decode("utf-8", "ignore")
    return kept + _remark(len(content) - len(kept.encode()), len(content))


def _remark(left_out: int, of: int) -> str:
    return f"\n[{left_out} of {of} bytes are left out]\n"


def _fitted_evidence(evidence: Mapping[str, str]) -> dict[str, str]:
    """Cut the largest texts, and only as far as all together demand it."""
    sizes = {name: min(len(text.encode("utf-8", "replace")), MOST_TEXT_BYTES) for name, text in evidence.items()}
    left_bytes = MOST_EVIDENCE_BYTES
    limits = {}
    # Smallest first: what those do not take of their share is for the larger ones.
    for number, name in enumerate(sorted(sizes, key=sizes.__getitem__)):
        limits[name] = min(sizes[name], left_bytes // (len(sizes) - number))
        left_bytes -= limits[name]
    return {name: cut(text, max(limits[name], 0)) for name, text in evidence.items()}
