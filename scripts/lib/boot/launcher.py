"""What a Jetson's firmware does before it starts one of two systems, played while the
emulated machine is off: its driver for boot chains and its launcher, by NVIDIA's source.

    next chain asked for? ── yes, and no change before it is open ──► it is this one from now on
            │ no
    retries of this chain's system left? ── yes ──► one less, and it is started
            │ none
    it is given up; retries of the other's left? ── yes ──► a change to the other, and again
            │ none
    recovery

The retries are in a register there, which no start of the machine clears but the loss of
its power does, and any change of the chain; a system that is given up has none after that.
Here they are in a variable, where the stand-in for nvbootctrl finds them.
"""

import subprocess

from emulator import Failure, Start
from variables import Variables

NAMES = "AB"
PARTITIONS = ("APP", "APP_b")
BEGIN, SIZE = 1024**2, 1536 * 1024**2
RETRIES = 3
GIVEN_UP = 0xFF
# Of a change of the chain: it was made, or it was none.
CHANGED, NOTHING_TO_CHANGE = 0, 9
REGISTER = "StandInRetries"


class Launcher:
    """Of the machine with this disk, whose variables are in PLACE/variables."""

    def __init__(self, place, disk, template):
        self.place, self.disk = place, disk
        self.variables = Variables(f"{place}/variables")
        self.template = template

    def flash(self):
        """As from the factory, with two systems."""
        subprocess.run(["cp", self.template, self.variables.path], check=True)
        for name, value in (
            ("RootfsRedundancyLevel", 1),
            ("RootfsRetryCountMax", RETRIES),
            ("RootfsStatusSlotA", 0),
            ("RootfsStatusSlotB", 0),
            ("BootChainFwCurrent", 0),
        ):
            self.variables.set(name, value)

    def lose_power(self):
        self.variables.delete(REGISTER)

    def choose(self):
        """The number of the slot that is started now."""
        self._change_chain()
        for _ in NAMES:
            chain, retries = self.variables.get("BootChainFwCurrent"), self.retries()
            if retries[chain]:
                retries[chain] -= 1
                self._keep(retries)
                return chain
            self.variables.set(status_of(chain), GIVEN_UP)
            if not retries[1 - chain]:
                break
            self.variables.set("BootChainFwNext", 1 - chain)
            self.variables.delete("BootChainFwStatus")
            self._change_chain()
        raise Failure("the firmware starts neither system: this is recovery")

    def start_of(self, slot):
        """Kernel and initrd of this slot, as they are in its own file system."""
        where = f"{self.disk}?offset={BEGIN + slot * SIZE}"
        listed = self._debugfs(where, "ls -p /boot")
        names = [line.split("/")[5] for line in listed.splitlines() if line.count("/") > 5]
        for name, kind in (("kernel", "vmlinuz-"), ("initrd", "initrd.img-")):
            found = [one for one in names if one.startswith(kind)]
            if len(found) != 1:
                raise Failure(f"slot {NAMES[slot]} has no {name}: {names}")
            self._debugfs(where, f"dump /boot/{found[0]} {self.place}/{name}")
        # A kernel that stops before it has settings is a case for a board's watchdog.
        root = f"root=PARTLABEL={PARTITIONS[slot]} rw panic=3"
        return Start(f"{self.place}/kernel", f"{self.place}/initrd", root, self._flash_drives())

    def status(self):
        """Of both systems, for the report."""
        retries = self.retries()
        return {
            name: {
                "retries": retries[slot],
                "given_up": self.variables.get(status_of(slot)) == GIVEN_UP,
            }
            for slot, name in enumerate(NAMES)
        }

    def _change_chain(self):
        chain, wanted = (self.variables.get(f"BootChainFw{it}") for it in ("Current", "Next"))
        if wanted is None:
            return
        self.variables.delete("BootChainFwNext")
        if self.variables.get("BootChainFwStatus") is not None:
            return
        if wanted == chain:
            self.variables.set("BootChainFwStatus", NOTHING_TO_CHANGE)
            return
        self.variables.set("BootChainFwStatus", CHANGED)
        self.variables.set("BootChainFwCurrent", wanted)
        self.variables.delete(REGISTER)

    def retries(self):
        """Of A and B."""
        kept = self.variables.get(REGISTER)
        if kept is not None:
            return [kept & 0xFF, kept >> 8]
        most = self.variables.get("RootfsRetryCountMax")
        given_up = [self.variables.get(status_of(slot)) == GIVEN_UP for slot in (0, 1)]
        return [0 if it else most for it in given_up]

    def _keep(self, retries):
        self.variables.set(REGISTER, retries[0] | retries[1] << 8)

    def _flash_drives(self):
        code = self.template.replace("VARS", "CODE")
        drive = "if=pflash,format=raw"
        return [
            *("-drive", f"{drive},unit=0,readonly=on,file={code}"),
            *("-drive", f"{drive},unit=1,file={self.variables.path}"),
        ]

    def _debugfs(self, where, request):
        command = ["debugfs", "-R", request, where]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def status_of(slot):
    return f"RootfsStatusSlot{NAMES[slot]}"
