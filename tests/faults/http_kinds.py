"""Kinds of requests as data: (name, bytes, expected). The kinds are those of public parsers' tests; the bytes are our own.

`expected` is a set of statuses for the first answer. REFUSED: any answer of the kinds that a request's form can have,
and
the connection ends behind it, so that nothing within the request is read as another. Bodies are BODY unless said.
"""

BODY = b'{"zzz":0}'  # JSON, but no request: 400 from the scoring thread, so it was read as a body
SCORED = {400}
REFUSED = frozenset({400, 405, 411, 413, 414, 417, 431, 501, 505})
OK, LOST, NOT_ALLOWED = {200}, {404}, {405}


def get(target=b"/health/live", *lines, version=b"HTTP/1.1", method=b"GET", host=b"Host: test\r\n", end=b"\r\n"):
    return method + b" " + target + b" " + version + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + end


def post(*lines, body=BODY, length=True):
    sized = (b"Content-Length: %d" % len(body),) if length else ()
    return get(b"/score", b"Content-Type: application/json", *sized, *lines, method=b"POST") + body


def chunked(coded, *lines):
    return post(b"Transfer-Encoding: chunked", *lines, body=coded, length=False)


CHUNK = b"%x\r\n%s\r\n" % (len(BODY), BODY)

REQUEST_LINES = [
    ("plain", get(), OK),
    ("query", get(b"/health/live?a=b&c"), OK),
    ("empty query", get(b"/health/live?"), OK),
    ("query with a question mark", get(b"/health/live?a?b=/?"), OK),
    ("a fragment", get(b"/health/live#x"), OK | LOST | {400}),
    ("absolute http", get(b"http://test/health/live"), OK),
    ("absolute with a port", get(b"http://test:80/health/live"), OK),
    ("absolute, upper case", get(b"HTTP://TEST/health/live"), OK),
    ("absolute without a path", get(b"http://test"), LOST),
    ("two slashes", get(b"//health/live"), LOST),
    ("dot segments", get(b"/a/../health/live"), LOST),
    ("encoded slash", get(b"/health%2Flive"), LOST | OK),
    ("encoded NUL", get(b"/health/live%00"), LOST | {400}),
    ("broken encoding", get(b"/%zz"), LOST | {400}),
    ("high bytes", get(b"/\xe4\xb8\xad"), LOST | {400}),
    ("no leading slash", get(b"health/live"), LOST | {400}),
    ("asterisk", get(b"*", method=b"OPTIONS"), OK | LOST | NOT_ALLOWED | {400, 204}),
    ("authority form", get(b"test:80", method=b"CONNECT"), REFUSED | LOST),
    ("unknown method", get(method=b"BREW"), NOT_ALLOWED | {501}),
    ("long method", get(method=b"M" * 200), NOT_ALLOWED | {400, 501}),
    ("method of all token characters", get(method=b"!#$%&'*+-.^_`|~0aZ"), NOT_ALLOWED | {400, 501}),
    ("lower-case method", get(method=b"get"), NOT_ALLOWED | {400, 501}),
    ("TRACE", get(method=b"TRACE"), NOT_ALLOWED | {501}),
    ("a blank line before", b"\r\n" + get(), OK),
    ("a bare LF before", b"\n" + get(), OK | {400}),
    ("HTTP/1.0", get(version=b"HTTP/1.0"), OK),
    ("HTTP/1.0 without Host", get(version=b"HTTP/1.0", host=b""), OK),
    ("HTTP/1.1 without Host", get(host=b""), {400}),
    ("HTTP/1.9", get(version=b"HTTP/1.9"), OK | {400, 505}),
    ("HTTP/2.0", get(version=b"HTTP/2.0"), {400, 505}),
    ("HTTP/0.9", get(version=b"HTTP/0.9"), {400, 505}),
    ("lower-case version", get(version=b"http/1.1"), {400, 505}),
    ("another protocol", get(version=b"ICE/1.1"), {400, 505}),
    ("version without a number", get(version=b"HTTP/"), {400, 505}),
    ("version of two digits", get(version=b"HTTP/11.1"), {400, 505}),
    ("version with spaces", get(version=b"HTTP/1. 1"), {400, 505}),
    ("space behind the version", get(version=b"HTTP/1.1 "), {400, 505} | OK),
    ("no version", b"GET /health/live\r\nHost: test\r\n\r\n", {400, 505}),
    ("no target", b"GET HTTP/1.1\r\nHost: test\r\n\r\n", {400, 404, 505}),
    ("method alone", b"GET\r\nHost: test\r\n\r\n", {400}),
    ("two spaces", b"GET  /health/live HTTP/1.1\r\nHost: test\r\n\r\n", {400} | OK | LOST),
    ("tabs", b"GET\t/health/live\tHTTP/1.1\r\nHost: test\r\n\r\n", {400} | OK | NOT_ALLOWED),
    ("a space within the target", get(b"/health /live"), {400}),
    ("a space before the method", b" " + get(), {400}),
    ("a control character in the method", get(method=b"G\x01T"), {400, 405, 501}),
    ("NUL in the method", get(method=b"G\x00T"), {400, 405, 501}),
    ("NUL in the target", get(b"/health\x00/live"), {400}),
    ("a control character in the target", get(b"/health/\x01"), {400, 404}),
    ("DEL in the target", get(b"/health/\x7f"), {400, 404}),
    ("a colon first", get(method=b":GET"), {400, 405, 501}),
    ("preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 405, 505}),
    ("PROXY protocol", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + get(), {400, 405, 505}),
]

HEADERS = [
    ("no space behind the colon", get(b"/health/live", b"X-A:b"), OK),
    ("tabs around", get(b"/health/live", b"X-A:\t b \t"), OK),
    ("empty value", get(b"/health/live", b"X-A:"), OK),
    ("value of spaces", get(b"/health/live", b"X-A:    "), OK),
    ("colons in the value", get(b"/health/live", b"X-A: b:c:d"), OK),
    ("high bytes in the value", get(b"/health/live", b"X-A: \xc3\xa9\xff"), OK),
    ("name of all token characters", get(b"/health/live", b"!#$%&'*+-.^_`|~0aZ: v"), OK),
    ("one name twice", get(b"/health/live", b"X-A: 1", b"X-A: 2"), OK),
    ("names in another case", get(b"/health/live", b"x-a: 1", b"X-A: 2"), OK),
    ("a folded value", get(b"/health/live", b"X-A: 1", b" 2"), OK | {400}),
    ("a fold as the first line", b"GET /health/live HTTP/1.1\r\n X: 1\r\nHost: test\r\n\r\n", {400}),
    ("no colon", get(b"/health/live", b"X-A"), {400}),
    ("empty name", get(b"/health/live", b": v"), {400}),
    ("space before the colon", get(b"/health/live", b"X-A : v"), {400}),
    ("space within the name", get(b"/health/live", b"X A: v"), {400}),
    ("tab within the name", get(b"/health/live", b"X\tA: v"), {400}),
    ("bracket in the name", get(b"/health/live", b"X(A): v"), {400}),
    ("slash in the name", get(b"/health/live", b"/: v"), {400}),
    ("backslash in the name", get(b"/health/live", b"X\\A: v"), {400}),
    ("brace in the name", get(b"/health/live", b"{: v"), {400}),
    ("quote in the name", get(b"/health/live", b'X"A": v'), {400}),
    ("control character in the name", get(b"/health/live", b"X\x01A: v"), {400}),
    ("NUL in the name", get(b"/health/live", b"X\x00A: v"), {400}),
    ("DEL in the name", get(b"/health/live", b"X\x7fA: v"), {400}),
    ("high byte in the name", get(b"/health/live", b"X\xe9: v"), {400}),
    ("NUL in the value", get(b"/health/live", b"X-A: a\x00b"), {400}),
    ("bare CR in the value", get(b"/health/live", b"X-A: a\rb"), {400}),
    ("bare CR, then a header", get(b"/health/live", b"X-A: a\rX-B: b"), {400}),
    ("CR CR LF", get(b"/health/live", b"X-A: a\r"), {400}),
    ("bare LF line ends", b"GET /health/live HTTP/1.1\nHost: test\n\n", OK | {400}),
    ("two hosts", get(b"/health/live", b"Host: other"), {400}),
    ("two equal hosts", get(b"/health/live", b"Host: test"), {400}),
    ("a list of hosts", get(host=b"Host: a, b\r\n"), {400}),
    ("empty host", get(host=b"Host:\r\n"), OK | {400}),
    ("IPv6 host", get(host=b"Host: [::1]:8080\r\n"), OK),
    ("Connection: close", get(b"/health/live", b"Connection: close"), OK),
    ("Connection: keep-alive", get(b"/health/live", b"Connection: keep-alive"), OK),
    ("Connection: a list", get(b"/health/live", b"Connection: x, Close ,y"), OK),
    ("Connection: Upgrade to h2c", get(b"/health/live", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c",
                                       b"HTTP2-Settings: AAMAAABk"), OK),
    ("Connection: Upgrade to websocket", get(b"/health/live", b"Connection: Upgrade", b"Upgrade: websocket",
                                             b"Sec-WebSocket-Key: dGVzdA=="), OK),
    ("Proxy-Connection", get(b"/health/live", b"Proxy-Connection: keep-alive"), OK),
    ("TE: trailers", get(b"/health/live", b"TE: trailers", b"Connection: TE"), OK),
    ("a range", get(b"/health/live", b"Range: bytes=0-1"), OK),
    ("conditions", get(b"/health/live", b'If-None-Match: "a"', b"If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT"),
     OK),
    ("a GET with a length of 0", get(b"/health/live", b"Content-Length: 0"), OK),
    ("a GET with a body", get(b"/health/live", b"Content-Length: 5") + b"abcde", OK),
]

LENGTHS = [
    ("a body", post(), SCORED),
    ("a body behind leading zeros", post(b"Content-Length: 000%d" % len(BODY), length=False), SCORED | REFUSED),
    ("a length of 0", post(body=b""), SCORED),
    ("a length with spaces around", post(b"Content-Length:   %d  " % len(BODY), length=False), SCORED),
    *[(f"length {text!r}", post(b"Content-Length: " + text, length=False), REFUSED)
      for text in (b"+9", b"-9", b"0x9", b"9x", b"9 9", b"9,9", b"9, 9", b"9.0", b"", b"nine", b"9\x0b", b"9;a",
                   b"18446744073709551625",
                   b"99999999999999999999999999", b"1e1", b'"9"', b"\xd9\xa9")],
    ("two lengths", post(b"Content-Length: 10"), REFUSED),
    ("one length twice", post(b"Content-Length: 9"), REFUSED),
    ("no length", post(length=False), REFUSED),
]

CHUNKED = [
    ("one chunk", chunked(CHUNK + b"0\r\n\r\n"), SCORED),
    ("chunks of one byte", chunked(b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"), SCORED),
    ("upper-case name", post(b"TRANSFER-ENCODING: CHUNKED", body=CHUNK + b"0\r\n\r\n", length=False), SCORED),
    ("hexadecimal digits in both cases", chunked(b"0a\r\n %s\r\n0A\r\n          \r\n0\r\n\r\n" % BODY), SCORED),
    ("leading zeros", chunked(b"0000009\r\n%s\r\n000\r\n\r\n" % BODY), SCORED | REFUSED),
    ("an extension", chunked(b"9;a=b\r\n%s\r\n0;c\r\n\r\n" % BODY), SCORED),
    ("a quoted extension", chunked(b'9;a="b c"\r\n%s\r\n0\r\n\r\n' % BODY), SCORED),
    ("a trailer", chunked(CHUNK + b"0\r\nX-Sum: 1\r\n\r\n"), SCORED | REFUSED),
    ("no chunk but the last", chunked(b"0\r\n\r\n"), SCORED),
    *[(f"size {text!r}", chunked(text + b"\r\n" + BODY + b"\r\n0\r\n\r\n"), REFUSED)
      for text in (b"", b"-9", b"+9", b"0x9", b"g", b"9g", b" 9", b"9 9", b"ffffffffffffffff9", b"fffffffffffffffff",
                   b"9\x00", b"\xff")],
    ("data longer than its size", chunked(b"3\r\n%s\r\n0\r\n\r\n" % BODY), REFUSED),
    ("data shorter than its size", chunked(b"a\r\n%s\r\n0\r\n\r\n" % BODY), REFUSED),
    ("no line end behind the data", chunked(b"9\r\n%s0\r\n\r\n" % BODY), REFUSED),
    ("beside a length", chunked(CHUNK + b"0\r\n\r\n", b"Content-Length: 9"), REFUSED),
    ("beside a length, which comes first", post(b"Content-Length: 9", b"Transfer-Encoding: chunked",
                                                body=CHUNK + b"0\r\n\r\n", length=False), REFUSED),
    ("said twice", chunked(CHUNK + b"0\r\n\r\n", b"Transfer-Encoding: chunked"), REFUSED),
    *[(f"coding {text!r}", post(b"Transfer-Encoding: " + text, body=CHUNK + b"0\r\n\r\n", length=False), REFUSED)
      for text in (b"gzip", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"identity", b"xchunked",
                   b"chunkedx", b'"chunked"', b"chunked;a=b", b"chunked, identity", b"",
                   b",", b"\x0bchunked")],
    ("folded", post(b"Transfer-Encoding:", b" chunked", body=CHUNK + b"0\r\n\r\n", length=False), REFUSED),
    ("in HTTP/1.0", chunked(CHUNK + b"0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"), REFUSED | SCORED),
    ("on a GET", get(b"/health/live", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", OK | REFUSED),
]

KINDS = {"request line": REQUEST_LINES, "header": HEADERS, "length": LENGTHS, "chunked": CHUNKED}
