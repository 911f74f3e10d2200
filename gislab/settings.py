"""The facts of a lab: machines, addresses, ports; read once into one frozen object."""

from __future__ import annotations

import base64
import dataclasses
import ipaddress
import os
import platform as _platform
import re
import secrets
import tomllib
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

PLATFORMS = ("linux/amd64", "linux/arm64")
MAP_SERVERS = ("auto", "mapserver", "geoserver")
DURABILITY = ("strict", "available")
MEMBERS = ("postgis1", "postgis2", "postgis3")  # of the database, on however many Pis
PROJECT = Path(__file__).resolve().parent.parent


class SettingsError(ValueError):
    """A setting is wrong; the text names the key, the value and what would be right."""

    def __init__(self, key: str, value: object, remedy: str):
        super().__init__(f"lab.toml: {key} = {value!r}: {remedy}")
        self.key, self.value = key, value


@dataclass(frozen=True)
class Machine:
    """One Pi: its host name, its address in the lab's network, how SSH reaches it."""

    name: str
    address: str
    user: str = "root"
    ssh_port: int = 22


@dataclass(frozen=True)
class Ports:
    """What answers at the VIP."""

    maps: int = 80  # WMS and WFS, through HAProxy
    https: int = 443  # the same by TLS, with a certificate of this lab's own
    sql: int = 5432  # SQL through Pgpool-II: pooled, reads balanced
    primary: int = 5433  # SQL straight to the primary
    replicas: int = 5434  # SQL straight to the replicas, read only
    stats: int = 8404  # HAProxy's statistics page


@dataclass(frozen=True)
class Lab:
    """Everything that is known about a lab before the first command is sent."""

    name: str = "gislab"
    kind: str = "virtual"  # "virtual": containers on this machine; "pi": real ones over SSH
    subnet: str = "172.30.16.0/24"
    vip: str = "172.30.16.100"
    machines: tuple[Machine, ...] = ()
    platform: str = "auto"
    map_server: str = "auto"
    geoserver: str = ""  # which release of it; wars.py knows those that can be had
    durability: str = "strict"  # with one database member left: refuse writes, or go on
    console: bool = False  # GeoServer's web console, at the VIP
    registry_port: int = 5000
    ssh_key: str = ""  # of real Pis; a virtual lab makes its own
    ports: Ports = field(default_factory=Ports)

    @cached_property
    def home(self) -> Path:
        """The folder of this lab's keys, secrets and journal; outside of any repository."""
        folder = root() / self.name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def machine(self, name: str) -> Machine:
        """Return the machine `name`; KeyError names those that there are."""
        for machine in self.machines:
            if machine.name == name:
                return machine
        raise KeyError(f"no machine {name!r} in this lab; there are "
                       + ", ".join(m.name for m in self.machines))

    def secret(self, name: str) -> str:
        """Return the secret `name` of this lab, made at random when first asked for."""
        path = self.home / "secrets" / name
        if not path.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _write_private(path, _new_secret(name))
        return path.read_text()

    @property
    def serves(self) -> str:
        """Which map server runs: `auto` comes to what wars.decide noted at the last `up`."""
        note = self.home / "map_server"
        if self.map_server != "auto":
            return self.map_server
        return note.read_text() if note.exists() else "mapserver"

    @property
    def maps_url(self) -> str:
        port = "" if self.ports.maps == 80 else f":{self.ports.maps}"
        return f"http://{self.vip}{port}"

    @property
    def secure_maps_url(self) -> str:
        port = "" if self.ports.https == 443 else f":{self.ports.https}"
        return f"https://{self.vip}{port}"

    @property
    def network(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self.subnet)

    @property
    def architecture(self) -> str:
        """Debian's name of the platform: amd64 or arm64."""
        return self.platform.removeprefix("linux/")


SECRETS = (
    "postgres_password",
    "replication_password",
    "gis_password",
    "reader_password",
    "patroni_password",
    "consul_token",
    "consul_gossip_key",
    "map_token",
    "haproxy_password",
    "geoserver_password",
    "editor_password",
)


def root() -> Path:
    """The folder that holds the state of all labs: $GISLAB_HOME, else ~/.gislab."""
    return Path(os.environ.get("GISLAB_HOME") or Path.home() / ".gislab").expanduser()


def file(path: str | Path | None = None) -> Path | None:
    """Return the lab.toml that counts, from the root of the disk on; None where there is none.

    Parameters
    ----------
    path : a lab.toml; else $GISLAB_LAB, else ./lab.toml or that of the project folder.
    """
    path = path or os.environ.get("GISLAB_LAB")
    if path:
        return Path(path).expanduser().absolute()
    found = [p for p in (Path("lab.toml"), PROJECT / "lab.toml") if p.exists()]
    return found[0].absolute() if found else None


def read(path: str | Path | None = None) -> Lab:
    """Read the lab's settings.

    Parameters
    ----------
    path : a lab.toml; else the one that `file` finds, else the virtual lab of three Pis that
        needs no file at all.

    Raises
    ------
    SettingsError : a key or a value is wrong; says which, and what would be right.
    """
    path = file(path)
    if path is None:
        return make({})
    try:
        text = path.read_text()
    except OSError as error:
        raise SettingsError("file", str(path), f"cannot be read ({error.strerror}); "
                            "unset GISLAB_LAB to take the virtual lab") from None
    try:
        return make(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError("file", str(path), f"is not TOML: {error}") from None


def make(table: dict) -> Lab:
    """Return a checked Lab made of `table`, the content of a lab.toml."""
    table = dict(table)
    _known(table, {f.name for f in dataclasses.fields(Lab)} | {"pis"}, "")
    _texts(table, ("name", "kind", "subnet", "vip", "platform", "map_server", "geoserver",
                   "durability", "ssh_key"), "")
    given = {**table, "ports": _ports(table.get("ports", {}))}
    count = given.pop("pis", None)
    if given.get("kind", "virtual") not in ("virtual", "pi"):
        raise SettingsError("kind", given["kind"], 'say "virtual" or "pi"')
    network = _network(given.get("subnet", Lab.subnet))
    given.setdefault("vip", str(network.network_address + 100))
    machines = given.get("machines")
    if machines is not None and count is not None:
        raise SettingsError("pis", count, "leave it out where machines are listed")
    if machines is None:
        if given.get("kind") == "pi":
            raise SettingsError("machines", None, "list the real Pis, e.g. "
                                '[[machines]] name = "pi1" address = "192.168.1.11"')
        machines = _virtual_machines(network, 3 if count is None else count)
    if not isinstance(machines, list):
        raise SettingsError("machines", machines, "list them, each with its own [[machines]]; "
                            "a virtual lab of five says pis = 5")
    given["machines"] = tuple(_machine(m) for m in machines)
    given["platform"] = _platform_of(given.get("platform", "auto"), given.get("kind"))
    lab = Lab(**given)
    _check(lab)
    return lab


def peers(lab: Lab) -> str:
    """Names and addresses of all machines in one word list: `pi1=172.30.16.11 ...`."""
    return " ".join(f"{m.name}={m.address}" for m in lab.machines)


def _ports(table: dict) -> Ports:
    if not isinstance(table, dict):
        raise SettingsError("ports", table, "write a table: [ports] and below it maps = 8080")
    _known(table, {f.name for f in dataclasses.fields(Ports)}, "ports.")
    ports = Ports(**table)
    values = dataclasses.asdict(ports)
    for key, value in values.items():
        _port(f"ports.{key}", value)
        if list(values.values()).count(value) > 1:
            raise SettingsError(f"ports.{key}", value, "is used twice; each port once")
    return ports


def _virtual_machines(network: ipaddress.IPv4Network, count: int) -> list[Machine]:
    if count not in (3, 5, 7):
        raise SettingsError("pis", count, "every Pi is a Swarm manager, and an even number of "
                            "managers survives no more than one fewer; say 3, 5 or 7")
    first = network.network_address + 10
    return [Machine(f"pi{i}", str(first + i)) for i in range(1, count + 1)]


def _machine(entry: dict | Machine) -> Machine:
    if isinstance(entry, Machine):
        return entry
    if not isinstance(entry, dict):
        raise SettingsError("machines", entry, 'write a table for each: [[machines]] name = "pi1" '
                            'address = "192.168.1.11"')
    _known(entry, {f.name for f in dataclasses.fields(Machine)}, "machines.")
    _texts(entry, ("name", "address", "user"), "machines.")
    for key in ("name", "address"):
        if key not in entry:
            raise SettingsError(f"machines.{key}", None, "each machine needs one")
    machine = Machine(**entry)
    _port("machines.ssh_port", machine.ssh_port)
    if not re.fullmatch(r"[a-z_][a-z0-9_.-]*", machine.user):  # never an option of ssh
        raise SettingsError("machines.user", machine.user, 'is not a user name, e.g. "pi"')
    return machine


def _network(subnet: str) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.IPv4Network(subnet)
    except ValueError as error:
        raise SettingsError("subnet", subnet, f"{error}; e.g. 172.30.16.0/24") from None
    if network.prefixlen > 25:
        raise SettingsError("subnet", subnet, "too small; at least a /25, e.g. 172.30.16.0/24")
    return network


def _platform_of(value: str, kind: str | None) -> str:
    if value == "auto":
        if kind == "pi":
            return "linux/arm64"
        return "linux/arm64" if _platform.machine() in ("aarch64", "arm64") else "linux/amd64"
    if value not in PLATFORMS:
        raise SettingsError("platform", value, "say one of auto, " + ", ".join(PLATFORMS))
    return value


def _check(lab: Lab) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,20}", lab.name):
        raise SettingsError("name", lab.name, "a word of small letters, digits and dashes")
    if lab.map_server not in MAP_SERVERS:
        raise SettingsError("map_server", lab.map_server, "say one of " + ", ".join(MAP_SERVERS))
    if lab.durability not in DURABILITY:
        raise SettingsError("durability", lab.durability, 'say "strict" (with one member of the '
                            'database left, writes are refused) or "available" (they go on)')
    if len(lab.machines) % 2 == 0 or not 3 <= len(lab.machines) <= 7:
        raise SettingsError("machines", len(lab.machines), "an odd number of managers keeps a "
                            "majority when one is lost; list 3, 5 or 7")
    if not isinstance(lab.console, bool):
        raise SettingsError("console", lab.console, "say true or false, without quotes")
    _port("registry_port", lab.registry_port)
    if not lab.ssh_key and lab.kind == "pi":
        raise SettingsError("ssh_key", "", "say which private key opens the Pis, "
                            'e.g. ssh_key = "~/.ssh/id_ed25519"')
    seen = _reserved(lab)
    for key, address in [("vip", lab.vip)] + [(f"machines.{m.name}", m.address)
                                              for m in lab.machines]:
        try:
            inside = ipaddress.IPv4Address(address) in lab.network
        except ValueError:
            raise SettingsError(key, address, "is not an IPv4 address") from None
        if not inside:
            raise SettingsError(key, address, f"is outside the subnet {lab.subnet}; take a free "
                                f"address such as {lab.network.network_address + 100}")
        if address in seen:
            raise SettingsError(key, address, f"is {seen[address]} already; take a free address "
                                f"of {lab.subnet}, each only once")
        seen[address] = key
    names = [m.name for m in lab.machines]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError("machines.name", name, "is used twice; each name once")
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
            raise SettingsError("machines.name", name, "must be a host name, e.g. pi1")


def _reserved(lab: Lab) -> dict[str, str]:
    """Return the addresses of the subnet that nothing of a lab.toml may take."""
    net = lab.network
    taken = {net.network_address: "the subnet's own", net.broadcast_address: "the broadcast's"}
    if lab.kind == "virtual":
        taken[net.network_address + 1] = "the laptop's"
        taken[net.network_address + 5] = "the registry's"
    return {str(address): what for address, what in taken.items()}


def _port(key: str, value: object) -> None:
    if type(value) is not int or not 0 < value < 65536:
        raise SettingsError(key, value, "a port is a number from 1 to 65535")


def _texts(table: dict, keys: tuple[str, ...], prefix: str) -> None:
    for key in keys:
        if key in table and not isinstance(table[key], str):
            raise SettingsError(prefix + key, table[key], "is a text; write it in quotes")


def _known(table: dict, keys: set[str], prefix: str) -> None:
    for key in table:
        if key not in keys:
            raise SettingsError(prefix + key, table[key],
                                "no such key; there are " + ", ".join(sorted(keys)))


def _new_secret(name: str) -> str:
    if name == "consul_gossip_key":
        return base64.b64encode(secrets.token_bytes(32)).decode()
    if name in ("consul_token", "map_token"):
        return str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))
    return secrets.token_urlsafe(18).replace("-", "x").replace("_", "y")


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
