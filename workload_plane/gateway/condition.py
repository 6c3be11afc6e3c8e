"""What is wrong with the gateway, in words for its operator: PURE.

The feed asks after every look and every publication; the agent reports the answer upwards, so that
a refused update is seen where people look (`skerry get planes`) and not in a plane's log alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from workload_plane.gateway.status import GatewayStatus, unconfirmed

# Envoy polls endpoints twice a second and is looked at as often; a set of clusters with a hundred
# hosts to warm takes a second or two.
CONFIRM_SECONDS_MAX = 5.0
# A restart by its supervisor takes one or two seconds and is no news.
SILENT_SECONDS_MAX = 5.0
FAULTS_MAX = 8
_FAULT_CHARACTERS_MAX = 300
_FILES_NAMED_MAX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What the feed knows; times are of one monotonic clock in seconds.

    `refused` says why the newest topology was not written, `trial` why the files would not carry a
    new Envoy. `published` are the versions that Envoy should report since `published_at`, when it
    had refused each file as often as `rejected_before` says.
    """

    now: float
    answered_at: float
    status: GatewayStatus | None = None
    published: Mapping[str, str] | None = None
    published_at: float = 0.0
    rejected_before: Mapping[str, int] = field(default_factory=dict)
    refused: str = ""
    trial: str = ""
    restart_needed: bool = False


def gateway_faults(watch: Watch) -> tuple[str, ...]:
    """Return what is wrong, the gravest first; empty when all is as it should be.

    The words change only with the fault: they are part of a report that is sent on every change.
    """
    found = []
    if watch.refused:
        found.append(f"gateway: not published: {watch.refused}; it serves what it was told before")
    if watch.status is None:
        if watch.now - watch.answered_at > SILENT_SECONDS_MAX:
            found.append("gateway: its admin page does not answer; see the gateway's log")
    else:
        found += _not_taken_up(watch, watch.status)
    if watch.trial:
        found.append(f"gateway: a new Envoy would not serve: {watch.trial}; do not restart it")
    elif watch.restart_needed:
        found.append("gateway: it must be started again to take up its bootstrap.json")
    return tuple(fault[:_FAULT_CHARACTERS_MAX] for fault in found[:FAULTS_MAX])


def refused_files(
    status: GatewayStatus, published: Mapping[str, str], before: Mapping[str, int]
) -> tuple[str, ...]:
    """Return the published files that Envoy has refused, and not taken up, since `before`.

    `before` are the counts of refusals at publication; lower ones now are those of a new Envoy.
    """

    def refused(path: str) -> bool:
        now, then = status.rejected.get(path, 0), before.get(path, 0)
        return now > then or 0 < now < then

    return tuple(path for path in unconfirmed(status, published) if refused(path))


def _not_taken_up(watch: Watch, status: GatewayStatus) -> list[str]:
    if watch.published is None or watch.now - watch.published_at <= CONFIRM_SECONDS_MAX:
        return []
    waiting = unconfirmed(status, watch.published)
    rejected = refused_files(status, watch.published, watch.rejected_before)
    silent = tuple(path for path in waiting if path not in rejected)
    found = []
    if rejected:
        why = "Envoy refused them, its log says why"
        found.append(f"gateway: not taken up: {_named(rejected)}; {why}; the last good ones serve")
    if silent:
        found.append(f"gateway: not taken up yet: {_named(silent)}")
    return found


def _named(paths: tuple[str, ...]) -> str:
    more = f" and {len(paths) - _FILES_NAMED_MAX} more" if len(paths) > _FILES_NAMED_MAX else ""
    return ", ".join(paths[:_FILES_NAMED_MAX]) + more
