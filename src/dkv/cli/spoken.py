"""CLI: hints in the vocabulary of the command: the domain's hints name cmdlets, and a verb's answer names verbs."""

from __future__ import annotations

import re

NAME = r"([A-Za-z][\w.-]*?)(?=\.?(?:[\s;,)]|$))"  # a name, without the full stop of its sentence
IN_VERBS = (
    (rf"Start-DkvStore -Name {NAME} -InstanceName {NAME}", r"dkv start database --db-name \1 --unconditional"),
    (rf"Stop-DkvStore -Name {NAME} -Force", r"dkv shutdown process --kill for each start id of dkv show database --db-name \1"),
    (r"Start-DkvStore", "dkv start database"),
    (r"Stop-DkvStore", "dkv shutdown process or dkv shutdown database"),
    (r"Remove-DkvStore", "dkv delete database"),
    (r"Get-DkvStore", "dkv show archives"),
    (r"Add-DkvInstance", "dkv create archive"),
    (r"Remove-DkvInstance", "dkv delete archive"),
    (r"dkv show archives or show archives", "dkv show archives"),
)
"""What cmdlets are as verbs, the longest first. `--unconditional` starts what does not run, whether anything does or not."""


def in_verbs(text: str) -> str:
    """The same hint for somebody who types verbs."""
    for cmdlet, verb in IN_VERBS:
        text = re.sub(cmdlet, verb, text)
    return text
