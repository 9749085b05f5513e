"""Store: the messages of etcd's gRPC interface that dkv sends and reads, built at import from the table below.

The numbers are etcd's wire format (rpc.proto and kv.proto of 3.4; later versions only add). Built from a descriptor in a pool of
its own: no generated file has to fit the installed protobuf, and no other package's copy of the same messages collides.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "dkv.etcd"

TABLE = """
KeyValue            key:bytes=1 create_revision:int64=2 mod_revision:int64=3 version:int64=4 value:bytes=5 lease:int64=6
Event               type:int32=1 kv:KeyValue=2
Header              cluster_id:uint64=1 revision:int64=3 raft_term:uint64=4
RangeRequest        key:bytes=1 range_end:bytes=2 limit:int64=3 revision:int64=4 serializable:bool=7
RangeResponse       header:Header=1 kvs:KeyValue*=2 more:bool=3
PutRequest          key:bytes=1 value:bytes=2 lease:int64=3
PutResponse         header:Header=1
DeleteRequest       key:bytes=1 range_end:bytes=2
DeleteResponse      header:Header=1 deleted:int64=2
RequestOp           range:RangeRequest=1 put:PutRequest=2 delete:DeleteRequest=3
ResponseOp          range:RangeResponse=1 put:PutResponse=2 delete:DeleteResponse=3
Compare             result:int32=1 target:int32=2 key:bytes=3 create_revision:int64=5 mod_revision:int64=6 value:bytes=7 \
lease:int64=8
TxnRequest          compare:Compare*=1 success:RequestOp*=2 failure:RequestOp*=3
TxnResponse         header:Header=1 succeeded:bool=2 responses:ResponseOp*=3
CompactionRequest   revision:int64=1 physical:bool=2
CompactionResponse  header:Header=1
WatchCreate         key:bytes=1 range_end:bytes=2 start_revision:int64=3 fragment:bool=8
WatchProgress
WatchRequest        create_request:WatchCreate=1 progress_request:WatchProgress=3
WatchResponse       header:Header=1 created:bool=3 canceled:bool=4 compact_revision:int64=5 cancel_reason:string=6 \
fragment:bool=7 events:Event*=11
GrantRequest        TTL:int64=1
GrantResponse       header:Header=1 ID:int64=2 TTL:int64=3
RevokeRequest       ID:int64=1
RevokeResponse      header:Header=1
KeepAliveRequest    ID:int64=1
KeepAliveResponse   header:Header=1 ID:int64=2 TTL:int64=3
TimeToLiveRequest   ID:int64=1
TimeToLiveResponse  header:Header=1 ID:int64=2 TTL:int64=3
LoginRequest        name:string=1 password:string=2
LoginResponse       header:Header=1 token:string=2
Member              ID:uint64=1 name:string=2 peerURLs:string*=3 clientURLs:string*=4 isLearner:bool=5
MemberAddRequest    peerURLs:string*=1 isLearner:bool=2
MemberAddResponse   header:Header=1 member:Member=2 members:Member*=3
MemberRequest       ID:uint64=1
MembersResponse     header:Header=1 members:Member*=2
StatusRequest
StatusResponse      header:Header=1 version:string=2 dbSize:int64=3 leader:uint64=4 errors:string*=8 isLearner:bool=10
"""

METHODS = {
    "range": ("KV/Range", "RangeRequest", "RangeResponse"),
    "put": ("KV/Put", "PutRequest", "PutResponse"),
    "txn": ("KV/Txn", "TxnRequest", "TxnResponse"),
    "compact": ("KV/Compact", "CompactionRequest", "CompactionResponse"),
    "watch": ("Watch/Watch", "WatchRequest", "WatchResponse"),
    "grant": ("Lease/LeaseGrant", "GrantRequest", "GrantResponse"),
    "revoke": ("Lease/LeaseRevoke", "RevokeRequest", "RevokeResponse"),
    "keep_alive": ("Lease/LeaseKeepAlive", "KeepAliveRequest", "KeepAliveResponse"),
    "time_to_live": ("Lease/LeaseTimeToLive", "TimeToLiveRequest", "TimeToLiveResponse"),
    "login": ("Auth/Authenticate", "LoginRequest", "LoginResponse"),
    "members": ("Cluster/MemberList", "StatusRequest", "MembersResponse"),
    "add_member": ("Cluster/MemberAdd", "MemberAddRequest", "MemberAddResponse"),
    "remove_member": ("Cluster/MemberRemove", "MemberRequest", "MembersResponse"),
    "promote_member": ("Cluster/MemberPromote", "MemberRequest", "MembersResponse"),
    "status": ("Maintenance/Status", "StatusRequest", "StatusResponse"),
}
"""Our name of each call: its path below `etcdserverpb.`, the message it takes and the one it answers."""

EQUAL = 0
CREATE, MOD, VALUE, LEASE = 1, 2, 3, 4
DELETE = 1  # the type of an event; 0 is a put


def _described(line: str) -> descriptor_pb2.DescriptorProto:
    name, *fields = line.split()
    message = descriptor_pb2.DescriptorProto(name=name)
    for text in fields:
        field_name, _, rest = text.partition(":")
        kind, _, number = rest.partition("=")
        field = message.field.add(name=field_name, number=int(number), label=1)
        if kind.endswith("*"):
            kind, field.label = kind[:-1], 3
        if kind[0].isupper():
            field.type, field.type_name = field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
        else:
            field.type = field.Type.Value(f"TYPE_{kind.upper()}")
    return message


def _built() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="dkv_etcd.proto", package=PACKAGE, syntax="proto3")
    file.message_type.extend(_described(line) for line in TABLE.strip().splitlines())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{message.name}"))
        for message in file.message_type
    }


messages = _built()
"""The class of each message, by its name in the table."""


def message(kind: str, /, **fields: Any) -> Any:
    """A message of the table with these fields set."""
    return messages[kind](**fields)


# The parts of a transaction ------------------------------------------------------------------------------------------


def put(key: bytes, value: bytes, lease: int = 0) -> Any:
    """The operation that writes a key."""
    return message("RequestOp", put=message("PutRequest", key=key, value=value, lease=lease))


def delete(key: bytes, end: bytes = b"") -> Any:
    """The operation that deletes a key, or all from it up to `end`, which stays."""
    return message("RequestOp", delete=message("DeleteRequest", key=key, range_end=end))


def look(key: bytes, end: bytes = b"", limit: int = 0) -> Any:
    """The operation that reads a key, or those from it up to `end`."""
    return message("RequestOp", range=message("RangeRequest", key=key, range_end=end, limit=limit))


def has_value(key: bytes, value: bytes) -> Any:
    """The condition that a key has this value; b"": that there is no such key."""
    if not value:
        return message("Compare", result=EQUAL, target=CREATE, key=key, create_revision=0)
    return message("Compare", result=EQUAL, target=VALUE, key=key, value=value)


def unchanged(key: bytes, revision: int) -> Any:
    """The condition that a key was last written at an etcd revision; 0: that there is no such key."""
    return message("Compare", result=EQUAL, target=MOD, key=key, mod_revision=revision)


def leased(key: bytes, lease: int) -> Any:
    """The condition that a key belongs to a lease."""
    return message("Compare", result=EQUAL, target=LEASE, key=key, lease=lease)


def txn(compare: list[Any], success: list[Any], failure: list[Any] | None = None) -> Any:
    """A transaction: all of `success` if all conditions hold, else all of `failure`."""
    return message("TxnRequest", compare=compare, success=success, failure=failure or [])
