"""Who runs a subscription: an app in a process on a machine, whose neighbours can see that it is gone."""

import os
import platform
import uuid
from functools import cache
from pathlib import Path

_LIVE: set[str] = set()
"""The apps of this process that are open."""


class Owner:
    """An open app, as others know it."""

    def __init__(self) -> None:
        self.name = f"{_machine()}|{os.getpid()}|{_born(os.getpid())}|{uuid.uuid4().hex[:12]}"
        _LIVE.add(self.name)

    def close(self) -> None:
        """Be gone."""
        _LIVE.discard(self.name)


def is_gone(owner: str) -> bool:
    """Tell whether an owner is known to be gone; False if it may live, as on another machine."""
    return _is_there(owner) is False


def is_there(owner: str) -> bool:
    """Tell whether an owner is known to be there; False if it may be gone, as on another machine."""
    return _is_there(owner) is True


def _is_there(owner: str) -> bool | None:
    machine, _, rest = owner.partition("|")
    pid, _, rest = rest.partition("|")
    born, _, _ = rest.partition("|")
    if machine != _machine() or not pid.isdecimal() or not born:
        return None
    if int(pid) == os.getpid():
        return owner in _LIVE
    return _born(int(pid)) == born


def shown(owner: str) -> str:
    """Return an owner for people: where, and which process; empty if there is none, or it is gone."""
    if is_gone(owner):
        return ""
    machine, _, rest = owner.partition("|")
    pid, _, _ = rest.partition("|")
    return f"{machine.partition('/')[0]}:{pid}" if pid else ""


@cache
def _machine() -> str:
    """Name this machine since it was started, and the space in which its process numbers count."""
    parts = [platform.node().replace("|", "") or "localhost"]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    except OSError:  # not Linux: what owners there are is not known, and they are waited for
        pass
    return "/".join(parts)


def _born(pid: int) -> str:
    """Return when a process was started, in ticks of the machine's clock; empty if there is none, or none can tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
