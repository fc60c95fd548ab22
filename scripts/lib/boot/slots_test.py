#!/usr/bin/env python3
"""Boots an image with two systems, and gives it whole systems to update to.

    slots_test.py IMAGE PLACE --cuts N --seed SEED --report FILE

Before each start the launcher chooses, as a Jetson's firmware does. PLACE has the updates
of system-updates, and is used for one run alone.

What the machine is and what it has acknowledged must be there after each update, whichever
system runs: its name, keys and engines, and the keys and repositories that were given to it.
Then its power is cut while it is updated, each time from the same beginning: it must come
to one of both systems, whole, and mark it as good. The report has what was seen.
"""

import argparse
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import deeds
import stick
from emulator import Emulator, Failure, check
from lan import Neighbour
from launcher import NAMES, RETRIES, Launcher
from volatile_disk import VolatileDisk

FIRMWARE = "/usr/share/OVMF/OVMF_VARS_4M.fd"
DISKS = ("disk", "stick")
# All that a machine remembers.
FILES = ("variables", "disk.img", "stick.img")
UPDATE = "/data/update.raucb"
# An emulated machine takes a minute to start and two to write a system; one that goes back
# starts four times.
PATIENCE_S = 2400
SILENCE_S = 60
# The version of the update that is well.
GOOD = "9.9.1"
# Of a trial. A model need not be loaded, and the emulator is slow.
TRIAL = "--patience-s 240 --steady-s 10"
# The disk has more than its image, and the partition that both systems use takes that.
MORE_BYTES = 2 * 1024**3
# What the machine is, whichever of its systems runs.
IDENTITY = (
    "hostname",
    "cat /etc/machine-id",
    "cat /etc/ssh/ssh_host_*_key.pub",
    "cat /root/.ssh/authorized_keys",
    "ls /var/lib/stoker/engines",
    "cat /etc/stoker/conf.d/*",
    "stat --format='%n %U:%G' /var/lib/stoker /var/lib/stoker/*.db",
    # The journal goes on.
    "journalctl --list-boots --no-pager | awk 'NR == 1 { print $2 }'",
)


def say(text):
    print(text, file=sys.stderr, flush=True)


class Test:
    def __init__(self, image, place, seed):
        self.image, self.place = image, place
        self.began = time.monotonic()
        self.report = {"seed": seed, "updates": [], "cuts": []}
        with open(f"{image}/image.json") as file:
            self.report["image"] = json.load(file)
        architecture = self.report["image"]["architecture"]
        if architecture != "amd64":
            raise SystemExit(f"there is no firmware here for {architecture}; build for amd64")
        self.acknowledged = deeds.Acknowledged()
        disk = f"{place}/disk.img"
        copy(f"{image}/disk.img", disk)
        os.truncate(disk, os.path.getsize(disk) + MORE_BYTES)
        for name in ("login", "login.pub", "stick.img"):
            if os.path.exists(f"{place}/{name}"):
                os.unlink(f"{place}/{name}")
        stick.make(place)
        self.launcher = Launcher(place, disk, FIRMWARE)
        self.launcher.flash()
        self.neighbour = Neighbour()
        self.disks = [VolatileDisk(f"{place}/{it}.img", f"{place}/{it}.socket") for it in DISKS]
        self.emulator = None
        # The slots that were started, each by its name.
        self.starts = []

    def start(self):
        slot = self.launcher.choose()
        sockets = [f"{self.place}/{it}.socket" for it in DISKS]
        console = f"{self.place}/console-{len(self.starts)}.log"
        start = self.launcher.start_of(slot)
        self.starts.append(NAMES[slot])
        say(f"  start {len(self.starts)}: system {NAMES[slot]}")
        self.emulator = Emulator(self.image, sockets, self.neighbour, self.place, console, start)

    def follow(self, what, look):
        """What `look` gives once it gives something, however often the machine goes off to
        start again until then."""
        began = said = time.monotonic()
        while True:
            if self.emulator.process.poll() is not None:
                self.all_is_written()
                self.start()
            try:
                found = look(self.emulator)
            except (OSError, http.client.HTTPException, subprocess.SubprocessError):
                found = None
            if found:
                return found
            now = time.monotonic()
            if now - began > PATIENCE_S:
                raise Failure(f"waited {PATIENCE_S} s in vain for {what}", self.emulator)
            if now - said > SILENCE_S:
                said = now
                say(f"  waiting for {what} since {now - began:.0f} s")
            time.sleep(1)

    def all_is_written(self):
        """A machine that starts again has not lost what is in its disks' caches."""
        for disk in self.disks:
            disk.end()

    def first_boot(self):
        say("the first boot")
        self.start()
        self.report["first_answer_s"] = deeds.took(lambda: self.follow("an answer", deeds.answers))
        check(self.starts == ["A"], f"these were started: {self.starts}", self.emulator)
        self.follow("its mark", is_good)
        data = int(self.emulator.run("df --output=size --block-size=1 /data | tail -1"))
        check(data > MORE_BYTES, f"the shared file system has {data} bytes", self.emulator)
        for at in range(2):
            key = self.emulator.run(f"stoker key add mine-{at}")
            self.acknowledged.keys.append((f"mine-{at}", key))
        deeds.add_repository(self.emulator, "mine", "/usr/lib/stoker", self.acknowledged)
        self.identity = identity(self.emulator)
        say(f"  served after {self.report['first_answer_s']} s, and marked as good")

    def refuse(self, name):
        """Nothing is changed by what is not for this machine."""
        before = state(self.emulator)
        self.bring(name)
        said = self.emulator.run(f"stoker update {UPDATE} 2>&1; echo $?", deeds.PATIENCE_S)
        check(said.endswith("\n1"), f"the update {name} was not refused: {said}", self.emulator)
        check(state(self.emulator) == before, f"refused, and changed: {said}", self.emulator)
        self.report["updates"].append({"name": name, "said": said.splitlines()[:-1]})
        say(f"  refused: {said}")

    def update(self, name, phase, starts):
        """Has the machine take an update, until that has ended as it must, after so many
        seconds."""
        say(f"an update: {name}")
        self.bring(name)
        first = len(self.starts)
        took = deeds.took(lambda: self.run_update(phase))
        started = "".join(self.starts[first:])
        said = self.emulator.run("stoker update status")
        update = {"name": name, "took_s": took, "starts": started, "said": said}
        self.report["updates"].append(update | {"firmware": self.launcher.status()})
        say(f"  {said}; started {started}, {took} s")
        check(started in starts, f"started {started}, not one of {starts}", self.emulator)
        self.look()
        return took

    def run_update(self, phase):
        said = []
        command = f"stoker update {UPDATE} {TRIAL} 2>&1; echo $?"
        began = self.emulator
        deeds.in_background(lambda: said.append(began.run(command, PATIENCE_S)))

        def ended(emulator):
            if said and emulator is began and not said[0].endswith("\n0"):
                raise Failure(f"the update did not begin: {said[0]}", emulator)
            news = news_of(emulator)
            name = news and news["phase"]["name"]
            if emulator is not began and name in ("committed", "went_back"):
                check(name == phase, f"it ended as {name}: {news['text']}", emulator)
                return True
            return False

        self.follow("the end of the update", ended)

    def look(self):
        """It serves, is marked as good, and has all that it had."""
        self.follow("an answer", deeds.answers)
        self.follow("its mark", is_good)
        self.acknowledged.look(self.emulator)
        now = identity(self.emulator)
        changed = [what for what in IDENTITY if now[what] != self.identity[what]]
        check(not changed, f"these have changed: {changed}", self.emulator)
        failed = self.emulator.run("systemctl list-units --failed --plain --no-legend")
        check(not failed, f"units have failed: {failed}", self.emulator)

    def bring(self, name):
        with open(f"{self.place}/{name}.raucb", "rb") as file:
            self.emulator.run(f"cat >{UPDATE} && sync", deeds.PATIENCE_S, stdin=file)

    def run_all(self, cuts):
        self.first_boot()
        if cuts:
            self.keep_beginning()
        say("updates that are not for this machine")
        self.refuse("key")
        self.refuse("compatible")
        self.whole_s = self.update("good", "committed", ["B"])
        self.is_in("B", GOOD)
        self.update("init", "went_back", ["AAAB"])
        self.is_in("B", GOOD)
        self.update("stoker", "went_back", ["AB", "AAAB"])
        self.is_in("B", GOOD)
        for at in range(cuts):
            self.cut_in_an_update(at, self.whole_s)

    def is_in(self, slot, version):
        running = self.starts[-1]
        check(running == slot, f"system {running} runs", self.emulator)
        there = self.emulator.run("cat /etc/boot-test-system")
        check(there == version, f"this is the system {there}", self.emulator)
        check(deeds.version(self.emulator) == version, "the packages are others", self.emulator)

    def keep_beginning(self):
        """Of a machine that has served and was shut down, with an update on its disk."""
        self.bring("good")
        deeds.until_it_dies(lambda: self.emulator.run("systemctl poweroff"))
        self.emulator.process.wait(PATIENCE_S)
        self.all_is_written()
        os.makedirs(f"{self.place}/beginning", exist_ok=True)
        for name in FILES:
            copy(f"{self.place}/{name}", f"{self.place}/beginning/{name}")
        self.start()
        self.look()

    def cut_in_an_update(self, at, whole_s):
        say("an update, cut off")
        draw = random.Random(f"{self.report['seed']}/cut {at}")
        self.go_to_the_beginning()
        first = len(self.starts)
        after_s = draw.uniform(0, whole_s)
        emulator = self.emulator
        deeds.in_background(lambda: emulator.run(f"stoker update {UPDATE} {TRIAL}", PATIENCE_S))
        self.pass_time(after_s)
        cut = {"after_s": round(after_s, 1), "in": self.starts[-1]}
        self.off()
        lost = [disk.cut(draw) for disk in self.disks]
        cut["bytes_lost"] = sum(bytes_lost for _, bytes_lost in lost)
        self.launcher.lose_power()
        self.start()
        self.follow("the end of the update", has_ended)
        self.look()
        news = news_of(self.emulator)
        if news and news["phase"]["name"] == "committed":
            self.is_in("B", GOOD)
        else:
            check(self.starts[-1] == "A", "system B runs, and did not stay", self.emulator)
        cut["starts"] = "".join(self.starts[first:])
        cut["said"] = self.emulator.run("stoker update status")
        cut["firmware"] = self.launcher.status()
        self.report["cuts"].append(cut)
        say(f"  {cut}")

    def go_to_the_beginning(self):
        self.off()
        self.all_is_written()
        for name in FILES:
            copy(f"{self.place}/beginning/{name}", f"{self.place}/{name}")
        self.start()
        self.look()

    def pass_time(self, seconds):
        """In which the machine starts again where it wants to."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.emulator.process.poll() is not None:
                self.all_is_written()
                self.start()
            time.sleep(0.1)

    def off(self):
        self.emulator.kill()
        # Whoever worked in it has noticed.
        time.sleep(1)

    def end(self):
        self.off()
        self.all_is_written()
        stick.look(self.place)
        shutil.rmtree(f"{self.place}/beginning", ignore_errors=True)


def copy(source, to):
    """Into the file that is there, which a disk may have open."""
    subprocess.run(["cp", "--sparse=always", source, to], check=True)


def is_good(emulator):
    """The system that runs has all its retries again."""
    lines = emulator.run("nvbootctrl -t rootfs dump-slots-info").splitlines()
    running = NAMES.index(lines[0].removeprefix("Current rootfs slot: "))
    words = lines[3 + running].split()
    has_all = words[-3:] == [f"{RETRIES},", "status:", "normal"]
    return has_all and emulator.run("systemctl is-active stoker-health") == "active"


def identity(emulator):
    return {what: emulator.run(what) for what in IDENTITY}


def state(emulator):
    """What an update that is refused must leave as it is."""
    return (
        emulator.run("nvbootctrl -t rootfs dump-slots-info; cat /proc/sys/kernel/random/boot_id"),
        emulator.run("stoker update status --format json"),
        # What was written to the other system.
        emulator.run("awk '{ print $7 }' /sys/class/block/vda2/stat"),
    )


def news_of(emulator):
    return json.loads(emulator.run("stoker update status --format json"))


def has_ended(emulator):
    news = news_of(emulator)
    return not news or news["phase"]["name"] in ("committed", "went_back")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("image")
    parser.add_argument("place")
    parser.add_argument("--cuts", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--report", required=True)
    arguments = parser.parse_args()
    # As an exit, so that no emulator is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    test = Test(arguments.image, arguments.place, arguments.seed)
    try:
        test.run_all(arguments.cuts)
        test.end()
        test.report["outcome"] = "ok"
    except (Failure, subprocess.SubprocessError) as failure:
        test.report["outcome"] = str(failure)
        say(f"boot-test: {failure}")
        for note in getattr(failure, "__notes__", []):
            say(note)
    test.report["took_s"] = round(time.monotonic() - test.began, 1)
    with open(arguments.report, "w") as file:
        json.dump(test.report, file, indent=2)
    sys.exit(test.report["outcome"] != "ok")


if __name__ == "__main__":
    main()
