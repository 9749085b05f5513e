"""From evidence to a cause of death and one sentence about it. Pure: every reading was done before.

Without evidence the answer is "killed by signal N, sender unknown", never a guess.
"""

from __future__ import annotations

import re
import signal as signals
from dataclasses import dataclass

from dkv.engine.contract import Cause

UNKNOWN_EXIT = 255  # the exit code shown when no process was left to read the real one


@dataclass(frozen=True)
class Evidence:
    """All that is known about an engine that ended."""

    exit_code: int | None = None  # as the waiting parent wrote it: 0.., or 128 + signal; None: not read
    intents: tuple[Cause, ...] = ()  # what this manager requested, oldest first, written down before it acted
    words: tuple[str, ...] = ()  # the engine's log, last lines
    kernel: tuple[str, ...] | None = None  # kernel messages since its start; None: not readable
    oom_kills: int | None = None  # how far the memory cgroup's counter rose in its life; None: unknown
    pid: int = 0
    launched: bool = True  # False: the record was written but no process was ever born
    same_boot: bool = True
    full: tuple[str, ...] = ()  # which of its directories have no room left, at the time of judging


@dataclass(frozen=True)
class Verdict:
    """The judged end of an engine."""

    cause: Cause
    detail: str
    exit_code: int
    signal: int | None = None
    last_words: tuple[str, ...] = ()


# A short write to a regular file has no other common reason, and the engine gives up before it learns the error.
_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|File too large|Short write while writing", re.I)
_DISK_ERROR = re.compile(r"Input/output error|Read-only file system", re.I)
_BUG_REPORT = re.compile(r"BUG REPORT START|ASSERTION FAILED|Guru Meditation")
_KILLER = re.compile(r"Killed by PID: (\d+), UID: (\d+)")
_SIGNALLED = re.compile(r"Received (SIG(?:TERM|INT)) scheduling shutdown")
_TOLD = re.compile(r"User requested shutdown")
_START_FAILURES: tuple[tuple[re.Pattern[str], Cause, str], ...] = (
    (
        re.compile(r"Can't chdir|Can't open the append-only file|create.*appendonlydir|Can't create.*directory", re.I),
        Cause.DIRECTORY_UNUSABLE,
        "its directory cannot be used",
    ),
    (
        re.compile(r"CONFIG FILE ERROR|Invalid argument during startup|Bad directive", re.I),
        Cause.BAD_OPTION,
        "it refused its configuration",
    ),
    (re.compile(r"Cannot assign requested address", re.I), Cause.BAD_OPTION, "this machine has no such address"),
    (re.compile(r"Address already in use|address in use", re.I), Cause.PORT_TAKEN, "a port it needs is taken"),
    (re.compile(r"Failed listening on port", re.I), Cause.BAD_OPTION, "it cannot listen on its address"),
    (
        re.compile(
            r"Bad file format reading the append only file|Unexpected end of file reading the append only|"
            r"Wrong signature|Unrecoverable error reading the append only|Error reading the RDB|"
            r"Internal error in RDB|RDB CRC error|Invalid AOF manifest|Short read or OOM loading DB|"
            r"AOF.*(doesn't|does not) exist|Fatal error loading the DB|Unrecoverable error or corrupted",
            re.I,
        ),
        Cause.CORRUPT_ARCHIVE,
        "it cannot load its append-only files",
    ),
)


def judge(evidence: Evidence) -> Verdict:
    """The cause of one death. The order of questions is the order of certainty."""
    if evidence.exit_code is None:
        return _without_code(evidence)
    if evidence.exit_code == 0:
        return _left_by_itself(evidence)
    if evidence.exit_code > 128:
        return _by_signal(evidence, evidence.exit_code, evidence.exit_code - 128)
    return _failed(evidence, evidence.exit_code)


def _without_code(evidence: Evidence) -> Verdict:
    if not evidence.same_boot:
        return _verdict(Cause.MACHINE_RESTARTED, "the machine was restarted", evidence, UNKNOWN_EXIT)
    if not evidence.launched:
        return _verdict(Cause.EXITED, "its manager ended before the engine was started", evidence, UNKNOWN_EXIT)
    killed = _asked_to_kill(evidence)
    if killed is not None:
        return _verdict(killed, f"{killed}, exit code unknown", evidence, UNKNOWN_EXIT)
    if any("bye bye" in line for line in evidence.words[-3:]):
        return _left_by_itself(evidence)
    line = _find(evidence, _DISK_FULL)
    if line is not None and evidence.full:
        return _verdict(Cause.DISK_FULL, f"it said: {line}", evidence, UNKNOWN_EXIT)
    detail = "it ended with its waiting parent, exit code and sender unknown"
    return _verdict(Cause.KILLED_BY_SIGNAL, detail, evidence, UNKNOWN_EXIT)


def _left_by_itself(evidence: Evidence) -> Verdict:
    if Cause.GRACEFUL_STOP in evidence.intents:
        return _verdict(Cause.GRACEFUL_STOP, "it was asked to stop and did", evidence, 0)
    signalled = next((match for line in evidence.words if (match := _SIGNALLED.search(line))), None)
    if signalled is not None:
        detail = f"{signalled[1]} that this manager did not send, sender unknown"
        return _verdict(Cause.TERMINATED_FROM_OUTSIDE, detail, evidence, 0)
    request = _find(evidence, _TOLD)
    if request is not None:
        detail = f"a SHUTDOWN that this manager did not send: {request}"
        return _verdict(Cause.TERMINATED_FROM_OUTSIDE, detail, evidence, 0)
    return _verdict(Cause.EXITED, "it exited with code 0 and did not say why", evidence, 0)


def _by_signal(evidence: Evidence, code: int, number: int) -> Verdict:
    if _crashed(evidence):
        return _crash(evidence, code, number)
    if number == signals.SIGKILL:
        return _sigkill(evidence, code)
    if number == signals.SIGTERM and Cause.GRACEFUL_STOP in evidence.intents:
        return _left_by_itself(evidence)  # asked by a signal before it could listen to one
    if number == signals.SIGXFSZ:
        return _verdict(Cause.DISK_FULL, "a file reached the size limit of the process", evidence, code, number)
    return _verdict(Cause.KILLED_BY_SIGNAL, f"killed by signal {number}, sender unknown", evidence, code, number)


def _sigkill(evidence: Evidence, code: int) -> Verdict:
    killed = _asked_to_kill(evidence)
    if killed is not None:
        return _verdict(killed, _KILL_SENTENCES.get(killed, str(killed)), evidence, code, 9)
    line = _kernel_kill(evidence)
    if line is not None:
        return _verdict(Cause.OUT_OF_MEMORY, f"the kernel said: {line}", evidence, code, 9)
    if evidence.kernel is None and (evidence.oom_kills or 0) > 0:
        detail = f"its memory cgroup counted {evidence.oom_kills} out-of-memory kill(s) while it ran"
        return _verdict(Cause.OUT_OF_MEMORY, detail, evidence, code, 9)
    return _verdict(Cause.KILLED_BY_SIGNAL, "killed by signal 9, sender unknown", evidence, code, 9)


_KILL_SENTENCES = {
    Cause.PORT_TAKEN: "a port it needs is taken: the one for its clients, before it could be opened",
    Cause.ARCHIVE_MISSING: "its archive's files were deleted while it ran, so nothing it wrote would be found again",
    Cause.OPERATOR_KILL: "an operator asked for a kill",
    Cause.FENCED_BY_MANAGER: "its manager killed it because it acted as leader without being the leader",
    Cause.TORN: "its manager killed it because it lost its role inside a script and may hold writes that no other copy has",
    Cause.EPOCHS_USED_UP: "its manager ended it because it was in the last epoch of the cluster bus, to which forged packets "
    "bring it, to start it again in one after which elections are possible",
    Cause.LOST_ITS_SLOTS: "its manager ended it because it had lost its hash slots and the keys in them, to start it again "
    "from what it had before",
    Cause.NEVER_ANSWERED: "its manager killed it because it did not answer",
    Cause.SCRIPT_TOO_LONG: "its manager killed it because a script that had written ran longer than script-limit",
}


def _failed(evidence: Evidence, code: int) -> Verdict:
    if code in (126, 127) and not any(" # " in line or " * " in line for line in evidence.words):
        return _verdict(Cause.BINARY_MISSING, f"the program could not be run: {_last(evidence)}", evidence, code)
    for pattern, cause in ((_DISK_FULL, Cause.DISK_FULL), (_DISK_ERROR, Cause.DISK_ERROR)):
        line = _find(evidence, pattern)
        if line is not None:
            return _verdict(cause, f"it said: {line}", evidence, code)
    for pattern, cause, sentence in _START_FAILURES:
        line = _find(evidence, pattern)
        if line is not None:
            return _verdict(cause, f"{sentence}: {_explained(evidence, line)}", evidence, code)
    if _crashed(evidence):
        return _crash(evidence, code, None)
    if evidence.full:
        detail = f"it exited with code {code} while no room was left in {' and '.join(evidence.full)}: {_last(evidence)}"
        return _verdict(Cause.DISK_FULL, detail, evidence, code)
    return _verdict(Cause.EXITED, f"it exited with code {code}: {_last(evidence)}", evidence, code)


def _crash(evidence: Evidence, code: int, number: int | None) -> Verdict:
    killer = next((match for line in evidence.words if (match := _KILLER.search(line))), None)
    if killer is not None and number is not None:
        detail = f"killed by signal {number}, sent by pid {killer.group(1)} of user {killer.group(2)}"
        return _verdict(Cause.KILLED_BY_SIGNAL, detail, evidence, code, number)
    start = next(index for index, line in enumerate(evidence.words) if _BUG_REPORT.search(line))
    report = evidence.words[start : start + 20]
    detail = next((line for line in report if "ASSERTION" in line or "rashed by signal" in line), report[0])
    return Verdict(Cause.ENGINE_CRASHED, f"it crashed: {_bare(detail)}", code, number, report)


def _crashed(evidence: Evidence) -> bool:
    return any(_BUG_REPORT.search(line) for line in evidence.words)


def _asked_to_kill(evidence: Evidence) -> Cause | None:
    causes = [cause for cause in evidence.intents if cause is not Cause.GRACEFUL_STOP]
    return causes[-1] if causes else None


def _kernel_kill(evidence: Evidence) -> str | None:
    wanted = re.compile(rf"Killed process {evidence.pid}\b|oom.*\bpid={evidence.pid}\b", re.I)
    return next((line for line in evidence.kernel or () if wanted.search(line)), None)


def _find(evidence: Evidence, pattern: re.Pattern[str]) -> str | None:
    return next((_bare(line) for line in evidence.words if pattern.search(line)), None)


def _explained(evidence: Evidence, line: str) -> str:
    """A config error names its option and reason on the lines after its headline; a person needs those."""
    if "CONFIG FILE ERROR" not in line:
        return line
    start = max(index for index, word in enumerate(evidence.words) if "CONFIG FILE ERROR" in word)
    return " ".join(_bare(word) for word in evidence.words[start + 1 : start + 4]) or line


def _last(evidence: Evidence) -> str:
    return _bare(evidence.words[-1]) if evidence.words else "it said nothing"


def _bare(line: str) -> str:
    """A log line without pid, role and time, which a tombstone has elsewhere."""
    return re.sub(r"^\d+:[A-Z] .*? [*#.-] ", "", line).strip()


def _verdict(cause: Cause, detail: str, evidence: Evidence, code: int, signal: int | None = None) -> Verdict:
    return Verdict(cause, detail, code, signal, evidence.words[-20:])
