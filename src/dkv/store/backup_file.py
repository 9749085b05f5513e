"""Store: the text of a backup of a domain state: JSON lines with a head (uid, revision, how many records), one line a record, and
an end with a checksum. A file that was cut off or altered shows it, any text tool can look into it, and no library matters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

KIND, VERSION = "domain state", 2  # as sqlite_state.STATE_FILE


def backup_text(uid: str, revision: int, records: Mapping[str, str]) -> str:
    """A whole state as such a text."""
    head = {"dkv": KIND, "version": VERSION, "uid": uid, "revision": revision, "records": len(records)}
    lines = [json.dumps(head), *(json.dumps({"key": key, "text": records[key]}) for key in sorted(records))]
    body = "".join(f"{line}\n" for line in lines)
    end = json.dumps({"end": len(records), "sha256": hashlib.sha256(body.encode()).hexdigest()})
    return f"{body}{end}\n"
