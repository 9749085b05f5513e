"""Connect-DkvManager and Disconnect-DkvManager: which managers the next commands are for (docs/reference/cmdlets.md#managers)."""

from __future__ import annotations

from dkv.cli.binding import Bound
from dkv.cli.errors import DONE, CliError
from dkv.cli.manager_pool import Refusals, TargetedManagers
from dkv.cli.output import FAILED, NARROW, SKIPPED, SUCCESS, Row
from dkv.cli.session import Session, endpoints


def connect(session: Session, bound: Bound) -> int:
    """Remember the managers if every one answers and all are of one domain. The same list again is no change."""
    targets = endpoints(bound["Managers"], int(bound["Port"]))
    texts = [str(target) for target in targets]
    before = session.own_managers() if not bound["Force"] else []
    if before and before != texts:
        hint = "Use -Force to replace the list, or Disconnect-DkvManager first."
        raise CliError(f"Already connected to {', '.join(before)}.", hint)
    if bound["Credential"] or bound["Token"]:
        from dkv.cli.login import of_cmdlet  # only who logs in pays for it

        of_cmdlet(session, bound, targets)
    try:
        TargetedManagers(session, bound, targets).survey("Connect")
    except Refusals as refusals:
        skipped = "Not connected: another manager failed"
        rows = [r if r.result == FAILED else Row(r.manager, r.subject, SKIPPED, skipped) for r in refusals.rows]
        raise Refusals(rows) from refusals
    session.remember(texts)
    session.screen.rows([Row(text, "Connect", SUCCESS, "Connected") for text in texts], widths=NARROW)
    if not session.in_shell and session.managers() != texts:
        session.screen.note("warning: DKV_MANAGERS is set and takes precedence over this list.")
    return DONE


def disconnect(session: Session, bound: Bound) -> int:
    """Forget the managers; being disconnected already is success."""
    before = session.own_managers() or session.managers()
    session.remember([])
    session.screen.rows([Row(text, "Disconnect", SUCCESS, "Disconnected") for text in before], widths=NARROW)
    if not session.in_shell and session.managers():
        session.screen.note("warning: DKV_MANAGERS is still set.")
    return DONE
