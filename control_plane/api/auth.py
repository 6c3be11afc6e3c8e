"""Who calls: the actor every change is recorded under, from the call's metadata."""

import re
from typing import Any

from skerry.plumbing.errors import Denied, InvalidInput

ACTOR_KEY = "x-skerry-actor"
UNKNOWN_ACTOR = "user:unknown"
# Long enough for a mail address or a service's full name; shown in every line of the change log.
ACTOR_CHARACTERS_MAX = 128
_ACTOR = re.compile(r"[a-z][a-z-]*:[!-~]+")
# Actors of our own processes: what a person does must not look like what reconciliation did.
_OWN = ("control-plane", "plane")


def actor_of(context: Any) -> str:
    """Return the calling actor, e.g. `user:root`; InvalidInput when it is malformed."""
    named = [value for key, value in context.invocation_metadata() or () if key == ACTOR_KEY]
    if not named:
        return UNKNOWN_ACTOR
    actor = named[0]
    if len(named) > 1 or not isinstance(actor, str):
        raise InvalidInput(f"send {ACTOR_KEY} once, as text", field=ACTOR_KEY)
    if len(actor) > ACTOR_CHARACTERS_MAX or not _ACTOR.fullmatch(actor):
        raise InvalidInput(
            f"{ACTOR_KEY} must look like user:NAME, printable ASCII without spaces, at most"
            f" {ACTOR_CHARACTERS_MAX} characters",
            field=ACTOR_KEY,
        )
    if actor.partition(":")[0] in _OWN:
        raise Denied(f"{actor!r} names a process of Skerry's own; call as user:NAME")
    return actor
