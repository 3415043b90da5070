"""Errors that adapters translate the world's failures into. Their text says what failed, which one, and what to try."""


class KernrollError(Exception):
    """Any failure that is reported to a person."""


class Permanent(KernrollError):
    """Trying again gives the same result until somebody changes something."""


class Temporary(KernrollError):
    """Worth trying again after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OutcomeUnknown(KernrollError):
    """It was asked for and no answer came: it may have been done. Not to be asked for again by itself."""


class InvalidInput(Permanent):
    """What an operator wrote is wrong; the text names file, line and field."""


class NotFound(Permanent):
    """No such host, rollout or kernel."""


class Conflict(Permanent):
    """The request contradicts the present state, for example a rollout that has already ended."""
