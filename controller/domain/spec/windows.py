"""How a rollout file writes maintenance windows."""

import difflib
import re
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from controller.domain.record.windows import DAYS, MINUTES_A_DAY, Window
from controller.domain.spec.fields import Model

_CLOCK: Final = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])")


def clock_minutes(value: Any) -> int:
    """Return "22:30" as minutes after midnight; raises ValueError with a sentence."""
    match = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    minutes = MINUTES_A_DAY + 1 if match is None else int(match[1]) * 60 + int(match[2])
    if minutes > MINUTES_A_DAY:
        raise ValueError('must be a time from "00:00" to "24:00"')
    return minutes


def known_zone(value: str) -> str:
    """Return the name of a time zone; raises ValueError for what the database does not have."""
    try:
        ZoneInfo(value)
    # The database takes names for paths: an odd one fails in the ways of paths.
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        close = difflib.get_close_matches(value, sorted(available_timezones()), n=1)
        meant = f'; did you mean "{close[0]}"?' if close else ""
        raise ValueError(f'must be an IANA time zone, for example "Europe/Berlin"{meant}') from error
    return value


ClockTime = Annotated[
    int,
    BeforeValidator(clock_minutes),
    WithJsonSchema({"type": "string", "pattern": f"^{_CLOCK.pattern}$", "examples": ["22:00", "05:30"]}),
]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class MaintenanceWindow(Model):
    """When hosts may be taken down. It opens on each of its days; one that ends before it begins ends the next day."""

    # Days on which it opens. All of them unless given.
    days: Annotated[tuple[Day, ...], Field(min_length=1)] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    # Times of the zone's clock. One that is skipped when clocks are changed is the moment of the change; one that comes
    # twice is the first.
    from_: ClockTime = Field(alias="from")
    to: ClockTime
    # A name of the IANA time zone database; its summer time is followed.
    zone: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(known_zone)]

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.from_ == self.to:
            raise ValueError('is empty: it ends when it begins; a whole day is from "00:00" to "24:00"')
        if self.from_ == MINUTES_A_DAY:
            raise ValueError('begins at the end of a day; write from "00:00" and the next day')
        return self

    @property
    def window(self) -> Window:
        """The window as it is computed with."""
        days = tuple(sorted({DAYS.index(day) for day in self.days}))
        return Window(days=days, opens=self.from_, closes=self.to, zone=self.zone)
