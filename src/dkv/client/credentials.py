"""Client: what proves who asks, as the value of an Authorization header, and which authorities are believed about managers: from
the environment, else from the user's file.

A credential is never written on a command line, because every user of the machine can read those.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Mapping

from dkv.client.errors import ClientError
from dkv.user_dirs import config_dir

VARIABLES = ("DKV_TOKEN", "DKV_TOKEN_FILE", "DKV_USER", "DKV_PASSWORD", "DKV_CA_FILE")
LONGEST = 4_096  # characters of a token or a password
LONGEST_BUNDLE = 1 << 20  # characters of a file of authorities
FILE = "credentials.json"
CA_FILE = "Name a copy of certificates/authorities.pem in a manager's data directory."


class BadCredentials(ClientError):
    """A credential cannot be used. Its sentence never has the secret."""

    exit_code = 2


class Credentials:
    """The credentials of one user. `environ` is the environment of the program; an empty one has none and no file. `authorities`:
    those to believe whatever the environment and the file name, in PEM."""

    def __init__(self, environ: Mapping[str, str], authorities: str = "") -> None:
        self._environ = environ
        self._authorities = authorities

    def from_environment(self) -> str:
        """Of DKV_TOKEN, the file DKV_TOKEN_FILE, or DKV_USER with DKV_PASSWORD; "" where none is set. Raises BadCredentials."""
        given = self._environ
        if text := given.get("DKV_TOKEN", "").strip():
            return bearer(text, "DKV_TOKEN")
        if path := given.get("DKV_TOKEN_FILE", ""):
            return bearer(read_token(path), path)
        if name := given.get("DKV_USER", ""):
            if "DKV_PASSWORD" not in given:
                raise BadCredentials("DKV_USER is set, and DKV_PASSWORD is not.", "Set both, or use dkv login.")
            return basic(name, given["DKV_PASSWORD"])
        return ""

    def kept(self) -> str:
        """Of the user's file, as `dkv login` left it; "" where there is none. Raises BadCredentials."""
        return self._read().get("authorization", "")

    def listeners(self) -> set[int]:
        """The uids of those who listened at the managers' ports on this machine at `dkv login`. Raises BadCredentials."""
        return {int(uid) for uid in self._read().get("listeners", "").split(",") if uid.isdecimal()}

    def authorities(self) -> str:
        """The authorities that sign for managers, in PEM: of the file DKV_CA_FILE, else those that `dkv login` kept; "" where
        there are none. Raises BadCredentials."""
        if self._authorities:
            return self._authorities
        path = self._environ.get("DKV_CA_FILE", "")
        return read_authorities(path) if path else self._read().get("authorities", "")

    def _read(self) -> dict[str, str]:
        """The user's file; empty where there is none. Raises BadCredentials."""
        if not self._environ:
            return {}
        path = os.path.join(config_dir(self._environ), FILE)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise BadCredentials(f"{path} cannot be read: {error.strerror}.", "Run dkv login again.") from error
        with open(fd, encoding="utf-8") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise BadCredentials(f"{path} can be used by others.", "Run dkv logout, then dkv login with new credentials.")
            try:
                fields = json.load(file)
                usable = all(isinstance(fields[name], str) for name in fields) and _is_printable(fields["authorization"])
            except (ValueError, KeyError, TypeError):
                usable = False
        if not usable:
            raise BadCredentials(f"{path} is damaged.", "Run dkv login again.")
        return dict(fields)

    def keep(self, header: str, authorities: str = "", listeners: Collection[int] = ()) -> None:
        """Put it into the user's file, which only that user can read, with the authorities that the managers were verified by,
        and the uids of those who listened at the ports of managers on this machine. Raises BadCredentials."""
        directory = config_dir(self._environ)
        path = os.path.join(directory, FILE)
        fresh = f"{path}.{os.getpid()}"
        fields = {"authorization": header} | ({"authorities": authorities} if authorities else {})
        fields |= {"listeners": ",".join(map(str, sorted(listeners)))} if listeners else {}
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(fd, "w", encoding="utf-8") as file:
                os.fchmod(fd, 0o600)
                file.write(json.dumps(fields) + "\n")
            os.replace(fresh, path)
        except OSError as error:
            raise BadCredentials(f"{path} cannot be written: {error.strerror}.", "Set DKV_TOKEN instead.") from error

    def forget(self) -> bool:
        """Remove the user's file; whether there was one. Raises BadCredentials."""
        path = os.path.join(config_dir(self._environ), FILE)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise BadCredentials(f"{path} cannot be removed: {error.strerror}.", "Remove it.") from error
        return True


def bearer(token: str, source: str) -> str:
    """The header of a token. `source` is where it came from, for the sentence. Raises BadCredentials."""
    if not token or len(token) > LONGEST or " " in token or not _is_printable(token):
        raise BadCredentials(f"{source} holds no token.", "A token is dkvt_, 12 characters, _ and 43 characters.")
    return f"Bearer {token}"


def basic(name: str, password: str) -> str:
    """The header of a user's name and password. Raises BadCredentials."""
    if not name or ":" in name or len(name) + len(password) > LONGEST:
        raise BadCredentials("The user's name is empty, has a colon, or is too long.", "Name a user of the domain.")
    from binascii import b2a_base64  # a command without a password does not pay for it

    return "Basic " + b2a_base64(f"{name}:{password}".encode("utf-8", "surrogateescape"), newline=False).decode()


def read_token(path: str) -> str:
    """The token that a file holds. Raises BadCredentials."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read(LONGEST + 2).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise BadCredentials(f"The token file {path} cannot be read: {why}.", "Name a file that holds one token.") from error


def read_authorities(path: str) -> str:
    """The certificates that a file holds, in PEM. Raises BadCredentials."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read(LONGEST_BUNDLE)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise BadCredentials(f"The file of authorities {path} cannot be read: {why}.", CA_FILE) from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise BadCredentials(f"The file of authorities {path} holds no certificate in PEM.", CA_FILE)
    return text


def _is_printable(text: str) -> bool:
    return text.isascii() and text.isprintable()
