"""A disk with a write cache that forgets when the power is cut.

An emulator that is killed loses nothing that its host's page cache has, so a cut has
to be made by whoever has the disk. This is that disk, over the network block device
protocol on a socket. A write is in the cache alone until the machine flushes, or asks
for that one write to be durable. At a cut each write that is still in the cache gets
to the disk or does not, in pieces of 4 KiB, as drawn: any part may be lost, and what
was written later may be there while what was written before is not.
"""

import os
import socket
import struct
import threading

OPTION_MAGIC = 0x49484156454F5054
REPLY_MAGIC = 0x3E889045565A9
REQUEST = struct.Struct(">IHHQQI")
REQUEST_MAGIC, SIMPLE_REPLY = 0x25609513, 0x67446698
GO, INFO, ABORT = 7, 6, 2
ACK, IS_INFO, UNSUPPORTED = 1, 3, 0x80000001
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
# There are flags; flushes and durable writes are understood.
FLAGS = 1 << 0 | 1 << 2 | 1 << 3
DURABLE = 1 << 0
SECTOR = 512
# What a disk writes whole.
PIECE = 4096
# A cache is full some time; then the oldest goes to the disk.
CACHE_BYTES = 128 * 1024 * 1024


class VolatileDisk:
    """Serves the image at `path` on the socket `at`, to one machine after another."""

    def __init__(self, path, at):
        self.file = os.open(path, os.O_RDWR)
        self.size = os.fstat(self.file).st_size
        # In the order of arrival: where, what, and whether it is on the disk already.
        self.cache = []
        self.cached_bytes = 0
        # Sector to its newest content, of what is in the cache.
        self.newest = {}
        self.flushes = 0
        self.idle = threading.Condition()
        self.connected = False
        if os.path.exists(at):
            os.unlink(at)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(at)
        self.listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self, draw):
        """Loses what the draw says, after the machine was killed. Gives the writes that
        were in the cache and the bytes that were lost."""
        with self.idle:
            self.idle.wait_for(lambda: not self.connected)
        keep = draw.choice([0.0, 0.1, 0.5, 0.9])
        writes, lost = 0, 0
        for offset, data, durable in self.cache:
            writes += not durable
            for at in range(0, len(data), PIECE):
                piece = data[at : at + PIECE]
                if durable or draw.random() < keep:
                    os.pwrite(self.file, piece, offset + at)
                else:
                    lost += len(piece)
        self._emptied()
        return writes, lost

    def end(self):
        """Nothing is lost: what is in the cache gets to the disk."""
        with self.idle:
            self.idle.wait_for(lambda: not self.connected)
        self._flush()

    def _serve(self):
        while True:
            machine, _ = self.listener.accept()
            with self.idle:
                self.connected = True
            try:
                with machine, machine.makefile("rwb") as stream:
                    if self._shake_hands(stream):
                        self._answer(stream)
            except (OSError, EOFError):
                pass  # It was killed.
            with self.idle:
                self.connected = False
                self.idle.notify_all()

    def _shake_hands(self, stream):
        stream.write(b"NBDMAGIC" + struct.pack(">QH", OPTION_MAGIC, 0b11))
        stream.flush()
        exactly(stream, 4)
        while True:
            _, option, length = struct.unpack(">QII", exactly(stream, 16))
            exactly(stream, length)

            def say(kind, data=b"", option=option):
                stream.write(struct.pack(">QIII", REPLY_MAGIC, option, kind, len(data)) + data)

            if option in (GO, INFO):
                say(IS_INFO, struct.pack(">HQH", 0, self.size, FLAGS))
                say(ACK)
            else:
                say(ACK if option == ABORT else UNSUPPORTED)
            stream.flush()
            if option in (GO, ABORT):
                return option == GO

    def _answer(self, stream):
        while True:
            magic, flags, kind, handle, offset, length = REQUEST.unpack(
                exactly(stream, REQUEST.size)
            )
            if magic != REQUEST_MAGIC or kind == DISCONNECT:
                return
            answer = b""
            if kind == READ:
                answer = self._read(offset, length)
            elif kind == WRITE:
                self._write(offset, exactly(stream, length), flags & DURABLE)
            elif kind == FLUSH:
                self._flush()
            else:
                raise OSError(f"request {kind} was not offered")
            stream.write(struct.pack(">IIQ", SIMPLE_REPLY, 0, handle) + answer)
            stream.flush()

    def _read(self, offset, length):
        data = os.pread(self.file, length, offset)
        if not self.newest:
            return data
        first = offset // SECTOR
        found = [at for at in range(length // SECTOR) if first + at in self.newest]
        if not found:
            return data
        data = bytearray(data)
        for at in found:
            data[at * SECTOR : (at + 1) * SECTOR] = self.newest[first + at]
        return bytes(data)

    def _write(self, offset, data, durable):
        if durable:
            os.pwrite(self.file, data, offset)
        self.cache.append((offset, data, bool(durable)))
        self.cached_bytes += len(data)
        for at in range(0, len(data), SECTOR):
            self.newest[(offset + at) // SECTOR] = data[at : at + SECTOR]
        if self.cached_bytes > CACHE_BYTES:
            self._flush()

    def _flush(self):
        for offset, data, _ in self.cache:
            os.pwrite(self.file, data, offset)
        self._emptied()
        self.flushes += 1

    def _emptied(self):
        self.cache.clear()
        self.newest.clear()
        self.cached_bytes = 0


def exactly(stream, length):
    data = stream.read(length)
    if len(data) != length:
        raise EOFError
    return data
