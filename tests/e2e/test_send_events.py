"""deploy/events/send_events.py: a log file's events are in the store once each, wherever it was stopped."""

import json
import subprocess
import sys

from support import builds
from support.histories import part, path_of, split
from support.service import Service

PROGRAM = builds.TOP / "deploy" / "events" / "send_events.py"


def run(server, log, position, *more):
    host, port = server.address
    ran = subprocess.run([sys.executable, PROGRAM, "--url", f"http://{host}:{port}", "--log", log, "--position", position,
                          "--once", *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, timeout=180)
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_a_log_file(build, demo, rng, tmp_path):
    _, history = split(demo, rng)
    log, position, token = tmp_path / "events.jsonl", tmp_path / "position", tmp_path / "token"
    token.write_text("s3cret\n")
    lines = [json.dumps({"user_id": f"u{number % 3}", "event_id": f"e{number}",
                         "history_append": part(history, number % 12, number % 12 + 1)}) for number in range(1200)]
    lines[700] = '{"user_id": "u0"}'
    log.write_text("\n".join(lines[:900]) + "\n" + lines[900][:20])  # the last line is not whole yet
    with Service(build, demo.path, "--histories", f"lmdb:{tmp_path}/h", "--user-write-token-file", str(token)) as server, \
            server.client() as client:
        refused = run(server, log, position, "--token-file", str(token))
        assert [(each["event"], each["outcome"], each["pointer"]) for each in refused] == [(lines[700], "refused", "/event_id")]
        assert int(position.read_text()) == len("\n".join(lines[:900])) + 1
        with open(log, "a", encoding="utf-8") as file:
            file.write(lines[900][20:] + "\n" + "\n".join(lines[901:]) + "\n")
        assert run(server, log, position, "--token-file", str(token)) == []
        position.unlink()  # all of it once more
        assert len(run(server, log, position, "--token-file", str(token))) == 1
        counts = [client.get(path_of(f"u{number}")).json()["stored"]["count"] for number in range(3)]
        assert sorted(counts) == [399, 400, 400]
