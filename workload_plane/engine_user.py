"""As whom a plane's engines run: the section `engine_user` of its settings, and its value.

`settings` reads it, a replica's spec carries it, and the replica host starts the engine by it.
"""

import grp
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

ID_MAX = 2**32 - 2  # the last one means nobody at all to the kernel
GROUPS_MAX = 32  # the kernel's own bound is 65,536; accelerators need two or three
HOME = "engine-home"  # in data_dir
KEYS = ("uid", "gid", "groups", "home")  # of the section

Value = TypeVar("Value")


class Reader(Protocol):
    """What takes values out of decoded settings and collects what is wrong with them."""

    values: Mapping[str, object]

    def fault(self, key: str, message: str) -> None:
        """Note what is wrong with a setting."""
        ...

    def take(self, key: str, kind: type[Value], default: Value) -> Value:
        """Return a setting of the kind, the default without one or with a fault."""
        ...

    def inner(self, key: str) -> "Reader | None":
        """Return the reader of a section, None without one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineUser:
    """The user and group of engines by number, and the groups that they are in besides.

    `home` is their own directory; `within` is the directory below which the replica host may open
    ways for them, which is the plane's `data_dir`.
    """

    uid: int
    gid: int
    home: Path
    within: Path
    groups: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, number in (("uid", self.uid), ("gid", self.gid), *self._of_groups()):
            if not 0 < number <= ID_MAX:
                raise ValueError(f"{name} must be in 1..{ID_MAX}, not {number}: 0 is root's")
        if len(self.groups) > GROUPS_MAX:
            raise ValueError(f"groups may be at most {GROUPS_MAX}, not {len(self.groups)}")
        if not self.home.is_absolute():
            raise ValueError(f"home must be an absolute path, not {str(self.home)!r}")

    def _of_groups(self) -> list[tuple[str, int]]:
        return [("groups", number) for number in self.groups]

    def to_json(self) -> dict[str, object]:
        """Return the user as plain values."""
        return {
            "uid": self.uid,
            "gid": self.gid,
            "groups": list(self.groups),
            "home": str(self.home),
            "within": str(self.within),
        }

    @staticmethod
    def from_json(values: Mapping[str, object]) -> "EngineUser":
        """Return the user that `to_json` wrote; raises KeyError, TypeError or ValueError."""
        uid, gid, groups = values["uid"], values["gid"], values["groups"]
        if not isinstance(uid, int) or not isinstance(gid, int) or not isinstance(groups, list):
            raise TypeError(f"no engine_user: {dict(values)}")
        return EngineUser(
            uid=uid,
            gid=gid,
            groups=tuple(groups),
            home=Path(str(values["home"])),
            within=Path(str(values["within"])),
        )


def read_engine_user(reader: Reader, data_dir: Path) -> EngineUser | None:
    """Return the engines' user of a plane, None for one whose engines run as its agent."""
    inner = reader.inner("engine_user")
    if inner is None:
        return None
    for key in inner.values:
        if key not in KEYS:
            inner.fault(str(key), f"is not a setting of engine_user: {', '.join(KEYS)}")
    if "uid" not in inner.values:
        inner.fault("uid", "is missing: a number that no user of this host has")
        return None
    uid = inner.take("uid", int, 0)
    try:
        return EngineUser(
            uid=uid,
            gid=inner.take("gid", int, uid),
            groups=_groups(inner),
            home=Path(inner.take("home", str, str(data_dir / HOME))),
            within=data_dir,
        )
    except ValueError as error:
        inner.fault(str(error).partition(" ")[0], str(error).partition(" ")[2])
        return None


def _groups(reader: Reader) -> tuple[int, ...]:
    found = []
    for group in reader.take("groups", list, []):
        if isinstance(group, int) and not isinstance(group, bool):
            found.append(group)
            continue
        try:
            found.append(grp.getgrnam(str(group)).gr_gid)
        except KeyError:
            reader.fault("groups", f"has {group!r}, which is no group of this host")
    return tuple(found)
