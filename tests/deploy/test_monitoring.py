"""deploy/prometheus and deploy/grafana: valid, and each query is answered from a live server's series."""

import json
import re
import subprocess
import sys
import time

import pytest

from support import builds, service
from support.fleet import Load
from support.prometheus import Prometheus, promtool

pytestmark = [pytest.mark.check_only, pytest.mark.only_on("release"), pytest.mark.xdist_group("monitoring")]
DEPLOY = builds.TOP / "deploy"
RULES = (DEPLOY / "prometheus" / "dien.rules.yml").read_text()


def dashboard():
    return json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())


def test_the_dashboard_is_the_script_s():
    ran = subprocess.run([sys.executable, DEPLOY / "grafana" / "make_dashboard.py"], capture_output=True, text=True, check=True)
    assert ran.stdout == (DEPLOY / "grafana" / "dashboard.json").read_text()
    assert len(dashboard()["panels"]) >= 12


@pytest.mark.parametrize("arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "dien.rules.test.yml")], ids=str)
def test_promtool(arguments):
    status, output = promtool(*arguments, cwd=DEPLOY / "prometheus")
    assert status == 0, output


def alerts():
    return re.findall(r"- alert: (\w+)", RULES)


def test_each_alert_has_a_test_and_a_part_of_the_runbook():
    tests = (DEPLOY / "prometheus" / "dien.rules.test.yml").read_text()
    runbook = (DEPLOY / "RUNBOOK.md").read_text()
    parts = set(re.findall(r'<a id="([\w-]+)">', runbook))
    named = re.findall(r'runbook: "RUNBOOK.md#([\w-]+)"', RULES)
    assert len(named) == len(alerts()) >= 10
    assert set(named) <= parts
    assert not [alert for alert in alerts() if f"alertname: {alert}" not in tests]


def test_series_that_the_runbook_names(server):
    page = server.client().get("/metrics").body.decode()
    names = set(re.findall(r"^# TYPE (\w+)", page, re.M))
    found = set(re.findall(r"`((?:dien|process)_\w+)", (DEPLOY / "RUNBOOK.md").read_text()))
    assert len(found) > 10
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in found} <= names


@pytest.fixture(scope="module")
def watched(build, demo):
    """A Prometheus that has seen a server under load for some scrapes."""
    with service.Service(build, demo.path) as server:
        files = {"dien.rules.yml": RULES,
                 "prometheus.yml": re.sub(r"1?5s\b|15s", "1s", (DEPLOY / "prometheus" / "prometheus.yml").read_text())
                 .replace('"dien-1:8080", "dien-2:8080", "dien-3:8080"', '"%s:%d"' % server.address)}
        with Prometheus(files) as prometheus, Load(server, demo, callers=2):
            limit = time.monotonic() + 60
            while not prometheus.query("job:dien_requests:rate1m > 0") or \
                    not prometheus.query("job:dien_user_state_hit:ratio_rate5m >= 0"):
                assert time.monotonic() < limit
                time.sleep(0.2)
            yield prometheus


def plain(query):
    return query.replace("$__rate_interval", "1m").replace("$job", "dien").replace("$instance", ".*")


@pytest.mark.parametrize("title, query", [(panel["title"], target["expr"]) for panel in dashboard()["panels"]
                                          for target in panel["targets"]])
def test_each_panel_shows_something(watched, title, query):
    """Of a live server: a metric or a label that does not exist would leave the panel empty."""
    assert watched.query(plain(query)), title


@pytest.mark.parametrize("group", [0, 1])
def test_rules_are_evaluated(watched, group):
    rules = watched.get("/api/v1/rules")["groups"][group]["rules"]
    assert rules and not [rule["name"] for rule in rules if rule["health"] == "err"]


def test_series_that_rules_name(server):
    """An alert on a series that does not exist would never fire."""
    page = server.client().get("/metrics").body.decode()
    names = set(re.findall(r"^# TYPE (\w+)", page, re.M))
    expressions = "\n".join(re.findall(r"expr: (\|\n(?: {10,}.*\n)+|.*)", RULES))
    found = set(re.findall(r"\b((?:dien|process)_\w+)", re.sub(r"job:\w+:\w+", "", expressions)))
    assert len(found) > 12
    assert {re.sub(r"_bucket$", "", name) for name in found} <= names
    labels = set(re.findall(r'outcome="([\w-]+)"', page))
    used = re.search(r'outcome=~"([^"]*)"', RULES)[1].split("|")
    assert set(used) <= labels
