"""The PowerShell subset: what the documented examples write, and sentences for everything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkv.cli import nouns
from dkv.cli.binding import bind
from dkv.cli.errors import CliError, Usage
from dkv.cli.powershell import Assignment, Command, Incomplete, Parameter, Positional, parse, parse_value, settle
from tests.cli.conftest import Person


def only_command(text: str) -> Command:
    (command,) = parse(text)
    assert isinstance(command, Command)
    return command


def values(text: str, **variables: object) -> list[object]:
    return [settle(a.value, variables) for a in only_command(text).arguments if isinstance(a, Positional)]


def test_a_backtick_continues_the_line_even_with_blanks_behind_it() -> None:
    command = only_command("New-DkvStore `  \n  -Name OrdersStore `\n-InstancePrefix orders\n")
    assert [getattr(a, "name", None) or getattr(a, "value", None) for a in command.arguments] == [
        "Name",
        "OrdersStore",
        "InstancePrefix",
        "orders",
    ]


def test_commas_make_lists_and_may_end_a_line() -> None:
    assert values("Connect-DkvManager 10.0.0.11:7801, 10.0.0.12,\n http://b:1") == [["10.0.0.11:7801", "10.0.0.12", "http://b:1"]]


def test_quotes_keep_what_is_inside() -> None:
    assert values("X 'a, b''c' \"d `\"e`\" $who\" f`,g", who="me") == ["a, b'c", 'd "e" me', "f,g"]


def test_comments_and_semicolons() -> None:
    assert [s.line for s in parse("# one\nA b # two\n<# three\nfour #>\nC; D#e")] == [2, 5, 5]


def test_a_switch_may_be_turned_off() -> None:
    (argument,) = only_command("Connect-DkvManager -Force:$false").arguments
    assert isinstance(argument, Parameter)
    assert settle(argument.value or "", {}) is False


def test_instance_definitions_as_the_documentation_writes_them() -> None:
    script = """
    $nodes = @(
        [InstanceDefinition]@{ InstanceName = 'orders-3'; ClustronPort = 7813; ClientPort = 7863 },
        @{
            InstanceName = "orders-4"
            ClustronPort = 7814
            ClientPort = 7864
        }
    )
    Add-DkvInstance -StoreName OrdersStore -Nodes $nodes
    """
    first, second = parse(script)
    assert isinstance(first, Assignment)
    assert settle(first.value, {}) == [
        {"InstanceName": "orders-3", "ClustronPort": "7813", "ClientPort": "7863"},
        {"InstanceName": "orders-4", "ClustronPort": "7814", "ClientPort": "7864"},
    ]
    assert isinstance(second, Command)


def test_long_dashes_and_negative_numbers() -> None:
    assert only_command("A \u2013Name x").arguments[0] == Parameter("Name")
    assert only_command("A -5").arguments == (Positional("-5"),)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Get-DkvStore | more", "'|' is not supported"),
        ("Get-DkvStore )", "closes nothing"),
        ("A [foo]3", "[foo] is not known"),
        ("A -x (Get-DkvStore foo)", "Only a value"),
        ("A @{ b }", "has no value"),
        ("A @{ b=1; B=2 }", "twice"),
        ("$x", "cannot consist of $x"),
        ("A $", "without a name"),
        ("A , b", "not expected"),
        ("A b\nC |", "Line 2"),
    ],
)
def test_what_is_not_supported_is_refused_with_a_sentence_and_a_hint(text: str, word: str) -> None:
    with pytest.raises(Usage) as caught:
        parse(text)
    assert word in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("text", ["A 'b", 'A "b', "A @(", "A @{", "A @{ b = 1", "A b,", "A `", "A `\n", "<# a", "$x ="])
def test_what_is_not_finished_asks_for_more(text: str) -> None:
    with pytest.raises(Incomplete):
        parse(text)


def test_an_unknown_variable_is_named() -> None:
    with pytest.raises(Usage, match=r"\$nodes has no value"):
        settle(parse_value("$nodes"), {})


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_but_never_crashes(text: str) -> None:
    refused: CliError | None = None
    try:
        parse(text)
    except CliError as trouble:
        refused = trouble
    assert refused is None or (refused.message.endswith(".") and refused.hint)


@given(st.text(alphabet="aB-@({})=;,'\"`$[] \n#", max_size=40))
def test_any_mix_of_its_own_signs_is_read_or_refused(text: str) -> None:
    test_any_text_is_read_or_refused_but_never_crashes.hypothesis.inner_test(text)  # type: ignore[attr-defined]


@given(st.lists(st.text(max_size=12), min_size=1, max_size=5))
def test_single_quotes_give_back_any_texts(texts: list[str]) -> None:
    clean = [text.replace("\r\n", "\n") for text in texts]
    script = "A " + " ".join("'" + text.replace("'", "''") + "'" for text in clean)
    assert values(script) == clean


@given(st.text(alphabet=st.characters(codec="ascii", exclude_characters="\r"), max_size=20))
def test_double_quotes_with_every_sign_escaped_give_back_the_text(text: str) -> None:
    escaped = "".join(f"`{c}" if c in '`"$' else c for c in text)
    assert values(f'A "{escaped}"') == [text]


# What is no part of the subset is refused by name, before anything of it is done ---------------------------------------

REFUSED = [
    ("Get-DkvStore @p", "Splatting"),
    ("Get-DkvStore -Name @'", "over several lines"),
    ("Get-DkvStore -Name \u201cOrdersStore\u201d", "\u201c is a typographic quotation mark"),
    ("Get-DkvStore -Name \u2018OrdersStore\u2019", "\u2018 is a typographic quotation mark"),
    ("Get-DkvStore -Na\u2019me", "\u2019 is a typographic quotation mark"),
    ("Get-DkvStore | ForEach-Object { $_ }", "'|' is not supported"),
    ("Get-DkvStore && Get-DkvStore", "'&&' is not supported"),
    ("Get-DkvStore || Get-DkvStore", "'||' is not supported"),
    ("Get-DkvStore &", "'&' is not supported"),
    ("& Get-DkvStore", "'&' is not supported"),
    (". ./other.ps1", "'.' is not supported"),
    ("if ($true) { Get-DkvStore }", "'if' is not supported"),
    ("ForEach ($x in 1..3) { Get-DkvStore }", "'ForEach' is not supported"),
    ("while ($true) { }", "'while' is not supported"),
    ("try { Get-DkvStore } catch { }", "'try' is not supported"),
    ("function f { }", "'function' is not supported"),
    ("return", "'return' is not supported"),
    ("Get-DkvStore { x }", "Script blocks"),
    ("Get-DkvStore -Name $(Get-Date)", "$( ) is not supported"),
    ('Get-DkvStore -Name "a$(Get-Date)"', "$( ) is not supported"),
    ('Get-DkvStore -Name "$?"', "$? is not supported"),
    ("Get-DkvStore -Name (Get-Date)", "Only a value may stand where Get-Date does"),
    ("Get-DkvStore -Name (1+1)", "Only a value may stand where 1+1 does"),
    ("Get-DkvStore -Name @(Get-Date)", "Only a value may stand where Get-Date does"),
    ("Get-DkvStore -Name @{ a = Get-Date }", "Only a value may stand where Get-Date does"),
    ("$x = Get-DkvStore", "Only a value may stand where Get-DkvStore does"),
    ("$x = if", "Only a value may stand where if does"),
    ("$x = 1 + 2", "More than one value"),
    ("$x = 'a' 'b'", "More than one value"),
    ("$x += 1", "Nothing is calculated"),
    ("$x++", "Nothing is calculated"),
    ("$null = 'x'", "$null cannot be set"),
    ("[string]$x = 'a'", "a type or an attribute"),
    ("'a'", "a text or an expression"),
    ("(Get-DkvStore)", "a text or an expression"),
    ("Get-DkvStore > out.txt", "'>' is not supported"),
    ("Get-DkvStore 2>&1", "'>' is not supported"),
    ("Get-DkvStore *> out.txt", "'>' is not supported"),
    ("Get-DkvStore -Name>x", "'>' is not supported"),
    ("Get-DkvStore < in.txt", "'<' is not supported"),
    ("Get-DkvStore orders-$n", "A variable inside a word"),
    ("Get-DkvStore $n-1", "written together"),
    ("Get-DkvStore 'a'b", "written together"),
    ("Get-DkvStore $n.Name", "Members and indexes"),
    ("Get-DkvStore $n[0]", "Members and indexes"),
    ("Get-DkvStore $env:HOME", "$env:home is not supported"),
    ('Get-DkvStore "$n:7801"', "$n:7801 is not supported"),
    ('Get-DkvStore "`u{41}"', "`u{ } is not supported"),
]


@pytest.mark.parametrize(("text", "word"), REFUSED, ids=[text for text, _ in REFUSED])
def test_what_is_no_part_of_the_subset_is_refused_by_name(text: str, word: str, connected: Person) -> None:
    connected.domain.log.clear()
    output = connected.types(f"Get-DkvStore; {text}\nGet-DkvStore")
    assert output.code == 2
    sentence, _, hint = output.err.partition("\n\nhint: ")
    assert word[1:] in sentence, "its first letter is small after the line's number"
    assert hint
    assert not connected.domain.log, "not even what stands before it"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Get-DkvStore; Get-DkvStore $missing", "$missing has no value"),
        ('Get-DkvStore; Get-DkvStore "a$missing"', "$missing has no value"),
        ("Get-DkvStore\nAdd-DkvInstance a -Nodes @( @{ InstanceName = $missing } )", "$missing has no value"),
        ("Get-DkvStore $later; $later = 'a'", "$later has no value"),
        ("Get-DkvStore; exit three", "exit takes one whole number"),
        ("Get-DkvStore; exit 256", "exit takes one whole number"),
        ("Get-DkvStore; exit 1 2", "exit takes one whole number"),
        ("Get-DkvStore; exit -Now", "exit takes one whole number"),
    ],
)
def test_what_cannot_be_done_is_seen_before_the_first_command_runs(text: str, word: str, connected: Person) -> None:
    connected.domain.log.clear()
    output = connected.types(text)
    assert (output.code, word in output.err) == (2, True), output
    assert not connected.domain.log


def test_variables_of_earlier_lines_are_known(connected: Person) -> None:
    assert connected.types("$a = 'Orders'; $b = \"${a}Store:$a\"").code == 0
    assert connected.types("$c = $a, $b; $d = $c").code == 0
    assert connected.shell.variables["b"] == "OrdersStore:Orders"
    assert connected.shell.variables["d"] == ["Orders", "OrdersStore:Orders"]


@pytest.mark.parametrize(
    "text",
    [
        "Get-DkvStore -Name $null",
        "Get-DkvStore $null",
        "Get-DkvStore -Name:$null",
        "Get-DkvStore -Managers $null,a",
        "Start-DkvStore a -Parallel:$null",
        "$n = $null; Start-DkvStore a -TimeoutSec $n",
        "show waiting --db-name $null",
        "start database --db-name a --te-server-ids $null",
        "add region-assignment --db-name a --server-ids b $null",
    ],
)
def test_null_is_no_value(text: str, connected: Person) -> None:
    connected.domain.log.clear()
    output = connected.types(text)
    assert (output.code, "has the value $null" in output.err) == (2, True), output
    assert not connected.domain.log


def test_escapes_mean_what_powershell_means() -> None:
    assert values('X "a`tb`nc`0d`e" a`tb') == ["a\tb\nc\0d\x1b", "a\tb"]


def test_lists_of_words_may_have_commas_in_a_shell() -> None:
    verb = nouns.find("add region-assignment")
    assert verb
    (command,) = parse("X --db-name a --region-name b --server-ids s1,s2 s3")
    assert isinstance(command, Command)
    assert bind(verb, command.arguments, {})["--server-ids"] == ["s1", "s2", "s3"]


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 3", 3),
        ("quit 3", 3),
        ("Get-DkvStore Nothing\nexit", 1),
        ("Get-DkvStore Nothing\nexit 0", 0),
        ("$c = 7; exit $c", 7),
        ("exit 3\nGet-DkvStore Nothing", 3),
        ("Get-DkvStore Nothing", 1),
        ("Get-DkvStore -Zzz\nhelp", 2),
    ],
)
def test_a_script_ends_with_the_number_after_exit_or_with_its_worst_line(script: str, code: int, connected: Person) -> None:
    assert connected.types(script).code == code
