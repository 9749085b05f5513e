"""INFO of one engine, read again and again."""

from __future__ import annotations

from dkv.engine.replies import StatisticsReader, parse_latencies


def test_statistics_that_are_read_again_are_those_of_the_newest_text_alone() -> None:
    """Lines that did not change are not taken apart again; what is gone, new or under another name is."""
    reader = StatisticsReader()
    first = b"# Stats\r\nused_memory:1\r\nrole:master\r\ndb0:keys=1,expires=0\r\n"
    others = (
        first.replace(b"used_memory:1", b"used_memory:22"),
        first.replace(b"db0", b"db1"),
        first.replace(b"role:master\r\n", b""),
        first + b"slave0:ip=::1,port=7861\r\n",
        first.replace(b"# Stats", b"stats:no"),
        first,
        b"",
    )
    for text in (first, *others):
        expected = StatisticsReader().read(text)
        fields = reader.read(text)
        assert fields == expected, text
        fields.clear()
    assert StatisticsReader().read(others[3])["slave0"] == "ip=::1,port=7861"


def test_histograms_are_by_command_and_bound() -> None:
    reply = [b"set", [b"calls", 3, b"histogram_usec", [1, 1, 8, 3]], b"config|get", [b"calls", 0, b"histogram_usec", []]]
    assert parse_latencies(reply) == {"set": {1: 1, 8: 3}, "config|get": {}}
