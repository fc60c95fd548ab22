"""A neighbour of the emulated machine on its network, for what only a neighbour sees: how
it answers mDNS. Frames go to the emulator and come from it as datagrams on the loopback."""

import socket
import struct
import time

# Of the emulator's network, and used by nobody else on it.
ADDRESS = "10.0.2.77"
MAC = bytes.fromhex("525400000077")
GROUP, GROUP_MAC, PORT = "224.0.0.251", bytes.fromhex("01005e0000fb"), 5353
IPV4, UDP = 0x0800, 17
A, POINTER = 1, 12
# A frame and what the emulator may put around it.
LONGEST = 2048


class Neighbour:
    """There before the machine is started, and through all of its boots."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.machine_port = free_udp_port()

    def netdev(self, name):
        """What the emulator has to be told to be on this network."""
        here = self.socket.getsockname()[1]
        ends = (("local", self.machine_port), ("remote", here))
        return f"dgram,id={name}," + ",".join(
            f"{end}.type=inet,{end}.host=127.0.0.1,{end}.port={port}" for end, port in ends
        )

    def finds(self, name, kind, wait_s=5):
        """What the network says of a name: the data of all answers within some seconds."""
        self._forget()
        self.socket.sendto(frame(question(name, kind)), ("127.0.0.1", self.machine_port))
        until = time.monotonic() + wait_s
        while (left := until - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                heard = payload(self.socket.recv(LONGEST))
            except TimeoutError:
                break
            found = [
                data for owner, of, data in answers(heard or b"") if (owner, of) == (name, kind)
            ]
            if found:
                return found
        return []

    def _forget(self):
        """What was said before it asked."""
        self.socket.setblocking(False)
        try:
            while True:
                self.socket.recv(LONGEST)
        except BlockingIOError:
            pass


def frame(message):
    """An Ethernet frame to everybody who listens to mDNS."""
    udp = struct.pack(">HHHH", PORT, PORT, 8 + len(message), 0) + message
    length = 20 + len(udp)
    addresses = socket.inet_aton(ADDRESS) + socket.inet_aton(GROUP)
    header = struct.pack(">BBHHHBBH", 0x45, 0, length, 0, 0, 255, UDP, 0) + addresses
    total = sum(struct.unpack(">10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    header = header[:10] + struct.pack(">H", checksum) + header[12:]
    return GROUP_MAC + MAC + struct.pack(">H", IPV4) + header + udp


def payload(heard):
    """The mDNS message in an Ethernet frame, if it is one."""
    if len(heard) < 42 or struct.unpack_from(">H", heard, 12)[0] != IPV4 or heard[23] != UDP:
        return None
    udp = 14 + (heard[14] & 0x0F) * 4
    return heard[udp + 8 :] if struct.unpack_from(">H", heard, udp)[0] == PORT else None


def question(name, kind):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">6H", 0, 0, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def answers(message):
    """(owner, kind, data) of each answer: an address, or the name that is pointed to."""
    if len(message) < 12:
        return
    _, _, questions, count, authorities, more = struct.unpack_from(">6H", message)
    at = 12
    for _ in range(questions):
        at = name_at(message, at)[1] + 4
    for _ in range(count + authorities + more):
        owner, at = name_at(message, at)
        kind, _, _, length = struct.unpack_from(">HHIH", message, at)
        at += 10
        if kind == A:
            yield owner, kind, socket.inet_ntoa(message[at : at + 4])
        elif kind == POINTER:
            yield owner, kind, name_at(message, at)[0]
        at += length


def name_at(message, at):
    """A name that may go on somewhere before it, and where what follows it begins."""
    labels, end = [], None
    while length := message[at]:
        if length >= 0xC0:
            end = end or at + 2
            at = struct.unpack_from(">H", message, at)[0] & 0x3FFF
            continue
        labels.append(message[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), end or at + 1


def free_udp_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
