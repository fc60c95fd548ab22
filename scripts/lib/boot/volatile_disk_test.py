#!/usr/bin/env python3
"""Whether the disk that forgets forgets the right things. scripts/boot-test looks at
this first: it believes nothing else that the disk says."""

import random
import socket
import struct
import tempfile
import unittest

from volatile_disk import (
    DURABLE,
    FLUSH,
    GO,
    PIECE,
    READ,
    REQUEST,
    REQUEST_MAGIC,
    WRITE,
    VolatileDisk,
    exactly,
)


class Machine:
    """What an emulator says to the disk; its end is a `kill -9`."""

    def __init__(self, at):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(at)
        self.stream = self.socket.makefile("rwb")
        exactly(self.stream, 18)
        # An option that nobody knows is refused, and the next one is heard.
        for option, replies in ((8, 1), (GO, 2)):
            self.stream.write(
                (struct.pack(">I", 3) if option == 8 else b"")
                + struct.pack(">8sII", b"IHAVEOPT", option, 0)
            )
            self.stream.flush()
            for _ in range(replies):
                exactly(self.stream, struct.unpack(">QIII", exactly(self.stream, 20))[3])

    def ask(self, kind, offset=0, length=0, data=b"", flags=0):
        self.stream.write(REQUEST.pack(REQUEST_MAGIC, flags, kind, 7, offset, length) + data)
        self.stream.flush()
        _, error, handle = struct.unpack(">IIQ", exactly(self.stream, 16))
        assert (error, handle) == (0, 7)
        return exactly(self.stream, length) if kind == READ else b""

    def write(self, piece, letter, flags=0):
        self.ask(WRITE, piece * PIECE, PIECE, letter * PIECE, flags)

    def text(self, pieces):
        return letters(self.ask(READ, 0, pieces * PIECE))

    def kill(self):
        self.stream.close()
        self.socket.close()


class NothingSurvives(random.Random):
    def choice(self, _):
        return 0.0


def letters(data):
    pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
    return "".join("." if piece[0] == 0 else chr(piece[0]) for piece in pieces)


class Forgetting(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.path, self.at = f"{place.name}/disk.img", f"{place.name}/disk.socket"
        with open(self.path, "wb") as file:
            file.truncate(8 * PIECE)
        self.disk = VolatileDisk(self.path, self.at)

    def on_disk(self):
        with open(self.path, "rb") as file:
            return letters(file.read())

    def test_what_was_flushed_survives_and_the_rest_does_not(self):
        machine = Machine(self.at)
        machine.write(0, b"a")
        machine.write(1, b"b")
        machine.ask(FLUSH)
        machine.write(1, b"c")
        machine.write(2, b"d")
        self.assertEqual(machine.text(4), "acd.")
        machine.kill()
        self.assertEqual(self.disk.cut(NothingSurvives()), (2, 2 * PIECE))
        self.assertEqual(self.on_disk(), "ab......")
        machine = Machine(self.at)
        self.assertEqual(machine.text(3), "ab.")
        machine.kill()

    def test_a_durable_write_survives_those_before_it(self):
        machine = Machine(self.at)
        machine.write(0, b"a")
        machine.write(0, b"b", DURABLE)
        machine.write(1, b"c")
        machine.kill()
        for seed in range(8):
            self.disk.cut(random.Random(seed))
            self.assertEqual(self.on_disk()[0], "b")

    def test_any_part_may_survive(self):
        seen = set()
        for seed in range(40):
            machine = Machine(self.at)
            machine.ask(WRITE, 0, 8 * PIECE, bytes(8 * PIECE), DURABLE)
            machine.ask(WRITE, 0, 2 * PIECE, b"a" * PIECE + b"b" * PIECE)
            machine.kill()
            self.disk.cut(random.Random(seed))
            seen.add(self.on_disk()[:2])
        self.assertEqual(seen, {"..", "a.", ".b", "ab"})

    def test_an_end_loses_nothing(self):
        machine = Machine(self.at)
        machine.write(3, b"a")
        machine.kill()
        self.disk.end()
        self.assertEqual(self.on_disk(), "...a....")


if __name__ == "__main__":
    unittest.main()
