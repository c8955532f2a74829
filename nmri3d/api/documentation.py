"""/docs: the API as one plain page, made from the OpenAPI description. No script and nothing from the network, so that
it works offline and under the strict content policy of the server.

Left out: a console to try calls in; the page shows the `curl` line instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from nmri3d.api.html import page

_STREAM = (
    "<h2>WebSocket /ws/stream</h2><p>Send <code>{&quot;type&quot;: &quot;scan_stream&quot;, &quot;mode&quot;: "
    "&quot;fMRI&quot;, &quot;prompt&quot;: &quot;…&quot;, &quot;token_step&quot;: true}</code> or <code>{&quot;type&quot;: "
    "&quot;generate_stream&quot;, &quot;prompt&quot;: &quot;…&quot;, &quot;n_tokens&quot;: 20}</code>; frames come one token "
    "at a time. <code>cancel</code>, <code>ack</code> and <code>resume</code> take a <code>stream_id</code>. After a broken "
    "connection open another within 60 seconds and send <code>{&quot;type&quot;: &quot;resume&quot;, &quot;stream_id&quot;: "
    "&quot;…&quot;, &quot;after&quot;: last seq}</code>: what followed comes again, nothing twice. A client that acknowledges "
    "loses nothing; one that never does can resume within the last 4 MiB. All messages and limits: "
    "<code>GET /api/stream/schema</code>.</p>"
)


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
    title = f"{schema['info']['title']} API {schema['info']['version']}"
    return page(title, intro + _STREAM + "".join(operations), wide=True)


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
