"""Opens an encrypted private key with Python's cryptography and prints its public key, PEM.

Usage: open_key.py KEY_FILE PASSPHRASE_FILE

The passphrase is the first line of its file. Exit code 1 with one line on stderr if the key cannot be opened.
"""

import sys
from pathlib import Path

from cryptography.hazmat.primitives import serialization


def main(key_file: str, passphrase_file: str) -> None:
    passphrase = Path(passphrase_file).read_bytes().split(b"\n")[0]
    key = serialization.load_pem_private_key(Path(key_file).read_bytes(), passphrase)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    print(public.decode(), end="")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:  # a wrong passphrase, another format, no such file
        sys.exit(f"{type(error).__name__}: {error}")
