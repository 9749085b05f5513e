"""The options of a database: one table; the domain's checks, request bodies, the command line and docs/options.md come from it.

Nothing is imported here, so that the command line can state what an option is without the domain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

MOST = 2**53
"""The largest number: JSON readers keep no larger one exactly."""

FSYNC = ("always", "everysec", "no")
"""When a write reaches the disk, the strongest first."""


class Effect(NamedTuple):
    """When a change is in effect, as a clause, and what is left to do: a text that an action (hints.py) of the store follows."""

    when: str = "in effect at once"
    hint: str = ""
    action: str = ""


class Option(NamedTuple):
    """One option. `kind` is number, bytes (people may write 512MB), word (one of `choices`) or events (Valkey's letters).
    `special` is a number outside or at the edge of the bounds that means something else, and `special_means` what; `why_least`
    says why no less will do. `cmdlets` are those that have it as a parameter."""

    name: str  # as NuoDB's verbs spell options
    kind: str
    default: Any
    help: str
    unit: str = ""
    least: int = 0
    most: int = MOST
    why_least: str = ""
    special: int | None = None
    special_means: str = ""
    choices: tuple[str, ...] = ()
    effect: Effect = Effect()
    effect_of_special: Effect | None = None
    cmdlets: tuple[str, ...] = ()

    @property
    def field(self) -> str:
        """Its field in DatabaseOptions (domain/model.py)."""
        return self.name.replace("-", "_")

    @property
    def parameter(self) -> str:
        """Its name in the cmdlets' spelling, such as MaxMemory."""
        return "".join(word.capitalize() for word in self.name.split("-"))

    def allows(self, value: object) -> bool:
        """Whether the option may have this value."""
        if self.kind == "word":
            return value in self.choices
        if self.kind == "events":
            return isinstance(value, str) and _events(value) == value
        return isinstance(value, int) and (value == self.special or self.least <= value <= self.most)

    def read(self, text: str) -> int | str | None:
        """The value that a person wrote; None where it is none that the option may have."""
        readers: dict[str, Callable[[str], int | str | None]] = {
            "word": str,
            "bytes": _bytes,
            "number": _number,
            "events": _events,
        }
        value = readers[self.kind](text)
        return value if self.allows(value) else None

    def allowed(self) -> str:
        """What it may be, as a clause: `a whole number of ms from 10000 (why); 0: no limit`."""
        if self.kind == "word":
            return f"one of {', '.join(self.choices)}"
        if self.kind == "events":
            return f"empty, or letters out of {EVENT_CLASSES}KEmA with K or E among them, such as Ex or KEA"
        what = "number of bytes" if self.kind == "bytes" else "whole number"
        most = f" to {self.most}" if self.most < MOST else ""
        unit = f", in {self.unit}" if self.kind == "number" and self.unit else ""
        example = ", such as 536870912 or 512MB" if self.kind == "bytes" else ""
        why = f" ({self.why_least})" if self.why_least else ""
        special = "" if self.special is None else f"; {self.special}: {self.special_means}"
        return f"a {what} from {self.least}{most}{why}{unit}{example}{special}"

    def summary(self) -> str:
        """What it changes, with its unit where a plain number is written, and what its special value means."""
        unit = f", in {self.unit}" if self.kind == "number" and self.unit else ""
        return f"{self.help}{unit}" + ("" if self.special is None else f"; {self.special}: {self.special_means}")

    def described(self) -> str:
        """`summary` with the words it may be and the default, for --help."""
        default = "none" if self.default == "" else self.default
        return f"{self.summary()}{': ' if self.choices else ''}{', '.join(self.choices)}; default: {default}"

    def effect_of(self, value: object) -> Effect:
        """When a change to this value is in effect."""
        return self.effect_of_special if self.effect_of_special and value == self.special else self.effect


ON_ENGINES = Effect("set on every running engine at once, and on every one that starts later")

NOEVICTION = "noeviction"
POLICIES = (
    NOEVICTION,
    *("allkeys-lru", "allkeys-lfu", "allkeys-random"),
    *("volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"),
)
EVENT_CLASSES = "g$lshzxetdn"
"""What happens to keys, as notify-keyspace-events has it and in the order in which Valkey shows it; A is all but n."""

TABLE = (
    Option(
        "replication-factor",
        "number",
        1,
        "copies of each key, the leader's included",
        least=1,
        most=100,
        effect=Effect("recorded only: copies are added and removed one by one", "Add one: ", "addInstance"),
        cmdlets=("New-DkvStore",),
    ),
    Option(
        "min-in-sync",
        "number",
        1,
        "copies that a write must reach; no more than replication-factor",
        least=1,
        most=100,
        cmdlets=("New-DkvStore", "Set-DkvStore"),
    ),
    Option(
        "append-fsync",
        "word",
        "always",
        "when a write reaches the disk; only always is durable",
        choices=FSYNC,
        effect=ON_ENGINES,
        cmdlets=("New-DkvStore", "Set-DkvStore"),
    ),
    Option(
        "max-memory",
        "bytes",
        0,
        "memory of each engine, such as 512MB",
        unit="bytes",
        least=16 << 20,
        why_least="an engine needs that for itself",  # with less it would refuse every write, its manager's markers too
        special=0,
        special_means="a share of its server's memory",
        effect=ON_ENGINES,
        effect_of_special=Effect(
            "every engine that starts gets a share of its server's memory; one that has more keeps it until it is restarted",
            "Restart them: ",
            "restartRolling",
        ),
        cmdlets=("New-DkvStore", "Set-DkvStore"),
    ),
    Option(
        "maxmemory-policy",
        "word",
        NOEVICTION,
        "what an engine does whose memory is full: refuse writes, or drop keys, confirmed ones too",
        choices=POLICIES,
        effect=ON_ENGINES,
        cmdlets=("New-DkvStore", "Set-DkvStore"),
    ),
    Option(
        "notify-keyspace-events",
        "events",
        "",
        "which changes of keys each engine publishes to its own subscribers, in Valkey's letters",
        effect=ON_ENGINES,
        cmdlets=("New-DkvStore", "Set-DkvStore"),
    ),
    Option(
        "max-clients",
        "number",
        0,
        "connections that an engine takes, those of followers and other nodes too",
        least=128,
        most=100_000,
        why_least="followers, other nodes and its manager need some",
        special=0,
        special_means="as many as its memory allows",
        effect=ON_ENGINES,
        cmdlets=("New-DkvStore", "Set-DkvStore"),
    ),
    Option(
        "leader-assignment-timeout",
        "number",
        10_000,
        "how long a process that an operator started waits for its group's leader",
        unit="ms",
    ),
    Option(
        "failover-grace", "number", 2_000, "how long a restarted leader may make no progress before another copy leads", unit="ms"
    ),
    Option(
        "failover-limit",
        "number",
        0,
        "how long a restarted leader may take with progress before another copy leads, and acknowledged writes may be set aside",
        unit="ms",
        least=1,
        special=0,
        special_means="no limit",
    ),
    Option("restart-budget", "number", 3, "so many early ends in a row; then a restart waits, 10 s at first and 5 min at most"),
    Option(
        "tail-above",
        "number",
        100_000_000,
        "size of a dead leader's files from which on its followers receive its last writes and lead",
        unit="bytes",
        special=-1,
        special_means="never",
    ),
    Option(
        "script-limit",
        "number",
        0,
        "how long a script or function may keep an engine",
        unit="ms",
        least=10_000,
        why_least="an engine reports a busy script only after that",
        special=0,
        special_means="no limit",
    ),
    Option(
        "engine-tls",
        "word",
        "auto",
        "whether engines speak TLS, fixed while the store runs; auto: where another machine can reach them",
        choices=("auto", "on", "off"),
        effect=Effect("in effect when it is started"),
        cmdlets=("New-DkvStore",),
    ),
    Option(
        "insecure-engine-traffic",
        "word",
        "no",
        "yes accepts engines without TLS that another machine can reach, which every view then says",
        choices=("no", "yes"),
        effect=Effect("in effect when it is started"),
        cmdlets=("New-DkvStore",),
    ),
    Option(
        "leaders",
        "word",
        "home",
        "where the leaders of a lost server are once it is back and its copies are in sync",
        choices=("home", "stay"),
        cmdlets=("New-DkvStore", "Set-DkvStore"),
    ),
)

OPTIONS = {option.name: option for option in TABLE}
DEFAULTS: dict[str, Any] = {option.field: option.default for option in TABLE}
"""By field of DatabaseOptions."""

OF_NUODB: dict[str, str] = {
    "mem": "max-memory sets the memory of engines",
    "commit": "append-fsync and min-in-sync say when a write is safe",
    "journal-dir": "an archive has its log in its own directory",
    "journal-max-directory-entries": "an archive has no journal",
    "journal-max-file-size-bytes": "an archive has no journal",
    "journal-single-file": "an archive has no journal",
    "journal-sync-method": "append-fsync says when writes reach the disk",
    "max-lost-archives": "min-in-sync says how many copies a write must reach",
    "ping-timeout": "failover-grace says how long a leader may be silent",
    "verbose": "engines log what Valkey logs",
}
"""Options of NuoDB's own engines -> what is done here instead. They are kept as they were written, so that what was written for
NuoDB runs; the answer says that it is ignored."""

NEVER: Mapping[str, str] = {"ext-start": "Every process is started by a manager."}
"""Why there is no such option, where one might be expected."""


def parameters_of(cmdlet: str) -> list[Option]:
    """The options that a cmdlet has as parameters, in the order of the table."""
    return [option for option in TABLE if cmdlet in option.cmdlets]


def ignored(names: Iterable[str]) -> list[str]:
    """A sentence for each option of NuoDB's own among these."""
    return [f"{name} is an option of NuoDB: it is kept and ignored; {OF_NUODB[name]}" for name in names if name in OF_NUODB]


def events_shown(text: str) -> str:
    """How an engine that publishes these events shows them: beside A it leaves out n."""
    return text.replace("An", "A")


def _events(text: str) -> str | None:
    """The letters of these events in the order in which Valkey shows them; None for letters that say nothing."""
    letters = {*text.replace("A", EVENT_CLASSES.removesuffix("n"))}
    if letters - {*EVENT_CLASSES, *"KEm"} or (letters and not letters & {*"KE"}):
        return None
    classes = "".join(letter for letter in EVENT_CLASSES if letter in letters)
    return classes.replace(EVENT_CLASSES.removesuffix("n"), "A") + "".join(letter for letter in "KEm" if letter in letters)


def _number(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(text) < 17 and not text.startswith("-0") else None


def _bytes(text: str) -> int | None:
    """Bytes from `1073741824`, `1gb`, `1GiB` or `1024M`, in powers of 1024."""
    text = text.lower().removesuffix("b").removesuffix("i")
    power = "kmgt".find(text[-1:]) + 1 if text[-1:] else 0
    digits = text[:-1] if power else text
    return int(digits) << 10 * power if digits.isascii() and digits.isdigit() and len(digits) < 17 else None
