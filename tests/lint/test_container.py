"""The Dockerfile and the compose file fit the program: what they copy is there, and what they run is a command that it takes."""

from __future__ import annotations

import ipaddress
import json
import re

from dkv.cli import nouns
from dkv.cli.binding import bind, from_argv
from dkv.config import Settings
from tests.lint.repository import ROOT

DOCKERFILE = (ROOT / "container/Dockerfile").read_text()
COMPOSE = (ROOT / "container/compose.yaml").read_text()


def test_the_image_is_made_of_what_the_repository_has() -> None:
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M):
        assert all((ROOT / name).exists() for name in copied.split()), copied
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)
    assert bases == ["python:3.13-slim-bookworm"] * 2, "glibc: the engine's wheel has no program for musl"
    assert re.search(r"^USER dkv$", DOCKERFILE, re.M), "nothing in it runs as root"
    settings = {f"DKV_{name.upper()}" for name in Settings.__dataclass_fields__}
    assert {*re.findall(r"^ENV (DKV_\w+)=", DOCKERFILE, re.M)} <= settings


def test_the_managers_of_the_compose_file_have_addresses_and_volumes_of_their_own() -> None:
    commands = [json.loads(words) for words in re.findall(r"command: (\[.*\])", COMPOSE)]
    bound = [bind(verb, from_argv(words[2:]), {}) for words in commands if (verb := nouns.find(" ".join(words[:2])))]
    assert [b["--server-id"] for b in bound] == ["s1", "s2", "s3"]
    addresses = [b["--bind"] for b in bound]
    assert addresses == re.findall(r"ipv4_address: (\S+)", COMPOSE), "each binds the address that it is given"
    assert [b["--join"] for b in bound] == [None, addresses[0], addresses[0]]
    (subnet,) = re.findall(r"subnet: (\S+)", COMPOSE)
    assert all(ipaddress.ip_address(address) in ipaddress.ip_network(subnet) for address in addresses)
    volumes = re.findall(r'volumes: \["(\w+):/var/lib/dkv"\]', COMPOSE)
    assert volumes == re.findall(r"^  (\w+):$", COMPOSE.partition("\nvolumes:")[2], re.M), "each keeps its data"
    assert len({*re.findall(r"DKV_JOIN_TOKEN: \$\{(\w+):-\}", COMPOSE)}) == 2, "a token is taken once"
