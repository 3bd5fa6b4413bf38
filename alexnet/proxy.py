"""Proxies that the environment names, and which requests they have nothing to do with."""

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def is_loopback(url: str) -> bool:
    """Whether the host of `url` is this machine, where no proxy can stand between."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def through_proxy(url: str) -> str:
    """The words `, asked through VARIABLE=PROXY` where `url` is asked so, else nothing."""
    parts = urlsplit(url)
    host, proxies = parts.hostname or "", getproxies()
    if is_loopback(url) or proxy_bypass(host):
        return ""
    for kind in (parts.scheme, "all"):
        if kind in proxies:
            return f", asked through {kind}_proxy={proxies[kind]}"
    return ""
