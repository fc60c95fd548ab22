"""The variables of an emulated firmware, in the file that is its flash, read and written
while the machine is off: numbers, of one owner, NVIDIA."""

import struct
import uuid

OWNER = uuid.UUID("781e084c-a330-417c-b678-38e696380cb9").bytes_le
# Kept, and there for the firmware and for the system.
ATTRIBUTES = 7
# In the flash: its mark, and the length of its header. What follows is the store.
FLASH_MARK_AT, FLASH_HEADER_AT, STORE_HEADER = 40, 48, 28
# Mark, state, attributes, three things that are not used here, the lengths of name and
# value, and the owner. Name and value follow.
HEADER = struct.Struct("<HBxI28xII16s")
MARK, VALID, DELETED = 0x55AA, 0x3F, 0x3D


class Variables:
    def __init__(self, path):
        self.path = path

    def get(self, name):
        """`None` if there is none."""
        with open(self.path, "rb") as file:
            found = self._find(file, name)
            if found is None:
                return None
            file.seek(found[1])
            return struct.unpack("<I", file.read(4))[0]

    def set(self, name, value):
        with open(self.path, "r+b") as file:
            data = struct.pack("<I", value)
            found = self._find(file, name)
            if found is None:
                *_, end = self._all(file)
                wide = wide_of(name)
                header = HEADER.pack(MARK, VALID, ATTRIBUTES, len(wide), len(data), OWNER)
                file.seek(end[0])
                data = header + wide + data
            else:
                file.seek(found[1])
            file.write(data)

    def delete(self, name):
        with open(self.path, "r+b") as file:
            found = self._find(file, name)
            if found is not None:
                file.seek(found[0] + 2)
                file.write(bytes([DELETED]))

    def _find(self, file, name):
        """Where it begins, and where its value does."""
        for at, state, owner, wide, value in self._all(file):
            if (state, owner, wide) == (VALID, OWNER, wide_of(name)):
                return at, value
        return None

    def _all(self, file):
        """Each as place, state, owner, name and place of its value; then the place where
        the next one will be."""
        file.seek(0)
        flash = file.read()
        if flash[FLASH_MARK_AT : FLASH_MARK_AT + 4] != b"_FVH":
            raise ValueError(f"{self.path} is no flash of a firmware's variables")
        at = struct.unpack_from("<H", flash, FLASH_HEADER_AT)[0] + STORE_HEADER
        while True:
            mark, state, _, name, value, owner = HEADER.unpack_from(flash, at)
            if mark != MARK:
                yield at, None, None, None, None
                return
            wide = at + HEADER.size
            yield at, state, owner, flash[wide : wide + name], wide + name
            at = (wide + name + value + 3) & ~3


def wide_of(name):
    return (name + "\0").encode("utf-16-le")
