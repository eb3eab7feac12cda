"""Encodes JSON documents in canonical form with securesystemslib.

Reads one document a line; prints for each a JSON object with `canonical` (base64) or `error`.
"""

import base64
import json
import sys

from securesystemslib.formats import encode_canonical


def answer(line: bytes) -> dict[str, str]:
    try:
        encoded = encode_canonical(json.loads(line))
        return {"canonical": base64.b64encode(encoded.encode("utf-8")).decode()}
    except Exception as error:  # each refusal is an answer
        return {"error": f"{type(error).__name__}: {error}"}


# Not splitlines(): documents may hold U+2028 and its like. Lone surrogates come and go as escapes.
for document in sys.stdin.buffer.read().split(b"\n"):
    print(json.dumps(answer(document)))
