"""Callers in threads: what keeps a server busy while a test does something to it."""

import http.client
import threading

PAUSE_SECONDS = 0.05  # after a fault, so that a server that is gone is not asked without end


class Callers:
    """Threads with a connection each, which call one function each, again and again, until the block ends.

    `where.client()` makes a connection. A call that raises is a fault: it is kept, and the thread goes on with a new
    connection. The end of the block reports faults.
    """

    def __init__(self, where, *calls):
        self.where = where
        self.faults = []
        self.counts = [0] * len(calls)
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(number, call)) for number, call in enumerate(calls)]

    def _run(self, number, call):
        while not self.ending.is_set():
            try:
                with self.where.client() as client:
                    while not self.ending.is_set():
                        call(client)
                        self.counts[number] += 1
            except (AssertionError, LookupError, ValueError, OSError, http.client.HTTPException) as error:
                self.faults.append(error)
                self.ending.wait(PAUSE_SECONDS)

    @property
    def answered(self):
        """Calls that came to their end."""
        return sum(self.counts)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind, *exception):
        self.ending.set()
        for thread in self.threads:
            thread.join()
        if kind is None:
            self.check()

    def check(self):
        assert not self.faults, (len(self.faults), [repr(fault) for fault in self.faults[:3]])
