"""Says which target names python-tuf lets a delegation with one path pattern speak about.

Reads one JSON array a line, `[pattern, [name, ...]]`; prints for each a JSON array of booleans.
"""

import json
import sys

from tuf.api.metadata import DelegatedRole


def covered(pattern: str, names: list[str]) -> list[bool]:
    role = DelegatedRole("role", [], 1, False, [pattern])
    return [role.is_delegated_path(name) for name in names]


# Not splitlines(): as in canonical.py.
for line in sys.stdin.buffer.read().split(b"\n"):
    print(json.dumps(covered(*json.loads(line))))
