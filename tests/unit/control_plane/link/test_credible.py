"""Numbers that a plane may say that it saw, and those after which nobody could count on."""

import pytest

from control_plane.link.credible import EPOCHS_AHEAD_MAX, GENERATION_MAX, check_credible
from skerry.fleet.generation import Version
from skerry.plumbing.errors import InvalidInput
from tests.builders import a_report

EPOCH = 7
LAST = EPOCH + EPOCHS_AHEAD_MAX


@pytest.mark.parametrize(
    "told",
    [
        {"newest_epoch": LAST},
        {"held": Version(epoch=LAST, generation=GENERATION_MAX)},
        {"seen": Version(epoch=0, generation=GENERATION_MAX)},
    ],
)
def test_an_older_backup_is_told_of_whatever_it_missed(told: dict[str, object]) -> None:
    check_credible(a_report("fra", **told), EPOCH)


def test_what_it_was_pushed_itself_it_may_name() -> None:
    pushed = Version(epoch=EPOCH, generation=GENERATION_MAX + 1)
    check_credible(a_report("fra", held=pushed), EPOCH, pushed)


@pytest.mark.parametrize(
    ("told", "what"),
    [
        ({"newest_epoch": LAST + 1}, "epoch"),
        ({"newest_epoch": 2**63 - 1}, "epoch"),
        ({"held": Version(epoch=LAST + 1, generation=1)}, "epoch"),
        ({"seen": Version(epoch=LAST + 1, generation=1)}, "epoch"),
        ({"held": Version(epoch=1, generation=GENERATION_MAX + 1)}, "generation"),
        ({"seen": Version(epoch=1, generation=2**63 - 1)}, "generation"),
    ],
)
def test_what_nobody_can_have_counted_to_is_refused_with_a_remedy(
    told: dict[str, object], what: str
) -> None:
    with pytest.raises(InvalidInput, match=f"'fra' names {what} .*NAME.seen.*revoke the plane"):
        check_credible(a_report("fra", **told), EPOCH)
