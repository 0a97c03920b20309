"""`Client` for threads and `AsyncClient` for coroutines: the calls, and httpx's connections that carry them.

Both share arguments, decisions and results; only the way in which they wait differs. A client is one pool of connections:
make one, and share it.
"""
from __future__ import annotations

import contextlib
import dataclasses
import time
import urllib.parse
from typing import Any, Callable, Iterable, Iterator, Mapping, MutableMapping, Optional

import anyio
import httpx

from dien.client import tables
from dien.client.errors import Problem, problem_of
from dien.client.exchange import (Call, Lost, Pause, Policy, Reply, Send, Steps, Tokens, answered, attempts, is_repeatable,
                                  shortened_first)
from dien.client.results import (Description, HeldState, Outcome, Ranking, Update, description_of, held_of, outcomes_of,
                                 ranking_of, update_of)

JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}
IDLE_SECONDS = 60.0  # less than the server's --idle-timeout, so that no request meets a connection that is being closed
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
UNIX = "unix:"


class _Calls:
    """The steps of each call, for either client."""

    def __init__(self, url: str, *, timeout: float = 5.0, retries: int = 2, connections: int = 100, token_users: int = 10_000,
                 headers: Optional[Mapping[str, str]] = None,
                 propagate: Optional[Callable[[MutableMapping[str, str]], None]] = None, verify: Any = True):
        """`url`: http://HOST:PORT, https://... (with `verify`, as httpx has it), or unix:PATH.

        `timeout`: seconds for a call with its retries; the server is told what is left. `retries`: attempts after the
        first. `connections`: at most so many. `token_users`: users whose histories are kept beside their tokens, so that a
        next request sends the news alone; 0: whole histories always. `headers` go with each request. `propagate` writes
        the headers of the current trace, as opentelemetry.propagate.inject does.
        """
        self.policy = Policy(timeout, retries)
        self.tokens = Tokens(token_users)
        self.headers = {**(headers or {})}
        self.propagate = propagate
        uds = url[len(UNIX):] if url.startswith(UNIX) else None
        self._transport_options: dict[str, Any] = {
            "uds": uds, "verify": verify, "trust_env": False,
            "limits": httpx.Limits(max_connections=connections, max_keepalive_connections=connections,
                                   keepalive_expiry=IDLE_SECONDS)}
        self._options: dict[str, Any] = {"base_url": "http://localhost" if uds else url.rstrip("/"), "trust_env": False}

    def _call(self, method: str, path: str, body: Optional[Mapping[str, Any]], user: Optional[str], repeatable: bool,
              event_id: Optional[str] = None, priority: Optional[str] = None, request_id: Optional[str] = None,
              traceparent: Optional[str] = None, tracestate: Optional[str] = None) -> Call:
        headers = {**self.headers, **(JSON if body is not None else {})}
        if self.propagate is not None:
            self.propagate(headers)
        given = {"traceparent": traceparent, "tracestate": tracestate, "X-Request-Id": request_id, "X-Priority": priority,
                 "Idempotency-Key": event_id, "X-User-Id": user}
        headers.update({name: value for name, value in given.items() if value and value.isascii() and value.isprintable()})
        return Call(method, path, headers, body, repeatable)

    def _score(self, members: dict[str, Any], more: dict[str, Any]) -> Steps:
        body = _body(members)
        user = body.get("user_id")
        call = self._call("POST", "/score", body, user, is_repeatable(body), body.get("event_id"), **more)
        history = tables.columns(body["history"]) if user and "history" in body and self.tokens.users else None
        if user is None or history is None:
            reply = yield from answered(call, self.policy)
        else:
            reply = yield from shortened_first(call, user, history, self.tokens, self.policy)
        ranking = ranking_of(reply.content, reply.headers)
        if user is not None:
            self.tokens.put(user, ranking.history.token, ranking.history.origin, history)
        return ranking

    def _update_history(self, user_id: str, members: dict[str, Any], more: dict[str, Any]) -> Steps:
        body = _body(members)
        call = self._call("POST", f"{_user(user_id)}/history", body, user_id, is_repeatable(body), body.get("event_id"), **more)
        reply = yield from answered(call, self.policy)
        update = update_of(reply.content, reply.headers)
        history = tables.columns(body["history"]) if "history" in body else None
        self.tokens.put(user_id, update.history.token, update.history.origin, history)
        return update

    def _append_events(self, events: Iterable[Mapping[str, Any]]) -> Steps:
        lines = [_body(dict(event)) for event in events]
        call = self._call("POST", "/events", None, None, True)
        call = dataclasses.replace(call, headers={**call.headers, **LINES}, lines=lines)
        reply = yield from answered(call, self.policy)
        return outcomes_of(reply.content)

    def _user(self, user_id: str) -> Steps:
        try:
            reply = yield from answered(self._call("GET", _user(user_id), None, user_id, True), self.policy)
        except Problem as problem:
            if problem.slug == "no-user-state":
                return None
            raise
        return held_of(reply.content)

    def _delete_user(self, user_id: str) -> Steps:
        self.tokens.forget(user_id)
        yield from answered(self._call("DELETE", _user(user_id), None, user_id, True), self.policy)

    def _model(self) -> Steps:
        reply = yield from answered(self._call("GET", "/model", None, None, True), self.policy)
        return description_of(reply.content)

    def _ready(self) -> Steps:
        """One attempt: who asks wants to know it of this moment."""
        call = self._call("GET", "/health/ready", None, None, True)
        reply = yield from attempts(call, Policy(self.policy.timeout, 0), time.monotonic() + self.policy.timeout)
        if reply.status not in (200, 503):
            raise problem_of(*reply)
        return reply.status == 200


def _user(user_id: str) -> str:
    return "/users/" + urllib.parse.quote(user_id, safe="")


def _body(members: dict[str, Any]) -> dict[str, Any]:
    """Arguments as members of the request: None and defaults are left out, DataFrames are columns."""
    body = {name: value for name, value in members.items() if value is not None and value is not False}
    return {name: tables.table(value) if name in ("history", "history_append", "candidates") else value
            for name, value in body.items()}


@contextlib.contextmanager
def _losses() -> Iterator[None]:
    """httpx's errors as Lost."""
    try:
        yield
    except NOT_SENT as error:
        raise Lost(str(error) or type(error).__name__, sent=False) from error
    except httpx.TransportError as error:
        raise Lost(str(error) or type(error).__name__, sent=True) from error


def _reply(response: httpx.Response) -> Reply:
    return Reply(response.status_code, {name.lower(): value for name, value in response.headers.items()}, response.content)


class Client(_Calls):
    """Calls that wait. Threads may share a client. `with Client(url) as client:` closes it at the end."""

    def __init__(self, url: str, **options: Any):
        """The options of both clients: timeout, retries, connections, token_users, headers, propagate, verify."""
        super().__init__(url, **options)
        self._http = httpx.Client(transport=httpx.HTTPTransport(**self._transport_options), **self._options)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self, steps: Steps) -> Any:
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = next(steps)
                    continue
                try:
                    reply = self._send(step)
                except Lost as lost:
                    step = steps.throw(lost)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            return end.value

    def _send(self, step: Send) -> Reply:
        with _losses():
            return _reply(self._http.request(step.method, step.path, headers=step.headers, content=step.content,
                                             timeout=step.seconds))

    def score(self, *, candidates: Any, user_id: Optional[str] = None, history: Any = None,
              user: Optional[Mapping[str, Any]] = None, context: Optional[Mapping[str, Any]] = None,
              history_token: Optional[str] = None, history_append: Any = None, event_id: Optional[str] = None,
              top_k: Optional[int] = None, explain: bool = False, partial: bool = False, timeout_ms: Optional[int] = None,
              **more: str) -> Ranking:
        """Rank candidates. `history`, `history_append` and `candidates` are columns, rows or DataFrames.

        `more`: priority ("high", "low"), request_id, traceparent, tracestate.
        """
        members = {"user_id": user_id, "user": user, "context": context, "history": history, "history_token": history_token,
                   "history_append": history_append, "event_id": event_id, "candidates": candidates, "top_k": top_k,
                   "explain": explain, "partial": partial, "timeout_ms": timeout_ms}
        ranking: Ranking = self._run(self._score(members, more))
        return ranking

    def update_history(self, user_id: str, *, history: Any = None, history_append: Any = None,
                       history_token: Optional[str] = None, event_id: Optional[str] = None, **more: str) -> Update:
        """Make a user's state, or append to it, without scoring. An append with neither token nor event id is sent once."""
        members = {"history": history, "history_append": history_append, "history_token": history_token, "event_id": event_id}
        update: Update = self._run(self._update_history(user_id, members, more))
        return update

    def append_events(self, events: Iterable[Mapping[str, Any]]) -> list[Outcome]:
        """Append behaviours of many users to the history store; each event has user_id, event_id and history_append.

        An outcome for each, in their order. Send again those that are `unavailable`, or all of them: it is safe.
        """
        outcomes: list[Outcome] = self._run(self._append_events(events))
        return outcomes

    def user(self, user_id: str) -> Optional[HeldState]:
        """What the server holds of a user. None: nothing."""
        held: Optional[HeldState] = self._run(self._user(user_id))
        return held

    def delete_user(self, user_id: str) -> None:
        """The server forgets the user, and so does this client."""
        self._run(self._delete_user(user_id))

    def model(self) -> Description:
        """The fields that the running model asks for."""
        description: Description = self._run(self._model())
        return description

    def ready(self) -> bool:
        """Is a model served, and the server not about to stop?"""
        ready: bool = self._run(self._ready())
        return ready


class AsyncClient(_Calls):
    """Calls to await, on asyncio or trio. `async with AsyncClient(url) as client:` closes it at the end."""

    def __init__(self, url: str, **options: Any):
        """The options of both clients: timeout, retries, connections, token_users, headers, propagate, verify."""
        super().__init__(url, **options)
        self._http = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(**self._transport_options), **self._options)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def _run(self, steps: Steps) -> Any:
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    await anyio.sleep(step.seconds)
                    step = next(steps)
                    continue
                try:
                    reply = await self._send(step)
                except Lost as lost:
                    step = steps.throw(lost)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            return end.value

    async def _send(self, step: Send) -> Reply:
        with _losses():
            return _reply(await self._http.request(step.method, step.path, headers=step.headers, content=step.content,
                                                   timeout=step.seconds))

    async def score(self, *, candidates: Any, user_id: Optional[str] = None, history: Any = None,
                    user: Optional[Mapping[str, Any]] = None, context: Optional[Mapping[str, Any]] = None,
                    history_token: Optional[str] = None, history_append: Any = None, event_id: Optional[str] = None,
                    top_k: Optional[int] = None, explain: bool = False, partial: bool = False,
                    timeout_ms: Optional[int] = None, **more: str) -> Ranking:
        """As Client.score()."""
        members = {"user_id": user_id, "user": user, "context": context, "history": history, "history_token": history_token,
                   "history_append": history_append, "event_id": event_id, "candidates": candidates, "top_k": top_k,
                   "explain": explain, "partial": partial, "timeout_ms": timeout_ms}
        ranking: Ranking = await self._run(self._score(members, more))
        return ranking

    async def update_history(self, user_id: str, *, history: Any = None, history_append: Any = None,
                             history_token: Optional[str] = None, event_id: Optional[str] = None, **more: str) -> Update:
        """As Client.update_history()."""
        members = {"history": history, "history_append": history_append, "history_token": history_token, "event_id": event_id}
        update: Update = await self._run(self._update_history(user_id, members, more))
        return update

    async def append_events(self, events: Iterable[Mapping[str, Any]]) -> list[Outcome]:
        """As Client.append_events()."""
        outcomes: list[Outcome] = await self._run(self._append_events(events))
        return outcomes

    async def user(self, user_id: str) -> Optional[HeldState]:
        """As Client.user()."""
        held: Optional[HeldState] = await self._run(self._user(user_id))
        return held

    async def delete_user(self, user_id: str) -> None:
        """As Client.delete_user()."""
        await self._run(self._delete_user(user_id))

    async def model(self) -> Description:
        """As Client.model()."""
        description: Description = await self._run(self._model())
        return description

    async def ready(self) -> bool:
        """As Client.ready()."""
        ready: bool = await self._run(self._ready())
        return ready
