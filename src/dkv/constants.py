"""Numbers and names that several packages go by, each written once (docs/reference/valkey.md)."""

from __future__ import annotations

SLOTS = 16384  # hash slots of a database, as Valkey counts them
NUMBERED_DATABASES = 16  # that each engine has, which SELECT chooses
MARKER_LIBRARY = "dkv_marker"  # the function library by which managers number their terms on an engine
MANAGER_PORT = 7801  # of the REST API (docs/reference/cmdlets.md#topology)
NUODB_PORT = 8888  # of the NuoDB dialect
FIRST_CLUSTER_PORT = 7811  # where the search for an archive's free ports begins
FIRST_CLIENT_PORT = 7861
PEERS_ABOVE = 100  # by how much the port between etcd members of the domain state is above the one for their clients
OPEN_TO_ALL = "access control is off: every user of this machine is an administrator"  # what each view then says
WARNING_HEADER = "dkv-warning"  # of an answer: a sentence for whoever looks
MANAGER_LOCK = "manager.lock"  # in a data directory: held while a manager runs on it
MANAGER_SOCKET = "manager.sock"  # in a data directory: the manager's own socket, for its user and root
PRINCIPAL_HEADER = "Dkv-Principal"  # in whose name a server asks another one
