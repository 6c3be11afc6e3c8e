"""Which base models a plane fetches, and which of them first."""

from dataclasses import replace

from skerry.fleet.deployment import BaseModel, Revision
from skerry.fleet.desired import Assignment, DesiredState
from skerry.fleet.engine import (
    EngineName,
    EngineSpec,
    Lora,
    LoraAdapter,
    SpeculativeDecoding,
    SpeculativeMethod,
)
from skerry.fleet.generation import Version
from skerry.fleet.placement import Envelope
from tests.unit.workload_plane.converge.test_plan import POOL, a_deployment
from workload_plane.models.wanted import (
    WantedModel,
    choose_downloads,
    model_uris,
    wanted_models,
)


def revision(uri: str, engine: EngineName = EngineName.VLLM, draft: str = "") -> Revision:
    speculative = (
        SpeculativeDecoding(
            method=SpeculativeMethod.DRAFT_MODEL, draft_tokens=3, draft_model_uri=draft
        )
        if draft
        else None
    )
    return replace(
        a_deployment().revision,
        base_model=BaseModel(uri=uri, served_name="x"),
        engine=EngineSpec(name=engine, speculative=speculative),
    )


def assignment(
    name: str, of: Revision, target: int, ceiling: int, tombstone: bool = False
) -> Assignment:
    envelope = Envelope(deployment=name, pool=POOL, floor=0, target=target, ceiling=ceiling)
    return Assignment(
        deployment=replace(a_deployment(name), revision=of),
        envelopes=(envelope,),
        tombstone=tombstone,
    )


def desired(*assignments: Assignment) -> DesiredState:
    return DesiredState(
        plane="here", version=Version(epoch=1, generation=1), assignments=assignments
    )


def test_all_that_may_be_started_is_wanted_and_what_is_due_comes_first() -> None:
    state = desired(
        assignment("a", revision("hf://o/later"), 0, 2),
        assignment("b", revision("hf://o/now", draft="hf://o/draft"), 1, 1),
        assignment("c", revision("hf://o/never"), 0, 0),
        assignment("d", revision("hf://o/gone"), 1, 1, tombstone=True),
        assignment("e", revision("builtin://here"), 1, 1),
        assignment("f", revision("hf://o/simulated", EngineName.SIMULATED), 1, 1),
        assignment("g", revision("hf://o/now"), 0, 1),
    )
    assert wanted_models(state, None) == (
        WantedModel(uri="hf://o/draft", due=True),
        WantedModel(uri="hf://o/now", due=True),
        WantedModel(uri="hf://o/later", due=False),
    )


def test_adapters_are_wanted_with_the_model_they_adapt() -> None:
    of = revision("hf://o/now", draft="hf://o/draft")
    adapters = (
        LoraAdapter(name="a", uri="hf://o/a"),
        LoraAdapter(name="b", uri="file:///adapters/b"),
        LoraAdapter(name="c", uri="hf://o/a"),
    )
    of = replace(of, engine=replace(of.engine, lora=Lora(adapters=adapters)))
    assert list(model_uris(of, None)) == ["hf://o/now", "hf://o/draft", "hf://o/a"]
    assert list(model_uris(of, EngineName.SGLANG)) == ["hf://o/now"]


def test_an_override_takes_the_base_model_alone_and_the_simulated_one_nothing() -> None:
    of = revision("hf://o/now", draft="hf://o/draft")
    assert list(model_uris(of, EngineName.VLLM)) == ["hf://o/now", "hf://o/draft"]
    assert list(model_uris(of, EngineName.LLAMACPP)) == ["hf://o/now"]
    assert list(model_uris(of, EngineName.SIMULATED)) == []


def test_downloads_that_run_are_not_swapped_for_others_unless_those_are_due() -> None:
    ahead = [WantedModel(uri=name, due=False) for name in ("a", "b", "c")]
    assert choose_downloads(ahead, ("c",), 2) == ("c", "a")
    due = WantedModel(uri="z", due=True)
    assert choose_downloads([*ahead, due], ("a", "c"), 2) == ("z", "a")
    assert choose_downloads([], ("a",), 2) == ()
