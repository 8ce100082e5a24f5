"""How a record is written: each format is a function from a record to one line, without its line break.

`functools.partial` gives a format its options. A format of your own may change the record and call one of
these.
"""

from __future__ import annotations

from typing import Any

from .encoding import json_line, plain
from .record import Record

__all__ = ["console", "datadog", "ecs", "gcp", "logfmt", "otel"]

_ECS = {
    "timestamp": "@timestamp",
    "level": "log.level",
    "logger": "log.logger",
    "request_id": "http.request.id",
    "trace_id": "trace.id",
    "span_id": "span.id",
    "parent_span_id": "parent.id",
    "http.response.status_code": "http.response.status_code",
    "http.request.body.size": "http.request.body.bytes",
    "http.response.body.size": "http.response.body.bytes",
    "network.protocol.version": "http.version",
    "exception.type": "error.type",
    "exception.message": "error.message",
    "exception.stacktrace": "error.stack_trace",
    "event.name": "event.action",
    "http.request.header.user-agent": "user_agent.original",
}
_DATADOG = {
    "timestamp": "date",
    "level": "status",
    "logger": "logger.name",
    "trace_id": "dd.trace_id",
    "span_id": "dd.span_id",
    "request_id": "http.request_id",
    "http.request.method": "http.method",
    "http.response.status_code": "http.status_code",
    "http.request.body.size": "network.bytes_read",
    "http.response.body.size": "network.bytes_written",
    "client.address": "network.client.ip",
    "user.id": "usr.id",
    "url.path": "http.url_details.path",
    "http.request.header.user-agent": "http.useragent",
    "http.request.header.referer": "http.referer",
    "exception.type": "error.kind",
    "exception.message": "error.message",
    "exception.stacktrace": "error.stack",
}
_GCP_HTTP = {
    "http.request.method": "requestMethod",
    "http.response.status_code": "status",
    "client.address": "remoteIp",
    "http.request.header.user-agent": "userAgent",
    "http.request.header.referer": "referer",
    "url.path": "requestUrl",
}
_COLOURS = {"DEBUG": "\x1b[2m", "INFO": "\x1b[32m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m"}
_SHOWN = ("timestamp", "level", "message", "request_id", "outcome", "http.server.request.duration")
_HIDDEN = {
    "event.name",
    "http.request.method",
    "http.route",
    "http.response.status_code",
    "http.server.request.time_to_first_byte",
    "logger",
    "network.protocol.version",
    "span_id",
    "trace_id",
    "url.scheme",
}


def otel(record: Record) -> bytes:
    """JSON, flat, by the names of OpenTelemetry's semantic conventions. The default."""
    return json_line(record)


def ecs(record: Record) -> bytes:
    """JSON by the Elastic Common Schema 8, its names dotted, durations in nanoseconds."""
    entry = {_ECS.get(name, name): value for name, value in record.items() if value is not None}
    entry["log.level"] = record["level"].lower()
    entry["ecs.version"] = "8.17.0"
    if "outcome" in record:
        entry["event.outcome"] = "failure" if record["level"] == "ERROR" else "success"
        entry["event.duration"] = round(record["http.server.request.duration"] * 1e9)
    return json_line(entry)


def gcp(record: Record, *, project: str | None = None) -> bytes:
    """JSON as Google Cloud Logging reads it from standard output.

    :param project: the project's id, which turns trace ids into links: `partial(gcp, project="my-shop")`.
    """
    entry: dict[str, Any] = {"time": record["timestamp"], "severity": record["level"]}
    http: dict[str, Any] = {}
    for name, value in record.items():
        if value is None or name in ("timestamp", "level"):
            continue
        if name in _GCP_HTTP:
            http[_GCP_HTTP[name]] = value
        else:
            entry[name] = value
    if "http.server.request.duration" in record:
        http["latency"] = f"{record['http.server.request.duration']:.6f}s"
        http["requestSize"] = str(entry.pop("http.request.body.size", 0))
        http["responseSize"] = str(entry.pop("http.response.body.size", 0))
        http["protocol"] = f"HTTP/{entry.pop('network.protocol.version', '1.1')}"
        entry["httpRequest"] = http
    trace = entry.pop("trace_id", None)
    if trace is not None:
        entry["logging.googleapis.com/trace"] = f"projects/{project}/traces/{trace}" if project else trace
        entry["logging.googleapis.com/spanId"] = entry.pop("span_id", None)
    return json_line(entry)


def datadog(record: Record) -> bytes:
    """JSON by Datadog's standard attributes, durations in nanoseconds."""
    entry = {_DATADOG.get(name, name): value for name, value in record.items() if value is not None}
    entry["status"] = record["level"].lower()
    if "http.server.request.duration" in record:
        entry["duration"] = round(record["http.server.request.duration"] * 1e9)
    return json_line(entry)


def logfmt(record: Record) -> bytes:
    """`name=value` pairs, a value in quotes where it needs them."""
    pairs = [f"{_bare(name)}={_quoted(value)}" for name, value in record.items() if value is not None]
    return " ".join(pairs).encode("ascii")


def console(record: Record, *, colour: bool = False) -> bytes:
    """One short line for a person: time, level, what, how long, the id, and what was bound.

    :param colour: colour the level by an ANSI code: `partial(console, colour=True)`.
    """
    level = f"{record['level']:<8}"
    if colour:
        level = f"{_COLOURS.get(record['level'], '')}{level}\x1b[0m"
    parts = [str(record["timestamp"])[11:23], level, _visible(record["message"])]
    duration = record.get("http.server.request.duration")
    if duration is not None:
        parts.append(f"{duration * 1000:.1f}ms")
    if record.get("outcome", "ok") not in ("ok", "client_error", "server_error"):
        parts.append(record["outcome"])
    parts.append(f"id={_visible(record.get('request_id', '-'))}")
    for name, value in record.items():
        if value is not None and name not in _SHOWN and name not in _HIDDEN:
            parts.append(f"{_bare(name)}={_quoted(value)}")
    return " ".join(parts).encode("ascii")


def _visible(value: object) -> str:
    """Without a control character, a line break or anything beyond ASCII, and without quotes around it."""
    return json_line({"": plain(value, text=True)})[5:-2].decode("ascii")


def _quoted(value: object) -> str:
    if isinstance(value, str):
        return value if value and value.isascii() and _is_bare(value) else f'"{_visible(value)}"'
    if isinstance(value, dict | list | tuple):
        return f'"{_visible(json_line({"": value})[4:-1].decode("ascii"))}"'
    return _visible(value)


def _bare(name: str) -> str:
    if name.isascii() and _is_bare(name):
        return name
    return "".join(each if each.isascii() and each.isalnum() else "_" for each in name)


def _is_bare(text: str) -> bool:
    return all("!" <= character <= "~" and character not in '="\\' for character in text)
