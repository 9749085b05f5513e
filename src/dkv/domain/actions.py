"""Domain: the actions about an instance, made of its archive, for hints."""

from __future__ import annotations

from dkv.domain.model import Archive, Process
from dkv.hints import Action, action


def start_instance(archive: Archive) -> Action:
    """Start the instance, also one that is held back."""
    return action(
        "startInstance", store=archive.database, instance=archive.name, archiveId=archive.archive_id, server=archive.server_id
    )


def stop_instance(archive: Archive, process: Process) -> Action:
    """Stop the instance, of which this is the process."""
    return action("stopInstance", store=archive.database, instance=archive.name, startId=process.start_id)


def remove_instance(archive: Archive) -> Action:
    """Delete the instance."""
    return action("removeInstance", store=archive.database, instance=archive.name, archiveId=archive.archive_id)
