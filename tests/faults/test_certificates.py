"""A short form of `make soak-certificates`: certificates that live 20 s, renewed four times."""

from pathlib import Path

import pytest

from tests.faults.soak_certificates import Asked, soak

pytestmark = [pytest.mark.faults, pytest.mark.faults_full]


async def test_nobody_notices_that_everybody_gets_new_certificates(tmp_path: Path) -> None:
    found = await soak(tmp_path / "fleet", Asked(seconds=42.0, rate=10.0, life_seconds=20.0))
    assert found.holds, found
    assert found.links_made >= 2 + found.links_cut
    assert found.links_cut > 0
