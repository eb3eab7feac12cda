"""Writes a small TUF repository made by python-tuf: what others publish.

Usage: make_repository.py DIRECTORY DAYS

Four top-level roles with an Ed25519 key each, version 1, consistent snapshots, all expiring in DAYS days (negative:
expired), and one target, `hello.txt`, with the content `hello`. Private keys are not kept.
"""

import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)


def main(directory: str, days: str) -> None:
    expires = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=int(days))
    signers = {role: CryptoSigner.generate_ed25519() for role in ("root", "timestamp", "snapshot", "targets")}
    root = Root(expires=expires, consistent_snapshot=True)
    for role, signer in signers.items():
        root.add_key(signer.public_key, role)

    def write(name: str, role: str, signed: Signed) -> bytes:
        metadata = Metadata(signed)
        metadata.sign(signers[role])
        data = metadata.to_bytes()
        Path(directory, name).write_bytes(data)
        return data

    target = TargetFile.from_data("hello.txt", b"hello", ["sha256"])
    targets = write("1.targets.json", "targets", Targets(expires=expires, targets={target.path: target}))
    meta = {"targets.json": MetaFile.from_data(1, targets, ["sha256"])}
    snapshot = write("1.snapshot.json", "snapshot", Snapshot(expires=expires, meta=meta))
    snapshot_meta = MetaFile.from_data(1, snapshot, ["sha256"])
    write("timestamp.json", "timestamp", Timestamp(expires=expires, snapshot_meta=snapshot_meta))
    write("1.root.json", "root", root)


if __name__ == "__main__":
    main(*sys.argv[1:])
