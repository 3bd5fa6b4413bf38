"""What takes parsers longest, at the limit of its size."""

from serving.settings import Settings

BYTES = Settings(model=("unused",)).max_upload_bytes


def filled(beginning: bytes, part: bytes, end: bytes = b"") -> bytes:
    return beginning + part * ((BYTES - len(beginning) - len(end)) // len(part)) + end


INPUTS = b'{"inputs":"'
OPTIONS = b'{"inputs":"","options":'
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="'
JSON = {
    "keys": filled(b"{", b'"a":1,', b'"b":1}'),
    "keys that differ": b"{%s}" % b",".join(b'"%d":1' % number for number in range(1_700_000)),
    "keys of options": filled(OPTIONS + b"{", b'"a":1,', b'"b":1}}'),
    "a long key": filled(b'{"', b"a", b'":1}'),
    "the same field": filled(b"{", b'"inputs":"",', b'"inputs":""}'),
    "depth": filled(OPTIONS, b"["),
    "depth of objects": filled(b"", b'{"a":'),
    "numbers": filled(OPTIONS + b"[", b"1,", b"1]}"),
    "digits": filled(OPTIONS, b"1", b"}"),
    "digits of a field": filled(b'{"inputs":"","parameters":{"top_k":', b"1", b"}}"),
    "an exponent": filled(OPTIONS + b"1e", b"9", b"}"),
    "a fraction": filled(OPTIONS + b"0.", b"1", b"}"),
    "spaces": filled(b"{", b" ", b"}"),
    "base64": filled(INPUTS, b"QUFB", b'"}'),
    "base64 by characters": filled(INPUTS, b"A\\n", b'"}'),
    "base64 between spaces": filled(INPUTS, b"A ", b'"}'),
    "spaces before base64": filled(INPUTS, b" ", b'QUFB"}'),
    "escapes": filled(INPUTS, rb"\u0041", b'"}'),
    "surrogates": filled(INPUTS, rb"\ud83d\ude00", b'"}'),
    "lone surrogates": filled(INPUTS, rb"\ud800", b'"}'),
    "percent": filled(INPUTS + b"data:;base64,", b"%41", b'"}'),
    "percent that is decoded": filled(INPUTS + b"data:;base64,", b"%2b", b'"}'),
    "a data: URL without an end": filled(INPUTS + b"data:", b"; base64 ", b'"}'),
}
FORMS = {
    "parts": filled(b"", PART + b'"\r\n\r\nx\r\n', b"--b--\r\n"),
    "fields of a part": filled(b"--b\r\n", b"A: b\r\n"),
    "a name": filled(PART, b"a", b'"\r\n\r\nx\r\n--b--\r\n'),
    "escapes in a name": filled(PART, b'\\"', b'"\r\n\r\nx\r\n--b--\r\n'),
    "almost boundaries": filled(PART + b'"\r\n\r\n', b"\r\n--a", b"\r\n--b--\r\n"),
    "empty lines": filled(PART + b'"\r\n\r\n', b"\r\n", b"\r\n--b--\r\n"),
    "empty lines before": filled(b"", b"\r\n"),
    "dashes": filled(b"", b"-"),
    "what follows": filled(PART + b'"\r\n\r\n\r\n--b--\r\n', b"--b\r\n"),
}
TARGETS = {
    "fields of a query": b"/classify?" + b"a&" * 30_000,
    "one field often": b"/classify?" + b"top_k=1&" * 7_500,
    "percent in a query": b"/classify?label=" + b"%41" * 20_000,
    "a path": b"/" + b"a/" * 30_000,
}
TYPES = {
    "spaces in a type": b"multipart/form-data;" + b" " * 60_000,
    "boundaries": b"multipart/form-data" + b"; boundary " * 5_000,
    "a boundary": b"multipart/form-data; boundary=" + b"b" * 60_000,
}


def request(body: bytes, kind: bytes, target: bytes = b"/classify") -> bytes:
    return (
        b"POST %s HTTP/1.1\r\nHost: server\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
        % (target, kind, len(body))
    ) + body
