"""Lay out a list of plain values in shared memory, byte for byte as the standard library's `ShareableList`.

Role in the flow: `corral.shared_memory.ShareableList` packs, reads and replaces items with it.
Runs in: parent and child, any thread; it holds no state.

    count N                      8 bytes, a signed integer, in the machine's order as all that follows
    offsets                      (N + 1) * 8 bytes: where each item begins behind this table; the last's end
    items                        each padded to a multiple of 8 bytes
    formats                      N * 8 bytes: how the item is packed now, in the notation of `struct`
    kinds                        N bytes: 0 as it is unpacked, 1 text, 2 bytes, 3 None

Failure: what is read from the memory is checked; what cannot be right is a `ValueError`.
"""

from __future__ import annotations

import struct
from itertools import pairwise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["Layout", "pack", "read_layout"]

WORD = 8
FORMATS: dict[type, str] = {
    int: "q",
    float: "d",
    bool: "xxxxxxx?",
    str: "%ds",
    bytes: "%ds",
    type(None): "xxxxxx?x",
}
FIXED = frozenset(FORMATS.values()) - {"%ds"}
AS_IS, TEXT, BYTES, NONE = range(4)
_KINDS: dict[type, int] = {str: TEXT, bytes: BYTES, type(None): NONE}


class Layout:
    """Where the items of one list lie; what they are is in the memory itself."""

    __slots__ = ("count", "formats_at", "items_at", "kinds_at", "offsets")

    def __init__(self, offsets: tuple[int, ...]) -> None:
        self.offsets = offsets
        self.count = len(offsets) - 1
        self.items_at = (self.count + 2) * WORD
        self.formats_at = self.items_at + offsets[-1]
        self.kinds_at = self.formats_at + self.count * WORD

    def format(self, memory: memoryview, index: int) -> str:
        """Return how an item is packed now."""
        at = self.formats_at + index * WORD
        packed = bytes(memory[at : at + WORD]).rstrip(b"\0")
        found = packed.decode("ascii", "replace")
        if found in FIXED or (
            found[-1:] == "s" and packed[:-1].isdigit() and int(packed[:-1]) <= self.room(index)
        ):
            return found
        raise ValueError(f"damaged list: item {index} is packed as {found!r}")

    def room(self, index: int) -> int:
        """Return how many bytes an item may take."""
        return self.offsets[index + 1] - self.offsets[index]

    def get(self, memory: memoryview, index: int) -> Any:
        """Return an item."""
        (found,) = struct.unpack_from(self.format(memory, index), memory, self.items_at + self.offsets[index])
        kind = memory[self.kinds_at + index]
        if kind == NONE:
            return None
        if kind in {TEXT, BYTES} and isinstance(found, bytes):
            found = found.rstrip(b"\0")
            return found.decode() if kind == TEXT else found
        if kind != AS_IS:
            raise ValueError(f"damaged list: item {index} is of kind {kind}")
        return found

    def set(self, memory: memoryview, index: int, value: Any) -> None:
        """Replace an item."""
        form = FORMATS[type(value)]
        packed: Any = value.encode() if isinstance(value, str) else value
        if isinstance(packed, bytes):
            if len(packed) > self.room(index):
                raise ValueError("bytes/str item exceeds available storage")
            old = self.format(memory, index)
            form = old if old.endswith("s") else form % self.room(index)
        # Packed before anything is changed: it may be refused.
        item = struct.pack(form, packed)
        at = self.items_at + self.offsets[index]
        memory[at : at + len(item)] = item
        at = self.formats_at + index * WORD
        memory[at : at + WORD] = form.encode().ljust(WORD, b"\0")
        memory[self.kinds_at + index] = _KINDS.get(type(value), AS_IS)


def pack(sequence: Iterable[Any]) -> tuple[bytes, Layout]:
    """Return the bytes of a list, and where its items lie in them.

    Raises:
        KeyError: an item is of a type that cannot be shared.
        struct.error: an integer has more than 64 bits.
    """
    items: list[bytes] = []
    formats: list[bytes] = []
    kinds = bytearray()
    offsets = [0]
    for value in sequence:
        form = FORMATS[type(value)]
        packed: Any = value.encode() if isinstance(value, str) else value
        if isinstance(packed, bytes):
            # As the library has it that laid this out first: by characters. But what they take must fit.
            form %= WORD * max(len(value) // WORD + 1, -(-len(packed) // WORD))
        items.append(struct.pack(form, packed))
        formats.append(form.encode().ljust(WORD, b"\0"))
        kinds.append(_KINDS.get(type(value), AS_IS))
        offsets.append(offsets[-1] + len(items[-1]))
    head = struct.pack(f"{len(items) + 2}q", len(items), *offsets)
    if any(len(form) > WORD for form in formats):
        raise ValueError("an item is too long to be shared in a list")
    return b"".join([head, *items, *formats, bytes(kinds)]), Layout(tuple(offsets))


def read_layout(memory: memoryview) -> Layout:
    """Return where the items of a list in shared memory lie.

    Raises:
        ValueError: that is no such list.
    """
    if len(memory) >= 2 * WORD:
        (count,) = struct.unpack_from("q", memory, 0)
        if 0 <= count <= len(memory) // WORD - 2:
            offsets = struct.unpack_from(f"{count + 1}q", memory, WORD)
            shortest = min((after - before for before, after in pairwise(offsets)), default=WORD)
            layout = Layout(offsets)
            if offsets[0] == 0 and shortest >= WORD and layout.kinds_at + count <= len(memory):
                return layout
    raise ValueError("the segment holds no shareable list")
