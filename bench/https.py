"""HTTPS: what TLS and a credential add to one look from another user of the machine, beside plain HTTP without either.

Two domains side by side, each of one manager with one store that runs: one without access control, one with access control and
`tls = "on"`. In turns, each a process of its own, from fork to exit: `dkv Get-DkvStore`, plain and over https with a token; the
unmodified nuocmd's `show domain`, plain and over https with basic credentials. The callers are another user, because root and the
managers' own user would use the managers' own socket; so only root can run this.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from kit import plot
from kit.record import Raw, Recorder, Table, of, progress, say
from kit.stage import DKV, Stage, arguments, staged
from kit.stats import interval, verdict

TOKEN, BASIC = 1.3, 2.0  # of plain
NUOCMD = [sys.executable, "-m", "pynuoadmin.nuocmd"]
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
USER, PASSWORD = "bench", "a password of the benchmark"


@dataclass(frozen=True)
class Look:
    """One kind of look: which program, over what, how."""

    program: str
    over: str
    command: Sequence[str]
    environ: Mapping[str, str]


def main() -> None:
    """Measure, record, print."""
    wish = arguments(__doc__, looks=(60, 3, "looks of each kind"))
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        say("Only root, with setpriv, can look as another user.")
        return
    recorder = Recorder("https", wish.quick, vars(wish))
    with staged(1, 1, access_control="off") as plain, staged(1, 1, access_control="on", tls="on") as secured:
        for name in [name for name in os.environ if name.startswith("DKV_")]:
            del os.environ[name]  # settings of managers, which run
        plain.make("bench")
        secured.make("bench")
        looks = [*_plain(plain), *_secured(secured)]
        for number in range(wish.looks):
            for look in looks:
                ms, cpu_ms = took(look)
                recorder.add("look", program=look.program, over=look.over, number=number, ms=ms, cpu_ms=cpu_ms)
            progress(f"look {number + 1} of {wish.looks}")
    draw(recorder)
    recorder.finish(tables)


def _plain(stage: Stage) -> list[Look]:
    manager = stage.domain.managers[0]
    return [
        Look("dkv Get-DkvStore", "http", [DKV, "Get-DkvStore"], {"DKV_MANAGERS": manager}),
        Look("nuocmd show domain", "http", [*NUOCMD, "--api-server", manager, "show", "domain"], {}),
    ]


def _secured(stage: Stage) -> list[Look]:
    """A token and a user of that domain, and its authority where the other user can read it."""
    place = stage.domain.site.places[0]
    bundle = Path(stage.directory, "authorities.pem")
    shutil.copyfile(place.directory / "certificates" / "authorities.pem", bundle)
    stage.directory.chmod(0o711)
    bundle.chmod(0o644)
    token = stage.cmdlet("create", "token", "--role", "viewer").strip()
    stage.cmdlet("create", "user", "--name", USER, "--password", PASSWORD, "--roles", "viewer")
    uri = f"https://{stage.domain.managers[0]}"
    with_token = {"DKV_MANAGERS": uri, "DKV_TOKEN": token, "DKV_CA_FILE": str(bundle)}
    show = [*NUOCMD, "--api-server", uri, "--verify-server", str(bundle), "show", "domain"]
    return [
        Look("dkv Get-DkvStore", "https, token", [DKV, "Get-DkvStore"], with_token),
        Look("nuocmd show domain", "https, basic", show, {"NUOCMD_BASIC_CREDS": f"{USER}:{PASSWORD}"}),
    ]


def took(look: Look) -> tuple[float, float]:
    """One look: ms from fork to exit, and of processor time. Raises RuntimeError if it does not show the store."""
    environ = {"PATH": os.environ["PATH"], "XDG_CONFIG_HOME": "/nonexistent", **look.environ}
    began, before = time.monotonic(), _spent()
    done = subprocess.run([*NOBODY, *look.command], env=environ, capture_output=True, text=True, cwd="/")
    ms = 1000 * (time.monotonic() - began)
    if done.returncode != 0 or "bench" not in done.stdout:
        raise RuntimeError(f"{look.program} over {look.over} failed: {done.stdout}{done.stderr}")
    return ms, 1000 * (_spent() - before)


def _spent() -> float:
    """Processor seconds of all children that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# Results -----------------------------------------------------------------------------------------------------------


def tables(raw: Sequence[Raw]) -> list[Table]:
    """Looks, and the ratio of each pair."""
    rows = []
    for program, over, bar in (("dkv Get-DkvStore", "https, token", TOKEN), ("nuocmd show domain", "https, basic", BASIC)):
        plain, secured = of(raw, "look", program=program, over="http"), of(raw, "look", program=program, over=over)
        if not plain or not secured:
            continue
        ratio, cpu_ratio = (median(r[unit] for r in secured) / median(r[unit] for r in plain) for unit in ("ms", "cpu_ms"))
        rows.append((program, "http", *_times(plain), "1.00", "1.00", ""))
        rows.append((program, over, *_times(secured), f"{ratio:.2f}", f"{cpu_ratio:.2f}", f"{bar:g} {verdict(ratio, bar)}"))
    header = ("program", "over", "looks", "median ms [95 %]", "processor ms", "ratio", "of processor", "target ratio")
    return [Table("One look, as a process from fork to exit", header, rows)] if rows else []


def _times(lines: Sequence[Raw]) -> tuple[str, str, str]:
    values = [line["ms"] for line in lines]
    low, high = interval(values)
    return str(len(values)), f"{median(values):.0f} [{low:.0f}, {high:.0f}]", f"{median(r['cpu_ms'] for r in lines):.0f}"


def draw(recorder: Recorder) -> None:
    """The distributions."""
    raw = recorder.raw()
    kinds = sorted({(r["program"], r["over"]) for r in of(raw, "look")})
    series = {f"{program}, {over}": [r["ms"] for r in of(raw, "look", program=program, over=over)] for program, over in kinds}
    plot.distributions(recorder.path.with_suffix(".svg"), "One look, from fork to exit", series, 150.0)


if __name__ == "__main__":
    main()
