"""Updates with python-tuf's stock client and says what it found.

Usage: ngclient.py METADATA_URL TARGETS_URL TRUSTED_ROOT TARGET_NAME [DIRECTORY]

Prints one JSON object: the versions of root, timestamp, snapshot and targets, and the target (null if it is not
listed). Nothing is kept, so that each run is a cold client, unless a DIRECTORY is given to keep it in. Exit code 1 with one line on stderr if the client refuses.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path

from tuf.api.metadata import Metadata
from tuf.ngclient import Updater


def main(
    metadata_url: str, targets_url: str, trusted_root: str, target_name: str, kept: str | None = None
) -> None:
    with contextlib.nullcontext(kept) if kept else tempfile.TemporaryDirectory() as directory:
        updater = Updater(
            metadata_dir=directory,
            metadata_base_url=metadata_url,
            target_base_url=targets_url,
            bootstrap=Path(trusted_root).read_bytes(),
        )
        updater.refresh()
        target = updater.get_targetinfo(target_name)
        found = {
            role: Metadata.from_file(str(Path(directory, f"{role}.json"))).signed.version
            for role in ("root", "timestamp", "snapshot", "targets")
        }
    found["target"] = target and {"length": target.length, "sha256": target.hashes.get("sha256")}
    print(json.dumps(found))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:  # whatever the client says, the test wants to read it
        sys.exit(f"{type(error).__name__}: {error}")
