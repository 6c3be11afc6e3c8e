"""Whose figures a deployment is planned with is what it is planned with."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from skerry.fleet.deployment import Deployment, ResourceShape
from skerry.fleet.figures import FigureSource, figures_of
from skerry.fleet.profile import Profile, with_measured
from tests.builders import a_deployment, a_profile

KINDS = ("cpu", "h100", "l4")


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    speeds = st.none() | st.floats(1.0, 1e6)
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True))
    shapes = tuple(
        ResourceShape(accelerator=kind, throughput_tokens_per_second=draw(speeds)) for kind in kinds
    )
    demo = a_deployment()
    return replace(demo, revision=replace(demo.revision, shapes=shapes))


@st.composite
def profiles(draw: st.DrawFn) -> dict[object, Profile]:
    found = [
        a_profile({1: draw(st.floats(1.0, 1e6))}, accelerator=kind)
        for kind in draw(st.sets(st.sampled_from(KINDS)))
    ]
    slow = draw(st.booleans())
    late = [
        replace(one, steps=tuple(replace(s, ttft_p99_seconds=99.0) for s in one.steps))
        for one in found[:1]
        if slow
    ]
    return {one.key: one for one in (*found, *late)}


@given(deployments(), profiles())
def test_the_figures_told_are_those_that_the_scheduler_gets(
    deployment: Deployment, known: dict[object, Profile]
) -> None:
    told = figures_of(deployment, known)  # type: ignore[arg-type]
    planned = with_measured(deployment, known)  # type: ignore[arg-type]
    assert [one.tokens_per_second for one in told.shapes] == [
        shape.throughput_tokens_per_second for shape in planned.revision.shapes
    ]
    assert (told.source is FigureSource.PROFILE) == (planned != deployment)
    says = any(shape.throughput_tokens_per_second for shape in deployment.revision.shapes)
    assert (told.source is FigureSource.DEPLOYMENT) == says
