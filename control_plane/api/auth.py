"""Who calls and why, as every change is recorded: from the call's metadata."""

from typing import Any

from control_plane.api.access.door import principal_of
from skerry.fleet.access import ACTOR_CHARACTERS_MAX, is_actor
from skerry.plumbing.errors import Denied, InvalidInput

ACTOR_KEY = "x-skerry-actor"
UNKNOWN_ACTOR = "user:unknown"
# Binary, for a reason is in the caller's language and plain metadata is ASCII.
REASON_KEY = "x-skerry-reason-bin"
REASON_CHARACTERS_MAX = 1_000
# Actors of our own processes, and of credentials: what a person says of itself must not look like
# what reconciliation did, or like what somebody proved.
_OWN = ("control-plane", "plane", "token")


def actor_of(context: Any) -> str:
    """Return the calling actor, e.g. `user:root`; InvalidInput when it is malformed.

    It is the credential's, where one was shown: Denied for who shows one and claims another name.
    """
    named = [value for key, value in context.invocation_metadata() or () if key == ACTOR_KEY]
    if proven := principal_of(context).actor:
        if any(claimed != proven for claimed in named):
            raise Denied(f"this credential acts as {proven}; leave {ACTOR_KEY} out")
        return proven
    if not named:
        return UNKNOWN_ACTOR
    actor = named[0]
    if len(named) > 1 or not isinstance(actor, str):
        raise InvalidInput(f"send {ACTOR_KEY} once, as text", field=ACTOR_KEY)
    if not is_actor(actor):
        raise InvalidInput(
            f"{ACTOR_KEY} must look like user:NAME, printable ASCII without spaces, at most"
            f" {ACTOR_CHARACTERS_MAX} characters",
            field=ACTOR_KEY,
        )
    if actor.partition(":")[0] in _OWN:
        raise Denied(
            f"{actor!r} names a process of Skerry's own, or a credential; call as user:NAME"
        )
    return actor


def reason_of(context: Any) -> str:
    """Return why the caller does it, empty when it does not say."""
    told = [value for key, value in context.invocation_metadata() or () if key == REASON_KEY]
    if not told:
        return ""
    try:
        reason = str(told[0], "utf-8")
    except (UnicodeDecodeError, TypeError):
        reason = "\0"
    if len(told) > 1 or len(reason) > REASON_CHARACTERS_MAX or not reason.isprintable():
        raise InvalidInput(
            f"send {REASON_KEY} once: printable UTF-8 of at most {REASON_CHARACTERS_MAX}"
            " characters",
            field=REASON_KEY,
        )
    return reason
