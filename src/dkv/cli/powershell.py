"""The reader of the cmdlets' PowerShell subset (docs/reference/cmdlets.md#powershell-subset). Pure.

A script is statements between newlines or `;`. A statement is a command with its arguments or `$name = value`.
Values are bare words, 'literal' and "expanding" texts, comma lists, `@( )`, `@{ k = v }` with an optional
`[InstanceDefinition]` before it, and `$name`. A backtick at the end of a line continues it; `#` and `<# #>` are
comments. Everything else of PowerShell is refused by name with one sentence, never guessed and never half done: a script
is read, and its variables are looked for, before its first line runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, NoReturn

from dkv.cli.errors import Usage

DASHES = "-\u2013\u2014"
"""What word processors make of a dash; PowerShell accepts them too."""

ENDS_WORD = set(" \t\r\n,;(){}|&\"'#`=")
BARE_STOPS = ENDS_WORD - {"#", "="}
AFTER_VALUE = set(" \t\r\n\u00a0,;)}|&#")
TYPOGRAPHIC = set("\u2018\u2019\u201a\u201b\u201c\u201d\u201e")
ESCAPES = {"0": "\0", "a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
"""What a backtick makes of the next character; any other stays what it is."""

KEYWORDS = frozenset(
    (
        "begin break catch class continue data do dynamicparam else elseif end enum filter finally for foreach from "
        "function if in param process return switch throw trap try until using var while workflow "
    ).split()
)
AUTOMATIC: dict[str, object] = {"true": True, "false": False, "null": None}
ONE_BY_ONE = "Write the commands one a line; let another shell decide which are run."


class Variable(NamedTuple):
    """A `$name`, read when the statement runs. Names are compared in lower case."""

    name: str


class Expanding(NamedTuple):
    """A double-quoted text: literal parts and variables in order."""

    parts: tuple[str | Variable, ...]


Value = str | Variable | Expanding | list["Value"] | dict[str, "Value"]


class Parameter(NamedTuple):
    """`-Name`, with the value glued on by a colon if there is one."""

    name: str
    value: Value | None = None


class Positional(NamedTuple):
    """A value that stands alone: a parameter's value or a positional argument; the cmdlet's table decides."""

    value: Value


Argument = Parameter | Positional


class Command(NamedTuple):
    """One command line: its name as written and its arguments. `line` counts from 1."""

    line: int
    name: str
    arguments: tuple[Argument, ...]


class Assignment(NamedTuple):
    """`$name = value`."""

    line: int
    name: str
    value: Value


Statement = Command | Assignment


class Incomplete(Usage):
    """The text ends inside something: an interactive shell reads another line."""


def parse(text: str) -> list[Statement]:
    """All statements of a script. Raises Usage, with the line in its sentence when there are several lines."""
    return _Reader(text).script()


def parse_value(text: str) -> Value:
    """One value, such as `@(@{ InstanceName='orders-3' })` given on another shell's command line. Raises Usage."""
    reader = _Reader(text)
    value = reader.value_list(multiline=True)
    reader.blanks(newlines=True)
    if reader.here():
        reader.refuse(f"'{reader.here()}' was not expected after the value", "Quote the value as a whole.")
    return value


def settle(value: Value, variables: Mapping[str, object]) -> object:
    """Replace the variables of a value: `variables` has lower-case names. Raises Usage for an unknown one."""
    if isinstance(value, Variable):
        return _look_up(value, variables)
    if isinstance(value, Expanding):
        return "".join(p if isinstance(p, str) else as_text(_look_up(p, variables)) for p in value.parts)
    if isinstance(value, list):
        return [settle(item, variables) for item in value]
    if isinstance(value, dict):
        return {key: settle(item, variables) for key, item in value.items()}
    return value


def as_text(value: object) -> str:
    """A value as PowerShell would put it into a text."""
    if isinstance(value, list):
        return " ".join(as_text(item) for item in value)
    return "" if value is None else str(value)


def check_variables(statements: Sequence[Statement], known: Mapping[str, object]) -> None:
    """Raise Usage for a variable that has no value where it is used. Every statement runs, so that this is known before."""
    set_so_far = {*known, *AUTOMATIC}
    for statement in statements:
        held = [statement.value] if isinstance(statement, Assignment) else [a.value for a in statement.arguments]
        for variable in (variable for value in held for variable in _variables(value)):
            if variable.name not in set_so_far:
                _look_up(variable, {})
        if isinstance(statement, Assignment):
            set_so_far.add(statement.name)


def _variables(value: Value | None) -> Iterator[Variable]:
    if isinstance(value, Variable):
        yield value
        return
    inside = value.parts if isinstance(value, Expanding) else value if isinstance(value, list) else ()
    for item in value.values() if isinstance(value, dict) else inside:
        yield from _variables(item)


def _look_up(variable: Variable, variables: Mapping[str, object]) -> object:
    if variable.name in AUTOMATIC:
        return AUTOMATIC[variable.name]
    if variable.name in variables:
        return variables[variable.name]
    raise Usage(f"The variable ${variable.name} has no value.", f"Set it first: ${variable.name} = ...")


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.at = 0

    # -- statements ---------------------------------------------------------------------------------------------

    def script(self) -> list[Statement]:
        statements: list[Statement] = []
        while True:
            self.blanks(newlines=True, semicolons=True)
            if not self.here():
                return statements
            statements.append(self.statement())
            self.blanks()
            if self.here() and self.here() not in "\n;":
                if isinstance(statements[-1], Assignment) and self.here() not in "|&":
                    self.refuse("More than one value stands after =", "Quote texts with blanks; nothing is calculated here.")
                self.refuse_rest()

    def statement(self) -> Statement:
        line = self.line()
        if self.here() == "$":
            return self.assignment(line)
        if self.here() == "[":
            self.refuse("A line cannot begin with a type or an attribute in [ ]", "Write $name = value, or a command.")
        if self.here() and self.here() in "'\"(":
            self.refuse("A line cannot begin with a text or an expression", "Begin it with a command, or with $name = value.")
        if self.here() == "&":
            self.refuse("'&' is not supported: nothing else is called from here", "Write the command's name first.")
        name = self.word()
        if not name:
            self.refuse_rest()
        if name.lower() in KEYWORDS:
            self.refuse(f"'{name}' is not supported: there are no conditions, loops or functions here", ONE_BY_ONE)
        if name == ".":
            self.refuse("'.' is not supported: no other script is read from here", "Use dkv shell --file for each script.")
        self.ends_value()
        return Command(line, name, self.arguments())

    def assignment(self, line: int) -> Assignment:
        variable = self.variable()
        self.blanks()
        if self.here() and self.here() in "+-*/%?":
            self.refuse("Nothing is calculated here, neither with += nor with ++", f"Write ${variable.name} = value.")
        if self.here() != "=":
            self.refuse(f"A line cannot consist of ${variable.name}", f"Write ${variable.name} = value.")
        if variable.name in AUTOMATIC:
            self.refuse(f"${variable.name} cannot be set", "Choose another name.")
        self.at += 1
        self.blanks(newlines=True)
        return Assignment(line, variable.name, self.value_list(expression=True))

    def arguments(self) -> tuple[Argument, ...]:
        arguments: list[Argument] = []
        while True:
            self.blanks()
            char = self.here()
            if not char or char in "\n;|&)}":
                return tuple(arguments)
            if not self.starts_parameter():
                arguments.append(Positional(self.value_list()))
                continue
            arguments.append(self.parameter())
            if self.here() and self.here() in "({'\"":
                self.ends_value()

    def starts_parameter(self) -> bool:
        after = self.text[self.at + 1 : self.at + 2]
        return bool(self.here()) and self.here() in DASHES and (after.isalpha() or after in ("-", "?", "_"))

    def parameter(self) -> Parameter:
        start = self.at
        while self.here() and self.here() not in BARE_STOPS and self.here() not in ":=":
            self.at += 1
        name = self.text[start : self.at].lstrip(DASHES)
        if set(name) & {"<", ">", "$", *TYPOGRAPHIC}:
            self.at = start + min(
                self.text[start : self.at].index(char) for char in name if char in {"<", ">", "$", *TYPOGRAPHIC}
            )
            self.refuse_in_word()
        if self.here() and self.here() in ":=":
            self.at += 1
            self.blanks()
            return Parameter(name, self.value_list())
        return Parameter(name)

    # -- values -------------------------------------------------------------------------------------------------

    def value_list(self, multiline: bool = False, expression: bool = False) -> Value:
        first = self.value(expression)
        items = [first]
        while True:
            mark = self.at
            self.blanks(newlines=multiline)
            if self.here() != ",":
                self.at = mark
                return first if len(items) == 1 else items
            self.at += 1
            self.blanks(newlines=True)
            items.append(self.value(expression))

    def value(self, expression: bool = False) -> Value:
        """One value. In an `expression` a word without quotes would be a command, as in PowerShell."""
        bare = self.here() not in ("'", '"', "$", "[", "@", "(")
        value = self.single_value()
        if expression and bare and not re.fullmatch(r"-?[0-9]+", str(value)):
            self.refuse(
                f"Only a value may stand where {value} does: nothing is run or calculated inside a line",
                f"Quote it if it is a text: '{value}'.",
            )
        self.ends_value()
        return value

    def single_value(self) -> Value:
        char = self.here()
        if char == "'":
            return self.literal()
        if char == '"':
            return self.expanding()
        if char == "$":
            return self.variable()
        if char == "[":
            return self.typed()
        if self.text.startswith("@(", self.at):
            return self.array()
        if self.text.startswith("@{", self.at):
            return self.table()
        if char == "(":
            return self.group()
        if char == "@":
            self.refuse_at()
        word = self.word()
        if not word:
            self.refuse_rest()
        return word

    def ends_value(self) -> None:
        char = self.here()
        if not char or char in AFTER_VALUE or self.continues():
            return
        if char in ".[" and self.text[self.at - 1] not in "'\"":
            self.refuse("Members and indexes, such as $a.b and $a[0], are not supported", "Set a variable to that value.")
        if char == "{":
            self.refuse_rest()
        self.refuse("Two values are written together without a blank", "Put them into one text in double quotes.")

    def array(self) -> Value:
        self.at += 2
        items: list[Value] = []
        while not self.closes(")", "@("):
            values = self.value_list(multiline=True, expression=True)
            items.extend(values if isinstance(values, list) else [values])
        return items

    def group(self) -> Value:
        self.at += 1
        self.blanks(newlines=True)
        value = self.value_list(multiline=True, expression=True)
        if not self.closes(")", "("):
            self.refuse("Only a value may stand in ( )", "Run the inner command on a line of its own.")
        return value

    def table(self) -> Value:
        self.at += 2
        entries: dict[str, Value] = {}
        while not self.closes("}", "@{"):
            key = self.table_key()
            if key.lower() in (k.lower() for k in entries):
                self.refuse(f"@{{ }} has {key} twice", "Each key is written once.")
            self.blanks()
            if self.here() != "=":
                self.refuse(f"The key {key} has no value", "Inside @{ } write key = value, with ; or newlines between.")
            self.at += 1
            self.blanks(newlines=True)
            entries[key] = self.value_list(expression=True)
        return entries

    def table_key(self) -> str:
        if self.here() == "'":
            return self.literal()
        if self.here() == '"':
            key = self.expanding()
            return key if isinstance(key, str) else self.refuse("A key cannot hold a variable", "Write it out.")
        return self.word(stops=ENDS_WORD) or self.refuse_rest()

    def closes(self, end: str, begin: str) -> bool:
        self.blanks(newlines=True, semicolons=begin.startswith("@"))
        if not self.here():
            raise Incomplete(f"{begin} is not closed.", f"Add the missing {end}.")
        if self.here() != end:
            return False
        self.at += 1
        return True

    def typed(self) -> Value:
        end = self.text.find("]", self.at)
        name = self.text[self.at + 1 : end] if end > 0 else ""
        if name.lower() not in ("instancedefinition", "string", "int", "string[]", "instancedefinition[]"):
            self.refuse(f"The type [{name}] is not known", "Only [InstanceDefinition]@{ ... } is.")
        self.at = end + 1
        if self.text.startswith("]", self.at):
            self.at += 1
        self.blanks()
        return self.single_value()

    def variable(self) -> Variable:
        """`$name` or `${name}`."""
        self.at += 1
        if self.here() == "(":
            self.refuse("$( ) is not supported: commands do not give values here", "Set a variable, or write the value out.")
        braces = self.here() == "{"
        start = self.at = self.at + braces
        while self.here() and (self.here().isalnum() or self.here() in "_:"):
            self.at += 1
        name = self.text[start : self.at].lower()
        if not name:
            self.refuse("A $ without a name", "Write $name, or quote the text with single quotes.")
        if ":" in name:
            self.refuse(
                f"${name} is not supported: a variable has no scope and no drive here",
                "Write ${name} where a colon follows a variable.",
            )
        if braces and self.here() != "}":
            self.refuse("A variable's name in ${ } has letters, digits and _", "Write ${name}.")
        self.at += braces
        return Variable(name)

    # -- texts --------------------------------------------------------------------------------------------------

    def literal(self) -> str:
        self.at += 1
        parts = []
        while True:
            end = self.text.find("'", self.at)
            if end < 0:
                raise Incomplete("A text in single quotes does not end.", "Add the missing '.")
            parts.append(self.text[self.at : end])
            self.at = end + 1
            if self.here() != "'":
                return "".join(parts)
            parts.append("'")
            self.at += 1

    def expanding(self) -> str | Expanding:
        self.at += 1
        parts: list[str | Variable] = [""]
        while (char := self.here()) != '"' or self.text[self.at + 1 : self.at + 2] == '"':
            if not char:
                raise Incomplete("A text in double quotes does not end.", 'Add the missing ".')
            if char == "$" and self.holds_variable():
                parts += [self.variable(), ""]
                continue
            if char == '"':
                self.at += 1
            parts[-1] = f"{parts[-1]}{self.escaped() if char == '`' else char}"
            self.at += 1
        self.at += 1
        return str(parts[0]) if len(parts) == 1 else Expanding(tuple(parts))

    def holds_variable(self) -> bool:
        """Whether a $ within double quotes begins a variable, and is no mere sign."""
        after = self.text[self.at + 1 : self.at + 2]
        if after and after in "?^$":
            self.refuse(f"${after} is not supported", "Write `$ for the sign itself.")
        return after.isalnum() or (bool(after) and after in "_{(:")

    def escaped(self) -> str:
        """What a backtick and the sign after it mean; stays on that sign."""
        self.at += 1
        if self.text.startswith("u{", self.at):
            self.refuse("`u{ } is not supported", "Write the character itself.")
        return ESCAPES.get(self.here(), self.here())

    def word(self, stops: set[str] = BARE_STOPS) -> str:
        characters = []
        while (char := self.here()) and (char not in stops or char == "`"):
            if char == "`" and self.continues():
                break
            if char in "$<>" or char in TYPOGRAPHIC:
                self.refuse_in_word()
            characters.append(self.escaped() if char == "`" else char)
            self.at += 1
        return "".join(characters)

    # -- ground -------------------------------------------------------------------------------------------------

    def here(self) -> str:
        return self.text[self.at : self.at + 1]

    def continues(self) -> bool:
        rest = self.text[self.at + 1 :].partition("\n")[0]
        return self.here() == "`" and not rest.strip(" \t\r")

    def blanks(self, newlines: bool = False, semicolons: bool = False) -> None:
        while char := self.here():
            if char in " \t\r\u00a0" or (newlines and char == "\n") or (semicolons and char == ";"):
                self.at += 1
            elif char == "#":
                self.at = _or_end(self.text.find("\n", self.at), self.text)
            elif self.text.startswith("<#", self.at):
                end = self.text.find("#>", self.at)
                if end < 0:
                    raise Incomplete("A comment that began with <# does not end.", "Add the missing #>.")
                self.at = end + 2
            elif self.continues():
                self.at = _or_end(self.text.find("\n", self.at), self.text) + 1
                if self.at >= len(self.text):
                    raise Incomplete("The line ends with a backtick but nothing follows.", "Remove the backtick.")
            else:
                return

    def line(self) -> int:
        return self.text.count("\n", 0, self.at) + 1

    def refuse_in_word(self) -> NoReturn:
        char = self.here()
        if char in "<>":
            self.refuse(
                f"'{char}' is not supported: nothing is redirected here",
                "Redirect the output of dkv shell as a whole, or quote the text.",
            )
        if char == "$":
            self.refuse("A variable inside a word is not supported", 'Put the whole into double quotes: "orders-$n".')
        self.refuse(f"{char} is a typographic quotation mark, which is not supported", "Type ' or \" instead.")

    def refuse_at(self) -> NoReturn:
        after = self.text[self.at + 1 : self.at + 2]
        if after and after in "'\"":
            self.refuse(
                'Texts over several lines, from @" to "@, are not supported',
                "Write one line; `n in double quotes begins a new one.",
            )
        self.refuse("Splatting, as in @parameters, is not supported", "Write each -Name and its value out.")

    def refuse_rest(self) -> NoReturn:
        char = self.here()
        if not char:
            raise Incomplete("The line ends where a value is missing.", "Add the value.")
        if self.text.startswith(("||", "&&"), self.at):
            self.refuse(f"'{char}{char}' is not supported: commands do not hang on each other here", ONE_BY_ONE)
        if char == "{":
            self.refuse("Script blocks in { } are not supported", ONE_BY_ONE)
        if char == "&":
            self.refuse("'&' is not supported: nothing runs in the background here", "Remove it.")
        if char == "|":
            self.refuse(f"'{char}' is not supported: commands do not feed each other here", "Use one line a command.")
        if char in ")}":
            self.refuse(f"'{char}' closes nothing", "Remove it, or quote the text.")
        self.refuse(f"{char!r} was not expected here", "Quote texts that hold special characters.")

    def refuse(self, message: str, hint: str) -> NoReturn:
        where = f"Line {self.line()}: {message[0].lower()}{message[1:]}" if "\n" in self.text.strip() else message
        raise Usage(f"{where}.", hint)


def _or_end(position: int, text: str) -> int:
    return len(text) if position < 0 else position
