"""What this machine must have, what it has, and what to do about the difference."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import requests

from . import engine, images, virtual
from .settings import Lab, root
from .shell import CommandFailed, Local

MEMORY_PER_PI = 1.5  # GB; all that runs on one virtual Pi, with room for GeoServer
DISK = 12  # GB: images here, and a copy of them on each virtual Pi
SYS_RESOURCE = 24  # number of CAP_SYS_RESOURCE, capabilities(7)


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table; `ok` is False only for what the lab cannot do without."""

    what: str
    needed: str
    found: str
    ok: bool
    remedy: str = ""


def examine(lab: Lab) -> list[Finding]:
    """Look at everything once; changes nothing on the machine."""
    checks = (_python, _engine, _kernel, _capabilities, _memory, _disk, _subnet, _programs,
              _emulation, _packages)
    return [check(lab) for check in checks]


def table(findings: list[Finding]) -> pd.DataFrame:
    """Return the findings as a table: what, needed, found, verdict, to do."""
    return pd.DataFrame([{"what": f.what, "needed": f.needed, "found": f.found,
                          "verdict": "ok" if f.ok and not f.remedy else
                          "note" if f.ok else "MISSING", "to do": f.remedy} for f in findings])


def _python(lab: Lab) -> Finding:
    good = sys.version_info >= (3, 11)
    return Finding("Python", "3.11 or later", platform.python_version(), good,
                   "" if good else "install python3.11 and python3.11-venv")


def _engine(lab: Lab) -> Finding:
    try:
        info = engine.client().version()
    except engine.EngineError as error:
        able = os.geteuid() == 0 and shutil.which("apt-get") is not None
        return Finding("container engine", "Docker 20.10 or later", "none", able,
                       "make lab installs docker.io and starts it" if able else str(error))
    good = tuple(map(int, info["ApiVersion"].split("."))) >= (1, 41)
    return Finding("container engine", "Docker 20.10 or later", f"Docker {info['Version']}", good,
                   "" if good else "apt-get install docker.io (20.10 or later)")


def _kernel(lab: Lab) -> Finding:
    known = Path("/proc/filesystems").read_text() if Path("/proc/filesystems").exists() else ""
    version = "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1"
    good = "overlay" in known
    return Finding("kernel", "overlay file system, cgroups",
                   f"{platform.release()}, overlay {'yes' if good else 'no'}, cgroups {version}",
                   good, "" if good else "modprobe overlay")


def _capabilities(lab: Lab) -> Finding:
    line = next((ln for ln in Path("/proc/self/status").read_text().splitlines()
                 if ln.startswith("CapBnd")), "CapBnd: 0")
    full = bool(int(line.split()[1], 16) >> SYS_RESOURCE & 1)
    return Finding("capabilities", "--privileged, or all but SYS_RESOURCE",
                   "all" if full else "without SYS_RESOURCE: the narrower set is used", True)


def _memory(lab: Lab) -> Finding:
    need = MEMORY_PER_PI * len(lab.machines) if lab.kind == "virtual" else 2
    line = next(ln for ln in Path("/proc/meminfo").read_text().splitlines()
                if ln.startswith("MemAvailable"))
    free = int(line.split()[1]) / 1e6
    standing = _standing(lab)
    good = free >= need or standing
    return Finding("memory", f"{need:.1f} GB free", f"{free:.1f} GB free"
                   + (", the lab is up already" if standing else ""), good,
                   "" if good else f"{need - free:.1f} GB are missing: close programs, or set "
                   'map_server = "mapserver"')


def _disk(lab: Lab) -> Finding:
    folder = engine.DATA if engine.DATA.exists() else Path("/var/lib")
    free = shutil.disk_usage(folder).free / 1e9
    good = free >= DISK or _standing(lab)
    return Finding("disk", f"{DISK} GB free", f"{free:.0f} GB free at {folder}", good,
                   "" if good else f"{DISK - free:.0f} GB are missing: docker system prune")


def _subnet(lab: Lab) -> Finding:
    if lab.kind != "virtual":
        return Finding("subnet", f"{lab.subnet}", "the Pis' own", True)
    if _standing(lab):
        return Finding("subnet", f"{lab.subnet} free", "the lab's own", True)
    try:
        virtual.subnet_free(lab)
    except virtual.VirtualError as error:
        return Finding("subnet", f"{lab.subnet} free", "in use", False, str(error))
    except CommandFailed:  # no `ip` here; the line `programs` says so
        return Finding("subnet", f"{lab.subnet} free", "cannot be looked at", True,
                       "apt-get install iproute2, then look again")
    return Finding("subnet", f"{lab.subnet} free", "free", True)


def _programs(lab: Lab) -> Finding:
    need = ("ssh", "ssh-keygen", "openssl", "ip", "git")
    missing = [name for name in need if shutil.which(name) is None]
    return Finding("programs", ", ".join(need), "all" if not missing else
                   f"without {', '.join(missing)}", not missing, "" if not missing else
                   "apt-get install openssh-client openssl iproute2 git")


def _emulation(lab: Lab) -> Finding:
    able = engine.emulates("arm64")
    return Finding("ARM emulation", "to build for Pis on a PC", "yes" if able else "no", True,
                   "" if able else "make images PLATFORM=linux/arm64 sets it up (as root)")


def _packages(lab: Lab) -> Finding:
    """Ask where apt itself would ask, if this machine has apt; else Docker Hub."""
    uris = Local().run(["apt-get", "indextargets", "--format", "$(SITE)"], check=False) \
        if shutil.which("apt-get") else None
    sites = sorted(set(uris.out.split())) if uris and uris.code == 0 else []
    for site in sites or ["https://registry-1.docker.io/v2/"]:
        try:
            requests.head(site, timeout=5)
        except requests.RequestException:
            continue
        return Finding("Debian mirror", "reachable while images are built", "reachable", True)
    built = _built(lab)
    return Finding("Debian mirror", "reachable while images are built", "not reachable"
                   + (", every image is at hand" if built else ""), built,
                   "" if built else "check the network, or a proxy for apt")


def _built(lab: Lab) -> bool:
    try:
        return not images.lacking(lab)
    except engine.EngineError:
        return False


def _standing(lab: Lab) -> bool:
    try:
        return bool(virtual.leftovers(lab)) and (root() / lab.name).exists()
    except engine.EngineError:
        return False
