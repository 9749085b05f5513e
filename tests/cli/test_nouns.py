"""nuocmd's verbs: what they send, what they print, what they refuse before anything is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dkv.cli import nouns
from dkv.cli.binding import Cmdlet, Param
from dkv.cli.main import main
from dkv.client import Endpoint, ManagerUnreachable, Reply, Request
from tests.cli.dialect import Dialect, No, archive, database, ended, process, server

PROGRAMS = [command for command in nouns.everything() if command.code.startswith("programs:") or command.name in nouns.PROGRAMS]
ASKS_NOBODY = {"service install", "service remove", "show alerts", "show dashboard"}
ALL = [command for command in nouns.everything() if command not in PROGRAMS and command.name not in ASKS_NOBODY]
GOOD = {"number": "1", "words": "a", "pairs": "k v", "switch": "", "word": "", "list": "127.0.0.11"}


def written(verb: Cmdlet, *, without: Param | None = None) -> str:
    """A command line with every required option but one."""
    parts = [verb.name]
    for param in verb.params:
        if param.required and param is not without:
            parts.append(f"{param.name} {param.choices[0] if param.choices else GOOD.get(param.kind, 'test')}")
    return " ".join(parts)


def of_kind(*kinds: str) -> Iterator[tuple[Cmdlet, Param]]:
    return ((verb, param) for verb in ALL for param in verb.params if param.kind in kinds)


# Bad input, verb by verb -------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ALL, ids=lambda row: row.name)
def test_an_unknown_option_is_refused_with_the_nearest(verb: Cmdlet, tmp_path: Path) -> None:
    manager = Dialect()
    output = manager.runs(tmp_path, f"{written(verb)} --managrs x")
    assert (output.code, output.out, manager.log) == (2, "", [])
    assert f"{verb.name} has no parameter --managrs." in output.err
    assert "hint: Did you mean --managers?" in output.err


@pytest.mark.parametrize(("verb", "missing"), [(v, p) for v in ALL for p in v.params if p.required], ids=lambda row: row.name)
def test_a_missing_option_is_named(verb: Cmdlet, missing: Param, tmp_path: Path) -> None:
    manager = Dialect()
    output = manager.runs(tmp_path, written(verb, without=missing))
    assert (output.code, output.out, manager.log) == (2, "", [])
    assert f"{verb.name} needs {missing.name}: {missing.help}." in output.err
    assert f"hint: Usage: {verb.name}" in output.err


@pytest.mark.parametrize(("verb", "number"), list(of_kind("number")), ids=lambda row: row.name)
def test_a_number_is_a_number(verb: Cmdlet, number: Param, tmp_path: Path) -> None:
    manager = Dialect()
    output = manager.runs(tmp_path, f"{written(verb, without=number)} {number.name} many")
    assert (output.code, output.out, manager.log) == (2, "", [])
    assert f"{number.name} cannot be 'many'." in output.err
    assert "hint: It is a whole number from" in output.err


@pytest.mark.parametrize(("verb", "word"), list(of_kind("word")), ids=lambda row: row.name)
def test_a_word_is_one_of_a_few(verb: Cmdlet, word: Param, tmp_path: Path) -> None:
    manager = Dialect()
    output = manager.runs(tmp_path, f"{written(verb, without=word)} {word.name} xyzzy")
    assert (output.code, output.out, manager.log) == (2, "", [])
    assert f"{word.name} cannot be 'xyzzy'." in output.err
    assert f"hint: It is one of {', '.join(word.choices)}." in output.err


@pytest.mark.parametrize(("verb", "pairs"), list(of_kind("pairs")), ids=lambda row: row.name)
def test_pairs_are_whole(verb: Cmdlet, pairs: Param, tmp_path: Path) -> None:
    manager = Dialect()
    output = manager.runs(tmp_path, f"{written(verb)} {pairs.name} a b c")
    assert (output.code, manager.log) == (2, [])
    assert "KEY VALUE KEY VALUE" in output.err


@pytest.mark.parametrize(
    ("line", "sentence", "hint"),
    [
        ("show", "dkv show needs a noun.", "dkv show takes: "),
        ("show domian", "There is no command 'show domian'.", "Did you mean show domain?"),
        ("check process --start-id 1 --timeout 1 --wait-forever", "exclude each other", "Give one of them."),
        ("start process --db-name t --engine-type TE", "A server is required.", "--this-server"),
        ("start process --db-name t --server-id a --this-server", "A server is required.", "Give either"),
        ("start process --db-name t --server-id a --expected-incarnation x", "cannot be 'x'", "5.0"),
        ("start database --db-name t --incremental --unconditional", "exclude each other", "one of them"),
        ("show database --db-name t --all-incarnations --skip-exited", "exclude each other", "one of them"),
        ("create database --db-name t --dba-user a --dba-password b --no-autostart --capture-file f", "exclude", "one"),
        ("set value --key k --value v --expected-value x --unconditional", "exclude each other", "one of them"),
        ("set load-balancer-config --is-global --db-name t", "A database is required.", "--is-global"),
        ("add region-assignment --db-name t --server-ids a", "A region is required.", "--region-name"),
        ("get hotcopy-info", "A database or a coordinator is required.", "--db-name"),
        ("hotcopy database --db-name t --type simple --max-rate fast", "cannot be 'fast'", "megabytes"),
        ("delete archive --archive-id", "--archive-id needs a value", "VALUE"),
        ("delete archive --archive-id 1 --archive-id 2", "given twice", "once"),
        ("show domain extra", "'extra' belongs to no parameter", "Usage"),
    ],
)
def test_words_that_do_not_fit_together(line: str, sentence: str, hint: str, tmp_path: Path) -> None:
    manager = Dialect()
    output = manager.runs(tmp_path, line)
    assert (output.code, output.out, manager.changes()) == (2, "", [])
    assert sentence in output.err
    assert hint in output.err.partition("hint: ")[2]


def test_a_refusal_is_a_sentence_with_its_hint(tmp_path: Path) -> None:
    manager = Dialect({"DELETE /archives/7": No(404, "There is no archive 7.", "See dkv show archives.")})
    output = manager.runs(tmp_path, "delete archive --archive-id 7")
    assert (output.code, output.out) == (1, "")
    assert output.err == "There is no archive 7.\n\nhint: See dkv show archives.\n"
    manager.answers["DELETE /archives/7"] = No(400, "That is no archive.")
    assert manager.runs(tmp_path, "delete archive --archive-id 7").code == 2


# The table ---------------------------------------------------------------------------------------------------


def test_every_file_of_verbs_is_found_by_its_nouns() -> None:
    names = [command.name for command in ALL]
    assert len(set(names)) == len(names)
    for folder in Path(nouns.__file__).parent.glob("*.py"):
        if "VERBS = (" in folder.read_text() and folder.stem != "__init__":
            listed = __import__(f"dkv.cli.nouns.{folder.stem}", fromlist=["VERBS"]).VERBS
            assert {command.name for command in listed} <= {command.name for command in nouns.everything()}, folder
    assert all(command.name.partition(" ")[0] in nouns.VERB_WORDS for command in ALL)


@pytest.mark.parametrize("verb", ALL, ids=lambda row: row.name)
def test_every_verb_knows_json_and_says_what_it_takes(verb: Cmdlet, tmp_path: Path) -> None:
    assert {"--managers", "--output-format"} <= {param.name for param in verb.params}
    output = Dialect().runs(tmp_path, f"{verb.name} --help")
    assert output.code == 0
    assert " ".join(output.out.split()).startswith(f"{verb.name}: {verb.synopsis}")


def test_the_program_finds_verbs_and_the_shell_does_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["show", "domain", "--managers", "127.0.0.1:1"]) == 1
    assert "The manager at 127.0.0.1:1 is not reachable" in capsys.readouterr().err
    assert main(["shell", "-c", "show domain --managers 127.0.0.1:1"]) == 1
    assert "The manager at 127.0.0.1:1 is not reachable" in capsys.readouterr().err
    assert main(["shell", "-c", "show domian"]) == 2
    assert main(["show", "nothing"]) == 2
    assert main(["enforce", "nothing"]) == 2
    assert main(["enforce", "leader"]) == 2
    assert "enforce leader needs --db-name" in capsys.readouterr().err
    for line in ("show waiting --managers 127.0.0.1:1", "dkv show waiting --managers 127.0.0.1:1"):
        assert main(["shell", "-c", line]) == 1, "a hint says dkv, which the shell does not need"
        assert "The manager at 127.0.0.1:1 is not reachable" in capsys.readouterr().err


# What is printed ---------------------------------------------------------------------------------------------


def test_show_domain_in_the_layout_of_the_seed(tmp_path: Path) -> None:
    manager = Dialect(
        {
            "POST /diagnostics/log": {"serverTimeMillis": 1557947357123, "serverVersion": "1.0", "licenseType": "none"},
            "GET /peers": [server("server0", local=True), server("server1", state="Disconnected")],
            "GET /databases": [database(), database("TOMBSTONE", name="old")],
            "GET /processes": [
                process(0),
                process(1, "TE", "server1"),
                process(2, durable="STARTED", engine="UNKNOWN"),
                process(3, durable="CONFIGURED", engine="UNKNOWN", journalRecoveryProgress=0.5, hostname="server0", port=9),
                process(4, lastHeardFrom=30_000),
            ],
        }
    )
    output = manager.runs(tmp_path, "show domain --client-token abc")
    assert output.code == 0
    assert output.out.splitlines()[2:] == [
        "Servers:",
        "  [server0] server0:7801 (LEADER, Leader=server0) ACTIVE:Connected *",
        "  [server1] server1:7801 (FOLLOWER, Leader=server0) ACTIVE:Disconnected",
        "Databases:",
        "  test [RUNNING]",
        "    [SM] server0:7861 (Default) [start_id = 0] [server_id = server0] [pid = 100] [node_id = 1] MONITORED:RUNNING",
        "    [TE] server1:7862 (Default) [start_id = 1] [server_id = server1] [pid = 101] [node_id = 2] "
        "MONITORED:UNREACHABLE(RUNNING)",
        "    [SM] <UNKNOWN ADDRESS> (Default) [start_id = 2] [server_id = server0] [pid = ] [node_id = ] "
        "STARTED:UNREACHABLE(UNKNOWN)",
        "    [SM] server0:9 (Default) [start_id = 3] [server_id = server0] [pid = ] [node_id = ] "
        "CONFIGURED:RECOVERING_JOURNAL:REPLAY(50%)",
        "    [SM] server0:7865 (Default) [start_id = 4] [server_id = server0] [pid = 104] [node_id = 5] "
        "MONITORED:UNREACHABLE(RUNNING)",
    ]
    assert output.out.splitlines()[0] == "server version: 1.0, server license: none"
    assert output.out.splitlines()[1].endswith(".123, client token: abc")
    answer = json.loads(manager.runs(tmp_path, "show domain -o json").out)
    assert [process["startId"] for process in answer["processes"]] == ["0", "1", "2", "3", "4"]
    assert "old [TOMBSTONE]" in manager.runs(tmp_path, "show domain --include-tombstone-databases").out


@pytest.mark.parametrize("line", ["show domain", "show database --db-name test", "show archives"])
def test_what_is_shown_together_was_so_at_one_moment(tmp_path: Path, line: str) -> None:
    """Before each request the process moves to another server, which is new, and the one it was on goes away."""
    manager = Dialect(
        {
            "POST /diagnostics/log": {"serverTimeMillis": 1557947357123, "serverVersion": "1.0", "licenseType": "none"},
            "GET /databases/test": database(),
            "GET /databases": [database()],
            "GET /archives": [archive(0)],
            "GET /processes/exited": [],
        }
    )
    requests = 0

    def moves(request: object) -> None:
        nonlocal requests
        requests += 1
        gone = [server(f"server{number}", state="Disconnected") for number in range(requests)]
        manager.answers["GET /peers"] = [*gone, server(f"server{requests}", local=True)]
        manager.answers["GET /processes"] = [process(0, where=f"server{requests}")]

    manager.on_request = moves
    output = manager.runs(tmp_path, line)
    assert output.code == 0, output
    assert "MONITORED:RUNNING" in output.out, output.out
    (where,) = re.findall(r"server_id = (\w+)", output.out)
    assert line != "show domain" or f"  [{where}] {where}:7801" in output.out, output.out


def test_show_database_stops_at_the_incarnation_asked_for(tmp_path: Path) -> None:
    manager = Dialect(
        {
            "GET /databases/test": database("NOT_RUNNING", 3, 1),
            "GET /processes": [],
            "GET /processes/exited": [ended(5, 3), ended(4, 2), ended(3, 1, 2), ended(2, 1, 1)],
        }
    )

    def rows(*words: str) -> list[str]:
        output = manager.runs(tmp_path, " ".join(("show database --db-name test", *words)))
        return [
            line.strip() if "incarnation" in line else line.partition("start_id = ")[2][:1]
            for line in output.out.splitlines()[2:]
        ]

    assert rows() == ["5"]
    assert rows("--num-incarnations 2") == ["5", "[incarnation = 2]", "4"]
    assert rows("--all-incarnations") == ["5", "[incarnation = 2]", "4", "[incarnation = 1]", "3", "2"]
    assert rows("--skip-exited") == []


def test_show_archives_with_its_process_or_its_end(tmp_path: Path) -> None:
    manager = Dialect(
        {
            "GET /archives": [archive(0, "NOT_RUNNING"), archive(1), archive(2, "PROVISIONED")],
            "GET /processes": [process(1)],
            "GET /processes/exited": [ended(0)],
        }
    )
    assert manager.runs(tmp_path, "show archives").out.splitlines() == [
        "Archive: [0] server0 : /a/0 [db = test] NOT_RUNNING",
        "  [SM] server0:7861 [start_id = 0] [server_id = server0] [pid = 100] [node_id = 1] "
        "EXITED(REQUESTED_SHUTDOWN:SHUTTING_DOWN):Gracefully shutdown engine (0)",
        "Archive: [1] server0 : /a/1 [db = test] RUNNING",
        "  [SM] server0:7862 (Default) [start_id = 1] [server_id = server0] [pid = 101] [node_id = 2] MONITORED:RUNNING",
        "Archive: [2] server0 : /a/2 [db = test] PROVISIONED",
    ]


def test_options_and_labels_are_printed_as_they_are(tmp_path: Path) -> None:
    manager = Dialect({"POST /processes": process(3, "TE", durable="REQUESTED", engine="UNKNOWN", options={"mem": "1"})})
    output = manager.runs(
        tmp_path, "start process --db-name test --engine-type TE --server-id server0 --options mem 1 --labels a b"
    )
    assert output.out == (
        "Process(db_name=test, durable_state=REQUESTED, engine_state=UNKNOWN, engine_type=TE, labels={}, options={mem: 1}, "
        "region_name=Default, server_id=server0, start_id=3)\n"
    )
    assert manager.changes()[0][3] == {
        "dbName": "test",
        "host": "server0",
        "engineType": "TE",
        "labels": {"a": "b"},
        "overrideOptions": {"mem": "1"},
    }


# Plans and starts --------------------------------------------------------------------------------------------

SPECS = [
    {
        "dbName": "test",
        "engineType": "TE",
        "host": "server0",
        "labels": {},
        "overrideOptions": {},
        "expectedIncarnation": {"major": 5, "minor": 0},
    },
    {
        "dbName": "test",
        "engineType": "SM",
        "host": "server0",
        "archiveId": 0,
        "labels": {},
        "overrideOptions": {},
        "expectedIncarnation": {"major": 5, "minor": 0},
    },
]


def test_start_database_requests_sms_before_tes_and_quotes_the_incarnation(tmp_path: Path) -> None:
    plan = {"incremental": False, "processes": SPECS}
    manager = Dialect({"POST /databases/test/startplan": plan, "POST /processes": process(0)})
    output = manager.runs(tmp_path, "start database --db-name test --te-server-ids server0 server1")
    assert output.code == 0
    assert output.out.splitlines()[0] == (
        "STARTING: StartProcessRequest(archive_id=0, db_name=test, engine_type=SM, expected_incarnation_major=5, "
        "expected_incarnation_minor=0, labels={}, options={}, server_id=server0)"
    )
    query, *sent = [body for _, _, _, body in manager.changes()]
    assert query == {"reusable": False, "teHosts": ["server0", "server1"], "smHosts": {}}
    assert sent == [SPECS[1], SPECS[0]]


@pytest.mark.parametrize(
    ("incremental", "words", "error"), [(True, "", "runs already"), (False, "--incremental", "does not run")]
)
def test_start_database_wants_to_know_whether_it_runs(incremental: bool, words: str, error: str, tmp_path: Path) -> None:
    manager = Dialect({"POST /databases/test/startplan": {"incremental": incremental, "processes": []}})
    answer = manager.runs(tmp_path, f"start database --db-name test {words}")
    assert answer.code == 1
    assert error in answer.err
    assert manager.runs(tmp_path, "start database --db-name test --unconditional").code == 0


def test_enforce_starts_only_what_is_missing(tmp_path: Path) -> None:
    captured = [{k: v for k, v in spec.items() if k != "expectedIncarnation"} for spec in SPECS]
    file = tmp_path / "captured.json"
    file.write_text(json.dumps({"incremental": False, "processes": captured}))
    manager = Dialect(
        {
            "GET /archives": [archive(0)],
            "GET /databases/test": database(minor=2),
            "GET /databases/test/capture": {"processes": [captured[1]]},
            "POST /processes": process(1, "TE"),
        }
    )
    assert "runs already" in manager.runs(tmp_path, f"enforce database --capture-file {file}").err
    output = manager.runs(tmp_path, f"enforce database --capture-file {file} --incremental")
    assert output.code == 0, output
    assert [line.partition(":")[0] for line in output.out.splitlines()] == ["SKIPPING", "STARTING"]
    assert [body for _, _, _, body in manager.changes()] == [{**captured[0], "expectedIncarnation": {"major": 1, "minor": 2}}]
    manager.answers["GET /archives"] = [archive(0), archive(1)]
    assert "were captured" in manager.runs(tmp_path, f"enforce database --capture-file {file} --incremental").err
    assert manager.runs(tmp_path, "enforce database --capture-file /nowhere").code == 1


def test_shutdown_waits_until_the_process_is_gone_and_says_when_it_is_not(tmp_path: Path) -> None:
    manager = Dialect({"DELETE /processes/0": {}})
    manager.answers["GET /processes"] = lambda _: {"data": [process(0)] if manager.clock.now < 3 else []}
    assert manager.runs(tmp_path, "shutdown process --start-id 0").code == 0
    assert manager.clock.now >= 3
    manager.answers["GET /processes"] = [process(0)]
    output = manager.runs(tmp_path, "shutdown process --start-id 0 --timeout 5 --kill")
    assert output.code == 1
    assert "Process 0 did not end within 5 s." in output.err
    assert manager.changes()[-1][2] == {"timeout": "0", "kill": "true", "evict": "false"}


def test_a_server_is_drained_by_one_request_and_what_leaves_is_waited_for(tmp_path: Path) -> None:
    manager = Dialect({"DELETE /peers/server0/processes": {"startIds": ["3", "0"]}})
    manager.answers["GET /processes"] = lambda _: {"data": [process(0), process(7)] if manager.clock.now < 3 else [process(7)]}
    assert manager.runs(tmp_path, "shutdown server-processes --server-id server0 --db-name test").code == 0
    assert manager.clock.now >= 3
    assert manager.changes() == [
        ("DELETE", "/peers/server0/processes", {"kill": "false", "evict": "false", "force": "false", "dbName": "test"}, None)
    ]


def test_a_server_that_may_not_be_drained_says_why_and_can_be_forced(tmp_path: Path) -> None:
    refusal = No(409, "Server server0 holds the last copy in sync of group g1 of test.")
    manager = Dialect(
        {"DELETE /peers/server0/processes": lambda request: {"startIds": []} if request["query"]["force"] == "true" else refusal}
    )
    output = manager.runs(tmp_path, "shutdown server-processes --server-id server0")
    assert output.code == 1
    assert "holds the last copy in sync of group g1 of test" in output.err
    assert manager.runs(tmp_path, "shutdown server-processes --server-id server0 --timeout 0 --force").code == 0


# Values and checks -------------------------------------------------------------------------------------------


def test_values_are_set_if_absent_if_as_expected_or_always(tmp_path: Path) -> None:
    manager = Dialect({"PUT /kvstore/a/b": {}, "GET /kvstore/a/b": {"value": "v"}, "GET /kvstore/none": {}})
    for words in ("", "--unconditional", "--expected-value x"):
        assert manager.runs(tmp_path, f"set value --key a/b --value v {words}").code == 0
    assert [(b["expectedValue"], b["expectedAbsent"]) for _, _, _, b in manager.changes() if b] == [
        (None, True),
        (None, False),
        ("x", False),
    ]
    assert manager.runs(tmp_path, "get value --key a/b").out == "v\n"
    assert manager.runs(tmp_path, "get value --key none").out == ""


@pytest.mark.parametrize(
    ("state", "words", "code"),
    [
        ("RUNNING", "--check-running --num-processes 1", 0),
        ("RUNNING", "--num-processes 2", 1),
        ("AWAITING_ARCHIVE_HISTORIES_INC", "--check-running", 1),
        ("AWAITING_ARCHIVE_HISTORIES_INC", "", 0),
        ("TOMBSTONE", "--timeout 100", 1),
        ("RUNNING", "--check-liveness 0", 1),
        ("RUNNING", "--check-liveness 1", 0),
    ],
)
def test_check_database(state: str, words: str, code: int, tmp_path: Path) -> None:
    manager = Dialect({"GET /databases/test": database(state), "GET /processes": [process(0, lastHeardFrom=500)]})
    output = manager.runs(tmp_path, f"check database --db-name test {words}")
    assert (output.code, output.out) == (code, "")
    assert bool(output.err) == bool(code)


def test_check_waits_and_gives_up_when_a_process_ends(tmp_path: Path) -> None:
    manager = Dialect({"GET /processes": [process(0)]})
    manager.answers["GET /databases/test"] = lambda _: database("RUNNING" if manager.clock.now > 9 else "STARTED")
    assert manager.runs(tmp_path, "check database --db-name test --check-running --timeout 5").code == 1
    assert manager.runs(tmp_path, "check database --db-name test --check-running --timeout 50").code == 0
    manager.clock.now = 0
    manager.answers["GET /databases/test"] = lambda _: database("STARTED", minor=int(manager.clock.now > 1))
    output = manager.runs(tmp_path, "check database --db-name test --check-running --wait-forever --fail-on-process-exit")
    assert output.code == 1
    assert "A process of test ended" in output.err


def test_check_process(tmp_path: Path) -> None:
    manager = Dialect({"GET /processes": [process(1)], "GET /processes/exited": []})
    assert manager.runs(tmp_path, "check process --start-id 1 --check-running").code == 0
    assert manager.runs(tmp_path, "check process --start-id 1 --check-exited").code == 1
    manager.answers |= {"GET /processes": [], "GET /processes/exited": [ended(1)]}
    assert manager.runs(tmp_path, "check process --start-id 1 --check-exited").code == 0
    assert "ended: Gracefully" in manager.runs(tmp_path, "check process --start-id 1 --timeout 9").err
    manager.answers["GET /processes/exited"] = []
    assert "There is no process 1." in manager.runs(tmp_path, "check process --start-id 1 --wait-forever").err


@pytest.mark.parametrize(
    ("peers", "server_code", "servers_code"),
    [
        ([server("server0", local=True), server("server1")], 0, 0),
        ([server("server0", local=True), server("server1", state="Disconnected")], 1, 1),
        ([server("server0", local=True, leader="server1", index=3), server("server1", leader="server1")], 1, 1),
        ([server("server0", local=True, leader=None), server("server1", leader=None)], 1, 1),
    ],
)
def test_check_server_and_servers(peers: list[object], server_code: int, servers_code: int, tmp_path: Path) -> None:
    manager = Dialect({"GET /peers": peers})
    assert manager.runs(tmp_path, "check server --check-active --check-connected --check-converged").code == server_code
    assert (
        manager.runs(tmp_path, "check servers --check-connected --check-leader --check-converged --num-servers 2").code
        == servers_code
    )
    assert manager.runs(tmp_path, "check servers --num-servers 3").code == 1


@pytest.mark.parametrize(
    ("engine", "words", "message"),
    [
        ({"tls": True, "release": "9.1.2", "certificateDaysLeft": 80}, "--check-tls", "valid for 80 days"),
        ({"tls": True, "release": "9.1.2", "certificateDaysLeft": 13}, "", "of the engines of server server0 ends in 13 days"),
        ({"tls": True, "release": "9.1.2", "certificateDaysLeft": -1}, "", "of the engines of server server0 has ended"),
        ({"tls": False, "release": "9.1.2", "certificateDaysLeft": None}, "--check-tls", "Valkey 9.1.2, has no TLS"),
        ({"tls": False, "release": "9.1.2", "certificateDaysLeft": None}, "", ""),
    ],
)
def test_check_server_looks_at_its_engines(engine: dict[str, Any], words: str, message: str, tmp_path: Path) -> None:
    manager = Dialect({"GET /peers": [{**server("server0", local=True), "engine": engine}]})
    output = manager.runs(tmp_path, f"check server {words}")
    fine = engine["tls"] and engine["certificateDaysLeft"] > 13
    assert output.code == (0 if fine or not message else 1)
    assert message in output.err


@pytest.mark.parametrize(
    ("days", "code", "words"),
    [
        (90, 0, "The certificate of the server server0 is valid for 90 days."),
        (14, 0, "valid for 14 days"),
        (13, 1, "The certificate of the server server0 ends in 13 days."),
        (-1, 1, "The certificate of the server server0 has ended."),
    ],
)
def test_check_server_looks_at_its_certificate(days: int, code: int, words: str, tmp_path: Path) -> None:
    manager = Dialect({"GET /peers": [{**server("server0", local=True), "certificateDaysLeft": days}]})
    output = manager.runs(tmp_path, "check server")
    assert output.code == code and words in output.err and not output.out
    assert manager.runs(tmp_path, "check servers").code == code


# What waits -------------------------------------------------------------------------------------------------------------


def test_what_waits_is_said_beside_a_database_as_show_waiting_says_it(tmp_path: Path) -> None:
    group = {
        "kind": "group",
        "subject": "group t/UNPARTITIONED",
        "store": "t",
        "for": "t-2",
        "since": 0,
        "reason": "t-2 was stopped",
        "hint": "Start it.",
        "hintParts": [],
        "blocksWrites": True,
    }
    process_waits = {**group, "kind": "process", "subject": "process 1"}
    answers = {"GET /databases/t": {**database(name="t"), "waiting": [group, process_waits]}, "GET /processes": []}
    output = Dialect({**answers, "GET /processes/exited": []}).runs(tmp_path, "show database --db-name t")
    line = "group t/UNPARTITIONED waits for t-2 since 1970-01-01 00:00:00Z: t-2 was stopped; hint: Start it.\n"
    assert (output.code, output.err) == (0, line), "not its process too, which the data shows"


# Options that are ignored ----------------------------------------------------------------------------------------------


def test_an_option_of_nuodb_is_named_as_ignored_beside_the_data(tmp_path: Path) -> None:
    warning = "warning: mem is an option of NuoDB: it is kept and ignored; max-memory sets the memory of engines.\n"
    manager = Dialect({"PUT /databases/t": {"processes": []}, "POST /processes": process(0)})
    user = "--dba-user a --dba-password b --no-autostart"
    output = manager.runs(tmp_path, f"create database --db-name t {user} --default-options mem 1g max-memory 1gb")
    assert (output.code, output.out, output.err) == (0, "", warning)
    output = manager.runs(tmp_path, "start process --db-name t --engine-type TE --server-id server0 --options mem 1g")
    assert (output.code, output.err) == (0, warning)
    assert output.out.startswith("Process(")
    assert manager.runs(tmp_path, f"create database --db-name t {user}").err == "Accepted: create database t.\n"


# Names that do not exist -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["get archives", "show archives", "get processes", "get processes --exited"])
def test_a_list_of_a_database_that_does_not_exist_is_refused_and_an_empty_one_is_not(line: str, tmp_path: Path) -> None:
    lists: dict[str, object] = {f"GET /{path}": [] for path in ("archives", "processes", "processes/exited")}
    manager = Dialect(
        {**lists, "GET /databases/t": database(name="t"), "GET /databases/x": No(404, "There is no x.", "Known: t.")}
    )
    output = manager.runs(tmp_path, f"{line} --db-name x")
    assert (output.code, output.out, output.err) == (1, "", "There is no x.\n\nhint: Known: t.\n")
    assert manager.runs(tmp_path, f"{line} --db-name t").code == 0
    assert manager.runs(tmp_path, line).code == 0


def test_a_check_of_what_does_not_exist_gives_the_managers_hint(tmp_path: Path) -> None:
    manager = Dialect({"GET /databases/x": No(404, "There is no x.", "Known: t.")})
    output = manager.runs(tmp_path, "check database --db-name x --check-running")
    assert (output.code, output.err) == (1, "There is no x.\n\nhint: Known: t.\n")


def test_options_that_change_nothing_are_no_order(tmp_path: Path) -> None:
    manager = Dialect({"POST /databases/t/options": {}})
    output = manager.runs(tmp_path, "update database-options --db-name t")
    assert (output.code, manager.log) == (2, [])
    assert output.err.startswith("There is nothing to change.\n\nhint: Give --default-options KEY VALUE")
    assert manager.runs(tmp_path, "update database-options --db-name t --replace-all").code == 0


# What is no manager ----------------------------------------------------------------------------------------------------


class Stranger(Dialect):
    """Something else answers at a manager's address."""

    reply = Reply(200, {}, b"<html>hello</html>")

    def send(self, endpoint: Endpoint, request: Request, timeout: float) -> Reply:
        return self.reply


STRANGE = [
    Reply(200, {}, b"<html>hello</html>"),
    Reply(200, {}, b"[]"),
    Reply(302, {"location": "http://x/"}, b""),
    Reply(404, {}, b"not found"),
    Reply(500, {}, b"{}"),
]


@pytest.mark.parametrize("reply", STRANGE, ids=lambda reply: f"{reply.status} {reply.body[:6]!r}")
@pytest.mark.parametrize(
    "line",
    [
        "show domain",
        "show archives",
        "get servers",
        "show waiting",
        "show events",
        "get databases",
        "switchover database --db-name t",
        "check servers",
    ],
)
def test_who_answers_and_is_no_manager_is_named(line: str, reply: Reply, tmp_path: Path) -> None:
    stranger = Stranger()
    stranger.reply = reply
    output = stranger.runs(tmp_path, line)
    assert (output.code, output.out) == (1, "")
    assert f"127.0.0.1:7801 answered with status {reply.status}, but not the way a dkv manager does." in output.err


class Gone(Dialect):
    """The line breaks after a request was sent."""

    def send(self, endpoint: Endpoint, request: Request, timeout: float) -> Reply:
        raise ManagerUnreachable(str(endpoint), "it closed the connection without an answer", maybe_done=request.method != "GET")


def test_a_look_is_unsure_of_no_change(tmp_path: Path) -> None:
    assert "Whether the change" not in Gone().runs(tmp_path, "show domain").err
    assert "Whether the change was made is not known." in Gone().runs(tmp_path, "set value --key a --value b").err
