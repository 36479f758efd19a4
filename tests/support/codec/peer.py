"""A worker in miniature: a fresh interpreter that installs, decodes, runs and replies over a pipe.

It knows nothing of corral but the codec, so that what it shows is the codec's doing.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any

from corral import _codec as codec

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

HEAD = struct.Struct("<cQQ")

CHILD = f"""
import sys
sys.path[:] = {sys.path!r}
from corral import _codec as codec
import struct
main = type(sys)("__main__")
main.__dict__["__builtins__"] = __builtins__
sys.modules["__main__"] = main
head = struct.Struct("<cQQ")
read = sys.stdin.buffer.read
out = sys.stdout.buffer
sys.stdout = sys.stderr
roots = {{}}
def task(number, payload):
    try:
        args, kwargs = codec.decode(payload)
        return b"+", codec.encode_reply(roots[number](*args, **kwargs)).payload
    except BaseException as exc:
        return b"-", codec.encode_failure(exc, "running")
while True:
    data = read(head.size)
    if len(data) < head.size:
        break
    kind, number, size = head.unpack(data)
    body = read(size)
    if kind == b"i":
        roots[number] = codec.install(number, body)
        continue
    if kind == b"c":
        mark, reply = task(number, body)
    elif kind == b"u":
        try:
            mark, reply = b"+", codec.encode_reply(codec.unbundle(body)).payload
        except BaseException as exc:
            mark, reply = b"-", codec.encode_failure(exc, "running")
    else:
        mark, reply = b"+", codec.encode_reply(eval(body)).payload
    out.write(head.pack(mark, 0, len(reply)) + reply)
    out.flush()
"""


class Peer:
    """One child interpreter; `snapshot` stands for the pool it belongs to."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.snapshot = codec.Snapshot()
        self.sent: set[int] = set()
        self.sent_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def call(self, fn: Callable[..., Any], *args: object, **kwargs: object) -> Any:
        """Run a function in the child."""
        group = codec.define(fn, self.snapshot)
        encoded = codec.encode((args, kwargs), self.snapshot)
        for each in (*group.needs, group, *encoded.needs):
            if each.number not in self.sent:
                self.sent.add(each.number)
                self._send(b"i", each.number, each.blob)
        if encoded.buffers:
            encoded = encoded._replace(payload=codec.bundle((args, kwargs)))
        self._send(b"c", group.number, encoded.payload)
        return self._answer()

    def pass_on(self, obj: object) -> Any:
        """Send an object in a bundle, as a queue would, and get it back."""
        self._send(b"u", 0, codec.bundle(obj))
        return self._answer()

    def evaluate(self, expression: str) -> Any:
        """Evaluate an expression in the child's loop."""
        self._send(b"e", 0, expression.encode())
        return self._answer()

    def _send(self, kind: bytes, number: int, body: bytes) -> None:
        assert self.process.stdin is not None
        self.sent_bytes += len(body)
        self.process.stdin.write(HEAD.pack(kind, number, len(body)) + body)
        self.process.stdin.flush()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        mark, _, size = HEAD.unpack(self.process.stdout.read(HEAD.size))
        body = self.process.stdout.read(size)
        if mark == b"-":
            raise codec.decode_failure(body)
        return codec.decode(body)


CHECKS: dict[str, Callable[[], None]] = {}


def check(test: Callable[[], None]) -> Callable[[], None]:
    """Register a check of a program."""
    CHECKS[test.__name__] = test
    return test


def report() -> None:
    """Run all checks of a program and print what came of each, as one line of JSON."""
    found = {}
    for name, test in CHECKS.items():
        try:
            test()
        except BaseException:
            found[name] = traceback.format_exc()
        else:
            found[name] = ""
    print("REPORT", json.dumps(found))  # noqa: T201 - how a program reports
