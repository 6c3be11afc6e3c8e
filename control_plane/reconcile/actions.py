"""What reconciliation may do: frozen actions that compare equal and describe themselves."""

from dataclasses import dataclass

from skerry.fleet.desired import DesiredState
from skerry.fleet.observation import PlaneCondition, PlaneReport, PlaneState
from skerry.fleet.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordReport:
    """Store who a plane says it is and what pools it has."""

    report: PlaneReport

    def describe(self) -> str:
        """Return one line for the log."""
        return f"record plane {self.report.identity.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCondition:
    """Store a plane's judged state with its evidence; `before` it was the one judged from.

    That guards the write.
    """

    plane: str
    condition: PlaneCondition
    before: PlaneState | None
    verdict: Verdict | None = None

    def describe(self) -> str:
        """Return one line for the log."""
        return f"plane {self.plane} is {self.condition.state.value}: {self.condition.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PushDesired:
    """Store and push a plane's new desired state; `expected_generation` guards the write."""

    desired: DesiredState
    expected_generation: int

    def describe(self) -> str:
        """Return one line for the log."""
        return f"push desired state to {self.desired.plane}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveDeployment:
    """Forget a deployment whose replicas are all gone."""

    deployment: str

    def describe(self) -> str:
        """Return one line for the log."""
        return f"remove deployment {self.deployment}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RaiseGeneration:
    """Lift a plane's generation above what the plane already holds (we run on an older backup)."""

    plane: str
    at_least: int

    def describe(self) -> str:
        """Return one line for the log."""
        return f"raise generation of {self.plane} to {self.at_least}"


Action = RecordReport | SetCondition | PushDesired | RemoveDeployment | RaiseGeneration
