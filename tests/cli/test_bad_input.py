"""Bad input: each is one clear sentence, a hint, a non-zero exit, and nothing changed."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Person

TABLE = [
    ("Get-DkvStoer", 2, "There is no command 'Get-DkvStoer'.", "Did you mean Get-DkvStore?"),
    ("Foo", 2, "There is no command 'Foo'.", "Run dkv help for the commands."),
    ("shwo domain", 2, "There is no command 'shwo'.", "Did you mean show?"),
    ("Start-DkvStore", 2, "Start-DkvStore needs -Name", "Usage: Start-DkvStore -Name <string>"),
    ("New-DkvStore Carts", 2, "New-DkvStore needs -InstancePrefix", "Usage:"),
    ("Start-DkvStore -Nmae OrdersStore", 2, "has no parameter -Nmae", "Did you mean -Name?"),
    ("Start-DkvStore -Zzzz 1", 2, "has no parameter -Zzzz", "Parameters: -Name, "),
    ("New-DkvStore Carts carts -Inst 3", 2, "-Inst may mean -InstancePrefix or -InstanceCount.", "more letters"),
    ("Start-DkvStore OrdersStore -Name Carts x y", 2, "belongs to no parameter", "Usage:"),
    ("Start-DkvStore -Name A -Name B", 2, "-Name is given twice.", "once"),
    ("Start-DkvStore -Name", 2, "-Name needs a value", "VALUE"),
    ("Start-DkvStore -Name -Parallel", 2, "-Name needs a value", "VALUE"),
    ("Start-DkvStore A,B", 2, "-Name cannot be 'A,B'.", "not a list"),
    ("Start-DkvStore OrdersStore -Parallel:maybe", 2, "-Parallel cannot be 'maybe'.", "$true"),
    ("Start-DkvStore OrdersStore -TimeoutSec soon", 2, "-TimeoutSec cannot be 'soon'.", "from 1 to 86400"),
    ("Start-DkvStore OrdersStore -TimeoutSec 0", 2, "-TimeoutSec cannot be '0'.", "from 1"),
    ("Start-DkvStore OrdersStore -Port 70000", 2, "-Port cannot be '70000'.", "65535"),
    ("Get-DkvStore -o xml", 2, "-OutputFormat cannot be 'xml'.", "table, json"),
    ("Watch-DkvStoreMetrics OrdersStore -RefreshSec 61", 2, "-RefreshSec cannot be '61'.", "1 to 60"),
    ("New-DkvStore 1carts carts", 2, "'1carts' cannot be the store's name.", "begins with a letter"),
    ("New-DkvStore Carts 'ca rts'", 2, "cannot be the prefix of the nodes' names.", "begins with a letter"),
    ("New-DkvStore Carts " + "c" * 63, 2, "cannot be a node's name", "63 letters"),
    ("Get-DkvStore ../etc", 2, "'../etc' cannot be the store's name.", "letter"),
    ("New-DkvStore Carts c -ClustronPort 65535 -InstanceCount 2", 2, "above 65535", "lower"),
    ("New-DkvStore Carts c -ClustronPort 0", 2, "-ClustronPort cannot be '0'.", "1 to 65535"),
    ("New-DkvStore Carts c -InstanceCount 51", 2, "The ports of 51 nodes from 7811 and from 7861 on overlap.", "7862"),
    ("New-DkvStore Carts c -InstanceCount 0", 2, "-InstanceCount cannot be '0'.", "from 1"),
    ("New-DkvStore Carts c -ReplicationFactor 3", 2, "needs 3 nodes, but there would be 2", "-InstanceCount"),
    ("New-DkvStore Carts c -MinInSync 3", 2, "can never be met", "at most -MinInSync 2"),
    ("New-DkvStore Carts c -ClustronPort 7801", 1, "is used by the manager 127.0.0.11:7801.", "Free there"),
    ("New-DkvStore Carts c", 1, "is used by orders-1 of OrdersStore.", "Free there"),
    ("Start-DkvStore OrderStore", 1, "There is no store 'OrderStore'.", "Did you mean OrdersStore?"),
    ("Get-DkvStore OrderStore", 1, "There is no store 'OrderStore'.", "Did you mean OrdersStore?"),
    ("Watch-DkvStoreMetrics OrderStore", 1, "There is no store 'OrderStore'.", "Did you mean OrdersStore?"),
    ("Remove-DkvStore OrderStore", 1, "There is no store 'OrderStore'.", "Did you mean OrdersStore?"),
    ("Start-DkvStore OrdersStore orders-9", 1, "has no instance 'orders-9'.", "It has orders-1, orders-2."),
    ("Start-DkvStore OrdersStore ordesr-2", 1, "has no instance 'ordesr-2'.", "Did you mean orders-2?"),
    ("Stop-DkvStore OrdersStore zz", 1, "has no instance 'zz'.", "It has orders-1, orders-2."),
    ("Connect-DkvManager 0.0.0.0 -Force", 2, "every interface", "Name one address"),
    ("Connect-DkvManager '::0' -Force", 2, "every interface", "Name one address"),
    ("Connect-DkvManager ftp://127.0.0.11 -Force", 2, "is not a manager's address", "https://"),
    ("Connect-DkvManager 127.0.0.11:99999 -Force", 2, "'99999' in '127.0.0.11:99999' is not a port.", "1 to 65535"),
    ("Connect-DkvManager '127.0.0.11 x' -Force", 2, "is not a manager's address", "host:port"),
    ("Connect-DkvManager 127.0.0.11,127.0.0.11:7801 -Force", 2, "is given twice", "once"),
    ("Get-DkvStore -Managers 127.0.0.99", 1, "127.0.0.99:7801 is not reachable", "dkv manager run"),
    ("Add-DkvInstance OrdersStore orders-3", 2, "Add-DkvInstance needs -ClustronPort, or -Nodes.", "-ClientPort"),
    ("Add-DkvInstance OrdersStore -Nodes @()", 2, "-Nodes cannot be ''.", "InstanceName="),
    ("Add-DkvInstance OrdersStore -Nodes @{InstanceNam='x'}", 2, "no 'InstanceNam'", "InstanceName?"),
    ("Add-DkvInstance OrdersStore -Nodes @{InstanceName='x'}", 2, "lacks ClustronPort", "ClientPort"),
    (
        "Add-DkvInstance OrdersStore x -ClustronPort 1 -ClientPort 2 -Nodes @{InstanceName='x';ClustronPort=1;ClientPort=2}",
        2,
        "exclude each other",
        "one of the two",
    ),
    ("Add-DkvInstance OrdersStore x -ClustronPort 7811 -ClientPort 7899", 1, "used by orders-1", "Free there"),
    ("Get-DkvStore | more", 2, "'|' is not supported", "one line"),
    ("Get-DkvStore $missing", 2, "The variable $missing has no value.", "$missing ="),
    ("Start-DkvStore 'OrdersStore", 2, "does not end", "'"),
]


@pytest.mark.parametrize(("command", "code", "sentence", "hint"), TABLE, ids=[row[0] for row in TABLE])
def test_bad_input_is_refused_with_a_sentence_and_a_hint(
    with_store: Person, command: str, code: int, sentence: str, hint: str
) -> None:
    output = with_store.types(command)
    message, _, advice = output.err.partition("\n\nhint: ")
    assert output.code == code
    assert sentence in message
    assert "\n" not in message
    assert hint in advice
    assert output.out == ""
    assert not [1 for _, method, target in with_store.domain.log if method != "GET" and "check=true" not in target]
    assert list(with_store.domain.stores) == ["ordersstore"]


def test_a_script_that_cannot_be_read_runs_no_line(with_store: Person) -> None:
    output = with_store.types("Stop-DkvStore OrdersStore\nGet-DkvStore 'x")
    assert output.code == 2
    assert not with_store.domain.log


def test_a_script_goes_on_after_a_failed_line_and_ends_non_zero(with_store: Person) -> None:
    output = with_store.types("Get-DkvStore Nothing\nGet-DkvStore OrdersStore\nexit\nGet-DkvStore Nothing -Zzz")
    assert output.code == 1
    assert "OrdersStore" in output.out
    assert "Zzz" not in output.err
