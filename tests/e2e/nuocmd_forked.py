"""The unmodified nuocmd for tests that call it often: imported once by a process of its own, which forks for each call."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

WORKER = """
import json, os, sys
from pynuoadmin import nuocmd
for line in sys.stdin:
    call = json.loads(line)
    pid = os.fork()
    if not pid:
        for number, path in ((1, call["out"]), (2, call["err"])):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["nuocmd", *call["words"]]
        nuocmd.execute(nuocmd.build_command_handler())
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


DIAGNOSE_REFUSED = "Unable to download diagnose info"
"""What nuocmd says, with a traceback of its own, where a manager refuses connections that it opens without credentials."""


class Nuocmd:
    """The client, asking one manager. `root` is where its output goes before it is read."""

    def __init__(self, host: str, port: int, root: Path, env: dict[str, str]) -> None:
        self._server = ["--api-server", f"{host}:{port}"]
        self._out, self._err = root / "nuocmd.out", root / "nuocmd.err"
        self._worker = subprocess.Popen(
            [sys.executable, "-c", WORKER], env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def close(self) -> None:
        """End the process."""
        self._worker.communicate(timeout=30)

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        call = {"words": [*self._server, *words], "out": str(self._out), "err": str(self._err)}
        assert self._worker.stdin and self._worker.stdout
        print(json.dumps(call), file=self._worker.stdin, flush=True)
        code = self._worker.stdout.readline()
        assert code, "pynuoadmin==2.7.0 is needed for this test: ./dev setup"
        out, err = self._out.read_text(), self._err.read_text()
        assert "Traceback" not in out + err or DIAGNOSE_REFUSED in out, (words, out, err)
        return int(code), out, err

    def __call__(self, text: str, *words: str) -> str:
        """A command that has to succeed; what it prints. `words` are added as they are, blanks and all."""
        code, out, err = self.run(*text.split(), *words)
        assert code == 0, (text, out, err)
        return out

    def refused(self, text: str, *words: str) -> None:
        """A command that is refused in these words, with exit status 1."""
        code, out, err = self.run(*text.split())
        assert code == 1, (text, out, err)
        assert all(word in err for word in words), err

    def json(self, text: str) -> Any:
        """What a command prints, as JSON."""
        return json.loads(self(text))
