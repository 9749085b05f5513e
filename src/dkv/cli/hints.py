"""CLI: the actions of hints as command lines: a cmdlet for who types cmdlets, a verb for who types verbs."""

from __future__ import annotations

from dkv.hints import Action, Hint

CMDLETS = {
    "startInstance": "Start-DkvStore -Name {store} -InstanceName {instance}",
    "stopInstance": "Stop-DkvStore -Name {store} -InstanceName {instance}",
    "removeInstance": "Remove-DkvInstance -StoreName {store} -InstanceName {instance}",
    "addInstance": "Add-DkvInstance -StoreName {store}",
    "listInstances": "Get-DkvStore",
    "startStore": "Start-DkvStore -Name {store}",
    "stopStore": "Stop-DkvStore -Name {store}",
    "forceStopStore": "Stop-DkvStore -Name {store} -Force",
    "removeStore": "Remove-DkvStore -Name {store}",
    "useStore": "-Name {store}",
    "useServer": "-Server {server}",
    "usePorts": "-ClustronPort {clusterPort} -ClientPort {clientPort}",
    "acceptInsecureTraffic": "-InsecureEngineTraffic yes",
    "force": "-Force",
}
"""What differs where cmdlets are typed; all else is a verb there too."""

VERBS = {
    "startInstance": "dkv start process --db-name {store} --archive-id {archiveId} --server-id {server}",
    "stopInstance": "dkv shutdown process --start-id {startId}",
    "removeInstance": "dkv delete archive --archive-id {archiveId}",
    "addInstance": "dkv create archive --db-name {store} --server-id SERVER --archive-path PATH",
    "listInstances": "dkv show archives",
    "startStore": "dkv start database --db-name {store} --unconditional",
    "stopStore": "dkv shutdown database --db-name {store}",
    "forceStopStore": "dkv Stop-DkvStore -Name {store} -Force",
    "removeStore": "dkv delete database --db-name {store}",
    "setOption": "dkv update database-options --db-name {store} --default-options {option} {value}",
    "restartRolling": "dkv restart database --db-name {store} --rolling",
    "restartForced": "dkv restart database --db-name {store} --rolling --force",
    "endRestart": "dkv restart database --db-name {store} --stop",
    "killProcess": "dkv shutdown process --start-id {startId} --kill",
    "evictProcess": "dkv shutdown process --start-id {startId} --evict",
    "listExited": "dkv get processes --exited",
    "showWaiting": "dkv show waiting",
    "showStatus": "dkv status",
    "enforceLeader": "dkv enforce leader --db-name {store} --group {group} --archive-id {archiveId}",
    "startManager": "on {host}: systemctl start dkv-manager, or dkv manager run",
    "stopManager": "dkv shutdown server --server-id {server}",
    "stopServerProcesses": "dkv shutdown server-processes --server-id {server} --force",
    "removeServer": "dkv delete server-state --server-id {server}",
    "replaceServer": "dkv replace server --server-id {server}",
    "replaceVoter": "dkv replace voter --server-id {server}",
    "backUpState": "dkv backup state --file FILE",
    "rebuildState": "dkv rebuild state --state {state} --data-dir DIRECTORY",
    "restoreWithNewAuthorities": "dkv restore state --file FILE --state sqlite:PATH --new-authorities",
    "createDatabaseUser": "dkv create database-user --db-name {store} --name USER",
    "dropOldPassword": "dkv rotate database-user --db-name {store} --name {user} --drop-old",
    "createJoinToken": "dkv create join-token",
    "rotateWithout": "dkv rotate ca --without {server}",
    "rotateStoreWithout": "dkv rotate ca --db-name {store} --without {server}",
    "goOnRotating": "dkv rotate ca",
    "goOnRotatingStore": "dkv rotate ca --db-name {store}",
    "showCredentials": "use dkv login or DKV_TOKEN",
    "useStore": "--db-name {store}",
    "useGroup": "--group {group}",
    "useServer": "--server-id {server}",
    "usePath": "--archive-path {path}",
    "usePorts": "cluster port {clusterPort} and client port {clientPort}",
    "acceptInsecureTraffic": "--insecure-engine-traffic",
    "force": "--force",
    "allowDataLoss": "--allow-data-loss --reason TEXT",
}


def rendered(hint: Hint, verbs: bool) -> str:
    """A hint with its actions as command lines: verbs, or cmdlets."""
    return "".join(part if isinstance(part, str) else command_line(part, verbs) for part in hint.parts)


def command_line(action: Action, verbs: bool) -> str:
    """An action as what is typed for it."""
    template = VERBS[action.kind] if verbs else CMDLETS.get(action.kind, VERBS[action.kind])
    return template.format(**{name: quoted(str(value)) for name, value in action.arguments.items()})


def quoted(word: str) -> str:
    """A word as a shell takes it: with quotes where it has more than letters, digits and the signs of names and paths."""
    plain = word and all(char.isalnum() or char in "_.-/" for char in word)
    return word if plain else "'" + word.replace("'", "'\\''") + "'"
