"""Store: what the domain's keys in etcd mean: one key a record, a head that guards them, and how one commit becomes transactions.

    PREFIX state/head           revision, token of the commit that made it, sequence of the newest event, chunks still to apply
    PREFIX state/record/KEY     the text of a record
    PREFIX attempt/REVISION     the token of the commit that made a revision
    PREFIX event/SEQUENCE       the events of one commit; SEQUENCE is that of the last of them
    PREFIX stage/BASE/TOKEN/N   a part of a commit that is too large for one transaction

A commit is one transaction under the condition that the head is, byte by byte, the one it was decided on; the random token in it
makes every head unlike any other. One that is too large is first written to `stage/`, then made true by the one transaction that
names its chunks in the head, then applied chunk by chunk under the condition that the head is still that one. A reader that
finds chunks in the head applies them first, so nothing between is ever seen. Everything here is pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from dkv.store.contract import Snapshot, StoredEvent, Unavailable, Unusable
from dkv.store.etcd_messages import DELETE, delete, has_value, look, message, put, txn

FORMAT = 1
KEEP_EVENTS = 100_000
KEEP_ATTEMPTS = 10_000
TRIM_EVERY = 64  # commits
MOST_OPERATIONS = 100  # of one transaction: a default etcd takes 128
MOST_BYTES = 1_000_000  # of one transaction: a default etcd takes 1.5 MB
LARGEST = 1_300_000  # bytes of one record, which no transaction can split
MOST_CHUNKS = 100
WIDTH = 16  # digits of a number in a key, so that keys are in the order of their numbers


def after(prefix: bytes) -> bytes:
    """The first key behind all that begin with a prefix, which ends with a slash."""
    return prefix[:-1] + b"0"


@dataclass(frozen=True)
class Head:
    """The newest commit: its revision and token, the sequence of the newest event, and how many chunks are still to apply."""

    revision: int = 0
    token: str = ""
    sequence: int = 0
    staged: int = 0
    base: int = 0  # of a staged commit: the revision that its chunks are stored under
    format: int = FORMAT

    @property
    def text(self) -> bytes:
        """As it is stored; b"" for a domain without any commit."""
        return json.dumps(asdict(self), separators=(",", ":")).encode() if self.revision else b""


def read_head(text: bytes, where: str) -> Head:
    """The head that a value holds, b"" if there is none. Raises Unusable for one that this dkv did not write."""
    if not text:
        return Head()
    try:
        fields = json.loads(text)
        version = int(fields["format"])
        if version == FORMAT:
            return Head(**fields)
    except (ValueError, TypeError, KeyError):
        raise Unusable(
            f"the keys at {where} are not a dkv domain's", "Give another etcd_prefix; they were left untouched."
        ) from None
    age = "newer" if version > FORMAT else "older"
    detail = f"the domain state at {where} was written by a {age} dkv (format {version}, this dkv knows {FORMAT})"
    raise Unusable(detail, f"Run the {age} dkv, or give another etcd_prefix.")


@dataclass(frozen=True)
class Layout:
    """The keys below one prefix."""

    prefix: bytes

    @property
    def state(self) -> bytes:
        """The prefix of what is watched: the head and the records."""
        return self.prefix + b"state/"

    @property
    def head(self) -> bytes:
        """The key of the head."""
        return self.state + b"head"

    @property
    def records(self) -> bytes:
        """The prefix of records."""
        return self.state + b"record/"

    @property
    def events(self) -> bytes:
        """The prefix of events."""
        return self.prefix + b"event/"

    @property
    def leases(self) -> bytes:
        """The prefix of leases, outside of what is guarded and watched."""
        return self.prefix + b"lease/"

    @property
    def probe(self) -> bytes:
        """The key that a probe writes."""
        return self.prefix + b"probe"

    def attempt(self, revision: int) -> bytes:
        """The key of the token of the commit that made a revision."""
        return self.prefix + b"attempt/%0*d" % (WIDTH, revision)

    def event(self, sequence: int) -> bytes:
        """The key of the events of which this is the last; or the first key of events that are not older."""
        return self.events + b"%0*d" % (WIDTH, sequence)

    def stage(self, base: int, token: str = "", number: int = 0) -> bytes:
        """The key of a chunk; without a token, the prefix of all chunks of commits on that base."""
        prefix = self.prefix + b"stage/%0*d/" % (WIDTH, base)
        return prefix + f"{token}/{number:06d}".encode() if token else prefix


# Writing -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Commit:
    """What a commit on `base` writes, under one token."""

    base: Head
    writes: Mapping[str, str | None]
    events: Sequence[str]
    token: str

    @property
    def head(self) -> Head:
        """The head it makes."""
        return Head(self.base.revision + 1, self.token, self.base.sequence + len(self.events))


def operations(commit: Commit, layout: Layout, keep_events: int) -> list[Any]:
    """What a commit writes besides head and attempt. Raises Unavailable for a record that etcd cannot take."""
    written = []
    for key, text in commit.writes.items():
        name = layout.records + key.encode()
        if text is not None and len(text.encode()) > LARGEST:
            raise Unavailable(f"the record {key} is larger than etcd takes ({len(text.encode())} bytes)", written=False)
        written.append(delete(name) if text is None else put(name, text.encode()))
    last = commit.base.sequence
    for texts in batches(commit.events, MOST_BYTES // 2):
        last += len(texts)
        value = json.dumps({"revision": commit.head.revision, "texts": texts}, ensure_ascii=False)
        written.append(put(layout.event(last), value.encode()))
    return [*written, *_trimmed(commit.head, layout, keep_events)]


def _trimmed(head: Head, layout: Layout, keep_events: int) -> list[Any]:
    """Forget the oldest events and attempts, now and then."""
    if head.revision % TRIM_EVERY:
        return []
    old_events, old_attempts = head.sequence - keep_events, head.revision - KEEP_ATTEMPTS
    ranges = []
    if old_events > 0:
        ranges.append(delete(layout.events, layout.event(old_events + 1)))
    if old_attempts > 0:
        ranges.append(delete(layout.attempt(0), layout.attempt(old_attempts + 1)))
    return ranges


def batches(texts: Sequence[str], most: int) -> list[list[str]]:
    """Texts in groups of at most so many bytes each, or of one text."""
    groups: list[list[str]] = []
    size = most + 1
    for text in texts:
        length = len(text.encode()) + 8
        if size + length > most:
            groups.append([])
            size = 0
        groups[-1].append(text)
        size += length
    return groups


def chunks(written: Iterable[Any]) -> list[Any]:
    """Operations in transactions that a default etcd takes."""
    groups: list[list[Any]] = [[]]
    size = 0
    for operation in written:
        length = operation.ByteSize() + 8
        if groups[-1] and (len(groups[-1]) >= MOST_OPERATIONS or size + length > MOST_BYTES):
            groups.append([])
            size = 0
        groups[-1].append(operation)
        size += length
    return [txn([], group) for group in groups]


def direct(commit: Commit, layout: Layout, chunk: Any) -> Any:
    """The one transaction of a commit that fits into one. When its condition fails it answers head and attempt."""
    request = txn([has_value(layout.head, commit.base.text)], [], _why_not(commit, layout))
    request.success.extend([put(layout.head, commit.head.text), put(layout.attempt(commit.head.revision), commit.token.encode())])
    request.success.extend(chunk.success)
    return request


def staging(commit: Commit, layout: Layout, parts: Sequence[Any]) -> tuple[list[Any], Any]:
    """The writes that store the chunks of a large commit, and the transaction that makes it true. Raises Unavailable."""
    if len(parts) > MOST_CHUNKS:
        raise Unavailable(f"a commit of {len(parts)} MB is larger than dkv writes to etcd", written=False)
    base = commit.base.revision
    stored = [
        message("PutRequest", key=layout.stage(base, commit.token, number), value=part.SerializeToString())
        for number, part in enumerate(parts)
    ]
    head = Head(commit.head.revision, commit.token, commit.head.sequence, staged=len(parts), base=base)
    done = [put(layout.head, head.text), put(layout.attempt(head.revision), commit.token.encode())]
    return stored, txn([has_value(layout.head, commit.base.text)], done, _why_not(commit, layout))


def applied(head: Head, layout: Layout, part: bytes) -> Any:
    """The transaction that applies a chunk, as long as the head still names it."""
    request = message("TxnRequest")
    request.ParseFromString(part)
    request.compare.append(has_value(layout.head, head.text))
    return request


def finished(head: Head, layout: Layout) -> tuple[Head, Any]:
    """The head without chunks, and the transaction that writes it when all of them are applied; chunks of commits that were
    begun on the same base or before and did not come through go too.
    """
    done = Head(head.revision, head.token, head.sequence)
    swept = delete(layout.stage(0), after(layout.stage(head.base)))
    return done, txn([has_value(layout.head, head.text)], [put(layout.head, done.text), swept])


def _why_not(commit: Commit, layout: Layout) -> list[Any]:
    return [look(layout.head), look(layout.attempt(commit.head.revision))]


# Reading -----------------------------------------------------------------------------------------------------------------


@dataclass
class Mirror:
    """The watched keys as they were at one etcd revision, and the newest whole view of them."""

    layout: Layout
    where: str  # the cluster and the prefix, for a sentence
    head: Head = field(default_factory=Head)
    at: int = -1  # the etcd revision of the newest head that is known; 0: there is none; -1: nothing was read
    read_at: int = 0  # the etcd revision up to which all is known: read as a whole, or told by a watch
    records: dict[str, str] = field(default_factory=dict)
    snapshot: Snapshot = field(default_factory=lambda: Snapshot(0, MappingProxyType({})))
    _touched: set[str] = field(default_factory=set)  # keys that differ from the snapshot

    @property
    def whole(self) -> bool:
        """Whether what is known is a commit and not a part of one."""
        return self.at >= 0 and not self.head.staged

    def load(self, kvs: Sequence[Any], revision: int) -> None:
        """Take over what was read as a whole at an etcd revision, unless more is known: between the parts of a large commit the
        head stays as it is. Texts that did not change stay the same objects. Raises Unusable.
        """
        at = next((kv.mod_revision for kv in kvs if kv.key == self.layout.head), 0)
        if revision < self.read_at or at < self.at:
            return
        self.read_at = revision
        begin = len(self.layout.records)
        before, records, head = self.records, dict[str, str](), Head()
        for kv in kvs:
            if kv.key == self.layout.head:
                head = read_head(kv.value, self.where)
            elif kv.key.startswith(self.layout.records):
                key, text = kv.key[begin:].decode(), kv.value.decode()
                same = before.get(key)
                records[key] = same if same is not None and same == text else text
        self._touched |= {key for key in before.keys() | records.keys() if before.get(key) != records.get(key)}
        self._take(head, at, records)

    def apply(self, events: Iterable[Any], newest: int) -> None:
        """Take over what a watch told, whole revisions of it up to an etcd revision. Raises Unusable."""
        begin = len(self.layout.records)
        head, at, records = self.head, self.at, self.records.copy()
        for event in events:
            kv = event.kv
            if kv.mod_revision <= self.at:
                continue  # known from this handle's own commit, or read meanwhile
            if kv.key == self.layout.head:
                if event.type == DELETE:
                    raise Unusable(f"the domain state at {self.where} was deleted", "Put etcd's data back, or begin anew.")
                head, at = read_head(kv.value, self.where), kv.mod_revision
            elif kv.key.startswith(self.layout.records):
                _set(records, kv.key[begin:].decode(), None if event.type == DELETE else kv.value.decode())
                self._touched.add(kv.key[begin:].decode())
        self.read_at = max(self.read_at, newest)
        self._take(head, at, records)

    def committed(self, commit: Commit, at: int) -> None:
        """Take over a commit of this handle that was written whole at an etcd revision, unless a watch told of it before."""
        if self.head == commit.base:
            records = self.records.copy()
            for key, text in commit.writes.items():
                _set(records, key, text)
            self._touched |= commit.writes.keys()
            self._take(commit.head, at, records)

    def _take(self, head: Head, at: int, records: dict[str, str]) -> None:
        self.head, self.at, self.records = head, at, records
        if head.staged or (head.revision == self.snapshot.revision and not self._touched):
            return
        changes = self.snapshot.changes
        changes.add(self.snapshot.revision, head.revision, self._touched)
        self._touched = set()
        self.snapshot = Snapshot(head.revision, MappingProxyType(records), changes)


def _set(records: dict[str, str], key: str, text: str | None) -> None:
    if text is None:
        records.pop(key, None)
    else:
        records[key] = text


def stored_events(kvs: Iterable[Any], layout: Layout) -> list[StoredEvent]:
    """The events that the values of some event keys hold, oldest first."""
    events: list[StoredEvent] = []
    for kv in kvs:
        value = json.loads(kv.value)
        last = int(kv.key[len(layout.events) :])
        first = last - len(value["texts"]) + 1
        events += [StoredEvent(number, value["revision"], text) for number, text in enumerate(value["texts"], first)]
    return events
