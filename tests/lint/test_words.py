"""What stands in the files: a first sentence in every module, commands that exist, and nothing of any one machine."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess

import pytest

from dkv.cli import nouns
from dkv.cli.binding import bind, from_argv
from dkv.cli.cmdlets import find_cmdlet
from tests.lint.repository import ROOT, project_files, python_files, tree_of

# Put together from halves, so that this file does not find itself.
FORBIDDEN = [
    "/" + "work/",
    "/" + "root/",
    "/" + "home/" + "user",
    "sub" + "agent",
    "helper " + "agent",
    "py" + "pi.org",
    "python" + "hosted.org",
    "language " + "model",
    "chat" + "gpt",
    "clau" + "de",
]
MOST_SHOWN = 20


def test_the_first_sentence_of_every_module_says_what_it_holds() -> None:
    silent = []
    for name in python_files("src", "tests", "bench", "docs"):
        words = ast.get_docstring(tree_of(name)) or ""
        if not re.match(r".{10,}?[.:!?](\s|$)", " ".join(words.split())):
            silent.append(str(name))
    assert not silent, f"these need a docstring whose first sentence says what they are: {silent}"


def test_no_file_speaks_of_the_place_where_it_was_made() -> None:
    places = []
    for name in project_files():
        try:
            text = (ROOT / name).read_text(encoding="utf-8").lower()
        except UnicodeDecodeError:
            continue
        places += [f"{name}: {word!r}" for word in FORBIDDEN if word in text]
    assert not places, "\n".join(places[:MOST_SHOWN])


def test_nothing_prints_but_output_and_main() -> None:
    allowed = {"src/dkv/cli/output.py"}
    loud = [
        f"{name}:{node.lineno}"
        for name in python_files("src")
        if str(name) not in allowed and name.name != "__main__.py"
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not loud, f"words for people go through cli/output.py: {loud}"


def commands_shown(document: str) -> list[list[str]]:
    """The command lines a document shows: lines of its code blocks that start with ./dev or dkv."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    shown = [block for language, block in blocks if language in ("", "sh", "console", "bash", "text")]
    lines = [line.strip().removeprefix("$ ").partition("; ")[0] for block in shown for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if re.match(r"(\./dev|(\.venv/bin/)?dkv) \w", line)]


DOCUMENTS = ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "docs/operations.md", "docs/tour.md", "docs/critiques.md"]


def test_the_dev_words_of_the_documents_exist() -> None:
    known = set(re.findall(r"^    (\w+)(?: \| [-\w| ]+)?\) ", (ROOT / "dev").read_text(), flags=re.MULTILINE))
    used = {words[1] for document in DOCUMENTS for words in commands_shown(document) if words[0] == "./dev"}
    assert "test" in known
    assert used, "README.md shows no ./dev command at all"
    assert used <= known, f"./dev does not know {sorted(used - known)}"


DKV = [words[1:] for document in DOCUMENTS for words in commands_shown(document) if words[0].endswith("dkv")]


def test_the_documents_show_cmdlets_verbs_and_programs() -> None:
    assert {"Start-DkvStore", "show", "manager"} <= {words[0] for words in DKV}


@pytest.mark.parametrize("words", DKV, ids=" ".join)
def test_a_dkv_command_of_the_documents_can_be_typed_so(words: list[str]) -> None:
    """All words are bound, so that each parameter exists too."""
    used = 2 if words[0] in nouns.VERB_WORDS else 1
    bind(find_cmdlet(" ".join(words[:used])), from_argv(words[used:]), {})


def test_dev_explains_itself_from_anywhere() -> None:
    answer = subprocess.run([ROOT / "dev", "help"], cwd="/", capture_output=True, text=True, check=True)
    assert "./dev test" in answer.stdout


def test_dev_refuses_an_unknown_word_in_one_sentence() -> None:
    answer = subprocess.run([ROOT / "dev", "dance"], capture_output=True, text=True, check=False)
    assert answer.returncode != 0
    assert answer.stderr.rstrip().splitlines()[-1] == "dev: there is no './dev dance'."
