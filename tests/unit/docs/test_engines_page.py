"""docs/engines.md names every release, field and option that the renderers know."""

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry.client.manifest_schema import EnginePart, Part
from skerry.fleet.engine import EngineName
from workload_plane.engines import llamacpp, sglang, trtllm, vllm
from workload_plane.engines.catalogue import RENDERERS
from workload_plane.engines.options import OptionRule

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/engines.md").read_text()
WORDS = set(re.findall(r"\w+", PAGE))


@pytest.mark.parametrize("name", sorted(RENDERERS))
def test_releases_and_the_default_are_told(name: EngineName) -> None:
    renderer = RENDERERS[name]
    releases = PAGE.partition("## Releases")[2].partition("\n## ")[0]
    (row,) = (line for line in releases.splitlines() if line.startswith(f"| `{name}` | "))
    for version in renderer.VERSIONS:
        assert f"`{version}`" in row
    assert f"`{renderer.DEFAULT_VERSION}`" in row or not renderer.VERSIONS


def test_every_field_of_the_file_is_told() -> None:
    for field in EnginePart.model_fields.values():
        assert field.alias in WORDS, field.alias
        for inside in _parts(field.annotation):
            for name in inside.model_fields.values():
                assert name.alias in WORDS, name.alias


def _parts(annotation: Any) -> Iterator[type[Part]]:
    """Yield the schema's classes inside an annotation such as `Part | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _parts(argument)


@pytest.mark.parametrize(
    ("rules", "engine"),
    [
        (trtllm.OPTIONS, "tensorrt-llm"),
        (vllm.OPTIONS, "vllm"),
        (sglang.OPTIONS, "sglang"),
        (llamacpp.OPTIONS, "llamacpp"),
    ],
)
def test_every_option_is_told(rules: tuple[OptionRule, ...], engine: str) -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith("| `options` |"))
    for rule in rules:
        assert f"`{rule.name}`" in row, engine


def test_links_of_the_page_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
