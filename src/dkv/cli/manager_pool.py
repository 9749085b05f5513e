"""CLI: the managers a cmdlet is for: whether they are of one domain, which server each is, and one change for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from dkv.address import is_loopback
from dkv.cli.binding import Bound
from dkv.cli.errors import CliError, Usage
from dkv.cli.hints import rendered
from dkv.cli.output import FAILED, SKIPPED, SUCCESS, Row
from dkv.cli.session import Job, Outcome, Session, fan_out
from dkv.client import ClientError, Endpoint, ManagerClient, ManagerPool, ManagerRefused, ManagerUnreachable, NoManagerAnswered
from dkv.client.pool import is_away
from dkv.constants import MANAGER_PORT
from dkv.placement import ZONE, Spot
from dkv.spelling import listed, nearest

if TYPE_CHECKING:
    from dkv.wire import schemas

NOTHING_WRITTEN = "Nothing was written"


class Place(NamedTuple):
    """A server that gets nodes: its id, its manager's `host:port`, the host its ports are on, the manager's port, its zone."""

    server: str
    manager: str
    host: str
    manager_port: int = MANAGER_PORT
    zone: str = ""

    @property
    def spot(self) -> Spot:
        """The server as copies are placed by it."""
        return Spot(self.server, self.zone)


class Refusals(CliError):
    """The preflight failed on some managers; `rows` say on which. Nothing was written."""

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__(NOTHING_WRITTEN)
        self.rows = list(rows)


class TargetedManagers(ManagerPool):
    """The managers that `-Managers` names, else the connected ones, in the user's order. Raises NothingSent, Usage."""

    def __init__(self, session: Session, bound: Bound, targets: Sequence[Endpoint] | None = None) -> None:
        self.session = session
        self.bound = bound
        self.targets = session.targets(bound) if targets is None else list(targets)
        self.timeout = float(bound["TimeoutSec"])
        self.silent: dict[str, Exception] = {}  # managers that did not answer, and are done without
        super().__init__(self.targets, session.transport, self.timeout)

    def ask_each(self, action: str, call: Callable[[ManagerClient], object], *, all_of_them: bool = False) -> list[Outcome]:
        """Ask every manager something that changes nothing; `all_of_them` also after a failure with -FailFast."""
        bound = self.bound | {"FailFast": False} if all_of_them else self.bound
        jobs = [Job(text, action, _call(call, client), changes=False) for text, client in self.clients.items()]
        return fan_out(self.session, jobs, bound)

    def survey(self, action: str, *, all_of_them: bool = True) -> list[Place]:
        """All managers must answer, be of one domain and be different servers; without `all_of_them` those that do not answer
        are done without, unless -FailFast says else: one manager changes the domain for all. Raises Refusals, Usage.
        """
        outcomes = self.ask_each(action, lambda client: client.domain(), all_of_them=True)
        if not (all_of_them or self.bound.get("FailFast")):
            outcomes = self._answered(outcomes)
        self.refuse_if_any_failed(outcomes)
        domains: list[schemas.Domain] = [outcome.value for outcome in outcomes]
        self._one_domain([str(domain["uid"]) for domain in domains])
        return self._places([local_server(domain) for domain in domains])

    def _answered(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """The outcomes of the managers that answered; all of them if none did."""
        silent = silent_ones({outcome.job.manager: outcome.error for outcome in outcomes})
        self.silent = silent
        self.leave_out(silent)
        self.targets = [target for target in self.targets if str(target) not in silent]
        return [outcome for outcome in outcomes if outcome.job.manager not in silent]

    def refuse_if_any_failed(self, outcomes: Sequence[Outcome]) -> None:
        """Turn failed checks into rows that say nothing was written."""
        rows = to_rows(outcomes, lambda _: "")
        if any(row.result == FAILED for row in rows):
            idle = [Row(row.manager, row.subject, SKIPPED, NOTHING_WRITTEN) for row in rows]
            raise Refusals([row if row.result == FAILED else skipped for row, skipped in zip(rows, idle, strict=True)])

    def _one_domain(self, uids: Sequence[str]) -> None:
        other = next((i for i, uid in enumerate(uids) if uid != uids[0]), None)
        if other is not None:
            raise CliError(
                f"{self.targets[0]} and {self.targets[other]} belong to different domains.",
                "Connect to managers of one domain; managers share a domain by sharing its state.",
            )

    def _places(self, servers: Sequence[Mapping[str, Any]]) -> list[Place]:
        seen: dict[str, Endpoint] = {}
        places: list[Place] = []
        for target, server in zip(self.targets, servers, strict=True):
            server_id = str(server["serverId"])
            if server_id in seen:
                raise Usage(f"{seen[server_id]} and {target} are the same server {server_id}.", "Name it once.")
            seen[server_id] = target
            zone = str(server["labels"].get(ZONE, ""))
            places.append(Place(server_id, str(target), str(server["host"]), int(server["port"]), zone))
        self._warn(places)
        return places

    def _warn(self, places: Sequence[Place]) -> None:
        hosts = [place.host for place in places]
        twice = next((host for host in hosts if hosts.count(host) > 1), None)
        if twice:
            self.session.screen.note(f"warning: several managers on {twice}; one manager per machine is the rule.")
        loopback = [is_loopback(host) for host in hosts]
        if any(loopback) and not all(loopback):
            self.session.screen.note("warning: a loopback address cannot be reached from the other servers.")

    def everywhere(self, action: str, call: Callable[[ManagerClient], object]) -> list[Outcome]:
        """Send one change to every manager; `call` must use one Idempotency-Key for all of them."""
        jobs = [Job(text, action, _call(call, client)) for text, client in self.clients.items()]
        outcomes = fan_out(self.session, jobs, self.bound)
        for text, error in self.silent.items():
            outcome = Outcome(Job(text, action, lambda: None))
            outcome.error, outcome.skipped = error, False
            outcomes.append(outcome)
        if self.silent and any(outcome.error is None and not outcome.skipped for outcome in outcomes):
            self.session.screen.note("A manager that did not answer reads the change in the domain once it is back.")
        return outcomes

    def owners(self, store: schemas.Store) -> dict[str, Endpoint]:
        """The targeted manager of each server that has nodes of the store. A target written another way than the
        domain writes it (localhost for 127.0.0.1) is asked who it is; names are never compared."""
        servers = {str(instance["manager"]): str(instance["server"]) for instance in store["instances"]}
        owners = {servers[str(target)]: target for target in self.targets if str(target) in servers}
        for target in self.targets:
            if str(target) not in servers and len(owners) < len(set(servers.values())):
                try:
                    server = local_server(self.clients[str(target)].domain())
                    owners.setdefault(str(server["serverId"]), target)
                except ClientError as error:
                    self.session.screen.note(f"warning: {error}")
        return owners


def _call(call: Callable[[ManagerClient], object], client: ManagerClient) -> Callable[[], object]:
    return lambda: call(client)


def local_server(domain: schemas.Domain) -> schemas.Server:
    """The entry of the manager that answered. Raises ManagerRefused when there is none."""
    for server in domain["servers"]:
        if server.get("isLocal"):
            return server
    raise ManagerRefused("not_a_manager", "The manager does not know which server it is.", "Restart it.", 500)


def silent_ones(errors: Mapping[str, Exception | None]) -> dict[str, Exception]:
    """Of what managers answered, the errors of those that did not, or cannot reach the domain; none if no other is left."""
    away: dict[str, Exception] = {
        name: error for name, error in errors.items() if isinstance(error, ManagerUnreachable | ManagerRefused) and is_away(error)
    }
    return away if len(away) < len(errors) else {}


def raise_if_all_failed(outcomes: Sequence[Outcome]) -> None:
    """Raise what the managers answered when none of them gave what was asked for: a refusal before silence."""
    errors = [outcome.error for outcome in outcomes if isinstance(outcome.error, ClientError)]
    if not errors or len(errors) < len(outcomes):
        return
    refusal = next((error for error in errors if isinstance(error, ManagerRefused)), None)
    raise refusal or (errors[0] if len(errors) == 1 else NoManagerAnswered(errors))


def reason_of(error: Exception) -> str:
    """A row's message for a cmdlet's call that failed: its sentence and its hint. Re-raises what is a mistake of ours."""
    if not isinstance(error, ClientError):
        raise error
    return f"{error.message} {rendered(error.hint, verbs=False)}".strip()


def to_rows(outcomes: Sequence[Outcome], message: Callable[[Outcome], str]) -> list[Row]:
    """Rows of finished jobs: FAILED with the reason, SKIPPED after -FailFast, else SUCCESS with `message`."""
    rows = []
    for outcome in outcomes:
        job = outcome.job
        if outcome.error is not None:
            rows.append(Row(job.manager, job.action, FAILED, reason_of(outcome.error)))
        elif outcome.skipped:
            rows.append(Row(job.manager, job.action, SKIPPED, "Not sent: an earlier one failed"))
        else:
            rows.append(Row(job.manager, job.action, SUCCESS, message(outcome)))
    return rows


def pick_instance(store: schemas.Store, written: str) -> schemas.Instance:
    """The instance of that name in any case; `node1` finds `node-1` when only one can be meant."""
    instances = store["instances"]
    for instance in instances:
        if instance["instanceName"].lower() == written.lower():
            return instance
    loose = [i for i in instances if i["instanceName"].lower().replace("-", "") == written.lower()]
    if len(loose) == 1:
        return loose[0]
    names = [str(i["instanceName"]) for i in instances]
    known = f"It has {listed(names)}." if names else "It has none."
    raise CliError(f"The store {store['name']} has no instance '{written}'.", nearest(written, names, known))
