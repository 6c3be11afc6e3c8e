"""The picker's page of metrics, as Prometheus reads it."""

from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.clock import FakeClock
from workload_plane.picker.exposition import Exposition
from workload_plane.picker.facts import DeploymentTold, Entry, Facts, ReplicaTold
from workload_plane.picker.picker import Picker
from workload_plane.picker.room import Room


def first_bytes(exposition: Exposition) -> dict[str, float]:
    """Return how many answers came within each bound, as the page says it."""
    families = text_string_to_metric_families(exposition.render(0.0).decode())
    return {
        sample.labels["le"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "skerry_picker_first_byte_answers_total"
        and sample.labels["deployment"] == "exposed"
    }


def test_times_to_the_first_byte_are_told_as_the_buckets_of_a_histogram() -> None:
    picker = Picker()
    picker.update([DeploymentTold("exposed", replicas=(ReplicaTold("a", "x:1", "x:2"),))], 0.0)
    exposition = Exposition(picker, Room(picker, FakeClock()))
    for first in (40, 400, 60_000):
        choice = picker.pick(Facts("exposed"), 0.0)
        assert choice is not None
        picker.note(Entry(choice.ticket, "x:1", 200, "", first, 90_000, 1, 1, 1, ended=True), 0.0)
    told = first_bytes(exposition)
    assert (told["0.025"], told["0.05"], told["0.25"]) == (0, 1, 1)
    assert (told["0.5"], told["30.0"], told["+Inf"]) == (2, 2, 3)
    assert first_bytes(exposition) == told, "asking twice counts nothing twice"
