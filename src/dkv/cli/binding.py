"""How arguments find their parameters: names in any case, unambiguous prefixes, positions, switches, lists. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dkv.cli.errors import Usage
from dkv.cli.powershell import Argument, Parameter, Positional, parse_value, settle
from dkv.spelling import nearest


class Param(NamedTuple):
    """One parameter of a cmdlet or, when its name begins with `--`, one option of a verb or program. `kind` is text, name,
    number, switch, list, nodes, word (one of `choices`), words (all that follow), pairs (key value key value), each (may be
    given several times), setting (the last one given counts) or any (also an empty text); `position` counts from 0; `aliases`
    are exact other names; `low` and `high` bound a number; `keys` are the keys that pairs may have, and what each is."""

    name: str
    kind: str
    help: str
    required: bool = False
    default: Any = None
    position: int | None = None
    aliases: tuple[str, ...] = ()
    low: int = 1
    high: int = 65535
    choices: tuple[str, ...] = ()
    keys: tuple[tuple[str, str], ...] = ()


class Call(NamedTuple):
    """The request of a verb that is one request, and what it prints; nouns.common.send carries it out."""

    method: str
    path: str  # below /api/1; {option} stands for an option's value
    shape: str = ""  # what is printed, one of SHAPES in nouns/printing.py; nothing when empty
    body: tuple[tuple[str, str], ...] = ()  # field of the body, and the option it comes from
    query: tuple[tuple[str, str], ...] = ()  # parameter of the address, and the option it comes from
    many: bool = False  # the answer is a list


class Cmdlet(NamedTuple):
    """One cmdlet, or one verb with its noun: its name, what it does, where its code is (`module:function`), what it takes."""

    name: str
    synopsis: str
    code: str
    params: tuple[Param, ...] = ()
    call: Call | None = None
    alone: bool = False  # a program of its own, which the shell does not run


NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
NAME_RULE = "A name begins with a letter and has up to 63 letters, digits, and the signs _ . -"

GREEDY = ("words", "pairs")
"""Kinds that take every value up to the next parameter, as nuocmd's options do."""

Bound = dict[str, Any]
"""Values by parameter name; every parameter of the cmdlet is present."""


def bind(cmdlet: Cmdlet, arguments: Sequence[Argument], variables: Mapping[str, object]) -> Bound:
    """Give each argument to its parameter. Raises Usage with one sentence and a hint."""
    given: dict[str, Any] = {}
    loose: list[object] = []
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        at += 1
        if isinstance(argument, Positional):
            loose.append(settle(argument.value, variables))
            continue
        param = find_param(cmdlet, argument.name)
        if param.name in given and param.kind not in ("each", "setting"):
            raise Usage(f"{written(param)} is given twice.", "Give it once.")
        value, used = _value_of(param, argument, arguments[at:], variables)
        given[param.name] = [*given.get(param.name, ()), value] if param.kind == "each" else value
        at += used
    _place(cmdlet, loose, given)
    missing = [p for p in cmdlet.params if p.required and p.name not in given]
    if missing:
        raise Usage(f"{cmdlet.name} needs {written(missing[0])}: {missing[0].help}.", shortest_usage(cmdlet))
    return {p.name: convert(p, given[p.name]) if p.name in given else p.default for p in cmdlet.params}


def written(param: Param) -> str:
    """A parameter as people write it: -Name of a cmdlet, --db-name of a verb."""
    return param.name if param.name.startswith("--") else f"-{param.name}"


def _value_of(
    param: Param, argument: Parameter, following: Sequence[Argument], variables: Mapping[str, object]
) -> tuple[object, int]:
    """The value of a parameter and how many of the arguments after it belong to it."""
    values: list[object] = [] if argument.value is None else [settle(argument.value, variables)]
    if param.kind in GREEDY:
        for used, item in enumerate(following):
            if not isinstance(item, Positional):
                return values, used
            values.append(settle(item.value, variables))
        return values, len(following)
    if values:
        return values[0], 0
    if param.kind == "switch":
        return True, 0
    if not following or not isinstance(following[0], Positional):
        raise Usage(f"{written(param)} needs a value: {param.help}.", f"Write {written(param)} VALUE.")
    return settle(following[0].value, variables), 1


def _place(cmdlet: Cmdlet, values: Sequence[object], given: dict[str, Any]) -> None:
    free = sorted((p for p in cmdlet.params if p.position is not None and p.name not in given), key=_position)
    for value in values:
        if not free:
            raise Usage(f"'{_shown(value)}' belongs to no parameter of {cmdlet.name}.", shortest_usage(cmdlet))
        given[free.pop(0).name] = value


def _position(param: Param) -> int:
    return param.position or 0


def find_param(cmdlet: Cmdlet, name: str) -> Param:
    """The parameter a name or an unambiguous prefix of it means; dashes and underscores inside do not count."""
    plain = _plain(name)
    for param in cmdlet.params:
        if plain in (_plain(param.name), *(a.lower() for a in param.aliases)):
            return param
    matching = [p for p in cmdlet.params if plain and _plain(p.name).startswith(plain)]
    if len(matching) == 1:
        return matching[0]
    dashes = "--" if any(p.name.startswith("--") for p in cmdlet.params) else "-"
    if matching:
        raise Usage(f"{dashes}{name} may mean {' or '.join(map(written, matching))}.", "Write more letters of it.")
    known = f"Parameters: {', '.join(map(written, cmdlet.params))}."
    near = nearest(name, [p.name.removeprefix("--") for p in cmdlet.params])
    near = near.replace("mean ", f"mean {dashes}").replace(" or ", f" or {dashes}")
    raise Usage(f"{cmdlet.name} has no parameter {dashes}{name}.", near or known)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def shortest_usage(cmdlet: Cmdlet) -> str:
    """`Usage: New-DkvStore -Name <string> -InstancePrefix <string>; dkv help New-DkvStore has the rest.`"""
    required = [text for param, text in _usage(cmdlet) if param.required]
    rest = f"; dkv help {cmdlet.name} has the rest" if len(required) < len(cmdlet.params) else ""
    return f"{' '.join(['Usage:', cmdlet.name, *required])}{rest}."


def usage_words(cmdlet: Cmdlet) -> list[str]:
    """Each parameter as it is written, with the kind of its value; in brackets where it may be left out."""
    return [text if param.required else f"[{text}]" for param, text in _usage(cmdlet)]


def _usage(cmdlet: Cmdlet) -> list[tuple[Param, str]]:
    value = {
        "switch": "",
        "number": " <int>",
        "list": " <string[]>",
        "nodes": " <InstanceDefinition[]>",
        "words": " <string> ...",
        "pairs": " <key> <value> ...",
    }
    return [(param, f"{written(param)}{value.get(param.kind, ' <string>')}") for param in cmdlet.params]


def convert(param: Param, value: object) -> object:
    """The value converted to its parameter's kind. Raises Usage."""
    if isinstance(value, list) and len(value) == 1 and param.kind not in ("list", "nodes", "each", *GREEDY):
        value = value[0]
    if value is None or (isinstance(value, list) and None in value):
        name = written(param)
        raise Usage(f"{name} has the value $null: {param.help}.", f"Leave {name} out, or give it a value.")
    return _CONVERT[param.kind](param, value)


def _switch(param: Param, value: object) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false", "$true", "$false", "1", "0"):
        return value.lower() in ("true", "$true", "1")
    if isinstance(value, bool):
        return value
    raise _bad(param, value, "Write it alone, or with :$true or :$false.")


def _number(param: Param, value: object) -> int:
    text = str(value).strip()
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 12 or not param.low <= int(text) <= param.high:
        raise _bad(param, value, f"It is a whole number from {param.low} to {param.high}.")
    return int(text)


def _text(param: Param, value: object) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise _bad(param, value, "It is one text, not empty and not a list.")


def _any(param: Param, value: object) -> str:
    if isinstance(value, str):
        return value
    raise _bad(param, value, "It is one text.")


def _words(param: Param, value: object) -> list[str]:
    items: list[str] = []
    for part in _flat(value):
        if not isinstance(part, str):
            raise _bad(param, value, "It is texts with blanks or commas between.")
        items += [text for text in part.split(",") if text]
    if not items:
        raise Usage(f"{written(param)} needs a value: {param.help}.", f"Write {written(param)} VALUE VALUE ...")
    return items


def _flat(value: object) -> list[object]:
    """The values of a list, and of lists in it: `s1,s2 s3` is one list to a shell."""
    return [item for part in value for item in _flat(part)] if isinstance(value, list) else [value]


def _pairs(param: Param, value: object) -> dict[str, str]:
    items = value if isinstance(value, list) else [value]
    if len(items) % 2 or not all(isinstance(item, str) for item in items):
        raise _bad(param, value, f"It is pairs: {written(param)} KEY VALUE KEY VALUE ...")
    return dict(zip(items[::2], items[1::2], strict=True))


def _name(param: Param, value: object) -> str:
    return check_name(_text(param, value), re.split("[:;]", param.help)[0])


def check_name(name: str, what: str) -> str:
    """The name, if it keeps the rule; `what` it is the name of is for the message. Raises Usage."""
    if not NAME.fullmatch(name):
        raise Usage(f"'{name}' cannot be {what}.", f"{NAME_RULE}.")
    return name


def _word(param: Param, value: object) -> str:
    if isinstance(value, str) and value.lower() in param.choices:
        return value.lower()
    raise _bad(param, value, f"It is one of {', '.join(param.choices)}.")


def _list(param: Param, value: object) -> list[str]:
    items = value if isinstance(value, list) else [value]
    texts = [part.strip() for item in items if isinstance(item, str) for part in item.split(",")]
    if not texts or not all(texts) or not all(isinstance(item, str) for item in items):
        raise _bad(param, value, "It is a list of texts with commas between, none of them empty.")
    return texts


def _each(param: Param, value: object) -> list[str]:
    return [_text(param, item) for item in (value if isinstance(value, list) else [value])]


NODE_KEYS = {"instancename": "InstanceName", "clustronport": "ClustronPort", "clientport": "ClientPort"}


def _nodes(param: Param, value: object) -> list[Bound]:
    if isinstance(value, str):
        value = settle(parse_value(value), {})
    items = value if isinstance(value, list) else [value]
    if not items:
        raise _bad(param, value, "Write @( @{ InstanceName='orders-3'; ClustronPort=7813; ClientPort=7863 } ).")
    return [_node(param, item) for item in items]


def _node(param: Param, item: object) -> Bound:
    if not isinstance(item, dict):
        raise _bad(param, item, "Each is @{ InstanceName='orders-3'; ClustronPort=7813; ClientPort=7863 }.")
    node: Bound = {}
    for key, value in item.items():
        if key.lower() not in NODE_KEYS:
            raise Usage(f"An instance has no '{key}'.", nearest(key, NODE_KEYS.values(), "It has a name and ports."))
        name = NODE_KEYS[key.lower()]
        kind = Param(name, "name", "a node's name") if name == "InstanceName" else Param(name, "number", "a port")
        node[name] = convert(kind, value)
    for name in NODE_KEYS.values():
        if name not in node:
            hint = "Each needs InstanceName, ClustronPort and ClientPort."
            raise Usage(f"An instance in -{param.name} lacks {name}.", hint)
    return node


def _bad(param: Param, value: object, hint: str) -> Usage:
    return Usage(f"{written(param)} cannot be '{_shown(value)}'.", hint)


def _shown(value: object) -> str:
    return ",".join(_shown(v) for v in value) if isinstance(value, list) else str(value)


_CONVERT: dict[str, Callable[[Param, object], object]] = {
    "switch": _switch,
    "number": _number,
    "text": _text,
    "name": _name,
    "word": _word,
    "list": _list,
    "nodes": _nodes,
    "words": _words,
    "pairs": _pairs,
    "any": _any,
    "each": _each,
    "setting": _text,
}


def from_argv(words: Sequence[str]) -> list[Argument]:
    """Arguments as another shell has already split them. Commas stay inside the words: only a list splits them."""
    arguments: list[Argument] = []
    joined: list[str] = []
    for word in words:
        if joined and (joined[-1].endswith(",") or (word.startswith(",") and not _is_param(joined[-1]))):
            joined[-1] += word
        else:
            joined.append(word)
    for word in joined:
        if _is_param(word):
            name, value = _glued(word.lstrip("-"))
            arguments.append(Parameter(name, value))
        else:
            arguments.append(Positional(word))
    return arguments


def _is_param(word: str) -> bool:
    rest = word.lstrip("-")
    return word.startswith("-") and bool(rest) and (rest[0].isalpha() or rest[0] in "?_")


def _glued(word: str) -> tuple[str, str | None]:
    for i, char in enumerate(word):
        if char in ":=":
            return word[:i], word[i + 1 :]
    return word, None
