"""Managers whose ports speak TLS, and the unmodified nuocmd 2.7.0: passwords, certificates, files that are missing, roles."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.e2e.local_domain import LocalDomain, local_domain, wait_for
from tests.e2e.nuocmd import Nuocmd
from tests.tls import client

SETTINGS = {"DKV_ACCESS_CONTROL": "on", "DKV_TLS": "on"}


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    with local_domain(tmp_path_factory.mktemp("tls"), 2, SETTINGS) as domain:
        yield domain


@pytest.fixture
def authorities(domain: LocalDomain) -> Path:
    return domain.managers[0].data_dir / "certificates" / "authorities.pem"


@pytest.fixture
def nuocmd(domain: LocalDomain) -> Nuocmd:
    """nuocmd as its user configures it, over https and without credentials yet."""
    nuocmd = Nuocmd(domain)
    nuocmd.api_server = f"https://{nuocmd.server.host}:8888"
    del nuocmd.env["NUOCMD_BASIC_CREDS"]
    return nuocmd


def seen(domain: LocalDomain) -> tuple[object, ...]:
    """All that a refused request must not change; that it was refused is an event of its own."""
    stores, events = domain.picture()
    return stores, [event for event in events if event["kind"] != "server.refused"]


def refused(domain: LocalDomain, nuocmd: Nuocmd, *words: object) -> str:
    """The sentence of a request that is refused, and changes nothing."""
    before = seen(domain)
    output = nuocmd.run(*words)
    assert output.code == 1 and seen(domain) == before, output
    assert re.fullmatch(r"'\w+ [\w-]+' failed: [^\n]+\n", output.err), output.err
    return output.err.partition("failed: ")[2].strip()


def user(domain: LocalDomain, name: str, password: str, role: str) -> None:
    domain.do("create", "user", "--name", name, "--password", password, "--roles", role)


def self_signed(directory: Path, name: str) -> tuple[Path, Path, Path]:
    """A certificate as nuocmd's tools make it, RSA and signed by itself: alone, its key, and both in one file."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.not_valid_after(now + timedelta(days=30)).sign(key, hashes.SHA256())
    form, encoding = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
    texts = [certificate.public_bytes(encoding), key.private_bytes(encoding, form, serialization.NoEncryption())]
    paths = [directory / f"{name}.{end}" for end in ("pem", "key", "both")]
    for path, text in zip(paths, [*texts, texts[0] + texts[1]], strict=True):
        path.write_bytes(text)
    return paths[0], paths[1], paths[2]


def register(domain: LocalDomain, name: str, certificate: Path, *roles: str) -> None:
    body = {"name": name, "roles": list(roles), "certificatePem": certificate.read_text()}
    domain.client.request("PUT", f"/api/1/policies/users/{name}", body)


@pytest.mark.parametrize(
    ("name", "password"), [("ann", "a plain one"), ("bert", "p\u00e4sswort"), ("carl", "with:two:colons"), ("j\u00e4n", "x" * 20)]
)
def test_nuocmd_with_basic_credentials(domain: LocalDomain, nuocmd: Nuocmd, authorities: Path, name: str, password: str) -> None:
    user(domain, name, password, "viewer")
    shown = nuocmd.do("--verify-server", authorities, "--basic-creds", f"{name}:{password}", "show", "domain")
    assert "[s1]" in shown and "[s2]" in shown
    nuocmd.env["NUOCMD_BASIC_CREDS"] = f"{name}:{password}x"
    sentence = refused(domain, nuocmd, "--verify-server", authorities, "show", "domain")
    assert sentence.startswith("The user is not known, or the password is another one")


def test_nuocmd_with_a_registered_certificate(domain: LocalDomain, nuocmd: Nuocmd, authorities: Path, tmp_path: Path) -> None:
    certificate, key, both = self_signed(tmp_path, "dora")
    register(domain, "dora", certificate, "viewer")
    assert "[s1]" in nuocmd.do("--client-key", both, "--verify-server", authorities, "show", "domain")
    # nuocmd gives two files to requests as a list, which requests 2.32 and later cannot take: it ends before it connects.
    output = nuocmd.run("--client-key", f"{certificate},{key}", "--verify-server", authorities, "show", "domain")
    if tuple(map(int, version("requests").split(".")[:2])) < (2, 32):
        assert "[s1]" in output.out
    else:
        assert output.err == "'show domain' failed: unhashable type: 'list'\n"
    assert " 200 " in answer_of(domain, client(authorities.read_text(), (certificate, key)), "GET /api/1/databases", port=8888)
    sentence = refused(
        domain, nuocmd, "--client-key", both, "--verify-server", authorities, "create", "region", "--name", "north"
    )
    assert "user dora may not POST /api/1/regions" in sentence
    (tmp_path / "twin").mkdir()
    _, _, twin = self_signed(tmp_path / "twin", "dora")  # the same name, another key
    output = nuocmd.run("--client-key", twin, "--verify-server", authorities, "show", "domain")
    assert output.code == 1 and "[s1]" not in output.out
    with suppress(OSError):  # the manager ends the connection, which the client's handshake does not wait for
        answer = answer_of(domain, client(authorities.read_text(), (twin, twin)), "GET /admin/v1/stores", source="127.77.0.1")
        assert answer == ""
    log = domain.managers[0].log
    wait_for("the other certificate is named in the log", lambda: named(log, "127.77.0.1", "its certificate was not taken"))


def test_a_certificate_that_a_registered_one_signed_is_nobody(domain: LocalDomain, authorities: Path, tmp_path: Path) -> None:
    certificate, key, _ = self_signed(tmp_path, "mallory")
    register(domain, "mallory", certificate, "viewer")
    signer = serialization.load_pem_private_key(key.read_bytes(), None)
    assert isinstance(signer, rsa.RSAPrivateKey)
    leaf_key, now = rsa.generate_private_key(65537, 2048), datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alice")]))
    builder = builder.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mallory")]))
    builder = builder.public_key(leaf_key.public_key()).serial_number(7).not_valid_before(now - timedelta(hours=1))
    leaf = builder.not_valid_after(now + timedelta(days=3)).sign(signer, hashes.SHA256())
    encoding = serialization.Encoding.PEM
    (tmp_path / "alice.pem").write_bytes(leaf.public_bytes(encoding))
    form = serialization.PrivateFormat.PKCS8
    (tmp_path / "alice.key").write_bytes(leaf_key.private_bytes(encoding, form, serialization.NoEncryption()))
    context = client(authorities.read_text(), (tmp_path / "alice.pem", tmp_path / "alice.key"))
    user(domain, "alice", "a password", "admin")
    before = seen(domain)
    assert " 401 " in answer_of(domain, context, "GET /admin/v1/stores").splitlines()[0] and seen(domain) == before


def connected(domain: LocalDomain, port: int, source: str = "") -> socket.socket:
    """A connection to the first manager, from an address of this machine."""
    return socket.create_connection((domain.managers[0].host, port), 30, (source, 0))


def answer_of(domain: LocalDomain, context: ssl.SSLContext, line: str, *headers: str, port: int = 7801, source: str = "") -> str:
    """The whole answer of the first manager to one request. Raises OSError if the connection is refused."""
    host = domain.managers[0].host
    head = "\r\n".join([f"{line} HTTP/1.0", f"Host: {host}", *headers, "", ""])
    with connected(domain, port, source) as plain, context.wrap_socket(plain, server_hostname=host) as connection:
        connection.sendall(head.encode("latin-1"))
        return b"".join(iter(lambda: connection.recv(65_536), b"")).decode()


def test_who_shows_nothing_gets_the_shape_that_nuocmd_reads(domain: LocalDomain, nuocmd: Nuocmd, authorities: Path) -> None:
    head, _, body = answer_of(domain, client(authorities.read_text()), "GET /api/1/databases", port=8888).partition("\r\n\r\n")
    assert " 401 " in head.splitlines()[0] and re.search(r"(?im)^www-authenticate: Basic realm=", head)
    assert re.search(r'"code": ?401', body) and re.search(r'"messages": ?\[', body)
    assert "shows no credentials" in refused(domain, nuocmd, "--verify-server", authorities, "show", "domain")


def test_verification_of_the_server_is_the_choice_of_who_calls(
    domain: LocalDomain, nuocmd: Nuocmd, authorities: Path, tmp_path: Path
) -> None:
    user(domain, "emil", "a password", "operator")
    nuocmd.env["NUOCMD_BASIC_CREDS"] = "emil:a password"
    assert "[s1]" in nuocmd.do("--no-verify", "show", "domain")
    missing = tmp_path / "missing.pem"
    before = seen(domain)  # nuocmd then asks the authorities of the machine
    output = nuocmd.run("--verify-server", missing, "create", "region", "--name", "south")
    assert output.code == 1 and "certificate verify failed" in output.err.lower().replace("_", " ")
    nuocmd.api_server = f"{nuocmd.server.host}:8888"
    output = nuocmd.run("--verify-server", missing, "create", "region", "--name", "south")
    assert output.code == 1 and seen(domain) == before  # without a scheme it goes on in clear, to a port that closes at once
    with connected(domain, 8888, "127.77.0.2") as plain:
        plain.sendall(b"GET /api/1/servers HTTP/1.0\r\n\r\n")
        assert plain.recv(100) == b""
    log = domain.managers[0].log
    wait_for("plain HTTP is named in the log", lambda: named(log, "127.77.0.2", "it spoke HTTP without TLS"))


def named(log: Path, peer: str, why: str) -> bool:
    """Whether a manager's log says once that requests of a peer were refused, and why. Each of these peers is one of its own: of
    an address that was told of lately no more is told within a minute.
    """
    lines = [line for line in log.read_text().splitlines() if f"requests of {peer} were refused: 1," in line]
    return len(lines) == 1 and why in lines[0]


def test_roles_of_nuodb_allow_and_refuse_over_tls(domain: LocalDomain, nuocmd: Nuocmd, authorities: Path) -> None:
    domain.do("create", "role", "--name", "reader", "--method", "get", "--url", "/api/1/*")
    user(domain, "fritz", "a password", "reader")
    nuocmd.env |= {"NUOCMD_BASIC_CREDS": "fritz:a password", "NUOCMD_VERIFY_SERVER": str(authorities)}
    assert nuocmd.do("get", "servers")
    assert "user fritz may not" in refused(domain, nuocmd, "create", "region", "--name", "west")
    user(domain, "gerd", "a password", "operator")
    nuocmd.env["NUOCMD_BASIC_CREDS"] = "gerd:a password"
    nuocmd.do("create", "region", "--name", "west")
    assert "may not" in refused(domain, nuocmd, "create", "role", "--name", "mine", "--method", "GET", "--url", "*")


def test_a_renewed_leaf_is_shown_without_a_restart(domain: LocalDomain, authorities: Path) -> None:
    host = domain.managers[1].host

    def serial() -> str:
        with socket.create_connection((host, 7801), 30) as plain:
            with client(authorities.read_text()).wrap_socket(plain, server_hostname=host) as connection:
                return str(connection.getpeercert()["serialNumber"])  # type: ignore[index]

    before = serial()
    for name in ("server.pem", "server.key"):  # as the disk loses them; the manager makes them anew at its next look
        (domain.managers[1].data_dir / "certificates" / name).unlink()
    assert serial() == before
    domain.managers[1].kill()
    domain.managers[1].restart()
    assert serial() != before


def test_managers_ask_each_other_and_a_program_finds_its_way(domain: LocalDomain) -> None:
    config = domain.do("get", "server-config", "--server-id", "s2", "--managers", domain.managers[0].host).out
    assert '"ThisServerId": "s2"' in config
    secret = domain.do("create", "token", "--role", "viewer").out.strip()
    first = domain.managers[0]
    output = domain.dkv("Get-DkvStore", managers=f"https://{first.host}", env={"DKV_TOKEN": secret})
    assert output.code == 0, output
    second = domain.managers[1]
    assert second.process is not None
    domain.do("shutdown", "server", "--server-id", "s2", "--managers", first.host)
    assert second.process.wait(60) == 0
    second.process = None
    second.restart()
