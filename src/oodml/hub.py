"""Models and splits on the Hugging Face hub, by addresses such as "hf://user/name".

With HF_HUB_OFFLINE=1 only the local cache is used; HF_ENDPOINT names another server.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from oodml.errors import OodmlError, error_at

PREFIX = "hf://"
_ADDRESS = re.compile(r"(?:datasets/)?([\w.-]+/[\w.-]+?)(?:@([\w./-]+?))?(?:/([\w./-]+))?")


class Address(NamedTuple):
    """A repository on the hub: "user/name", a revision or None, and a file or ""."""

    repository: str
    revision: str | None
    file: str


def is_hub_address(path: str | Path) -> bool:
    """Whether a path is an address on the hub; `Path` turns "hf://" into "hf:/"."""
    return str(path).startswith((PREFIX, "hf:/"))


def parse_address(text: str | Path) -> Address:
    match = _ADDRESS.fullmatch(re.sub(r"^hf:/+", "", str(text)))
    if not match or ".." in str(text):
        problem = "not an address on the hub; expected hf://user/name[@revision][/file]"
        raise error_at(text, problem, str(text))
    return Address(match[1], match[2], match[3] or "")


def download(
    address: Address, kind: str, patterns: Sequence[str], folder: Path | None = None
) -> Path:
    """Download files of a repository, or find them in the local cache; return their folder."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    options: dict[str, Any] = {"local_dir": folder, "endpoint": os.environ.get("HF_ENDPOINT")}
    options |= {"repo_type": kind, "revision": address.revision, "allow_patterns": [*patterns]}
    try:
        return Path(snapshot_download(address.repository, **options))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise _hub_error(address.repository, error) from error


def upload(folder: Path, repository: str, kind: str) -> str:
    """Upload the files of a folder to a repository, which is created if needed; return its URL."""
    from huggingface_hub import HfApi

    api: Any = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        url = api.create_repo(repository, repo_type=kind, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, repo_type=kind)
    except Exception as error:  # huggingface_hub and its HTTP client raise many types
        raise _hub_error(repository, error) from error
    return str(url)


def _hub_error(repository: str, error: Exception) -> OodmlError:
    reason = str(error).strip().partition("\n")[0]
    problem = f"{PREFIX}{repository}: {type(error).__name__}: {reason}"
    remedy = "Check name, network, and for private repositories the login (`hf auth login`)."
    return OodmlError(f"{problem}. {remedy}", repository, repository)
