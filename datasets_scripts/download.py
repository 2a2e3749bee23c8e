"""Files from the web, to a cache: with retries, and going on where a download broke off."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path

from filelock import FileLock


ATTEMPTS, TIMEOUT, BLOCK = 4, 30, 1 << 20  # times, seconds, bytes


def fetch(url: str, cache: Path, attempts: int = ATTEMPTS, pause: float = 1.0) -> Path:
    """Downloads a file to the cache unless it is there; goes on with a download that broke off. Of several processes
    that ask for it at once, one downloads it and the others wait.

    Raises:
        OSError: if it cannot be had after so many attempts; the message says why.
    """
    path = cache / (hashlib.sha256(url.encode()).hexdigest()[:32] + Path(url.partition("?")[0]).suffix[:8])
    part = path.with_name(path.name + ".part")
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.exists():
            _download_with_retries(url, part, attempts, pause)
            part.replace(path)
    return path


def _download_with_retries(url, part, attempts, pause):
    for attempt in range(attempts):
        try:
            return _download(url, part)
        except (OSError, http.client.HTTPException, ValueError) as error:
            is_gone = isinstance(error, urllib.error.HTTPError) and error.code in (401, 403, 404, 410)
            if is_gone or isinstance(error, ValueError) or attempt == attempts - 1:
                raise OSError(f"dead link: {url}: {error}") from error
            time.sleep(pause * 2**attempt)


def _download(url, part):
    """Appends what `part` lacks; starts anew if the server does not send from there."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # no bytes from there on
            raise
        part.unlink()
        raise ConnectionError("the file has changed") from error
    with response, open(part, "ab" if response.status == 206 else "wb") as file:
        expected = _declared_size(response, file.tell())
        while block := response.read(BLOCK):
            file.write(block)
        size = file.tell()
    if expected is not None and size != expected:
        raise ConnectionError(f"it broke off after {size} of {expected} bytes")


def _declared_size(response, done):
    """Bytes of the whole file, of which `done` are not sent again; None if the server does not say."""
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    if total.isdecimal():
        return int(total)
    length = response.headers.get("Content-Length")
    return None if length is None else done + int(length)
