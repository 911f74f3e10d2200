"""The container engine of this machine: find it, or start one, and ARM emulation."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import docker
import requests
from docker.errors import DockerException

from . import claim
from .shell import CommandFailed, Local
from .wait import NotYet, until

DATA = Path("/var/lib/gislab/engine")
LOG = Path("/var/lib/gislab/engine.log")
PID = Path("/run/gislab/dockerd.pid")
SYSTEMD = Path("/run/systemd/system")  # there where systemd runs, sd_booted(3)
BINFMT = Path("/proc/sys/fs/binfmt_misc")
INTERPRETERS = {"amd64": "qemu-x86_64", "arm64": "qemu-aarch64"}


class EngineError(RuntimeError):
    """No container engine can be used here; the text says what to type."""


def client(timeout: float = 120) -> docker.DockerClient:
    """Return a client of the engine that is reachable; EngineError if there is none."""
    try:
        found = docker.from_env(timeout=timeout)
        found.ping()
    except (DockerException, requests.RequestException) as error:
        raise EngineError(f"no Docker engine answers ({_reason(error)}); run: gislab doctor") \
            from None
    return found


def ensure(say=print) -> docker.DockerClient:
    """Return a client, having installed and started an engine where there was none.

    Only root on Debian or Ubuntu gets that done; others are told what to type.
    The engine started here keeps its data in its own folder, DATA, and may be left running.
    Where systemd runs, the package's own service is the engine: apt has started it already, and a
    second one would take the socket from it.
    """
    try:
        return client()
    except EngineError:
        if os.environ.get("DOCKER_HOST"):
            raise EngineError(f"DOCKER_HOST={os.environ['DOCKER_HOST']} does not answer; start "
                              "that engine, or: unset DOCKER_HOST") from None
    if os.geteuid() != 0 or not _debian_like():
        raise EngineError("no Docker engine answers. Type:\n"
                          "  sudo apt-get install docker.io && sudo systemctl start docker\n"
                          f"  sudo usermod -aG docker {os.environ.get('USER', '$USER')}"
                          "   (then log in again)")
    with claim.turn(DATA.with_suffix(".lock"), "the engine", say=say):
        try:
            return client()  # the other program has started one
        except EngineError:
            _begin(say)
    return client()


def _begin(say) -> None:
    for program, package in (("dockerd", "docker.io"), ("iptables", "iptables"),
                             ("docker", "docker-cli")):  # apart from docker.io since trixie
        if shutil.which(program) is None:
            install(package, say=say)
    (_start_service if _is_service() else _start)(say)


def install(*packages: str, say=print) -> None:
    """Install Debian packages on this machine; EngineError where we may not."""
    if os.geteuid() != 0 or not _debian_like():
        raise EngineError(f"needed: {' '.join(packages)}. Type: "
                          f"sudo apt-get install {' '.join(packages)}")
    say(f"this machine: installing {' '.join(packages)}")
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    with claim.turn(DATA.with_name("apt.lock"), "apt", say=say):
        Local().run(["apt-get", "update", "-qq"], timeout=300, env=env)
        Local().run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
                    timeout=900, env=env)


def emulates(architecture: str) -> bool:
    """Tell whether programs of `architecture` (amd64, arm64) run on this machine."""
    if architecture == native():
        return True
    entry = BINFMT / INTERPRETERS[architecture]
    return entry.exists() and "F" in entry.read_text().split("flags:")[-1].split("\n")[0]


def emulate(architecture: str, say=print) -> None:
    """Let this machine run programs of `architecture` by QEMU; safe to repeat.

    The flag F has the kernel open the interpreter once, so that it also works inside
    containers (Documentation/admin-guide/binfmt-misc.rst).
    """
    if emulates(architecture):
        return
    name = INTERPRETERS[architecture]
    if shutil.which(f"{name}-static") is None and shutil.which(name) is None:
        install("qemu-user-static", say=say)
    if not (BINFMT / "register").exists():
        Local().run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)])
    line = next((p.read_text().strip() for p in Path("/usr/lib/binfmt.d").glob(f"{name}*.conf")),
                None)
    if line is None:
        raise EngineError(f"no binfmt entry for {name}; type: apt-get install qemu-user-static")
    fields = line.split(":")
    if "F" not in fields[-1]:
        fields[-1] += "F"
    if (BINFMT / name).exists():
        (BINFMT / name).write_text("-1")
    (BINFMT / "register").write_text(":".join(fields))
    say(f"this machine: runs {architecture} programs by emulation now")


def native() -> str:
    """Debian's name of this machine's architecture."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _is_service() -> bool:
    """Tell whether systemd runs here and knows of a Docker engine."""
    return SYSTEMD.exists() and Local().run(["systemctl", "cat", "docker.service"],
                                            check=False).code == 0


def _start_service(say) -> None:
    say("this machine: starting its Docker service")
    try:
        Local().run(["systemctl", "start", "docker"], timeout=120)
    except CommandFailed as error:
        raise EngineError(f"the Docker service does not start ({error.result.err.strip()[-200:]});"
                          " see: journalctl -u docker") from None
    until(_answers, what="the Docker engine", timeout=90)


def _start(say) -> None:
    DATA.mkdir(parents=True, exist_ok=True)
    PID.parent.mkdir(exist_ok=True)
    _forget_dead(PID, "dockerd")
    _forget_dead(Path("/run/docker/containerd/containerd.pid"), "containerd")
    say(f"this machine: starting a Docker engine, data in {DATA}, log in {LOG}")
    with LOG.open("ab") as log:
        process = subprocess.Popen(
            ["dockerd", "--data-root", str(DATA), "--pidfile", str(PID)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/")

    def alive():
        if process.poll() is not None:
            tail = LOG.read_text(errors="replace").strip().splitlines()[-4:]
            raise EngineError("dockerd stopped at once: " + " | ".join(tail))
        _answers()

    until(alive, what="the Docker engine", timeout=90)


def _answers() -> None:
    try:
        client()
    except EngineError as error:
        raise NotYet(str(error)) from None


def _forget_dead(pidfile: Path, program: str) -> None:
    """Remove the pid file of an engine that was killed: another program may have its number now,
    and dockerd would take that one for an engine that runs."""
    try:
        running = Path(f"/proc/{int(pidfile.read_text())}/comm").read_text().strip()
    except (OSError, ValueError):
        running = ""
    if running != program:
        pidfile.unlink(missing_ok=True)


def _debian_like() -> bool:
    release = Path("/etc/os-release")
    text = release.read_text() if release.exists() else ""
    return ("debian" in text or "ubuntu" in text) and shutil.which("apt-get") is not None


def _reason(error: Exception) -> str:
    text = str(error)
    if "Permission denied" in text:
        return "permission denied: you are not in the group docker"
    if "FileNotFoundError" in text or "Connection refused" in text:
        return "nothing listens at its socket"
    return text[-160:]

