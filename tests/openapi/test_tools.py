"""proto/openapi.json through public tools: Redocly's linter has nothing to say, not of proto/admin.json either, and the
types that openapi-typescript makes of it take the requests that the server takes."""

import json
import os
import re
import subprocess

import pytest

from support import builds

pytestmark = pytest.mark.check_only  # npm's tools

DOCUMENT = builds.TOP / "proto" / "openapi.json"
TOOLS = builds.TOP / "build" / "tools" / "node_modules" / ".bin"
QUIET = {**os.environ, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}

CLIENT = """
import type { components } from "./openapi";
type Request = components["schemas"]["ScoreRequest"];
type History = components["schemas"]["HistoryRequest"];
export const requests: Request[] = [
  { candidates: { item: ["B10", "C5"] } },
  { candidates: [{ item: "B10" }, { item: "C5", price_band: 1 }], explain: true, top_k: 10 },
  { candidates: { item: [29, 30] }, user: { country: 29 }, context: { month: 8 }, user_id: "u", history: [] },
  { candidates: { vector: [[0.5, 1], [1, 2]] }, user_id: "u", history_token: "0".repeat(32), history_append: [] },
];
export const history: History = { history_append: { item: ["B10"] } };
export const best = (reply: components["schemas"]["ScoreReply"]): number | undefined => reply.results[0]?.score;
// @ts-expect-error: nothing to score
export const empty: Request = {};
// @ts-expect-error: a misspelt member
export const misspelt: Request = { candidates: [], histroy: [] };
"""


def readme_request():
    """The JSON body of the README's first request."""
    return re.search(r"-d '(\{.*?\})'\n", (builds.TOP / "README.md").read_text(), re.S)[1]


def lint(document, directory):
    ran = subprocess.run([TOOLS / "redocly", "lint", "--format=json", document], capture_output=True, text=True, check=False,
                         env=QUIET, cwd=directory)
    return [(problem["ruleId"], problem["location"][0]["pointer"]) for problem in json.loads(ran.stdout)["problems"]]


def compile_client(document, directory):
    """The errors of the client above in TypeScript, against types made of the document."""
    (directory / "client.ts").write_text(f"{CLIENT}export const readme: Request = {readme_request()};\n")
    subprocess.run([TOOLS / "openapi-typescript", document, "-o", directory / "openapi.d.ts"], check=True, capture_output=True,
                   env=QUIET)
    ran = subprocess.run([TOOLS / "tsc", "--noEmit", "--strict", "--target", "es2022", directory / "client.ts"],
                         capture_output=True, text=True, check=False)
    return ran.stdout.splitlines()


@pytest.mark.parametrize("name", ["openapi.json", "admin.json"])
def test_the_linter_has_nothing_to_say(tmp_path, name):
    assert lint(DOCUMENT.with_name(name), tmp_path) == []


def test_types_take_what_the_server_takes(tmp_path):
    assert compile_client(DOCUMENT, tmp_path) == []


def test_both_would_complain(tmp_path):
    """The tools on a spoiled copy: a response that nothing uses, and a default that makes a member required."""
    document = json.loads(DOCUMENT.read_text())
    document["components"]["responses"]["Unused"] = {"description": "Nothing."}
    document["components"]["schemas"]["ScoreRequest"]["properties"]["explain"]["default"] = False
    spoiled = tmp_path / "spoiled.json"
    spoiled.write_text(json.dumps(document))
    assert lint(spoiled, tmp_path) == [("no-unused-components", "#/components/responses/Unused")]
    assert any("'explain' is missing" in line for line in compile_client(spoiled, tmp_path))
