"""Projects: who owns deployments and credentials; what the fleet shares is in `default`.

The control plane keeps them and refuses what is another's; gateways compare a key's with a model's.
"""

from dataclasses import dataclass
from datetime import datetime

from skerry.fleet.names import DEFAULT_PROJECT, check_name

# In a parent or a name: whichever project it is in, for credentials of every project.
ANY_PROJECT = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project; `created_at` is None of `default`, which always was."""

    name: str
    creator: str = ""
    created_at: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse a name that is no DNS label."""
        check_name(self.name, "project")


DEFAULT = Project(name=DEFAULT_PROJECT)
