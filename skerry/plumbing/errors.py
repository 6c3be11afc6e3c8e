"""The kinds of failure that cross a module's edge; all else is a bug.

Raise one with the fact and the remedy in the message. Which gRPC code a kind travels as is
written in `skerry.plumbing.rpc`, the only place that translates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_NO_HINTS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldViolation:
    """One field that is wrong: where it is (`scaling.min_replicas`) and what is wrong with it."""

    path: str
    message: str


class SkerryError(Exception):
    """The root of all kinds; raised itself only for a failure that fits none of them."""

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        violations: tuple[FieldViolation, ...] = (),
        retry_after_seconds: float | None = None,
        hints: Mapping[str, str] = _NO_HINTS,
    ) -> None:
        """Keep the message, the fields at fault, when to try again, and facts for programs."""
        super().__init__(message)
        self.message = message
        if field is not None:
            violations = (FieldViolation(path=field, message=message), *violations)
        self.violations = violations
        self.retry_after_seconds = retry_after_seconds
        self.hints = hints

    @property
    def field(self) -> str | None:
        """Return the path of the first field at fault, if any is."""
        return self.violations[0].path if self.violations else None


class NotFound(SkerryError):
    """What was named does not exist, or may not be seen by the caller."""


class AlreadyExists(SkerryError):
    """A new thing's name is taken."""


class Conflict(SkerryError):
    """Somebody else changed or holds it; read again and decide anew."""


class StaleGeneration(Conflict):
    """The write was decided on an older version than the one in force."""


class Infeasible(SkerryError):
    """Well formed, but the present state does not allow it (a failed precondition)."""


class Unavailable(SkerryError):
    """The other side cannot answer now; the same call may succeed later."""


class NotLeading(Unavailable):
    """A write came to a control plane that does not lead; its `leader` hint says which one does.

    Nothing was done, so the call may be sent elsewhere at once, whatever it is.
    """


class DeadlineExceeded(Unavailable):
    """No answer came in time; whether it took effect is not known."""


class InvalidInput(SkerryError):
    """The input is wrong whatever the state is; `violations` say where."""


class OutOfRange(InvalidInput):
    """A position past what exists, such as a sequence number from the future."""


class Denied(SkerryError):
    """The caller is known and may not do this."""


class Unauthenticated(SkerryError):
    """The caller did not say who it is, or could not prove it."""


class Exhausted(SkerryError):
    """A limit is reached: quota, queue, size or rate."""


class Corrupt(SkerryError):
    """Bytes on disk are not what was written."""
