"""A client of the scoring server, on httpx: `Client(url).score(user_id=..., candidates=...)`, and `AsyncClient`.

It needs neither PyTorch nor numpy. CLIENT.md beside the package's README has worked examples.
"""

from dien.client.client import AsyncClient, Client
from dien.client.errors import DeadlinePassed, DienError, Problem, RequestRefused, Unavailable, UnknownToken, Unreachable
from dien.client.results import Description, Field, HeldState, History, Outcome, Ranking, Result, Update

__all__ = ["AsyncClient", "Client", "DeadlinePassed", "Description", "DienError", "Field", "HeldState", "History", "Outcome",
           "Problem", "Ranking", "RequestRefused", "Result", "Unavailable", "UnknownToken", "Unreachable", "Update"]
