"""Actions: which there are, a confirmation that shows what each would do, and doing it."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from control_plane.dashboard.deeds import DEEDS, Deed, planes_in
from control_plane.dashboard.visit import Page, Visit, checked_word
from skerry.client.async_operator import AsyncOperatorClient
from skerry.plumbing.errors import InvalidInput, NotFound, SkerryError, Unauthenticated, Unavailable

REASON_CHARACTERS_MAX = 300


async def actions_page(visit: Visit) -> Page:
    """Return every action with whether the operator may do it."""
    return Page(
        template="actions.html",
        title="Actions",
        values={
            "deeds": DEEDS,
            "why_not": {verb: visit.why_not(deed.method) for verb, deed in DEEDS.items()},
        },
    )


async def confirm_page(visit: Visit) -> Page:
    """Return the form of an action; once it is filled in, what the action would do."""
    verb = visit.request.match_info["verb"]
    deed = _deed(verb)
    form = _read(deed, visit.request.query)
    why_not = visit.why_not(deed.method, planes_in(form))
    missing = deed.missing(form)
    lines: tuple[str, ...] = ()
    refused = ""
    if not why_not and not missing:
        try:
            lines = await deed.preview(visit.client, form)
        except (Unauthenticated, Unavailable):
            raise
        except SkerryError as error:
            refused = error.message
    return Page(
        template="confirm.html",
        title=deed.title,
        values={
            "verb": verb,
            "deed": deed,
            "form": form,
            "missing": missing,
            "was_sent": any(form.values()),
            "lines": lines,
            "refused": refused,
            "why_not": why_not,
            "back": _came_from(visit.request.headers.get("Referer", "")),
        },
    )


async def act(visit: Visit, told: dict[str, str]) -> str:
    """Do it and return what came of it, for people."""
    deed = _deed(visit.request.match_info["verb"])
    form = _read(deed, told)
    if missing := deed.missing(form):
        raise InvalidInput(f"tell {', '.join(missing)}")
    reason = told.get("reason", "").strip()
    if len(reason) > REASON_CHARACTERS_MAX or not reason.isprintable():
        raise InvalidInput(f"a reason has at most {REASON_CHARACTERS_MAX} printable characters")
    # One that retries, unlike the pages': a repeat has the request's id and is one effect.
    async with AsyncOperatorClient(
        visit.session.context, visit.session.ids, visit.session.claimed, reason
    ) as client:
        return await deed.run(client, form)


def _came_from(referer: str) -> str:
    """Return the page of ours that led here, the list of actions where none is told."""
    parts = urlsplit(referer)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return "/actions" if not path or path.startswith(("/actions", "/login", "//")) else path


def _deed(verb: str) -> Deed:
    if verb not in DEEDS:
        raise NotFound(f"there is no action {verb[:40]!r}; there are {', '.join(DEEDS)}")
    return DEEDS[verb]


def _read(deed: Deed, told: Mapping[str, str]) -> dict[str, str]:
    return {f.name: checked_word(told.get(f.name, ""), f.label) for f in deed.fields}
