"""Which numbers a plane may say that it saw: none after which nobody could count on. Pure.

A control plane leads in an epoch above every one that planes heard of. A plane that names one near
the end of what databases can store would end the last leader there could ever be.
"""

from skerry.fleet.generation import Version
from skerry.fleet.observation import PlaneReport
from skerry.plumbing.errors import InvalidInput

# Each takes a change of the leader: at one in three seconds a month's worth. A backup is no older.
EPOCHS_AHEAD_MAX = 1_000_000
# Of one plane's desired states: far above what is ever counted to, and half of what can be stored.
GENERATION_MAX = 2**62


def check_credible(report: PlaneReport, epoch: int, pushed: Version | None = None) -> None:
    """Refuse a report of epochs or generations that nobody can have led in; InvalidInput says so.

    `epoch` is ours, who lead; `pushed` what the plane was told last, whatever it had us count to.
    """
    most = max(GENERATION_MAX, pushed.generation if pushed is not None else 0)
    seen = max(report.held.epoch, report.seen.epoch, report.newest_epoch)
    if seen > epoch + EPOCHS_AHEAD_MAX:
        raise InvalidInput(
            f"plane {report.identity.name!r} names epoch {seen}, and epoch {epoch} leads: no more"
            f" than {EPOCHS_AHEAD_MAX:,} ahead can be true; {_REMEDY}"
        )
    if report.generation_seen > most:
        raise InvalidInput(
            f"plane {report.identity.name!r} names generation {report.generation_seen}: nobody"
            f" counted to more than {most}; {_REMEDY}"
        )


_REMEDY = (
    "stop its agent, move its desired state files (NAME, NAME.prev, NAME.seen) away and start it"
    " again (its replicas run on),"
    " or revoke the plane if its agent is not yours"
)
