"""The server's request log (server/REQUEST_LOG.md): `for record in read(directory):`, Parquet, and a join with clicks.

It needs python3-zstandard, and for Parquet pyarrow.
"""

from dien.request_log.labels import Counts, join
from dien.request_log.parquet import write_parquet
from dien.request_log.reading import Reader, files_of, read
from dien.request_log.records import NotReplayable, Record

__all__ = ["Counts", "NotReplayable", "Reader", "Record", "files_of", "join", "read", "write_parquet"]
