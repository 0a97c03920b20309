#!/usr/bin/env python3
"""Sends events to POST /events of a DIEN server, until each is applied, a duplicate, or refused.

    python3 deploy/events/send_events.py --url http://127.0.0.1:8080 --log events.jsonl --position events.position

follows a log file whose lines are events. The position file says how far it came; without it the file is sent from its
beginning, which the event ids make harmless. Refused events go to standard output, each with its reason. Standard
library only; other programs import send().
"""

import argparse
import json
import pathlib
import time
import urllib.error
import urllib.request

LINES_MOST = 500  # of one body; of one user no more than --histories-dedupe
PAUSE_SECONDS = (0.1, 5)  # between attempts, the first and the longest


def post(url, lines, token=None):
    """The outcome of each line."""
    headers = {"Content-Type": "application/x-ndjson"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url + "/events", b"".join(line.strip() + b"\n" for line in lines), headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return [json.loads(line) for line in reply.read().splitlines()]


def send(url, lines, token=None):
    """Returns pairs of a refused line and its outcome. `lines` are bytes, none of them blank."""
    refused, pause = [], PAUSE_SECONDS[0]
    while lines:
        try:
            outcomes = post(url, lines, token)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise  # this body can never be taken, or the token is wrong
        except OSError:
            pass  # the server is away
        else:
            refused += [(line, each) for line, each in zip(lines, outcomes) if each["outcome"] == "refused"]
            lines = [line for line, each in zip(lines, outcomes) if each["outcome"] == "unavailable"]
        if lines:
            time.sleep(pause)
            pause = min(2 * pause, PAUSE_SECONDS[1])
    return refused


def follow(log, position, once=False):
    """Batches of whole lines from where the position file says; it is written when the next batch is asked for."""
    at = int(position.read_text()) if position.exists() else 0
    with open(log, "rb") as file:
        file.seek(at)
        while True:
            lines = []
            while len(lines) < LINES_MOST and (line := file.readline()).endswith(b"\n"):
                at += len(line)
                lines += [line] if line.strip() else []
            file.seek(at)  # the beginning of a line that is not whole yet
            if lines:
                yield lines
                written = position.with_suffix(".new")
                written.write_text(str(at))
                written.replace(position)
            elif once:
                return
            else:
                time.sleep(0.5)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--log", type=pathlib.Path, required=True, help="a file with an event a line")
    parser.add_argument("--position", type=pathlib.Path, required=True, help="a file for how far it came")
    parser.add_argument("--token-file", type=pathlib.Path, help="the token of --user-write-token-file")
    parser.add_argument("--once", action="store_true", help="end at the end of the log")
    given = parser.parse_args()
    token = given.token_file.read_text().strip() if given.token_file else None
    for lines in follow(given.log, given.position, given.once):
        for line, outcome in send(given.url, lines, token):
            print(json.dumps({"event": line.decode(errors="replace").strip(), **outcome}), flush=True)


if __name__ == "__main__":
    main()
