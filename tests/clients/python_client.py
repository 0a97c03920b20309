"""python_client.py BASE SCRIPT LIBRARY: requests, aiohttp, httpx or http.client, all requests of the script on one session.

A body is sent whole, or by a generator, which each library sends in chunks.
"""

import asyncio
import base64
import http.client
import sys
import urllib.parse

CHUNK = 1000


def script(path):
    """[(method, path, body or None, whether it is streamed)]."""
    with open(path) as file:
        for line in file:
            method, target, form, name = line.split()
            body = None
            if form != "none":
                with open(name, "rb") as content:
                    body = content.read()
            yield method, target, body, form == "stream"


def pieces(body):
    for i in range(0, len(body), CHUNK):
        yield body[i:i + CHUNK]


async def pieces_later(body):
    for piece in pieces(body):
        await asyncio.sleep(0)
        yield piece


def show(status, body):
    print(status, base64.b64encode(body).decode(), flush=True)


def headers_of(body):
    return {} if body is None else {"Content-Type": "application/json"}


def by_requests(base, steps):
    import requests
    with requests.Session() as session:
        for method, path, body, streamed in steps:
            data = pieces(body) if streamed else body
            reply = session.request(method, base + path, data=data, headers=headers_of(body))
            show(reply.status_code, reply.content)


def by_httpx(base, steps, http2=False):
    import httpx
    with httpx.Client(http1=not http2, http2=http2, timeout=180) as client:
        for method, path, body, streamed in steps:
            reply = client.request(method, base + path, content=pieces(body) if streamed else body, headers=headers_of(body))
            show(reply.status_code, reply.content)


def by_http_client(base, steps):
    url = urllib.parse.urlsplit(base)
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    for method, path, body, streamed in steps:
        connection.request(method, path, body=pieces(body) if streamed else body, headers=headers_of(body),
                           encode_chunked=streamed)
        reply = connection.getresponse()
        show(reply.status, reply.read())


def by_aiohttp(base, steps):
    import aiohttp

    async def work():
        async with aiohttp.ClientSession() as session:
            for method, path, body, streamed in steps:
                data = pieces_later(body) if streamed else body
                async with session.request(method, base + path, data=data, headers=headers_of(body)) as reply:
                    show(reply.status, await reply.read())

    asyncio.run(work())


def by_httpx_2(base, steps):
    by_httpx(base, steps, http2=True)


LIBRARIES: dict = {"requests": by_requests, "httpx": by_httpx, "httpx-http2": by_httpx_2, "http.client": by_http_client,
                   "aiohttp": by_aiohttp}

if __name__ == "__main__":
    LIBRARIES[sys.argv[3]](sys.argv[1], script(sys.argv[2]))
