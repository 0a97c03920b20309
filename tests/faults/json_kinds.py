"""Kinds of JSON text as data: (name, text, kind). The kinds are those of public collections of tests; the texts are our own.

VALID: RFC 8259 says that it is a JSON text,
and the server's decoder takes it. BROKEN: it is not. FREE: the RFC leaves it
to the reader, or a limit of this server's own refuses it; any answer is right that is one of the two.
"""

VALID, BROKEN, FREE = "valid", "broken", "free"


def _named(kind, prefix, texts):
    return [(f"{prefix}: {text[:40]!r}", text, kind) for text in texts]


NUMBERS = [
    *_named(VALID, "number", [
        b"0", b"-0", b"7", b"-7", b"1234567890", b"0.5", b"-0.5", b"12.25", b"1e3", b"1E3", b"1e+3", b"1E-3", b"0e0",
        b"0E+9", b"-0.0", b"2.50e-2", b"9007199254740993", b"-9223372036854775808", b"9223372036854775807",
        b"0.1000000000000000055511151231257827", b"3.0000000000000000000000001", b"1.7976931348623157e308", b"5e-324",
        b"0." + b"0" * 60 + b"1"]),
    *_named(FREE, "number", [
        b"9223372036854775808", b"18446744073709551615", b"18446744073709551616", b"-9223372036854775809", b"1e400",
        b"-1e400", b"1e-400", b"4" * 100, b"0.4e006699999999999999999", b"123123e100000", b"1" + b"0" * 400 + b".0"]),
    *_named(BROKEN, "number", [
        b"+1", b"++1", b"--1", b"-", b"-a", b"- 1", b"01", b"-01", b"00", b"1.", b"-1.", b".5", b"-.5", b"1.e1", b"1e",
        b"1e+", b"1E-", b"1ee2", b"1e2e3", b"1.5.5", b"0x10", b"0x", b"0b1", b"0o7", b"1_000", b"1,000.", b"1 000.0",
        b"1a", b"1\x00", b"0\x00", b"-1\x00", b"1.5\x00", b"1e5\x00", b"Inf", b"-Infinity", b"Infinity", b"NaN",
        b"-NaN", b"nan", b"1/2", b"1+2", b"1-2", b"\xef\xbc\x91", b"1\xe5", b"1e1\xe5", b"0.1.", b"2.e+3", b"2.e-3",
        b"0e", b"0e+", b"0.3e", b"1f", b"1.0f", b"1L", b"-0x1"]),
]

STRINGS = [
    *_named(VALID, "string", [
        b'""', b'" "', b'"a"', b'"\\""', b'"\\\\"', b'"\\/"', b'"\\b\\f\\n\\r\\t"', b'"\\u0041"', b'"\\u00e9\\u00E9"',
        b'"\\uD83D\\uDE00"', b'"\\ud801\\udc37"', b'"\\uDBFF\\uDFFF"', b'"\\uFFFF"', b'"\\uFDD0"', b'"\\u2028\\u2029"',
        b'"\x7f"', b'"\\u007F"', "\"\u00e9\"".encode(), "\"\u4e2d\u6587\"".encode(), "\"\U0001f600\"".encode(),
        "\"\u2028\u2029\"".encode(), "\"\ufffe\"".encode(), "\"\U0010ffff\"".encode(), "\"\u2060\"".encode(),
        b'"// no comment"', b'"\\\\u0000"', b'"null"', b'"' + b"a" * 300 + b'"']),
    *_named(BROKEN, "string", [
        b'"', b'"a', b'a"', b"'a'", b'"\\"', b'"\\a"', b'"\\x41"', b'"\\U0041"', b'"\\u"', b'"\\u00"', b'"\\u004"',
        b'"\\u00g1"', b'"\\u-041"', b'"\\u 041"', b'"\\uD83D"', b'"\\uDE00"', b'"\\uD83D\\u0041"', b'"\\uD83Dx"',
        b'"\\uDE00\\uD83D"', b'"\\uD83D\\uD83D"', b'"\\uD800\\"', b'"\\uD800\\u"', b'"\\uD800\\u1"', b'"\n"', b'"\t"',
        b'"\x00"', b'"\x1f"', b'"\r"', b'"\x80"', b'"\xff"', b'"\xc3"', b'"\xc3("', b'"\xc0\x80"', b'"\xc0\xaf"',
        b'"\xe0\x80\xaf"', b'"\xf0\x80\x80\xaf"', b'"\xed\xa0\x80"', b'"\xed\xa0\xbd\xed\xb8\x80"',
        b'"\xf4\x90\x80\x80"', b'"\xf8\x88\x80\x80\x80"', b'"\xe2\x82"', b'"\xf0\x9f\x98"', b"abc", b"\\u0041",
        b'"a" "b"', b'"a"b', b'"\\ "', b'"\\\n"', b'\\"a"', b'"\\\xc3\xa9"', b'"\\\x00"', b"\xe2\x80\x9ca\xe2\x80\x9d",
        b"`a`", b'"a\\']),
    *_named(FREE, "string", [
        b'"\\u0000"', b'"a\\u0000b"']),
]

LITERALS = [
    *_named(VALID, "literal", [
        b"true", b"false", b"null"]),
    *_named(BROKEN, "literal", [
        b"True", b"TRUE", b"tru", b"truee", b"nul", b"nulll", b"Null", b"NULL", b"fals", b"falsy", b"undefined",
        b"None", b"nil", b"yes", b"on", b"true false", b"truefalse", b"tru\x00", b"null\x00", b"\x00", b"\xff", b"*",
        b"$", b"@", b"#", b"?", b"&", b"<!-->"]),
]

ARRAYS = [
    *_named(VALID, "array", [
        b"[]", b"[ ]", b"[\n\t\r ]", b"[1]", b"[1,2]", b"[ 1 , 2 ]", b"[[],[[]]]", b"[null,1,\"a\",{}]", b"[1\n,2]",
        b"[true]", b"[[[[[[]]]]]]"]),
    *_named(BROKEN, "array", [
        b"[", b"]", b"[1", b"1]", b"[,", b"[,]", b"[,1]", b"[1,]", b"[1,,2]", b"[1,,]", b"[1 2]", b"[1;2]", b"[1:2]",
        b"[1}", b"{1]", b"[[1]", b"[1]]", b"[\"a\"", b"[\"a\",", b"[\"a]", b"[a]", b"['a']", b"[\x0c]", b"[\x0b]",
        b"[\xc2\xa0]", b"[\xe2\x81\xa0]", b"[\xef\xbb\xbf]", b"[1,\n", b"[*]", b"[\"\":1]", b"[\x00]", b"[\xff]",
        b"[-]", b"[][]", b"[1]x", b"[1] // end", b"[/**/]", b"[1, /* two */ 2]", b"[1,#]", b"(1)", b"<[]>", b"[<null>]",
        b"[...]", b"[\\n]", b"[\"x\"]]", b"[\"\x00a\"]"]),
]

OBJECTS = [
    *_named(VALID, "object", [
        b"{}", b"{ }", b"{\n}", b'{"":0}', b'{"a":1}', b'{ "a" : 1 }', b'{"a":1,"b":2}', b'{"a":{"b":{}}}',
        b'{"\\u0061\\n":1}', b'{"a":[]}', b'{"a":\n1}', b'{"' + b"k" * 300 + b'":1}',
        '{"\u043f\u043e\u043b\u0435":1}'.encode()]),
    *_named(BROKEN, "object", [
        b"{", b"}", b"{]", b"[}", b"{1}", b"{1:1}", b"{a:1}", b"{'a':1}", b'{"a"}', b'{"a":}', b'{"a":1', b'{"a":1,}',
        b'{"a":1,,}', b'{"a":1,,"b":2}', b'{,"a":1}', b'{"a" 1}', b'{"a"::1}', b'{"a":1 "b":2}', b'{"a":1;"b":2}',
        b'{"a"=1}', b'{"a":"b"', b'{"a":"b', b'{"a', b'{"a":1}}', b'{"a":1}#', b'{"a":1}//', b'{"a":1}/**/',
        b'{"a":1/**/}', b'{/**/"a":1}', b'{null:null}', b'{true:1}', b'{[]:1}', b'{{}:1}', b'{"a":1 1}', b'{"a":a}',
        b'{"a","b"}', b'{"a":1,"b"}', b'{"\xff":1}', b'{"\x00":1}', b'{"a":\x00}', b'{"a"\x00:1}', b'{"\n":1}',
        b'{"\\ud800":1}', b'{\xf0\x9f\x87\xa8:1}', b'{"a":"b"}x', b'{"a":..}']),
    *_named(FREE, "object", [
        b'{"a":1,"a":1}', b'{"a":1,"\\u0061":2}', b'{"\\u0000":1}']),
]

VALUES = [*NUMBERS, *STRINGS, *LITERALS, *ARRAYS, *OBJECTS]

# Whole documents that have no sense as a value within another.
DOCUMENTS = [
    *_named(BROKEN, "document", [
        b"", b" ", b"\n\n", b"\x00", b"{}\x00", b"{}{}", b"{} {}", b"{},", b"{};", b"\xef\xbb", b"\xef\xbb\xbf",
        b"{}\xef\xbb\xbf", b"\xfe\xff\x00{\x00}", b"\xff\xfe{\x00}\x00", b"{\x00}\x00", b"\x00{\x00}", b"\x1f\x8b{}",
        b"{}\x1a", b"{}\x0c", b"\xc2\xa0{}", b"<json/>", b"%7B%7D", b"a={}", b")]}',\n{}", b"/**/{}", b"// \n{}",
        b"#!\n{}"]),
    *_named(VALID, "document", [
        b" {}", b"{} ", b"\r\n{}\r\n", b"\t{}\t", b" " * 5000 + b"{}" + b"\n" * 5000]),
    *_named(FREE, "document", [
        b"\xef\xbb\xbf{}", b"[" * 15 + b"]" * 15, b"[" * 100_000, b"[" * 5_000 + b"]" * 5_000, b'{"a":' * 20_000,
        b'[{"a":' * 20_000]),
]

# Places for a value within a request: the text before and behind it.
PLACES = {
    "a candidate": (b'{"candidates": {"item": [', b"]}}"),
    "a member": (b'{"user_id": ', b', "candidates": {"item": ["B1"]}}'),
    "behind the known": (b'{"candidates": {"item": ["B1"]}, "top_k": 1, "other": ', b"}"),
    "in a row": (b'{"candidates": [{"item": ', b"}]}"),
    "in a history": (b'{"history": {"item": ["B1", ', b', "B2"]}, "candidates": {"item": ["B1"]}}'),
}
