"""Users of servers with a history store, beside a model in Python that knows each user's whole history."""

import json
import threading
import urllib.parse


def path_of(user, more=""):
    return "/users/" + urllib.parse.quote(user, safe="") + more


def part(columns, begin, end=None):
    return {name: values[begin:end] for name, values in columns.items()}


def joined(left, right):
    return {name: left.get(name, []) + right[name] for name in right}


def bits(reply):
    assert reply.status == 200, reply
    return reply.json()["results"]


def split(demo, rng, behaviours=12):
    """A request without a word of a history, and a history."""
    body = demo.request(rng, history=0, candidates=7)
    history = {name: rng.sample(demo.known_ids(name), behaviours) for name in body.pop("history")}
    return body, history


class Judge:
    """The right answer: one request with the whole history, asked of a server that keeps nothing. For any thread."""

    def __init__(self, plain, request):
        self.client, self.request = plain.client(), request
        self.known = {}
        self.lock = threading.Lock()

    def bits(self, history):
        """`history` None: a user whom nobody knows."""
        key = json.dumps(history)
        with self.lock:
            if key not in self.known:
                body = self.request if history is None else {**self.request, "history": history}
                self.known[key] = bits(self.client.post(body))
            return self.known[key]


class Users:
    """Random users: each turn asks one of the servers for something, and looks at the answer."""

    ACTS = ("append", "append", "append", "score", "score", "score and append", "again", "whole", "passing", "delete")

    def __init__(self, demo, rng, plain, users=5):
        self.rng = rng
        self.names = [f"user {number}" for number in range(users)]
        self.request, self.history = split(demo, rng)
        self.judge = Judge(plain, self.request)
        self.held = {}  # by user: the whole history
        self.received = {}  # by user: behaviours since the last whole history, and it
        self.sent = {}  # by user: events that were applied, and the count after each
        self.passed = {}  # by user and server: the last history that was for one request, of a user whom the store lacks
        self.number = 0

    def piece(self):
        length = len(next(iter(self.history.values())))
        begin = self.rng.randrange(length - 1)
        return part(self.history, begin, self.rng.randint(begin + 1, length))

    def turn(self, clients):
        """`clients`: of the servers, which share one store."""
        user, act = self.rng.choice(self.names), self.rng.choice(self.ACTS)
        getattr(self, "_" + act.replace(" ", "_"))(user, clients)

    def look(self, user, client):
        """The user's score by id alone."""
        reply = client.post({**self.request, "user_id": user})
        body = reply.json()
        right = self.held.get(user)
        if right is None and body["history"]["origin"] == "state":
            right = self.passed[user, client]  # a state in memory, which the server may have forgotten
        assert bits(reply) == self.judge.bits(right), (user, right, reply)
        assert "stale" not in body, body
        if user in self.held:
            assert (body["history"]["origin"], body["history"]["count"]) == ("store", self.received[user]), body
        elif right is None:
            assert (body["user_state"], body["history"]["origin"]) == ("absent", "none"), body

    def _score(self, user, clients):
        self.look(user, self.rng.choice(clients))

    def _change(self, user, clients, member):
        self.number += 1
        body = {member: self.piece(), "event_id": f"e{self.number}"}
        if member == "history":
            self.held[user], self.received[user] = {}, 0
        self.held[user] = joined(self.held.get(user, {}), body[member])
        self.received[user] = self.received.get(user, 0) + len(next(iter(body[member].values())))
        self.sent.setdefault(user, []).append((body, self.received[user]))
        return body

    def _tell(self, user, clients, body, count):
        for _ in range(self.rng.randint(1, 2)):
            reply = self.rng.choice(clients).post(body, path_of(user, "/history"))
            assert reply.status == 200 and reply.json()["history"]["count"] == count, (user, body, count, reply)

    def _append(self, user, clients):
        self._tell(user, clients, self._change(user, clients, "history_append"), self.received[user])

    def _whole(self, user, clients):
        self._tell(user, clients, self._change(user, clients, "history"), self.received[user])

    def _again(self, user, clients):
        """An event of the past, delivered once more."""
        if self.sent.get(user):
            self._tell(user, clients, *self.rng.choice(self.sent[user]))

    def _score_and_append(self, user, clients):
        body = {**self.request, "user_id": user, **self._change(user, clients, "history_append")}
        for _ in range(self.rng.randint(1, 2)):
            reply = self.rng.choice(clients).post(body)
            assert bits(reply) == self.judge.bits(self.held[user]), (user, reply)

    def _passing(self, user, clients):
        """A whole history in a request for scores is for that request alone."""
        piece, client = self.piece(), self.rng.choice(clients)
        reply = client.post({**self.request, "user_id": user, "history": piece})
        assert bits(reply) == self.judge.bits(piece), (user, reply)
        self.passed[user, client] = piece

    def _delete(self, user, clients):
        """At one server: the states of the others that are of the store are not used any more either."""
        client = self.rng.choice(clients)
        assert client.ask("DELETE", path_of(user)).status == 204
        self.passed.pop((user, client), None)
        for known in (self.held, self.received, self.sent):
            known.pop(user, None)
