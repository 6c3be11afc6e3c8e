"""What the catalogue knows of contents is asked for of every base model, draft and adapter."""

from dataclasses import replace

from skerry.fleet.deployment import BaseModel, Deployment
from skerry.fleet.digests import split_digest, with_digests
from skerry.fleet.engine import (
    EngineName,
    EngineSpec,
    Lora,
    LoraAdapter,
    SpeculativeDecoding,
    SpeculativeMethod,
)
from tests.builders import a_deployment

ONE, TWO, THREE = ("ab" * 32, "cd" * 32, "ef" * 32)


def serving(uri: str) -> Deployment:
    engine = EngineSpec(
        name=EngineName.VLLM,
        speculative=SpeculativeDecoding(
            method=SpeculativeMethod.DRAFT_MODEL, draft_tokens=2, draft_model_uri="hf://o/draft"
        ),
        lora=Lora(adapters=(LoraAdapter(name="a", uri="hf://o/a"),)),
    )
    demo = a_deployment()
    model = BaseModel(uri=uri, served_name="x")
    return replace(demo, revision=replace(demo.revision, base_model=model, engine=engine))


def uris(deployment: Deployment) -> tuple[str | None, ...]:
    revision = deployment.revision
    speculative, lora = revision.engine.speculative, revision.engine.lora
    assert speculative is not None
    assert lora is not None
    return revision.base_model.uri, speculative.draft_model_uri, lora.adapters[0].uri


def test_all_that_a_replica_reads_is_asked_for_by_its_content() -> None:
    known = {"hf://o/m": ONE, "hf://o/draft": TWO, "hf://o/a": THREE, "hf://o/other": ONE}
    told = uris(with_digests(serving("hf://o/m"), known))
    assert told == (
        f"hf://o/m#sha256={ONE}",
        f"hf://o/draft#sha256={TWO}",
        f"hf://o/a#sha256={THREE}",
    )
    assert [split_digest(uri or "") for uri in told] == [
        ("hf://o/m", ONE),
        ("hf://o/draft", TWO),
        ("hf://o/a", THREE),
    ]


def test_what_asks_already_or_is_not_registered_stays_the_same_value() -> None:
    asking = serving(f"hf://o/m#sha256={TWO}")
    assert with_digests(asking, {"hf://o/m": ONE}) is asking
    assert with_digests(asking, {}) is asking
