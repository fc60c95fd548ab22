"""A machine in an emulator, and what can be seen of it from outside: its console, its
port, and a shell where it lets us in."""

import atexit
import dataclasses
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time

# By the image's architecture. An Orin's cores are of the same one as this processor's:
# ARMv8.2 with dot product and half precision.
EMULATED = {
    "arm64": ["qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a76"],
    "amd64": ["qemu-system-x86_64", "-machine", "q35", "-cpu", "max"],
}
CONSOLES = {"arm64": "ttyAMA0", "amd64": "ttyS0"}
# It answers when it is up; an emulator is slow.
PATIENCE_S = 900
# Who waits so long says what for.
SILENCE_S = 30


@dataclasses.dataclass
class Start:
    """What the machine starts, how that finds its root, and with which firmware."""

    kernel: str
    initrd: str
    root: str
    firmware: list = dataclasses.field(default_factory=list)


class Emulator:
    """Started by the call, and killed by `kill`. Without a `start` it starts the image's own
    kernel, and again where it wants to."""

    def __init__(self, image, disks, neighbour, place, console, start=None):
        self.http_port, self.ssh_port = free_port(), free_port()
        self.place = place
        self.console = console
        with open(f"{image}/image.json") as file:
            architecture = json.load(file)["architecture"]
        forwards = f"hostfwd=tcp:127.0.0.1:{self.http_port}-:11434"
        forwards += f",hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22"
        command = [*EMULATED[architecture], "-nodefaults", "-display", "none"]
        command += ["-accel", "tcg,thread=multi", "-rtc", "base=utc"]
        command += ["-smp", "2", "-m", "1024"]
        # Whoever has a firmware chooses again at each start.
        command += [*start.firmware, "-no-reboot"] if start else []
        start = start or Start(f"{image}/kernel", f"{image}/initrd", "root=/dev/vda ro")
        command += ["-kernel", start.kernel, "-initrd", start.initrd]
        command += ["-append", f"{start.root} console={CONSOLES[architecture]} rootwait"]
        # It can reach nobody but its neighbour, and only this machine reaches it.
        command += ["-netdev", f"user,id=host,restrict=on,{forwards}"]
        command += ["-netdev", neighbour.netdev("neighbour")]
        for at, netdev in enumerate(("host", "neighbour")):
            command += ["-netdev", f"hubport,id=port{at},hubid=0,netdev={netdev}"]
        command += ["-netdev", "hubport,id=machine,hubid=0"]
        command += ["-device", "virtio-net-pci,netdev=machine,romfile="]
        command += ["-device", "virtio-rng-pci"]
        # A machine whose watchdog fires is off, so that it is seen.
        command += ["-device", "i6300esb", "-action", "watchdog=poweroff"]
        command += ["-serial", f"file:{console}"]
        for at, disk in enumerate(disks):
            url = f"nbd+unix:///?socket={disk}"
            command += ["-drive", f"if=none,id=disk{at},format=raw,cache=writeback,file={url}"]
            command += ["-device", f"virtio-blk-pci,drive=disk{at}"]
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        # Whatever becomes of the test, no machine is left behind.
        atexit.register(self.kill)

    def age(self):
        return time.monotonic() - self.started

    def kill(self):
        """The power goes, whatever it does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ask(self, path, body=None, key=None, timeout=60):
        """The status and the text of one answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=timeout)
        headers = {"Accept": "text/html"} if path == "/" else {}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        method = "GET" if body is None else "POST"
        try:
            connection.request(method, path, body and json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def wait_for(self, what, look):
        """What `look` gives, once it gives something."""
        began = said = time.monotonic()
        while True:
            if self.process.poll() is not None:
                raise Failure(f"the machine went off before {what}", self)
            try:
                found = look()
            except (OSError, http.client.HTTPException, subprocess.SubprocessError):
                found = None
            if found:
                return found
            now = time.monotonic()
            if now - began > PATIENCE_S:
                raise Failure(f"waited {PATIENCE_S} s in vain for {what}", self)
            if now - said > SILENCE_S:
                said = now
                waits = f"  waiting for {what} since {now - began:.0f} s"
                print(waits, file=sys.stderr, flush=True)
            time.sleep(0.5)

    def run(self, command, timeout=120, stdin=subprocess.DEVNULL):
        """What a command in the machine prints, as root."""
        ssh = ["ssh", "-F", "none", "-p", str(self.ssh_port), "-i", f"{self.place}/login"]
        for option in ("StrictHostKeyChecking=no", "BatchMode=yes", "LogLevel=ERROR"):
            ssh += ["-o", option]
        ssh += ["-o", f"UserKnownHostsFile={self.place}/known", "-o", "ConnectTimeout=30"]
        done = subprocess.run(
            [*ssh, "root@127.0.0.1", command],
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise subprocess.SubprocessError(f"{command}: {done.stderr.strip()}")
        return done.stdout.strip()


class Failure(Exception):
    """Something that must be so is not."""

    def __init__(self, what, emulator=None):
        super().__init__(what)
        if emulator and os.path.exists(emulator.console):
            with open(emulator.console, errors="replace") as console:
                lines = console.read().splitlines()[-30:]
            self.add_note("the end of its console:\n  " + "\n  ".join(lines))


def check(is_so, what, emulator=None):
    if not is_so:
        raise Failure(what, emulator)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
