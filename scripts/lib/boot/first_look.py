"""What has to be so after a first boot that nobody helped, seen from outside where it can
be, and the figures that are taken of the machine then."""

import re

from emulator import check
from lan import POINTER, A
from stick import HOSTNAME

# What the emulator gives to a machine that asks for an address.
ADDRESS = "10.0.2.15"
SERVICES = ("_http._tcp.local", "_ollama._tcp.local")
UNITS = ("stoker", "stoker-firstboot", "stoker-health", "stoker-rebuild", "stoker-verify")


def look(emulator, neighbour, disk_bytes, report):
    """Says and reports what it finds, and fails where something is not as it must be."""

    def shell(command):
        return emulator.wait_for(command, lambda: emulator.run(command))

    check(shell("hostname") == HOSTNAME, "the name is the stick's", emulator)
    found_by_its_name(emulator, neighbour, report)
    report["watchdog"] = shell(
        "cd /sys/class/watchdog/watchdog0 && echo $(cat identity), $(cat state), $(cat timeout) s"
    )
    armed = ", active, " in report["watchdog"]
    check(armed, f"the watchdog is {report['watchdog']}", emulator)
    report["boot"] = emulator.wait_for(
        "the end of the boot", lambda: emulator.run("systemd-analyze time | head -1")
    )
    failed = emulator.run("systemctl list-units --failed --plain --no-legend | cut -d' ' -f1")
    check(not failed, f"units have failed: {failed}", emulator)
    passwords = emulator.run("awk -F: '$2 !~ /^[!*]/ { print $1 }' /etc/shadow")
    check(not passwords, f"who logs in with a password: {passwords}", emulator)
    report["critical_chain"] = emulator.run(
        "systemd-analyze critical-chain --no-pager stoker.service"
    )
    report["memory"] = memory(emulator)
    report["exposure"] = exposure(emulator)
    report["room"] = emulator.run("df --output=size,used --block-size=1 / | tail -1")
    size = int(report["room"].split()[0])
    check(size > disk_bytes * 0.9, f"the file system has {size} bytes", emulator)


def found_by_its_name(emulator, neighbour, report):
    """As a neighbour finds it that knows nothing but a name or a service."""
    name = f"{HOSTNAME}.local"
    found = emulator.wait_for(name, lambda: neighbour.finds(name, A))
    check(found == [ADDRESS], f"{name} is at {found}", emulator)
    report["mdns"] = {name: found}
    for service in SERVICES:
        found = emulator.wait_for(service, lambda of=service: neighbour.finds(of, POINTER))
        ours = f"Stoker on {HOSTNAME}.{service}"
        check(ours in found, f"{service} is {found}, and not {ours}", emulator)
        report["mdns"][service] = found


def memory(emulator):
    """Bytes that are resident: of the machine, and of each of our processes."""
    total, used = emulator.run("free -b | awk '/^Mem:/ { print $2, $3 }'").split()
    found = {"machine_bytes": int(total), "machine_used_bytes": int(used)}
    listed = emulator.run("ps -C stoker,engine-worker,indexer -o comm=,rss=")
    for line in listed.splitlines():
        name, kib = line.split()
        found[name] = found.get(name, 0) + int(kib) * 1024
    return found


def exposure(emulator):
    """What systemd thinks of each unit, from 0 (none) to 10."""
    found = {}
    for unit in UNITS:
        text = emulator.run(f"systemd-analyze security --no-pager {unit}.service | tail -1")
        level = re.search(r": ([0-9.]+) ", text)
        check(level, f"systemd says of {unit}: {text}", emulator)
        found[unit] = float(level[1])
    return found
