"""Client: several managers of one domain, of which any may answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from dkv.client.errors import ClientError
from dkv.client.manager import ManagerClient
from dkv.client.transport import Endpoint, ManagerRefused, ManagerUnreachable, NoManagerAnswered, Transport

T = TypeVar("T")


class ManagerPool:
    """Clients of managers. `clients` has them by `host:port` in the given order; `current` is the one that is asked next: the one
    that answered last."""

    def __init__(self, endpoints: Iterable[Endpoint], transport: Transport | None = None, timeout: float = 30.0) -> None:
        self.clients = {str(endpoint): ManagerClient(endpoint, transport, timeout) for endpoint in endpoints}
        self._order = list(self.clients.values())

    @property
    def current(self) -> ManagerClient:
        """The manager to ask next."""
        return self._order[0]

    def rotate(self) -> None:
        """Make the next manager current; the present one comes last."""
        self._order.append(self._order.pop(0))

    def leave_out(self, names: Collection[str]) -> None:
        """Ask these of `clients` no more."""
        self._order = [client for name, client in self.clients.items() if name not in names]
        self.clients = {name: client for name, client in self.clients.items() if name not in names}

    def ready(self) -> ManagerClient:
        """The first manager that can read and change the domain state; the first of all when none can."""
        for _ in self._order:
            if self.current.ready():
                break
            self.rotate()
        return self.current

    def first(self, call: Callable[[ManagerClient], T], *, repeatable: bool = True) -> T:
        """The result of `call` with the first manager that answers; one that is away is tried last from then on. A `call`
        that is not `repeatable` goes to another manager only when it certainly did nothing at the one that failed. Raises
        ManagerRefused; ManagerUnreachable, or NoManagerAnswered when several were asked."""
        errors: list[ClientError] = []
        for _ in range(len(self._order)):
            try:
                return call(self.current)
            except (ManagerUnreachable, ManagerRefused) as error:
                if not is_away(error, repeatable):
                    raise
                errors.append(error)
                self.rotate()
        raise errors[0] if len(errors) == 1 else NoManagerAnswered(errors)


def is_away(error: ManagerUnreachable | ManagerRefused, repeatable: bool = True) -> bool:
    """Whether another manager is to be asked: this one did not answer, or cannot reach the domain."""
    if isinstance(error, ManagerUnreachable):
        return repeatable or not error.maybe_done
    return error.status == 503
