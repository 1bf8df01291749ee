"""An EC2 API for tests: a real moto server process, and before it a proxy that does what moto leaves out.

The proxy honours client tokens as EC2 does, and can be told to misbehave as EC2 does: throttling, quotas,
full zones, answers that get lost, lists that lag behind.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

_ERROR = "<Response><Errors><Error><Code>{}</Code><Message>{}</Message></Error></Errors></Response>"
THROTTLED = "RequestLimitExceeded"
_NAMESPACE = b' xmlns="http://ec2.amazonaws.com/doc/2016-11-15"'
_GOING = ("shutting-down", "terminated")


@dataclass
class Answer:
    """What a client of the API gets."""

    status: int
    body: bytes


@dataclass
class Cloud:
    """The API at ``url``, its faults, and what it was asked. Set a fault, and it holds from the next call on."""

    moto: tuple[str, int]
    url: str = ""
    region: str = "us-east-1"
    refuse: Counter[tuple[str, str]] = field(default_factory=Counter)  # action, error → calls still refused
    lose: Counter[str] = field(default_factory=Counter)  # action → calls whose answer gets lost still
    lag: float = 0.0  # seconds until a new instance is listed
    machines: int = 10**6  # that may exist
    page: int = 1000  # most reservations in an answer
    full: set[str] = field(default_factory=set)  # zones without room
    calls: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)  # path and query of each call
    _tokens: dict[str, tuple[str, Answer]] = field(default_factory=dict)  # client token → parameters, answer
    _born: dict[str, float] = field(default_factory=dict)  # instance → when it was made
    _mutex: threading.RLock = field(default_factory=threading.RLock)

    def reset(self) -> None:
        """As new."""
        self._forward("POST", "/moto-api/reset", b"", {})
        fresh = Cloud(self.moto, self.url, self.region)
        for name in (
            "refuse",
            "lose",
            "lag",
            "machines",
            "page",
            "full",
            "calls",
            "paths",
            "_tokens",
            "_born",
        ):
            setattr(self, name, getattr(fresh, name))

    def counted(self, action: str) -> int:
        """How often it was called."""
        return sum(call["Action"] == action for call in self.calls)

    def instances(self, *, gone: bool = False) -> list[dict[str, str]]:
        """All instances, whatever the lists say: tags, and id, state and zone as ``:id``, …."""
        root = ET.fromstring(self._ask({"Action": "DescribeInstances", "MaxResults": "1000"}).body)
        found = []
        for item in root.iterfind(".//{*}instancesSet/{*}item"):
            told = {
                each.findtext("{*}key", ""): each.findtext("{*}value", "")
                for each in item.iterfind("{*}tagSet/{*}item")
            }
            told[":id"] = item.findtext("{*}instanceId", "")
            told[":state"] = item.findtext("{*}instanceState/{*}name", "")
            told[":zone"] = item.findtext("{*}placement/{*}availabilityZone", "")
            if gone or told[":state"] not in _GOING:
                found.append(told)
        return found

    def user_data(self, instance: str) -> str:
        """Of an instance, base64."""
        asked = {"Action": "DescribeInstanceAttribute", "InstanceId": instance, "Attribute": "userData"}
        root = ET.fromstring(self._ask(asked).body)
        return root.findtext(".//{*}userData/{*}value", "")

    def direct(self, **asked: str) -> ET.Element:
        """The answer to a call that passes the proxy by: what somebody else does at the cloud."""
        answer = self._ask(asked)
        assert answer.status == 200, answer.body
        return ET.fromstring(answer.body)

    def left(self) -> list[str]:
        """Volumes, security groups and key pairs that carry a tag of ours."""
        found = []
        for action, kind in (
            ("DescribeVolumes", "volumeId"),
            ("DescribeSecurityGroups", "groupId"),
            ("DescribeKeyPairs", "keyName"),
        ):
            for item in self.direct(Action=action).iterfind("./{*}*/{*}item"):
                keys = [each.text or "" for each in item.iterfind("{*}tagSet/{*}item/{*}key")]
                found += [item.findtext(f"{{*}}{kind}", "")] if "orchestrate-site" in keys else []
        return found

    # --- the proxy

    def answered(self, asked: Mapping[str, str], headers: Mapping[str, str]) -> Answer | None:
        """The answer to one call; None when it gets lost."""
        action = asked["Action"]
        with self._mutex:
            self.calls.append(dict(asked))
            for (refused, code), times in self.refuse.items():
                if refused == action and times > 0:
                    self.refuse[action, code] -= 1
                    return _refused(503 if code == THROTTLED else 400, code, "Refused by the test.")
            if "MaxResults" in asked:
                asked = {**asked, "MaxResults": str(min(self.page, int(asked["MaxResults"])))}
            answer = self._run(asked, headers) if action == "RunInstances" else self._ask(asked, headers)
            if action == "DescribeInstances" and self.lag:
                answer = self._lagging(answer)
            if self.lose[action] > 0:
                self.lose[action] -= 1
                return None
            return answer

    def _run(self, asked: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        token = asked["ClientToken"]
        same = repr(sorted(asked.items()))
        if token in self._tokens:
            before, answer = self._tokens[token]
            made = ET.fromstring(answer.body).findtext(".//{*}instanceId", "")
            if made not in {each[":id"] for each in self.instances()}:
                return _refused(400, "IdempotentInstanceTerminated", f"{made} has been terminated.")
            if before != same:
                return _refused(400, "IdempotentParameterMismatch", "Other parameters, same client token.")
            return answer
        if asked.get("Placement.AvailabilityZone") in self.full:
            return _refused(500, "InsufficientInstanceCapacity", "No capacity in this zone.")
        if len(self.instances()) >= self.machines:
            return _refused(
                400, "InstanceLimitExceeded", f"You may have {self.machines} instances, and have them."
            )
        answer = self._ask(asked, headers)
        if answer.status == 200:
            self._tokens[token] = (same, answer)
            self._born[ET.fromstring(answer.body).findtext(".//{*}instanceId", "")] = time.monotonic()
        return answer

    def _lagging(self, answer: Answer) -> Answer:
        root, now = ET.fromstring(answer.body), time.monotonic()
        for items in root.iterfind(".//{*}instancesSet"):
            for item in list(items):
                if now - self._born.get(item.findtext("{*}instanceId", ""), now - self.lag) < self.lag:
                    items.remove(item)
        return Answer(answer.status, ET.tostring(root))

    def _ask(self, asked: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        body = urlencode(asked).encode()
        plain = {
            "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
            "Authorization": f"AWS4-HMAC-SHA256 Credential=test/20260101/{self.region}/ec2/aws4_request, "
            "SignedHeaders=host, Signature=0",
        }
        return self._forward("POST", "/", body, plain | dict(headers or {}))

    def _forward(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        connection = http.client.HTTPConnection(*self.moto, timeout=30)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            body = answer.read()
            # As EC2 itself writes it: errors are in no namespace, and that of all else ends with a slash.
            as_ec2 = b"" if answer.status >= 400 else _NAMESPACE.replace(b'5"', b'5/"')
            return Answer(answer.status, body.replace(_NAMESPACE, as_ec2))
        finally:
            connection.close()


def _refused(status: int, code: str, message: str) -> Answer:
    return Answer(status, _ERROR.format(code, message).encode())


class _Proxy(BaseHTTPRequestHandler):
    cloud: Cloud
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.cloud.paths.append(self.path)
        kept = {name: self.headers[name] for name in ("Authorization", "X-AMZ-Date") if name in self.headers}
        answer = self.cloud.answered(dict(parse_qsl(body, keep_blank_values=True)), kept)
        if answer is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextlib.contextmanager
def cloud(directory: Path) -> Iterator[Cloud]:
    """An EC2 API that runs inside; its log is in ``directory``."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (directory / "moto.log").open("wb") as log:
        moto = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            _wait_for(port, moto, directory / "moto.log")
            made = Cloud(("127.0.0.1", port))
            server = ThreadingHTTPServer(("127.0.0.1", 0), type("Proxy", (_Proxy,), {"cloud": made}))
            server.daemon_threads = True
            made.url = f"http://127.0.0.1:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            try:
                yield made
            finally:
                server.shutdown()
                thread.join(10)
                server.server_close()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(moto.pid, signal.SIGKILL)
            moto.wait(10)


def _wait_for(port: int, moto: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert moto.poll() is None, f"moto ended: {log.read_text()}"
        assert time.monotonic() < deadline, "moto does not listen"
        time.sleep(0.05)
