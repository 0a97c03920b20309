"""An engine in a process of its own, as library.c and peer_onnx.mjs are, and the request that it is given."""

import json
import subprocess

from support import builds


class Worker:
    """It answers lines with JSON; its first line says what it is."""

    def __init__(self, *command, **variables):
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=builds.environment(**variables))
        self.hello = self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        assert line, f"{self.process.args[:2]} ended with {self.process.wait()}"
        return json.loads(line)

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)


def write_request(columns, path):
    """Rows of the user's fields, the behaviour's and the candidate's, in the order of the model's fields."""
    path.write_text("".join(f"{len(rows)} {' '.join(map(str, rows))}\n" for rows in columns))
