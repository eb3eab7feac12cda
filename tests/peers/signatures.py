"""Makes and checks signatures with securesystemslib, the library under python-tuf.

Usage: signatures.py make           prints client/core/tests/vectors/signatures.json, with fresh keys; takes a minute
       signatures.py check < FILE   prints, for each case of such a file, `true` or `false`: whether it verifies

A case is an object: `name`, `key` (as in metadata), `message` (text), `sig` (hex), `verifies` (this library's verdict)
and, where Plimsoll's verdict is the other one, `unlike`: why.
"""

import base64
import json
import sys
import warnings

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, Key, Signature, SSlibKey

MESSAGE = '{"_type":"timestamp","version":1}'


def verifies(case: dict) -> bool:
    """This library's verdict: False too for keys and signatures that it cannot read."""
    try:
        key = Key.from_dict("id", json.loads(json.dumps(case["key"])))
        key.verify_signature(Signature("id", case["sig"]), case["message"].encode())
        return True
    except (UnverifiedSignatureError, ValueError):
        return False


def make() -> list[dict]:
    cases: list[dict] = []

    def add(name: str, key: dict, sig: str, message: str = MESSAGE, unlike: str | None = None) -> None:
        case = {"name": name, "key": key, "message": message, "sig": sig}
        case["verifies"] = verifies(case)
        if unlike:
            case["unlike"] = unlike
        cases.append(case)

    def sign(name: str, private, scheme: str | None = None, unlike: str | None = None) -> tuple[dict, str]:
        public = SSlibKey.from_crypto(private.public_key(), scheme=scheme)
        sig = CryptoSigner(private, public).sign(MESSAGE.encode()).signature
        key = public.to_dict()
        add(name, key, sig, unlike=unlike)
        return key, sig

    def respelled(key: dict, **changes) -> dict:
        public = changes.pop("public", key["keyval"]["public"])
        return {**key, **changes, "keyval": {"public": public}}

    edwards = ed25519.Ed25519PrivateKey.generate()
    key, sig = sign("ed25519", edwards)
    upper = "hex is in lower case"
    add("ed25519, signature in upper case", key, sig.upper(), unlike=upper)
    add("ed25519, key in upper case", respelled(key, public=key["keyval"]["public"].upper()), sig, unlike=upper)
    add("ed25519, signature of odd length", key, sig[:-1])
    add("ed25519, signature cut short", key, sig[:-2])
    add("ed25519, signature with more behind", key, sig + "00")
    add("ed25519, signature empty", key, "")
    add("ed25519, key cut short", respelled(key, public=key["keyval"]["public"][:-2]), sig)
    pem = edwards.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    add("ed25519, key in PEM", respelled(key, public=pem), sig)

    for curve, name in [(ec.SECP256R1(), "ecdsa-sha2-nistp256"), (ec.SECP384R1(), "ecdsa-sha2-nistp384")]:
        private = ec.generate_private_key(curve)
        key, sig = sign(name, private)
        add(f"{name} as key type too", respelled(key, keytype=name), sig)
        pem = key["keyval"]["public"]
        add(f"{name}, PEM with CRLF", respelled(key, public=pem.replace("\n", "\r\n")), sig)
        add(f"{name}, PEM without a last line end", respelled(key, public=pem.rstrip()), sig)
        add(f"{name}, PEM with white space around", respelled(key, public=f"\n {pem}\n\n"), sig)
        points = [private.public_key().public_bytes(Encoding.X962, form).hex()
                  for form in (PublicFormat.UncompressedPoint, PublicFormat.CompressedPoint)]
        add(f"{name}, point in hex", respelled(key, public=points[0]), sig, unlike="as older repositories have them")
        add(f"{name}, compressed point in hex", respelled(key, public=points[1]), sig)
        add(f"{name}, compressed point in PEM", respelled(key, public=compressed(pem, *points)), sig,
            unlike="compressed points are not read")
        other = "ecdsa-sha2-nistp384" if name.endswith("256") else "ecdsa-sha2-nistp256"
        add(f"{name}, the other curve's scheme", respelled(key, scheme=other), sig)
        add(f"{name}, the other curve's type", respelled(key, keytype=other), sig)
        add(f"{name}, RSA's type", respelled(key, keytype="rsa", scheme="rsassa-pss-sha256"), sig)
    sign("ecdsa-sha2-nistp521", ec.generate_private_key(ec.SECP521R1()), unlike="ring has no P-521")

    private = rsa.generate_private_key(65537, 2048)
    rsa_key, sig = sign("rsassa-pss-sha256, 2048 bits", private)
    add("rsassa-pss-sha256, another hash", respelled(rsa_key, scheme="rsassa-pss-sha512"), sig)
    add("rsassa-pss-sha256, another message", rsa_key, sig, MESSAGE.replace("1", "2"))
    pem = rsa_key["keyval"]["public"]
    add("rsassa-pss-sha256, PEM with CRLF", respelled(rsa_key, public=pem.replace("\n", "\r\n")), sig)
    add("rsassa-pss-sha256, PEM without a last line end", respelled(rsa_key, public=pem.rstrip()), sig)
    pkcs1 = private.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode()
    add("rsassa-pss-sha256, PEM of PKCS#1", respelled(rsa_key, public=pkcs1), sig, unlike="only BEGIN PUBLIC KEY is read")
    for size in (384, 512):
        sign(f"rsassa-pss-sha{size}, 2048 bits", private, f"rsassa-pss-sha{size}")
    for bits in (2056, 3072, 4096, 8192):
        sign(f"rsassa-pss-sha256, {bits} bits", rsa.generate_private_key(65537, bits))
    for salt, what in [(PSS.MAX_LENGTH, "the longest"), (0, "none"), (20, "20 bytes")]:
        sig = private.sign(MESSAGE.encode(), PSS(MGF1(SHA256()), salt), SHA256()).hex()
        add(f"rsassa-pss-sha256, salt: {what}", rsa_key, sig, unlike="the salt is as long as the hash")
    sig = private.sign(MESSAGE.encode(), PSS(MGF1(SHA512()), 32), SHA256()).hex()
    add("rsassa-pss-sha256, MGF1 with sha512", rsa_key, sig)
    sign("rsa-pkcs1v15-sha256", private, "rsa-pkcs1v15-sha256", unlike="no scheme of the TUF specification")
    sign("rsassa-pss-sha256, exponent 3", rsa.generate_private_key(3, 2048))
    weak = rsa.generate_private_key(65537, 1024)
    sign("rsassa-pss-sha256, 1024 bits", weak, unlike="fewer than 2048 bits")
    sign("rsassa-pss-sha256, 2040 bits", rsa.generate_private_key(65537, 2040), unlike="fewer than 2048 bits")
    return cases


def compressed(pem: str, uncompressed: str, point: str) -> str:
    """The same SubjectPublicKeyInfo around the compressed point."""
    der = base64.b64decode("".join(pem.split("\n")[1:-2])).hex()
    # SEQUENCE { AlgorithmIdentifier, BIT STRING { no unused bits, point } }, all of it shorter than 128 bytes.
    algorithm = der[4:der.index("00" + uncompressed) - 4]
    bits = f"03{len(point) // 2 + 1:02x}00{point}"
    body = base64.b64encode(bytes.fromhex(f"30{len(algorithm + bits) // 2:02x}{algorithm}{bits}")).decode()
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # older key types
    if sys.argv[1:] == ["make"]:
        print(json.dumps(make(), indent=1))
    else:
        for each in json.load(sys.stdin):
            print(json.dumps(verifies(each)))
