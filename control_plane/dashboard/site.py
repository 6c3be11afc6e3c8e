"""The dashboard's HTTP application: who is signed in, which page, and what goes around each answer.

main.py builds it from the settings and serves it at `dashboard_address`.
"""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from control_plane.api.access.authenticator import Authenticator
from control_plane.dashboard import drawing, guard
from control_plane.dashboard.live import answer_events
from control_plane.dashboard.reading import Reader
from control_plane.dashboard.routes import ACTS, PAGES
from control_plane.dashboard.sessions import Session, Sessions
from control_plane.dashboard.visit import Page, Visit
from skerry.client.async_operator import AsyncOperatorClient
from skerry.client.context import Context
from skerry.client.retrying import NO_RETRIES
from skerry.fleet.access import Principal, is_actor
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import (
    Conflict,
    Denied,
    Exhausted,
    Infeasible,
    InvalidInput,
    NotFound,
    SkerryError,
    Unauthenticated,
    Unavailable,
)
from skerry.plumbing.ids import IdSource

_log = logs.get_logger(__name__)

# A form has a dozen short fields.
FORM_BYTES_MAX = 64 * 1024
# What a person types, or the token of an issuer.
CREDENTIAL_CHARACTERS_MAX = 16_384
FOREVER = "public, max-age=31536000, immutable"
_NOBODY = "user:dashboard"
_FORM_TYPE = "application/x-www-form-urlencoded"
_STATUS: tuple[tuple[type[SkerryError], int], ...] = (
    (Unauthenticated, 401),
    (Denied, 403),
    (NotFound, 404),
    (InvalidInput, 400),
    (Conflict, 409),
    (Infeasible, 409),
    (Exhausted, 429),
    (Unavailable, 503),
)
_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".txt": "text/plain",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the dashboard asks, and where browsers see it: `origin` with a proxy before it."""

    operator_address: str
    project: str
    port: int
    origin: str | None = None

    @property
    def cookie(self) -> str:
        """Return the cookie's name; ports of one host share their cookies."""
        prefix = "__Host-" if self.origin else ""
        return f"{prefix}skerry-{self.port}"


class Site:
    """The dashboard of one control plane."""

    def __init__(
        self, place: Place, authenticator: Authenticator, clock: Clock, ids: IdSource
    ) -> None:
        """Serve nothing yet; `application` is what to serve."""
        self._place = place
        self._authenticator = authenticator
        self._clock = clock
        self._ids = ids
        self._sessions = Sessions(ids)
        self._templates = drawing.environment()
        self._files = drawing.static_digests()

    def application(self) -> web.Application:
        """Return the application; its clean-up signs everybody out."""
        made = web.Application(middlewares=[self._around], client_max_size=FORM_BYTES_MAX)
        made.router.add_get("/login", self._login_form)
        made.router.add_post("/login", self._login)
        made.router.add_post("/logout", self._logout)
        made.router.add_get("/events", self._events)
        made.router.add_get("/static/{digest}/{name}", self._static)
        for path, page in PAGES:
            made.router.add_get(path, self._paged(page))
        for path, act in ACTS:
            made.router.add_post(path, self._acted(act))

        async def end(_: web.Application) -> None:
            await self._sessions.close()

        made.on_shutdown.append(end)
        return made

    @web.middleware
    async def _around(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        refused = guard.refusal_of(request.method, request.headers, self._place.origin)
        if refused:
            response: web.StreamResponse = web.Response(status=403, text=f"{refused}\n")
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = error
            except Unauthenticated as error:
                response = await self._signed_out(request, error)
            except SkerryError as error:
                response = self._refused(request, error)
        if not response.prepared:
            response.headers.update(guard.HEADERS)
            response.headers.setdefault("Cache-Control", "no-store")
        if isinstance(response, web.HTTPException):
            raise response
        return response

    def _paged(
        self, page: Callable[[Visit], Awaitable[Page]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            visit = await self._visit(request)
            return self._rendered(visit, await page(visit))

        return handle

    def _acted(
        self, act: Callable[[Visit, dict[str, str]], Awaitable[str]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            visit = await self._visit(request)
            form = await _form(request)
            if not guard.is_same(form.pop("form_secret", ""), visit.session.form_secret):
                raise Denied("this form is not of your session; open the page again and repeat")
            back = _own_path(form.pop("back", "/"))
            visit.session.notice = await act(visit, form)
            raise web.HTTPSeeOther(back)

        return handle

    async def _visit(self, request: web.Request) -> Visit:
        """Return the visit of who is signed in; Unauthenticated for anybody else."""
        now = self._clock.monotonic()
        session = await self._sessions.find(request.cookies.get(self._place.cookie, ""), now)
        if session is None:
            raise Unauthenticated("")
        # Without a database it is not known any more whether it still is one: then only what was
        # answered before is shown, for the operator port itself lets nobody in.
        with contextlib.suppress(Unavailable):
            session.principal = await self._principal(session.context.token, request)
        return Visit(
            request=request,
            session=session,
            principal=session.principal,
            reading=session.reader.begin(),
            project=self._place.project,
            now=self._clock.now(),
        )

    async def _principal(self, token: str, request: web.Request) -> Principal:
        """Return whom the credential stands for now: it may have been revoked since."""
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        return await self._authenticator.principal(metadata, request.remote or "")

    def _rendered(self, visit: Visit, page: Page) -> web.Response:
        session, reading = visit.session, visit.reading
        notice = ""
        if not page.is_part and "HX-Request" not in visit.request.headers:
            notice, session.notice = session.notice, ""
        values = {
            **page.values,
            "title": page.title,
            "is_part": page.is_part,
            "here": visit.request.path_qs,
            "path": visit.request.path,
            "actor": session.actor,
            "roles": sorted({grant.role.value for grant in visit.principal.grants}),
            "form_secret": session.form_secret,
            "notice": notice,
            "stale_seconds": reading.age_seconds,
            "stale_reason": reading.reason,
        }
        return self._html(page.template, values)

    def _html(self, template: str, values: dict[str, object], status: int = 200) -> web.Response:
        text = self._templates.get_template(template).render(
            drawing.frame_values(values, self._clock.now())
        )
        return web.Response(text=text, content_type="text/html", status=status)

    def _refused(self, request: web.Request, error: SkerryError) -> web.Response:
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
        template = "refused_part.html" if "HX-Request" in request.headers else "refused.html"
        values: dict[str, object] = {
            "title": "Not done" if request.method == "POST" else "Not to be had",
            "message": error.message,
            "retry_after": error.retry_after_seconds,
        }
        return self._html(template, values, status)

    async def _signed_out(self, request: web.Request, error: Unauthenticated) -> web.Response:
        await self._sessions.end(request.cookies.get(self._place.cookie, ""))
        if "HX-Request" in request.headers or request.path == "/events":
            # The open page goes to the form as a whole; 204 ends a stream of events for good.
            return web.Response(status=204, headers={"HX-Redirect": "/login"})
        return self._login_page(error.message, 401)

    async def _login_form(self, request: web.Request) -> web.Response:
        return self._login_page("", 200)

    def _login_page(self, message: str, status: int) -> web.Response:
        values = {
            "title": "Sign in",
            "message": message,
            "required": self._authenticator.is_required,
        }
        return self._html("login.html", values, status)

    async def _login(self, request: web.Request) -> web.Response:
        form = await _form(request)
        token = form.get("token", "").strip()
        if len(token) > CREDENTIAL_CHARACTERS_MAX or not token.isascii() or len(token.split()) > 1:
            return self._login_page("this is no credential", 401)
        name = form.get("name", "").strip()
        actor = f"user:{name}" if name else _NOBODY
        if not is_actor(actor):
            return self._login_page("the name must be printable ASCII without spaces", 400)
        try:
            principal = await self._principal(token, request)
        except (Unauthenticated, Exhausted) as error:
            return self._login_page(error.message, 401)
        context = Context(
            endpoints=(self._place.operator_address,), project=self._place.project, token=token
        )
        now = self._clock.monotonic()
        session = Session(
            id=self._sessions.secret(),
            form_secret=self._sessions.secret(),
            context=context,
            claimed=actor,
            actor=principal.actor or actor,
            principal=principal,
            ids=self._ids,
            client=AsyncOperatorClient(context, self._ids, actor, retries=NO_RETRIES),
            reader=Reader(self._clock),
            began=now,
            used=now,
        )
        await self._sessions.end(request.cookies.get(self._place.cookie, ""))
        await self._sessions.add(session)
        _log.info("dashboard.signed-in", actor=session.actor)
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(
            self._place.cookie,
            session.id,
            httponly=True,
            samesite="Strict",
            path="/",
            secure=self._place.origin is not None,
        )
        return response

    async def _logout(self, request: web.Request) -> web.Response:
        visit = await self._visit(request)
        form = await _form(request)
        if not guard.is_same(form.get("form_secret", ""), visit.session.form_secret):
            raise Denied("this form is not of your session")
        await self._sessions.end(visit.session.id)
        response = web.Response(status=303, headers={"Location": "/login"})
        response.del_cookie(self._place.cookie, path="/")
        return response

    async def _events(self, request: web.Request) -> web.StreamResponse:
        visit = await self._visit(request)
        return await answer_events(request, visit.session, self._clock)

    async def _static(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._files:
            raise web.HTTPNotFound(text="no such file\n")
        path = drawing.STATIC / name
        return web.Response(
            body=path.read_bytes(),
            content_type=_TYPES[path.suffix],
            charset="utf-8",
            headers={"Cache-Control": FOREVER},
        )


async def _form(request: web.Request) -> dict[str, str]:
    """Return a form's fields; InvalidInput for no form of ours or a field that is there twice."""
    if request.content_type != _FORM_TYPE:
        # Ours have no files; in parts that are not whole aiohttp fails in many ways.
        raise InvalidInput(f"a form must come as {_FORM_TYPE}")
    try:
        told = await request.post()
    except (ValueError, LookupError):
        raise InvalidInput("the form is in no encoding that is known here") from None
    found: dict[str, str] = {}
    for name, value in told.items():
        if not isinstance(value, str) or name in found:
            raise InvalidInput(f"field {name[:40]!r} must be one text")
        found[name] = value
    return found


def _own_path(path: str) -> str:
    """Return a path of this site, the first page for anything else."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_own else "/"
