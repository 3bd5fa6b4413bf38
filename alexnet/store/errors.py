"""What a store answers when it does not do what was asked, in a line with a remedy."""

import re

from alexnet.command import UserError
from alexnet.store.access import ACCOUNTS
from alexnet.store.url import StoreURL

CODE = re.compile(r"<Code>(\w+)</Code>")
STATUS = re.compile(r"status code: (\d{3})")


class StoreError(UserError):
    """Something in a store that cannot be read or written; the text names URL, cause, remedy."""


class MissingError(StoreError):
    """There is no such object."""


class NoBucketError(StoreError):
    """There is no such bucket."""


class TakenError(StoreError):
    """An object that should have been new is there, or was replaced by somebody else."""


class UnreachableError(StoreError):
    """The store does not answer, or says that it cannot now; later it may."""


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed later: no connection, a cut-off answer, a store that is
    overloaded. All other refusals stay."""
    text = str(error)
    if status := STATUS.search(text):
        return status[1] in ("408", "409", "425", "429") or status[1][0] == "5"
    return "credential" not in text.lower() and "metadata" not in text.lower()


def refusal(url: StoreURL, error: Exception) -> StoreError:
    """Why the object or folder at `url` cannot be read or written."""
    text = str(error)
    code = (CODE.search(text) or ("", ""))[1]
    status = (STATUS.search(text) or ("", ""))[1]
    scheme = url.partition("://")[0]
    if code in ("NoSuchBucket", "ContainerNotFound") or "bucket does not exist" in text:
        return NoBucketError(
            f"{url}: there is no bucket {url.bucket}; create it, or correct the URL, the region or "
            "the endpoint"
        )
    if isinstance(error, FileNotFoundError):
        return MissingError(f"{url}: there is no such object; check the URL")
    if code in ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"):
        return StoreError(f"{url}: the credentials have expired; log in again, or renew them")
    if code == "RequestTimeTooSkewed":
        return StoreError(f"{url}: this machine's clock is wrong, says the store; set it")
    if status in ("301", "307") or code in (
        "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException",
    ):  # fmt: skip
        return StoreError(
            f"{url}: the bucket is in another region; set AWS_REGION to it, and AWS_ENDPOINT_URL "
            "where the store is not Amazon's"
        )
    if status in ("401", "403"):
        why = code or "the store says no more"
        return StoreError(
            f"{url}: access is denied ({why}); {ACCOUNTS[scheme]}, and the rights to read, list "
            "and write there"
        )
    if not status and not is_passing(error):
        return StoreError(
            f"{url}: no credentials were found; {ACCOUNTS[scheme]}; for a bucket that is public "
            f"set {ANONYMOUS[scheme]}=true"
        )
    return StoreError(
        f"{url}: the store refuses ({code or status or _first(text)}); {ACCOUNTS[scheme]}"
    )


ANONYMOUS = {
    "s3": "AWS_SKIP_SIGNATURE", "gs": "GOOGLE_SKIP_SIGNATURE", "az": "AZURE_SKIP_SIGNATURE",
}  # fmt: skip


def unreachable(url: StoreURL, error: Exception, tried_s: float) -> UnreachableError:
    text = str(error)
    status, code = STATUS.search(text), CODE.search(text)
    reason = (code and code[1]) or (status and f"status {status[1]}") or _first(text)
    scheme = url.partition("://")[0]
    return UnreachableError(
        f"{url}: the store did not answer as it should for {tried_s:.0f} s ({reason}); check the "
        f"network, and {ENDPOINTS[scheme]}, and run the same command again"
    )


ENDPOINTS = {
    "s3": "AWS_ENDPOINT_URL", "gs": "GOOGLE_BASE_URL", "az": "AZURE_STORAGE_ENDPOINT",
}  # fmt: skip


def _first(text: str) -> str:
    """The inner reason of obstore's first line."""
    line = text.split("\n")[0]
    return line.rpartition(" - ")[2][:200]
