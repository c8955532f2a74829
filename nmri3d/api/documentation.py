"""/docs: the API as one plain page, made from the OpenAPI description. No script and nothing from the network, so that
it works offline and under the strict content policy of the server.

Left out: a console to try calls in; the page shows the `curl` line instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from nmri3d.api.html import page


def documentation_page(schema: Mapping[str, Any]) -> str:
    """HTML of an OpenAPI 3.1 description: every path and method, its parameters and its answers."""
    operations = [
        _operation(path, method, operation, schema)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    intro = (
        "<p>Every call carries the token that <code>nmri3d serve</code> printed: "
        "<code>Authorization: Bearer …</code>. Errors are problem details (RFC 9457) whose <code>detail</code> is a "
        'sentence. The same list for programs: <a href="openapi.json">openapi.json</a>.</p>'
    )
    return page(f"{schema['info']['title']} API {schema['info']['version']}", intro + "".join(operations), wide=True)


def _operation(path: str, method: str, operation: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    parts = [f"<h2>{method.upper()} {escape(path)}</h2>"]
    if text := operation.get("description") or operation.get("summary"):
        parts.append(f"<p>{escape(text)}</p>")
    parts.append(f'<pre>curl -H "Authorization: Bearer $TOKEN" -X {method.upper()} $ADDRESS{escape(path)}</pre>')
    if parameters := operation.get("parameters"):
        items = "".join(
            f"<li><code>{escape(item['name'])}</code> ({escape(item['in'])}) {escape(item.get('description', ''))}</li>"
            for item in parameters
        )
        parts.append(f"<p>Parameters</p><ul>{items}</ul>")
    for status, response in operation.get("responses", {}).items():
        fields = "".join(
            f"<li><code>{escape(name)}</code> {escape(_kind(field))}{escape(_described(field))}</li>"
            for name, field in _properties(response, schema).items()
        )
        parts.append(f"<p>{escape(status)} {escape(response['description'])}</p><ul>{fields}</ul>")
    return "".join(parts)


def _properties(response: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    content = response.get("content", {}).get("application/json", {}).get("schema", {})
    reference = content.get("$ref", "").rpartition("/")[2]
    resolved = schema.get("components", {}).get("schemas", {}).get(reference, content)
    return resolved.get("properties", {})


def _kind(field: Mapping[str, Any]) -> str:
    return field.get("type") or field.get("$ref", "").rpartition("/")[2] or "any"


def _described(field: Mapping[str, Any]) -> str:
    return f": {field['description']}" if "description" in field else ""
