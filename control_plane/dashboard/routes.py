"""Which page and which action is at which path."""

from collections.abc import Awaitable, Callable

from control_plane.dashboard.actions import act, actions_page, confirm_page
from control_plane.dashboard.deployments import deployment_page, deployments_page
from control_plane.dashboard.fleet import fleet_page, plane_page
from control_plane.dashboard.placements import placements_page, why_page
from control_plane.dashboard.plans import plan_page, plans_page
from control_plane.dashboard.survival import losses_page, survival_page, what_if_page
from control_plane.dashboard.timeline import change_page, timeline_page
from control_plane.dashboard.visit import Page, Visit

PAGES: tuple[tuple[str, Callable[[Visit], Awaitable[Page]]], ...] = (
    ("/", fleet_page),
    ("/planes/{name}", plane_page),
    ("/deployments", deployments_page),
    ("/deployments/{name}", deployment_page),
    ("/placements", placements_page),
    ("/placements/why", why_page),
    ("/survival", survival_page),
    ("/survival/losses", losses_page),
    ("/survival/what-if", what_if_page),
    ("/plans", plans_page),
    ("/plans/{number}", plan_page),
    ("/timeline", timeline_page),
    ("/timeline/{sequence}", change_page),
    ("/actions", actions_page),
    ("/actions/{verb}", confirm_page),
)
ACTS: tuple[tuple[str, Callable[[Visit, dict[str, str]], Awaitable[str]]], ...] = (
    ("/actions/{verb}", act),
)
