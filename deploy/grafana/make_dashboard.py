#!/usr/bin/env python3
"""Writes dashboard.json for Grafana 10 and later from the list of panels below.

    python3 deploy/grafana/make_dashboard.py > deploy/grafana/dashboard.json
"""

from __future__ import annotations

import json
import pathlib
import sys

SERVER = 'job="$job",instance=~"$instance"'
RATE = "[$__rate_interval]"


def rate(metric: str, by: str, labels: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{SERVER}{labels}}}{RATE}))"


def quantile(share: float, metric: str, by: str, labels: str = "") -> str:
    return f"histogram_quantile({share}, {rate(metric + '_bucket', by, labels)})"


# Title, unit of Grafana's, and each query with its legend.
PANELS: list[tuple[str, str, list[tuple[str, str]]]] = [
    ("Requests by outcome", "reqps", [(rate("dien_requests_total", "outcome") + " > 0", "{{outcome}}")]),
    ("Latency", "s", [(quantile(share, "dien_request_duration_seconds", "le", ',phase="total"'), f"p{share * 100:g}")
                      for share in (0.5, 0.9, 0.99)]),
    ("p99 of each phase", "s", [(quantile(0.99, "dien_request_duration_seconds", "le, phase", ',phase!="total"'), "{{phase}}")]),
    ("Expected wait", "s", [(f"dien_queue_seconds{{{SERVER}}}", "{{instance}}")]),
    ("Refusals", "reqps", [(rate("dien_refusals_total", "limit"), "{{limit}}")]),
    ("Busy scoring threads", "percentunit", [(f"dien_threads_busy{{{SERVER}}} / dien_threads{{{SERVER}}}", "{{instance}}")]),
    ("User states", "ops", [(rate("dien_user_states_total", "state"), "{{state}}")]),
    ("Cache in use", "percentunit", [(f"dien_cache_bytes{{{SERVER}}} / dien_cache_capacity_bytes{{{SERVER}}}", "{{instance}}")]),
    ("Evictions", "ops", [(rate("dien_cache_evictions_total", "instance"), "{{instance}}")]),
    ("Unknown ids", "ops", [(rate("dien_unknown_ids_total", "field"), "{{field}}")]),
    ("Candidates and behaviours", "ops", [(rate("dien_candidates_total", "job"), "candidates"),
                                          (rate("dien_behaviours_total", "job"), "behaviours")]),
    ("Servers by model version", "short",
     [(f'count by (name, version) (dien_model_info{{{SERVER},slot="live"}})', "{{name}} {{version}}")]),
    ("History store: calls", "ops", [(rate("dien_histories_calls_total", "call, result"), "{{call}} {{result}}")]),
    ("History store: p99", "s", [(quantile(0.99, "dien_histories_duration_seconds", "le, call"), "{{call}}")]),
    ("Processor time, and time throttled", "percentunit",
     [(rate("process_cpu_seconds_total", "instance"), "{{instance}}"),
      (rate("dien_cpu_throttled_seconds_total", "instance"), "{{instance}} throttled")]),
    ("Resident memory", "bytes", [(f"process_resident_memory_bytes{{{SERVER}}}", "{{instance}}")]),
    ("Connections", "short", [(f"dien_connections{{{SERVER}}}", "{{instance}}")]),
    ("p99 of the event loop's turns", "s", [(quantile(0.99, "dien_loop_turn_seconds", "le, instance"), "{{instance}}")]),
]
COLUMNS, WIDTH, HEIGHT = 3, 8, 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def variable(name: str, query: str) -> dict[str, object]:
    several = name == "instance"
    return {"name": name, "type": "query", "datasource": SOURCE, "query": {"query": query, "refId": name}, "refresh": 2,
            "includeAll": several, "multi": several}


def panel(number: int, title: str, unit: str, queries: list[tuple[str, str]]) -> dict[str, object]:
    place = {"x": WIDTH * (number % COLUMNS), "y": HEIGHT * (number // COLUMNS), "w": WIDTH, "h": HEIGHT}
    targets = [{"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend}
               for index, (query, legend) in enumerate(queries)]
    return {"id": number + 1, "type": "timeseries", "title": title, "datasource": SOURCE, "gridPos": place,
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []}, "targets": targets}


def dashboard() -> dict[str, object]:
    return {
        "title": "DIEN scoring servers", "uid": "dien-server", "schemaVersion": 39, "editable": True, "tags": ["dien"],
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus"},
            variable("job", "label_values(dien_build_info, job)"),
            variable("instance", 'label_values(dien_build_info{job="$job"}, instance)')]},
        "panels": [panel(number, *each) for number, each in enumerate(PANELS)],
    }


def file() -> pathlib.Path:
    return pathlib.Path(__file__).with_name("dashboard.json")


def text() -> str:
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
