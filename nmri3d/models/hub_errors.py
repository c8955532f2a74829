"""What a person is told when the Hugging Face hub refuses or cannot be reached, with every token scrubbed.

huggingface_hub tells its cases apart by exception classes; its texts hold addresses and request ids that help nobody, so
each case gets a sentence with cause and remedy instead.

Left out: fetching (`hub`).
"""

from __future__ import annotations

import re
import socket

from nmri3d.errors import MachineError, ModelAccessError, ModelNotFoundError, Nmri3dError
from nmri3d.models.known_models import did_you_mean

_TOKEN = re.compile(r"hf_[A-Za-z0-9]{8,}")


def explain(error: BaseException, repo_id: str, revision: str | None, token: str | None) -> Nmri3dError:
    """The error that a person gets for one of huggingface_hub's."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"https://huggingface.co/{repo_id}"
    has_token = bool(token or get_token())
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if isinstance(error, GatedRepoError):
        if has_token:
            return ModelAccessError(
                f"{repo_id} is gated and the account of your token has no access to it; accept its conditions at {page}"
            )
        return ModelAccessError(
            f"{repo_id} is gated; accept its conditions at {page}, then give your Hugging Face token "
            "(token=…, or the environment variable HF_TOKEN)"
        )
    if isinstance(error, RepositoryNotFoundError):
        remedy = "check the name" if has_token else "check the name, or give a token if it is private (HF_TOKEN)"
        return ModelNotFoundError(f"the hub has no model {repo_id}; {remedy}{did_you_mean(repo_id)}")
    if isinstance(error, RevisionNotFoundError):
        return ModelNotFoundError(f"{repo_id} has no revision {revision!r}; see {page}/commits")
    if isinstance(error, OfflineModeIsEnabled):
        return ModelNotFoundError(
            f"{repo_id} is not in the local cache and HF_HUB_OFFLINE forbids to fetch it; unset it, or give a folder"
            f"{did_you_mean(repo_id)}"
        )
    if status in (401, 403):
        what = "was refused (mistyped, expired or revoked)" if status == 401 else "lacks the right to read it"
        return ModelAccessError(
            f"the Hugging Face token for {repo_id} {what}; make a new one at https://huggingface.co/settings/tokens"
            if has_token
            else f"{repo_id} may be read only with a Hugging Face token; give token=… or set HF_TOKEN"
        )
    if isinstance(error, HfHubHTTPError):
        return ModelNotFoundError(f"the hub failed while it was asked for {repo_id} (HTTP {status}); try again later")
    if is_no_network(error):
        return ModelNotFoundError(
            f"{repo_id} is not in the local cache and there is no network to fetch it; connect, or give a folder or a "
            f".gguf file{did_you_mean(repo_id)}"
        )
    if isinstance(error, OSError) and error.errno is not None:
        from huggingface_hub import constants

        return MachineError(
            f"the hub's cache {constants.HF_HUB_CACHE} cannot be written ({error.strerror}); make room, or set HF_HOME to a "
            "folder that can be written"
        )
    return ModelNotFoundError(f"{repo_id} could not be fetched: {scrub(' '.join(str(error).split()), token)[:300]}")


def scrub(text: str, token: str | None) -> str:
    """A text without the token, and without anything that looks like one."""
    for secret in {token, _ambient_token()} - {None, ""}:
        text = text.replace(str(secret), "***")
    return _TOKEN.sub("***", text)


def _ambient_token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


def is_no_network(error: BaseException) -> bool:
    """Whether an error says that the hub could not be reached. huggingface_hub 1 speaks through httpx, 2 through httpx2."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if isinstance(error, HfHubHTTPError):
        return False
    if isinstance(error, (ConnectionError, TimeoutError, socket.gaierror, LocalEntryNotFoundError)):
        return True
    return type(error).__module__.partition(".")[0] in {"httpx", "httpx2", "httpcore", "httpcore2"}
