"""The one way to open an address that a user named: public hosts only, within limits (SSRF).

The name is resolved once, every address it has must be public, and the connection goes to one of those: a
second answer of the name server (DNS rebinding) is never asked for. A redirect is an address like the first.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

import httpx

from pingvas.errors import Invalid

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""From host and port to the texts of its addresses; raises OSError."""

MAX_BYTES: Final = 10 * 1_048_576
MAX_SECONDS: Final = 15.0
MAX_REDIRECTS: Final = 3
_PORTS: Final = {"http": 80, "https": 443}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_NAT64: Final = ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address

_PROTOCOLS: Final = ip_network("192.0.0.0/24")  # RFC 6890; older Pythons call it global, clouds live there


class AddressRefused(Invalid):
    """The address is not one that this service opens for a user."""

    code, title = "ADDRESS_REFUSED", "This address cannot be used"


class NotFetched(Invalid):
    """There is nothing usable at the address, or not within the limits."""

    code, title = "NOT_FETCHED", "Nothing could be fetched from this address"


@dataclass(frozen=True)
class Fetched:
    """What an address gave in the end, after redirects."""

    url: str
    content_type: str
    data: bytes


def is_public(address: Address) -> bool:
    """Tell whether an address is somewhere on the Internet, also by what is embedded in it."""
    if isinstance(address, IPv6Address):
        embedded = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if embedded is None and address in _NAT64:
            embedded = IPv4Address(int(address) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(embedded)
        if address.is_site_local:
            return False
    if address in _PROTOCOLS:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


async def _system(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


@dataclass(frozen=True)
class Fetcher:
    """Fetches with these limits; `seconds` is for all of it, redirects included.

    `allowed` decides on an address, `resolve` finds those of a name, `ports` are the ones that may be named;
    they are for tests.
    """

    max_bytes: int = MAX_BYTES
    seconds: float = MAX_SECONDS
    allowed: Callable[[Address], bool] = is_public
    resolve: Resolve = _system
    ports: frozenset[int] = frozenset(_PORTS.values())

    def fetch(self, url: str) -> Fetched:
        """Return what is at `url` (http or https), called from a thread that runs no event loop.

        Raises:
            AddressRefused: another scheme or port, a login in it, or a host that is not public.
            NotFetched: nobody answers, the answer is not a 200, too large, too late or redirects too often.
        """
        try:
            return asyncio.run(self._within_time(url))
        except TimeoutError:
            raise NotFetched(f"The address took longer than {self.seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:  # (the last: host names)
            raise NotFetched from error

    async def _within_time(self, url: str) -> Fetched:
        async with asyncio.timeout(self.seconds):
            for _ in range(MAX_REDIRECTS + 1):
                found = await self._one(_parse(url))
                if isinstance(found, Fetched):
                    return found
                url = found
        raise NotFetched(f"The address redirects more than {MAX_REDIRECTS} times")

    async def _one(self, url: httpx.URL) -> Fetched | str:
        """Return what is at one address, or where it redirects to."""
        address = await self._checked(url)
        host = url.host if url.port is None else f"{url.host}:{url.port}"
        headers = {"Host": host, "Accept-Encoding": "identity", "User-Agent": "pingvas"}
        pinned = url.copy_with(host=str(address))
        # Without the environment: a proxy named there would resolve the name again.
        async with httpx.AsyncClient(trust_env=False, timeout=self.seconds) as client:
            request = client.build_request(
                "GET", pinned, headers=headers, extensions={"sni_hostname": url.host}
            )
            answer = await client.send(request, stream=True)
            try:
                if answer.status_code in _REDIRECTS and "Location" in answer.headers:
                    return str(url.join(answer.headers["Location"]))
                return Fetched(str(url), answer.headers.get("Content-Type", ""), await self._body(answer))
            finally:
                await answer.aclose()

    async def _checked(self, url: httpx.URL) -> Address:
        port = url.port or _PORTS[url.scheme]
        if port not in self.ports:
            raise AddressRefused("Only the usual ports of http and https are opened")
        addresses = [ip_address(text.partition("%")[0]) for text in await self.resolve(url.host, port)]
        # All of them, and one text for all reasons: the answer must not map the network behind us.
        if not addresses or not all(map(self.allowed, addresses)):
            raise AddressRefused("The host is not a public one")
        return addresses[0]

    async def _body(self, answer: httpx.Response) -> bytes:
        if answer.status_code != 200:
            raise NotFetched(f"The address answered {answer.status_code}")
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise NotFetched("The address sends a compressed answer that was not asked for")
        data = bytearray()
        async for part in answer.aiter_raw():
            data += part
            if len(data) > self.max_bytes:
                raise NotFetched(f"The address has more than {self.max_bytes} bytes")
        return bytes(data)


def _parse(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):  # (IDNA errors are ValueErrors)
        raise AddressRefused("This is no address") from None
    if url.scheme not in _PORTS or not url.host:
        raise AddressRefused("Only http:// and https:// addresses are opened")
    if url.userinfo:
        raise AddressRefused("An address with a login in it is not opened")
    return url
