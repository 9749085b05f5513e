"""One engine as this machine knows it: its run directory, its driver, its files, and the last glance at it."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from dkv.engine import config_files, early_rounds, replies, supervisor, tls
from dkv.engine.config import option_settings
from dkv.engine.contract import (
    Cause,
    Counters,
    EngineFull,
    EngineLatencies,
    EngineRefused,
    EngineSeen,
    EngineStatistics,
    EngineUnreachable,
    EngineUsers,
    ExitSeen,
    FilesSeen,
    RunOptions,
    Secrets,
    TeSeen,
    TlsFiles,
)
from dkv.engine.logs import Log, LogWatch
from dkv.engine.positions import DiskWatch
from dkv.engine.refused import Refused, RefusedLogIns, refused_handshakes, unreported
from dkv.engine.replies import Answers
from dkv.engine.supervisor import Born, Run
from dkv.engine.valkey import Valkey

GLANCE = 0.5  # seconds a survey waits for its engines
_GIVE_UP = 60.0  # seconds after which an unanswered glance is asked again on a new connection
_REAPED_WITHIN = 5.0
_FULL_FOR = 5.0  # seconds after a write that was answered OOM in which its memory counts as full
CROWDED = 0.9  # of its connections are taken: from here on idle ones are closed
IDLE_LONG = (300, 60, 10)  # seconds; the first of them that makes any room

_READ_AT_ONCE = 4 << 20  # bytes of a file read in a moment, without a thread

Asked = asyncio.Task[Answers | None]  # a question that an engine may still have to answer


def _has_loaded(pending: Asked) -> bool:
    """Whether the engine answered, and more than that it loads."""
    if not pending.done() or pending.cancelled():
        return False
    if pending.exception() is not None:
        return isinstance(pending.exception(), EngineFull)
    answers = pending.result()
    return answers is None or not answers.partly


class Engine:
    """A living or ended engine. `alive` asks the kernel each time."""

    def __init__(self, run: Run, this_boot: bool, logs: LogWatch | None = None, refused: Refused = unreported) -> None:
        """`logs` tends its log for as long as it lives; the engines of a memory-only process share one. `refused` gets what it
        refused of clients."""
        self.run = run
        self._refused_client = refused
        self._log_ins = RefusedLogIns()
        self._logs = logs
        self._log: Log | None = None
        self.start_id = run.record.start_id
        self.phantoms = run.record.phantoms
        self.durable = not run.record.memory_only
        self.valkey = Valkey(self.start_id, run.record.directory, run.record.secret, tls=run.record.tls)
        self._this_boot = this_boot
        self._disk = DiskWatch(run.record.directory)
        self._on_disk = FilesSeen()  # its files at the last look
        self._reading: asyncio.Task[FilesSeen] | None = None
        self._asking: Asked | None = None
        self._asked_at = 0.0
        self._judged: tuple[Answers, FilesSeen, bool, bool, bool | None] | None = None  # what `_last` was made of
        self._refused: int | None = None  # writes that were answered OOM so far
        self._refused_at = float("-inf")  # when the last of them was noticed
        self._answered_at = self._known_since = time.monotonic()
        self._did: tuple[tuple[int, ...], ...] = ()  # what the process had done at the last look at that
        self._did_at = self._answered_at  # when that was seen to move
        self._last: EngineSeen | None = None
        self._pidfd: int | None = None
        self._end = select.poll()  # shows the end of the process as soon as it is watched
        self._led: bool | None = None  # whether it led when its scripts were last asked for
        self._was_away = False  # since then it did not answer, or was busy: with a script, perhaps
        self._script = -1  # number of the last one that answered BUSY
        self._torn = False
        self._born: Born | None = None
        self._seen_to_end = False
        self.end: ExitSeen | None = None  # once it is judged and its group is gone
        self.parts = tuple(
            Engine(run.part(part), this_boot, refused=refused) for part in run.record.parts
        )  # of a memory-only process

    # -- the process -----------------------------------------------------------------------------------------------

    @property
    def born(self) -> Born | None:
        """Pid and start time; read once, because they never change."""
        if self._born is None:
            self._born = self.run.born
        return self._born

    @property
    def alive(self) -> bool:
        """Whether the process runs, or is about to be born."""
        if not self._this_boot:
            return False
        if self._pidfd is not None:  # the kernel says it in a tenth of the time that reading /proc takes
            return not self._end.poll(0)
        if self.born is not None:
            return supervisor.alive(self.born)
        return self.run.parent_waits()

    def watch(self, changed: asyncio.Event) -> None:
        """Have the kernel set `changed` when the process ends."""
        born = self.born
        if self._pidfd is not None or self._seen_to_end or born is None:
            return
        if not self.alive:
            self._seen_to_end = True
            return
        try:
            self._pidfd = os.pidfd_open(born.pid)
        except OSError:
            changed.set()
            return
        self._end.register(self._pidfd, select.POLLIN)
        if not supervisor.alive(born):  # the descriptor may be a stranger's that got the number meanwhile
            self._ended(changed)
            return
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended, changed)

    def tend_log(self) -> None:
        """Keep its log short and give it room, from now on at each line."""
        try:
            if self._log is None and self._logs is not None:
                self._log = Log(self.run.log, self._read_log)
                self._logs.add(self.run.log, self._log)
            if self._log is not None:
                self._log.tend()
        except OSError:
            return  # the next look tries again; a log is not worth failing for

    def _read_log(self, lines: bytes) -> None:
        for peer, why in refused_handshakes(lines):
            self._refused_client(peer, "handshake", f"a connection to engine {self.start_id}, as it logged: {why}", 1)

    def _ended(self, changed: asyncio.Event) -> None:
        self._seen_to_end = True
        changed.set()
        self._unwatch()

    def _unwatch(self) -> None:
        fd, self._pidfd = self._pidfd, None
        if fd is not None:
            self._end.unregister(fd)
            with suppress(RuntimeError):  # no loop runs any more
                asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)

    def close(self) -> None:
        """Let go of the socket and the descriptors."""
        if self._asking is not None:
            self._asking.cancel()
        if self._reading is not None:
            self._reading.cancel()
        self.valkey.close()
        self._unwatch()
        if self._log is not None and self._logs is not None:
            self._logs.remove(self._log)
            self._log.close()
            self._log = None
        for part in self.parts:
            part.close()

    def kill(self, cause: Cause) -> None:
        """SIGKILL the whole group, the reason written down first. One that ended already keeps its own reason."""
        born = self.born
        if born is not None and self.alive:
            self.run.intend(cause)
            supervisor.kill_group(born, self.run.record.directory)

    def kill_leftovers(self) -> None:
        """SIGKILL children that outlived the engine."""
        born = self.born
        if born is not None and self._this_boot:
            supervisor.kill_group(born, self.run.record.directory)

    async def gone(self) -> None:
        """Return when no process of the group is left. Raises EngineUnreachable after 5 s."""
        born = self.born
        deadline = time.monotonic() + _REAPED_WITHIN
        while born is not None and supervisor.group_members(born, self.run.record.directory):
            if time.monotonic() > deadline:
                raise EngineUnreachable(f"engine {self.start_id} was killed and is not gone")
            await asyncio.sleep(0.005)

    async def shut_down(self) -> None:
        """SHUTDOWN, or SIGTERM to one whose socket does not answer: the same to the engine, a little later.

        A launcher passes SIGTERM on to all its engines.
        """
        born = self.born
        self.run.intend(Cause.GRACEFUL_STOP)
        try:
            if self.parts:
                raise EngineUnreachable("a launcher has no socket")
            await self.valkey.shut_down()
        except (EngineUnreachable, EngineFull):
            if born is not None and supervisor.alive(born):
                os.kill(born.pid, signal.SIGTERM)

    # -- looking ---------------------------------------------------------------------------------------------------

    def ask(self, thorough: bool = True) -> list[Asked]:
        """Ask the engine, or each of a memory-only process, how it is; `look` returns what was answered by then.

        A question that is not answered in time stays asked; its late answer is an answer too. Surveys that overlap share it.
        """
        if self.parts:
            return [future for part in self.parts for future in part.ask(thorough)]
        now = time.monotonic()
        if self._asking is not None and not self._asking.done() and now - self._asked_at > _GIVE_UP:
            self._asking.cancel()
            self._asking = None
        if self._asking is None:
            self._asking = asyncio.create_task(self.valkey.look(thorough))
            self._asked_at = now
        return [self._asking]

    async def _glance(self, pending: Asked) -> EngineSeen:
        disk = await self._look_at_files(has_loaded=_has_loaded(pending))
        now = time.monotonic()
        if not pending.done() or pending.cancelled():
            self._was_away = True
            return self._silent(now, disk)
        if self._asking is pending:
            self._asking = None
        refuses = "BUSY"
        try:
            answers = pending.result()
        except EngineUnreachable:
            return self._silent(now, disk)
        except EngineFull:
            answers, refuses = None, "MAXCLIENTS"  # no connection is let in, which is an answer too
        self._answered_at = now
        if answers is None:
            self._was_away = True
            last = self._last_seen(disk, answering=True, silent_ms=0)
            return replace(last, busy=True, writes=replace(last.writes, refuses=refuses))
        if answers.partly:
            return replace(self._loading(answers, disk), idle_ms=self._idle_ms(now))
        full = self._lately_full(answers, now)
        judged = (answers, disk, full, self.valkey.lets_in, self.valkey.takes_packets)
        if self._last is None or self._judged != judged:
            self._last, self._judged = self._seen(answers, disk, full), judged
        await self._mind_scripts()
        await early_rounds.restore(self.valkey.do, answers, now - self._known_since)
        await self._mind_room(answers)
        await self._mind_log_ins(answers)
        return self._last

    async def look(self, pending: Sequence[Asked]) -> EngineSeen | TeSeen:
        """The engine, or the memory-only process with each of its engines, now that it had time to answer."""
        if not self.parts:
            return await self._glance(pending[0])
        engines = [await part._glance(answer) for part, answer in zip(self.parts, pending, strict=True)]
        return TeSeen(self.start_id, self.run.record.directory, self._pid(), tuple(engines))

    async def _look_at_files(self, has_loaded: bool) -> FilesSeen:
        """Its files now. Where that means to read much, as at the first look or after a large value, a thread reads. One that
        has loaded is shown when the thread is through, so that no marker is shown that is not the newest. One that loads or is
        silent is shown at once with its files as they were, because its manager has to report that it works.
        """
        if self._reading is None and self._disk.unread() < _READ_AT_ONCE:
            self._on_disk = self._disk.look()
            return self._on_disk
        if self._reading is None:
            self._reading = asyncio.create_task(asyncio.to_thread(self._disk.look))
        reading = self._reading
        if has_loaded or reading.done():
            self._on_disk = await asyncio.shield(reading)
            if self._reading is reading:
                self._reading = None
        return self._on_disk

    async def _mind_scripts(self) -> None:
        """Whether it lost its role inside a script: it follows now, and a script ended that it was not seen leading after."""
        if self._last is None or not self.durable:
            return
        leads = self._last.role == "leader"
        if leads is not self._led or (leads and self._was_away):
            with suppress(EngineUnreachable, EngineRefused):
                script = await self.valkey.last_script()
                self._torn = not leads and script != self._script
                self._script, self._led, self._was_away = script, leads, False
        if self._last.replication.torn is not self._torn:
            self._last = replace(self._last, replication=replace(self._last.replication, torn=self._torn))

    async def _mind_room(self, answers: Answers) -> None:
        """Where nearly all connections are taken, a leak most likely, those that did nothing for long make room for others:
        clients, followers that come back, and the manager after this one."""
        taken, most = replies.connections(answers.info)
        if most == 0 or taken < CROWDED * most:
            return
        with suppress(EngineUnreachable, EngineRefused):
            for idle in IDLE_LONG:
                closed = await self.valkey.make_room(idle)
                if closed:
                    self._say(
                        f"{closed} connections that were idle for {idle} s or longer were closed: "
                        f"{taken} of at most {most} were taken"
                    )
                    return

    async def _mind_log_ins(self, answers: Answers) -> None:
        """Report the log-ins that it refused since the last look; only then is there anything to ask."""
        if not self._log_ins.moved(int(answers.memory.get("errorstat_WRONGPASS", "0"))):
            return
        with suppress(EngineUnreachable, EngineRefused):
            for log_in in self._log_ins.new(await self.valkey.refused_commands()):
                what = f"a log-in at engine {self.start_id} as {log_in.user}: wrong password, or no such user"
                self._refused_client(log_in.peer, "wrong_password", what, log_in.count)

    def _say(self, words: str) -> None:
        """Write a line into the engine's log, where people look for what was done to its clients."""
        if self._log is not None:
            self._log.say(words)

    def _silent(self, now: float, disk: FilesSeen) -> EngineSeen:
        silent = int((now - self._answered_at) * 1000)
        return replace(self._last_seen(disk, answering=False, silent_ms=silent), idle_ms=self._idle_ms(now))

    def _idle_ms(self, now: float) -> int:
        """Since its process was last seen to do anything; its answers are none of this business. Costs some reads of /proc."""
        did = supervisor.work_of(self.born, self.run.record.directory, self.durable) if self.born is not None else ()
        if did != self._did:
            self._did, self._did_at = did, now
        return int((now - self._did_at) * 1000)

    def _last_seen(self, disk: FilesSeen, answering: bool, silent_ms: int) -> EngineSeen:
        """What was seen last, with what is known now."""
        last = self._last or EngineSeen(
            start_id=self.start_id,
            directory=self.run.record.directory,
            node_id=self.run.record.node_id,
            pid=self._pid(),
            answering=False,
            group=self.run.record.group,
        )
        return replace(
            last,
            answering=answering,
            silent_ms=silent_ms,
            idle_ms=0,
            files=replace(last.files, marker=disk.marker, free_bytes=disk.free_bytes, lost=self.durable and disk.lost),
        )

    def _loading(self, answers: Answers, disk: FilesSeen) -> EngineSeen:
        """While it loads, its place among the nodes is what was seen before, or how it was started."""
        percent = int(float(answers.info.get("loading_loaded_perc", "0")))
        shown = self._last_seen(disk, answering=True, silent_ms=0)
        writes = replace(shown.writes, fenced=shown.writes.fenced or self._last is None, refuses="LOADING")
        return replace(shown, loading=True, loading_percent=percent, writes=writes)

    def _pid(self) -> int:
        return self.born.pid if self.born is not None else 0

    def _lately_full(self, answers: Answers, now: float) -> bool:
        """Whether a client's write was answered OOM a moment ago."""
        count = int(answers.memory.get("errorstat_OOM", "0"))
        if self._refused is not None and count > self._refused:
            self._refused_at = now
        self._refused = count
        return now - self._refused_at < _FULL_FOR

    def _seen(self, answers: Answers, disk: FilesSeen, full: bool) -> EngineSeen:
        info = answers.info
        return EngineSeen(
            start_id=self.start_id,
            directory=self.run.record.directory,
            node_id=answers.me or self.run.record.node_id,
            pid=self._pid(),
            group=self.run.record.group,
            answering=True,
            loading=info.get("loading") != "0",
            loading_percent=int(float(info.get("loading_loaded_perc", "0"))),
            role="leader" if answers.leads else "follower",
            follows=answers.follows,
            admits_replicas=answers.admits,
            takes_clients=replies.takes_clients(answers),
            replication=replies.replication_seen(answers),
            cluster=replies.cluster_seen(answers, self.phantoms, self.valkey.lets_in, self.valkey.takes_packets),
            files=replace(disk, lost=self.durable and disk.lost, rewriting=replies.is_rewriting(info)),
            writes=replies.writes_seen(answers, full),
            options=replies.options_seen(answers, self.durable),
        )

    async def set_users(self, users: EngineUsers, secrets: Secrets) -> None:
        """In an order in which every step may be the last one before this manager dies: what is in use is taken, and was written
        down before it is used. Raises EngineUnreachable, EngineRefused, OSError."""
        engines = self.parts or (self,)
        for engine in engines:
            await engine.valkey.take_secrets(secrets)
        if self.run.record.secret != secrets.used:
            self.run = supervisor.with_secret(self.run, secrets.used)
        for engine in engines:
            await engine.valkey.use_secret(secrets.used)
            await engine.valkey.drop_secrets(secrets)
            await engine.valkey.set_users(users)
            await engine.valkey.save_users()

    async def set_options(self, options: RunOptions) -> None:
        """Raises EngineUnreachable, EngineRefused."""
        fsync = {}
        if self.durable:
            fsync = {"appendfsync": options.append_fsync}
            try:
                config_files.keep_options(self.run.record.directory, options)
            except OSError as error:
                raise EngineRefused(f"the options of engine {self.start_id} cannot be kept: {error.strerror}") from error
        await self.valkey.set_options(option_settings(options) | fsync)

    async def set_certificate(self, certificate: TlsFiles) -> None:
        """Give it these files, and take those of earlier ones away once it shows the new leaf. Raises as `set_options`."""
        directory = self.run.record.directory
        try:
            tls.write_generation(directory, certificate)
        except OSError as error:
            raise EngineRefused(f"the certificate of engine {self.start_id} cannot be kept: {error.strerror}") from error
        try:
            await self.valkey.set_certificate(certificate)
        except EngineRefused:
            with suppress(OSError):  # who listens in its place takes the newest one
                tls.drop(directory, certificate.name)
            raise
        with suppress(OSError):  # what is left is taken away with the next one
            tls.drop_others(directory, certificate.name)

    async def count(self) -> Counters | None:
        """Its command counts, None when it does not answer; of a memory-only process those of its engines together."""
        if self.parts:
            counted = await asyncio.gather(*(part.count() for part in self.parts))
            return replies.together([counters for counters in counted if counters is not None])
        try:
            info = await self.valkey.counts()
        except (EngineUnreachable, EngineRefused):
            return None
        return replies.parse_counters(self.start_id, info, int(time.monotonic() * 1000))

    async def latencies(self) -> EngineLatencies | None:
        """How long its commands took, None when it does not answer. Not of a memory-only process, but of each engine of it."""
        try:
            return EngineLatencies(self.start_id, await self.valkey.latencies())
        except (EngineUnreachable, EngineRefused):
            return None

    async def statistics(self) -> EngineStatistics | None:
        """What it says of itself, None when it does not answer. Not of a memory-only process, but of each engine of it."""
        try:
            fields = await self.valkey.statistics()
        except (EngineUnreachable, EngineRefused):
            return None
        return EngineStatistics(self.start_id, self.run.record.group, fields)
