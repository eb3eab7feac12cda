"""Judges generated repositories with python-tuf's client, one after the other, until its input ends.

Reads one JSON object a line: `folder`, `stages` (how many), `names` and `now`. The folder holds `root.json`, the pinned
root, and for each stage K a folder `K` with the files that are served then. Prints for each line a JSON list with one
verdict for each stage: `refresh` (null, or a failure) and `names`: for each name `{"Found": {"length", "hashes"}}`,
`"Absent"` or `{"Failed": FAILURE}`. A failure is `kind` and `text`.

The client keeps its metadata from stage to stage, in a folder `python` beside the stages.
"""

import json
import logging
import sys
import warnings
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlparse

from tuf.api import exceptions
from tuf.api.serialization import DeserializationError, SerializationError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

BASE = "http://repository.invalid/"


class Folder(FetcherInterface):
    """Serves the files of a folder; the last segment of a URL, as it is, is the file's name."""

    def __init__(self, folder: Path):
        self.folder = folder

    def _fetch(self, url: str):
        name = urlparse(url).path.rpartition("/")[2]
        try:
            return iter([(self.folder / name).read_bytes()])
        except FileNotFoundError as error:
            raise exceptions.DownloadHTTPError(f"no {name}", 404) from error


def kind(error: Exception) -> str:
    match error:
        case exceptions.ExpiredMetadataError():
            return "Expired"
        case exceptions.BadVersionNumberError():
            return "Version"
        case exceptions.UnsignedMetadataError():
            return "Signatures"
        case exceptions.LengthOrHashMismatchError() | exceptions.DownloadLengthMismatchError():
            return "Mismatch"
        case exceptions.DownloadHTTPError():
            return "Missing"
        case DeserializationError() | SerializationError():
            return "Malformed"
        case exceptions.RepositoryError() if "missing info" in str(error):
            return "Version"
        case exceptions.RepositoryError() if "not part of snapshot" in str(error):
            return "Unlisted"
        case exceptions.RepositoryError():
            return "Malformed"
        case _:
            # Not one of the client's own: something that it did not foresee.
            return "Crash"


def failure(error: Exception) -> dict[str, str]:
    cause = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ else ""
    return {"kind": kind(error), "text": f"{type(error).__name__}: {error}{cause}"[:400]}


def answer(updater: Updater, name: str):
    try:
        target = updater.get_targetinfo(name)
    except Exception as error:  # each failure is an answer
        return {"Failed": failure(error)}
    return {"Found": {"length": target.length, "hashes": target.hashes}} if target else "Absent"


def judge(folder: Path, stage: int, names: list[str], now: datetime) -> dict:
    try:
        updater = Updater(
            metadata_dir=str(folder / "python"),
            metadata_base_url=BASE,
            fetcher=Folder(folder / str(stage)),
            bootstrap=(folder / "root.json").read_bytes(),
        )
        updater._trusted_set.reference_time = now
        updater.refresh()
    except Exception as error:
        return {"refresh": failure(error), "names": {}}
    return {"refresh": None, "names": {name: answer(updater, name) for name in names}}


logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")
for line in sys.stdin:
    request = json.loads(line)
    folder = Path(request["folder"])
    (folder / "python").mkdir()
    now = datetime.strptime(request["now"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    verdicts = [judge(folder, stage, request["names"], now) for stage in range(request["stages"])]
    print(json.dumps(verdicts), flush=True)
