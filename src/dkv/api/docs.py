"""API: the page under /docs, made from the OpenAPI document; it needs nothing from any other host."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from dkv.api.description import describe

router = APIRouter(include_in_schema=False)

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin: 2rem 0 0; font: 600 1rem ui-monospace, monospace; }
h2 b { display: inline-block; min-width: 4.5rem; }
td, th { text-align: left; padding: .1rem 1rem .1rem 0; vertical-align: top; }
code { font-family: ui-monospace, monospace; }
p { margin: .3rem 0; white-space: pre-line; }
"""

INTRODUCTION = (
    'What a manager can be asked, made from <a href="/openapi.json">/openapi.json</a>. '
    "Every no is an <code>application/problem+json</code> with <code>code</code>, <code>detail</code> and "
    "<code>hint</code>. Every change honours <code>Idempotency-Key</code>: same request, same answer, at any manager; "
    "another request under the same key is refused. <code>If-Match</code> with the revision of a plan, in quotes, binds a change "
    "to it: refused with 412 if the domain has changed since."
)


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The OpenAPI document, for people."""
    return HTMLResponse(page(describe(request.app.state.api)))


def page(document: Mapping[str, Any]) -> str:
    """The document as one HTML page."""
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    parts = [
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    parts += [_schema(name, schema) for name, schema in document.get("components", {}).get("schemas", {}).items()]
    head = f"<meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
    body = f"<h1>{title}</h1><p>{INTRODUCTION}</p>{''.join(parts)}"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{body}</body></html>"


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    rows = "".join(_parameter(parameter) for parameter in operation.get("parameters", ()))
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    takes = f"<p>Body: {_kind(body)}</p>" if body else ""
    words = escape(operation.get("description") or operation.get("summary", ""))
    return f"<h2><b>{method.upper()}</b> {escape(path)}</h2><p>{words}</p>{takes}<table>{rows}</table>"


def _parameter(parameter: Mapping[str, Any]) -> str:
    schema = parameter.get("schema", {})
    default = f"default {escape(str(schema['default']))}" if schema.get("default") not in (None, "") else ""
    cells = (f"<code>{escape(parameter['name'])}</code>", escape(parameter["in"]), _kind(schema), default)
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code></td><td>{_kind(kind)}</td><td>{'required' if field in required else ''}</td></tr>"
        for field, kind in schema.get("properties", {}).items()
    )
    words = escape(schema.get("description", ""))
    return f'<h2 id="{escape(name)}">{escape(name)}</h2><p>{words}</p><table>{rows}</table>' if rows else ""


def _kind(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#{name}">{name}</a>'
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if "anyOf" in schema:
        return " or ".join(_kind(variant) for variant in schema["anyOf"])
    return escape(str(schema.get("type", "anything")))
