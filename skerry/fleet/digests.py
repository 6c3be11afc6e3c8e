"""Base models by what they must contain: a URI that ends in `#sha256=DIGEST` asks for just that.

The control plane adds what the catalogue knows to what planes are told; planes check it. Pure.
"""

from collections.abc import Mapping
from dataclasses import replace

from skerry.fleet.deployment import Deployment
from skerry.fleet.engine import Lora, SpeculativeDecoding

DIGEST_MARK = "#sha256="
# SHA-256 in hex by the URI of what has it, which itself asks for none.
Digests = Mapping[str, str]


def with_digests(deployment: Deployment, digests: Digests) -> Deployment:
    """Return the deployment with what is known of its base model, draft model and adapters.

    A URI that already asks for a content stays as it is.
    """
    if not digests:
        return deployment
    revision = deployment.revision
    engine, model = revision.engine, revision.base_model
    asked = replace(model, uri=_asking(model.uri, digests))
    wanted = replace(
        engine,
        speculative=_draft(engine.speculative, digests),
        lora=_adapters(engine.lora, digests),
    )
    if (asked, wanted) == (model, engine):
        return deployment
    return replace(deployment, revision=replace(revision, base_model=asked, engine=wanted))


def split_digest(uri: str) -> tuple[str, str]:
    """Return a URI without the content that it asks for, and that: "" when it asks for none."""
    text, mark, digest = uri.partition(DIGEST_MARK)
    return (text, digest) if mark else (uri, "")


def _draft(speculative: SpeculativeDecoding | None, digests: Digests) -> SpeculativeDecoding | None:
    if speculative is None or not speculative.draft_model_uri:
        return speculative
    return replace(speculative, draft_model_uri=_asking(speculative.draft_model_uri, digests))


def _adapters(lora: Lora | None, digests: Digests) -> Lora | None:
    if lora is None:
        return None
    adapters = tuple(replace(one, uri=_asking(one.uri, digests)) for one in lora.adapters)
    return replace(lora, adapters=adapters)


def _asking(uri: str, digests: Digests) -> str:
    digest = digests.get(uri)
    return f"{uri}{DIGEST_MARK}{digest}" if digest else uri
