"""Who asks for something, as the front door found out."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a caller's certificate says it is."""

    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a verb is done for. Verbs ask it, and nothing else, who decided and what may be done."""

    # As it stands in events and reports.
    name: str
    role: Role = Role.OPERATOR
