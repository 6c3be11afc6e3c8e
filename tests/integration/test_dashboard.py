"""The dashboard in a real browser: each page, live updates, each action, and what is refused.

With SKERRY_DASHBOARD_IMAGES set to a folder a picture of each page is kept there (`make images`).
"""

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from control_plane.reconcile.policy import ReconcilePolicy
from skerry.fleet.observation import PlaneState
from tests.integration.dashboard_fleet import a_model, apply_fleet
from tests.integration.dashboard_world import (
    AXE,
    CLOCK,
    World,
    a_browser,
    a_world,
    needs_axe,
    needs_chromium,
    sign_in,
    turning,
)

pytestmark = [needs_chromium, pytest.mark.asyncio(loop_scope="module")]

IMAGES = os.environ.get("SKERRY_DASHBOARD_IMAGES", "")
PAGE_BYTES_MAX = 300_000
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
SHOWN_MILLISECONDS_MAX = 15_000
PAGES = {
    "fleet": "/",
    "plane": "/planes/aws-use1",
    "deployments": "/deployments",
    "deployment": "/deployments/chat-70b",
    "placements": "/placements",
    "why-not": "/placements/why?deployment=legal-de",
    "survival": "/survival",
    "what-if": "/survival/what-if?lose=cloud&lose_name=aws",
    "plans": "/plans",
    "plan": "/plans/1",
    "timeline": "/timeline",
    "change": "/timeline/12",
    "actions": "/actions",
    "drain": "/actions/drain?part=planes/aws-use1",
}
HOSTILE = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with a_world(tmp_path_factory.mktemp("dashboard")) as made:
        await apply_fleet(made)
        async with turning(made):
            yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Any]:
    async with a_browser() as made:
        yield made


async def a_page(browser: Any, world: World, role: str = "admin", **context: Any) -> Any:
    """Return a page that is signed in, in a context of its own."""
    page = await (await browser.new_context(viewport=DESK, **context)).new_page()
    await sign_in(world, page, role)
    return page


async def settled(page: Any) -> None:
    """Wait until what the page asks for after its first paint is there."""
    if "/survival" in page.url:
        await page.locator("table").first.wait_for(timeout=SHOWN_MILLISECONDS_MAX)
    await page.locator("#link-state.on").wait_for()


@pytest.mark.parametrize("name", PAGES)
async def test_a_page_is_whole_small_and_asks_nobody_else(
    world: World, browser: Any, name: str
) -> None:
    page = await a_page(browser, world)
    complaints: list[str] = []
    fetched: list[tuple[str, int]] = []
    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))

    def count(response: Any) -> None:
        # Of its header: a body cannot be read any more once its page was left.
        if not response.url.endswith("/events"):
            size = int(response.headers.get("content-length", PAGE_BYTES_MAX))
            fetched.append((response.url, size))

    page.on("response", count)
    answer = await page.goto(world.url + PAGES[name])
    await settled(page)
    assert answer.status == 200
    assert complaints == []
    assert {url for url, _ in fetched if not url.startswith(world.url)} == set()
    assert sum(size for _, size in fetched) < PAGE_BYTES_MAX
    if IMAGES:
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            path = Path(IMAGES) / f"dashboard-{name}-{scheme}.png"
            await page.screenshot(path=path, full_page=True)
    await page.context.close()


@needs_axe
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_is_for_everybody(world: World, browser: Any, scheme: str) -> None:
    page = await a_page(browser, world, color_scheme=scheme, bypass_csp=True)
    for name, path in PAGES.items():
        await page.goto(world.url + path)
        await settled(page)
        await page.add_script_tag(path=AXE)
        found = await page.evaluate("async () => (await axe.run()).violations")
        told = [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found]
        assert told == [], name
    await page.context.close()


async def test_a_phone_shows_every_page_without_scrolling_it_sideways(
    world: World, browser: Any
) -> None:
    page = await a_page(browser, world)
    await page.set_viewport_size(PHONE)
    for name, path in PAGES.items():
        await page.goto(world.url + path)
        await settled(page)
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], name
        if IMAGES and name in ("fleet", "deployment"):
            await page.screenshot(path=Path(IMAGES) / f"dashboard-{name}-phone.png")
    await page.context.close()


async def test_the_keyboard_alone_reaches_a_page_and_its_content(
    world: World, browser: Any
) -> None:
    page = await a_page(browser, world)
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.className") == "skip"
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "content"
    await page.get_by_role("link", name="Deployments").focus()
    await page.keyboard.press("Enter")
    await page.get_by_role("heading", name="Deployments").wait_for()
    await page.context.close()


async def test_times_of_answers_stand_beside_the_promise_with_the_share_that_kept_it(
    world: World, browser: Any
) -> None:
    page = await a_page(browser, world)
    await page.goto(f"{world.url}/deployments")
    row = page.get_by_role("row", name="chat-70b")
    told = await row.inner_text()
    assert "98.5 %" in told
    assert "164 ms" in told, "the median time to the first token, of counts between bounds"
    assert "old" not in told
    await page.goto(f"{world.url}/deployments/chat-70b")
    assert "98.5 %" in await page.locator("dl.tiles").inner_text()
    await page.context.close()


async def test_a_change_shows_by_itself(world: World, browser: Any) -> None:
    page = await a_page(browser, world)
    await page.goto(f"{world.url}/deployments")
    await settled(page)
    async with world.client() as client:
        await client.apply(a_model("newcomer", 1, 1))
    await page.get_by_role("link", name="newcomer").wait_for(timeout=SHOWN_MILLISECONDS_MAX)
    async with world.client() as client:
        await client.delete_deployment("newcomer")
    await page.context.close()


async def test_a_cell_of_the_matrix_says_why(world: World, browser: Any) -> None:
    page = await a_page(browser, world)
    await page.goto(f"{world.url}/placements")
    await page.get_by_role("link", name="legal-de on aws-use1--main: none, why not").click()
    why = page.locator("#why")
    await why.get_by_role("heading").wait_for(timeout=SHOWN_MILLISECONDS_MAX)
    assert "residency" in await why.inner_text()
    await page.context.close()


ACTIONS = {
    "cordon": ({"part": "planes/aws-euw1"}, "planes/aws-euw1 is cordoned"),
    "uncordon": ({"part": "planes/aws-euw1"}, "takes replicas again"),
    "pause-rollout": ({"deployment": "code-32b"}, "is paused now"),
    "resume-rollout": ({"deployment": "code-32b"}, "the rollout of code-32b is"),
    "rollback": ({"deployment": "code-32b"}, "code-32b goes back"),
    "pause-scaling": ({"deployment": "embed"}, "embed keeps its replicas"),
    "resume-scaling": ({"deployment": "embed"}, "embed follows its load again"),
    "move": (
        {
            "deployment": "embed",
            "from_pool": "aws-use1--main",
            "to_pool": "aws-euw1--main",
            "replicas": "1",
        },
        "1 of embed move from aws-use1--main",
    ),
    "drain": ({"part": "planes/gcp-euw4"}, "planes/gcp-euw4: dra"),
}


async def do(page: Any, world: World, verb: str, fields: dict[str, str], reason: str) -> str:
    """Fill in an action's form, confirm it, and return what the next page tells."""
    await page.goto(f"{world.url}/actions/{verb}")
    for name, value in fields.items():
        await page.locator(f"#a-{name}").fill(value)
    await page.get_by_role("button", name="Show what it would do").click()
    await page.get_by_label("Why, for the change log").fill(reason)
    await page.locator("form.sheet button").click()
    notice = page.locator("p.notice")
    await notice.wait_for(timeout=SHOWN_MILLISECONDS_MAX)
    return str(await notice.inner_text())


async def test_each_action_is_confirmed_done_and_recorded_with_its_reason(
    world: World, browser: Any
) -> None:
    async with world.client() as client:
        await client.apply(a_model("code-32b", 4, 6, 4))  # another revision, to go back from
    page = await a_page(browser, world, "operator")
    for verb, (fields, told) in ACTIONS.items():
        said = await do(page, world, verb, fields, f"test of {verb}")
        assert told in said, verb
    async with world.client() as client:
        changes = await client.latest_changes(100, 'actor = "token:operator"')
        await client.cordon("planes/gcp-euw4", cordoned=False)
    reasons = {change.reason for change in changes}
    assert {"test of cordon", "test of rollback", "test of move", "test of drain"} <= reasons
    await page.context.close()


async def test_what_an_operator_may_not_do_is_neither_offered_nor_done(
    world: World, browser: Any
) -> None:
    page = await a_page(browser, world, "viewer")
    await page.goto(f"{world.url}/planes/aws-use1")
    drain = page.get_by_role("link", name="Drain")
    assert await drain.get_attribute("aria-disabled") == "true"
    assert await drain.get_attribute("href") is None
    await page.goto(f"{world.url}/actions/drain?part=planes/aws-use1")
    assert "needs role operator" in await page.get_by_role("alert").inner_text()
    secret = await page.locator("input[name=form_secret]").first.get_attribute("value")
    fields = {"part": "planes/aws-use1", "form_secret": secret}
    answer = await page.request.post(
        f"{world.url}/actions/cordon", form=fields, headers={"Origin": world.url}
    )
    assert answer.status == 403
    assert "needs role operator" in await answer.text()
    await page.context.close()


async def test_a_failover_is_refused_for_a_plane_that_is_heard(world: World, browser: Any) -> None:
    page = await a_page(browser, world)
    await page.goto(f"{world.url}/actions/failover?part=planes/aws-use1")
    assert "aws-use1" in await page.get_by_role("alert").inner_text()
    assert await page.locator("form[method=post].sheet").count() == 0
    await page.context.close()


async def test_text_from_elsewhere_is_shown_and_never_run(world: World, browser: Any) -> None:
    page = await a_page(browser, world)
    fields = {"part": "planes/onprem-fra"}
    await do(page, world, "cordon", fields, HOSTILE)
    await do(page, world, "uncordon", fields, "enough")
    for path in ("/timeline", f"/deployments?name={HOSTILE}", f"/timeline?actor={HOSTILE}"):
        await page.goto(world.url + path)
        await settled(page)
        assert await page.evaluate("window.hacked") is None
    await page.goto(f"{world.url}/timeline")
    assert HOSTILE in await page.locator("table").inner_text()
    # Were it in a page, the policy would not run it either.
    refused = await page.evaluate(
        "() => new Promise(done => {"
        " document.addEventListener('securitypolicyviolation', e => done(e.violatedDirective));"
        " const made = document.createElement('script'); made.textContent = 'window.hacked=1';"
        " document.body.append(made); })"
    )
    assert refused.startswith("script-src")
    assert await page.evaluate("window.hacked") is None
    await page.context.close()


async def test_a_form_that_is_not_of_the_session_changes_nothing(
    world: World, browser: Any
) -> None:
    page = await a_page(browser, world)
    url, fields = f"{world.url}/actions/cordon", {"part": "planes/aws-use1"}
    own, strange = {"Origin": world.url}, {"Origin": "http://evil.example"}
    secret = await page.locator("input[name=form_secret]").first.get_attribute("value")
    whole = {**fields, "form_secret": secret}
    for form, headers in ((fields, own), ({**fields, "form_secret": "x"}, own), (whole, strange)):
        answer = await page.request.post(url, form=form, headers=headers)
        assert answer.status == 403
    cookies = await page.context.cookies()
    assert [(one["httpOnly"], one["sameSite"]) for one in cookies] == [(True, "Strict")]
    async with aiohttp.ClientSession() as stranger:
        async with stranger.post(url, data=whole, headers=own) as response:
            assert response.status == 401
        async with stranger.get(world.url, headers={"Host": "evil.example"}) as response:
            assert response.status == 403
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    async with world.client() as client:
        assert await client.list_cordons() == ()
    await page.context.close()


async def test_no_page_shows_a_secret_and_a_revoked_token_signs_out(
    world: World, browser: Any
) -> None:
    page = await a_page(browser, world, "viewer")
    for path in PAGES.values():
        await page.goto(world.url + path)
        text = await page.content()
        assert not re.search(r"skt_[a-z]+_[\w-]{43}", text), path
    async with world.client() as client:
        await client.revoke_service_token("viewer")
    await page.goto(f"{world.url}/deployments")
    await page.get_by_role("button", name="Sign in").wait_for()
    await page.context.close()


async def test_without_a_control_plane_the_last_answers_stay_with_their_age(
    tmp_path: Path, browser: Any
) -> None:
    async with a_world(tmp_path) as world:
        await apply_fleet(world)
        page = await a_page(browser, world)
        assert world.server is not None
        await world.server.stop(0)
        await page.goto(world.url)
        alert = page.locator("p.stale")
        await alert.wait_for(timeout=SHOWN_MILLISECONDS_MAX)
        assert "Not current: read" in await alert.inner_text()
        assert await page.get_by_role("rowheader", name="aws-use1").count() == 1
        await page.goto(f"{world.url}/plans")  # was never read
        assert await page.get_by_role("alert").count() == 1
        if IMAGES:
            await page.goto(world.url)
            await page.screenshot(path=Path(IMAGES) / "dashboard-stale.png")
        await page.context.close()


async def test_a_plan_that_waits_is_approved_and_another_rejected(
    tmp_path: Path, browser: Any
) -> None:
    async with a_world(tmp_path, ReconcilePolicy(advisory=True)) as world:
        async with world.client() as client:
            for verb, name in (("approve", "first"), ("reject", "second")):
                await client.apply(a_model(name, 2, 2))
                await world.turns(2)
                page = await a_page(browser, world, "operator")
                await page.goto(f"{world.url}/plans")
                if IMAGES:
                    await page.screenshot(path=Path(IMAGES) / "dashboard-held.png")
                await page.get_by_role("link", name=verb.capitalize()).first.click()
                assert f"{name} on" in await page.locator("form.sheet").inner_text()
                await page.get_by_role("button", name=f"{verb.capitalize()} plan").click()
                said = await page.locator("p.notice").inner_text()
                assert "approved" in said or "applied" in said or "rejected" in said
                await page.context.close()
                await world.turns(2)
            states = {plan.state for plan in await client.list_plans()}
    assert "rejected" in states


async def test_a_silent_plane_is_failed_over(tmp_path: Path, browser: Any) -> None:
    async with a_world(tmp_path) as world:
        await apply_fleet(world)
        world.silence("onprem-fra")
        page = await a_page(browser, world, "operator")
        async with world.client() as client:
            while (await client.get_plane("onprem-fra")).state is PlaneState.CONNECTED:
                await CLOCK.sleep(0.1)
                await world.turns(1)
        fields = {"part": "planes/onprem-fra"}
        said = await do(page, world, "failover", fields, "it burns")
        assert "declared lost: onprem-fra" in said
        await page.context.close()
