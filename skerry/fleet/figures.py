"""Whose figures a deployment is planned with: its own, a profile's, or nobody's. Pure.

Plans show it, so that nobody takes a guess for a measurement; `profile.with_measured` acts by it.
"""

from dataclasses import dataclass
from enum import StrEnum

from skerry.fleet.deployment import Deployment
from skerry.fleet.profile import Profile, Profiles, profile_key


class FigureSource(StrEnum):
    """Where a deployment's tokens per second come from."""

    DEPLOYMENT = "deployment"  # it says so itself: the operator's figure
    PROFILE = "profile"
    NONE = "none"  # every replica counts alike


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeFigure:
    """What is planned with on one kind of accelerator, and what was measured there.

    `measured_tokens_per_second` is within the deployment's objective: None where no profile is, or
    at no concurrency.
    """

    accelerator: str
    tokens_per_second: float | None
    profile: Profile | None
    measured_tokens_per_second: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of a deployment, shape by shape."""

    source: FigureSource
    shapes: tuple[ShapeFigure, ...]


def figures_of(deployment: Deployment, profiles: Profiles) -> Figures:
    """Return what a deployment is planned with, as `with_measured` makes it."""
    revision = deployment.revision
    found = []
    for shape in revision.shapes:
        profile = profiles.get(profile_key(revision, shape))
        step = profile.step_within(revision.objective) if profile else None
        found.append((shape, profile, step.output_tokens_per_second if step else None))
    if any(shape.throughput_tokens_per_second for shape in revision.shapes):
        source = FigureSource.DEPLOYMENT
    elif all(measured is not None for _, _, measured in found):
        source = FigureSource.PROFILE
    else:
        source = FigureSource.NONE
    return Figures(
        source=source,
        shapes=tuple(
            ShapeFigure(
                accelerator=shape.accelerator,
                tokens_per_second=(
                    measured
                    if source is FigureSource.PROFILE
                    else shape.throughput_tokens_per_second
                ),
                profile=profile,
                measured_tokens_per_second=measured,
            )
            for shape, profile, measured in found
        ),
    )
