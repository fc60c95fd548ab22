#!/usr/bin/env python3
"""Boots an image, uses it from outside and cuts its power at drawn moments.

    boot_test.py IMAGE PLACE --cuts N --seed SEED --report FILE [--slice]

Where it is, stands in PLACE/progress.json after each cut: what was interrupted goes on
there when it is started again with the same PLACE. PLACE has broken.update and
update.pub, and may have model.gguf.

A key that `stoker key add` has printed, and a repository that `stoker index add` has
confirmed, are acknowledged: after each cut all of them must be there. So must the
settings that the first boot took from the stick, and the version of our packages. The
report has what was measured.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time

import deeds
import first_look
import stick
from emulator import Emulator, Failure, check
from lan import Neighbour
from volatile_disk import VolatileDisk

GIB = 1024**3
DISK_BYTES = 4 * GIB
# Somebody works for so long at most before a cut.
WORK_S = 30
# In each round of so many cuts there is one of each, in an order of its own.
MOMENTS = ("boot", "serving", "build", "update")
# How long a dead machine may stand still: the watchdog's 30 s and what an emulator adds.
WATCHDOG_S = 180


def say(text):
    print(text, file=sys.stderr, flush=True)


class Test:
    def __init__(self, image, place, seed, slice_only):
        self.image, self.place, self.slice_only = image, place, slice_only
        self.progress = f"{place}/progress.json"
        self.began = time.monotonic()
        if os.path.exists(self.progress):
            self._go_on(seed)
        else:
            self._begin(seed)
        self.has_model = os.path.exists(f"{place}/{stick.MODEL}")
        self.neighbour = Neighbour()
        self.disks = [
            VolatileDisk(f"{place}/{name}.img", f"{place}/{name}.socket")
            for name in ("disk", "stick")
        ]

    def _begin(self, seed):
        self.report = {"seed": seed, "boots": [], "cuts": [], "took_s": 0}
        with open(f"{self.image}/image.json") as file:
            self.report["image"] = json.load(file)
        self.acknowledged = deeds.Acknowledged()
        self.has_looked = False
        disk = f"{self.place}/disk.img"
        subprocess.run(["cp", "--sparse=always", f"{self.image}/disk.img", disk], check=True)
        os.truncate(disk, DISK_BYTES)
        stick.make(self.place)
        self.save()

    def _go_on(self, seed):
        with open(self.progress) as file:
            progress = json.load(file)
        self.report = progress["report"]
        if self.report["seed"] != seed:
            raise SystemExit(f"{self.place} belongs to the seed {self.report['seed']}")
        self.acknowledged = deeds.Acknowledged(progress["keys"], progress["repositories"])
        self.has_looked = progress["has_looked"]
        say(f"going on after {len(self.report['cuts'])} cuts")

    def save(self):
        """On the disk whole or not at all."""
        now = time.monotonic()
        self.report["took_s"] = round(self.report["took_s"] + now - self.began, 1)
        self.began = now
        progress = {
            "report": self.report,
            "keys": self.acknowledged.keys,
            "repositories": self.acknowledged.repositories,
            "has_looked": self.has_looked,
        }
        with open(f"{self.progress}.part", "w") as file:
            json.dump(progress, file)
        os.replace(f"{self.progress}.part", self.progress)

    def start(self):
        number = len(self.report["boots"]) + len(self.report["cuts"])
        sockets = [f"{self.place}/{name}.socket" for name in ("disk", "stick")]
        console = f"{self.place}/console-{number}.log"
        return Emulator(self.image, sockets, self.neighbour, self.place, console)

    def boot(self):
        """Starts it and waits until it has answered."""
        emulator = self.start()
        times = {}

        def since_start(name, look):
            emulator.wait_for(name, look)
            times[name] = round(emulator.age(), 1)

        since_start("status_page", lambda: "<title>" in emulator.ask("/")[1])
        since_start("ready", lambda: emulator.ask("/ready")[0] == 200)
        since_start("answer", lambda: deeds.answers(emulator))
        self.report["boots"].append(times)
        say("  boot: " + ", ".join(f"{name} after {at} s" for name, at in times.items()))
        return emulator

    def look_at_the_first_boot(self, emulator):
        status, text = emulator.ask("/v1/chat/completions", deeds.CHAT)
        check(status == 401, f"without a key: {status} {text}", emulator)
        first_look.look(emulator, self.neighbour, DISK_BYTES, self.report)
        for name in ("mdns", "watchdog", "exposure", "memory", "boot"):
            say(f"  {name}: {self.report[name]}")
        self.report["version"] = deeds.version(emulator)
        if not self.slice_only:
            self.use_the_stick(emulator)
            self.go_back_from_an_update(emulator)
        self.has_looked = True

    def use_the_stick(self, emulator):
        """What a person brings along is built, and answers."""
        if not self.has_model:
            say("  no model is on the stick")
            return
        self.report["build_s"] = deeds.took(lambda: deeds.build(emulator, "first"))
        say(f"  the stick's model is an engine after {self.report['build_s']} s")
        self.report["model_answers"] = deeds.answer_of(emulator, "first")
        say(f"  which says: {self.report['model_answers']}")

    def go_back_from_an_update(self, emulator):
        deeds.bring_update(emulator, self.place)
        self.report["update_s"] = deeds.took(lambda: deeds.update(emulator))
        deeds.no_update_is_left(emulator, self.report["version"])
        check(deeds.answers(emulator), "it answers after a broken update", emulator)
        say(f"  a broken update was given up after {self.report['update_s']} s")

    def work(self, emulator, moment):
        """Until the power goes. How long it may be until then, in seconds."""
        number = len(self.report["cuts"])
        if moment == "update":
            deeds.in_background(lambda: deeds.update(emulator))
            return self.report["update_s"]
        if moment == "build":
            deeds.in_background(lambda: deeds.build(emulator, number))
            return self.report["build_s"]
        deeds.serve(emulator, number, self.acknowledged)
        return WORK_S

    def cut(self, emulator, moment, draw):
        after_s = round(emulator.age(), 1)
        emulator.kill()
        # Whoever worked in it has noticed.
        time.sleep(1)
        lost = [disk.cut(draw) for disk in self.disks]
        cut = {
            "moment": moment,
            "after_s": after_s,
            "writes_in_cache": sum(writes for writes, _ in lost),
            "bytes_lost": sum(bytes_lost for _, bytes_lost in lost),
            "acknowledged": len(self.acknowledged),
        }
        self.report["cuts"].append(cut)
        say(
            f"  cut in {moment} after {cut['after_s']} s: {cut['writes_in_cache']} writes were in "
            f"the caches, {cut['bytes_lost']} bytes lost; {cut['acknowledged']} acknowledged so far"
        )
        self.save()

    def moment(self, number):
        """The same for each cut, however often the test was interrupted before."""
        if self.slice_only:
            return "serving"
        # A first boot takes a minute and more; a cut in it is as good as any.
        if number == 0:
            return "boot"
        moments = [moment for moment in MOMENTS if self.has_model or moment != "build"]
        around = (number - 1) // len(moments)
        random.Random(f"{self.report['seed']}/{around}").shuffle(moments)
        return moments[(number - 1) % len(moments)]

    def run(self, cuts):
        while True:
            done = len(self.report["cuts"])
            draw = random.Random(f"{self.report['seed']}/cut {done}")
            moment = self.moment(done)
            self.say_how_far(done, cuts)
            boots = self.report["boots"]
            if done < cuts and moment == "boot" and (self.has_looked or done == 0):
                say("a boot, cut off")
                emulator = self.start()
                time.sleep(draw.uniform(0, boots[-1]["status_page"] if boots else 60))
                self.cut(emulator, moment, draw)
                continue
            say("a boot" if self.has_looked else "the first boot")
            emulator = self.boot()
            self.acknowledged.look(emulator)
            if self.has_looked:
                deeds.no_update_is_left(emulator, self.report["version"])
            else:
                self.look_at_the_first_boot(emulator)
            if done >= cuts:
                break
            # The first boot that is not cut is one to look at.
            moment = "serving" if moment == "boot" else moment
            time.sleep(draw.uniform(0, self.work(emulator, moment)))
            self.cut(emulator, moment, draw)
        if not self.slice_only:
            self.let_the_watchdog_fire(emulator)
        else:
            emulator.kill()
        self.look_at_the_disks()

    def say_how_far(self, done, cuts):
        """Each cut takes as long as those before, and the end as long as one more."""
        took = self.report["took_s"]
        text = f"{done} of {cuts} cuts, {took / 60:.0f} min"
        if done:
            left = took / done * (max(cuts - done, 0) + 1)
            text += f", about {left / 60:.0f} min left"
        say(text)

    def let_the_watchdog_fire(self, emulator):
        say("a kernel that stands still")
        deeds.until_it_dies(
            lambda: emulator.run("sysctl -q kernel.panic=0; echo c >/proc/sysrq-trigger", 5)
        )
        stands_since = time.monotonic()
        try:
            emulator.process.wait(WATCHDOG_S)
        except subprocess.TimeoutExpired:
            raise Failure("the watchdog did not fire", emulator) from None
        self.report["watchdog_fired_after_s"] = round(time.monotonic() - stands_since + 5, 1)
        say(f"  the watchdog fired after {self.report['watchdog_fired_after_s']} s")

    def look_at_the_disks(self):
        for disk in self.disks:
            disk.end()
        stick.look(self.place)
        fsck = subprocess.run(
            ["e2fsck", "-f", "-p", f"{self.place}/disk.img"], capture_output=True, text=True
        )
        # 1: something was mended, as a journal is played back.
        self.report["fsck"] = fsck.returncode
        check(fsck.returncode in (0, 1), f"the file system is ill: {fsck.stdout}{fsck.stderr}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("image")
    parser.add_argument("place")
    parser.add_argument("--cuts", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--report", required=True)
    parser.add_argument("--slice", action="store_true")
    arguments = parser.parse_args()
    # As an exit, so that no emulator is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    test = Test(arguments.image, arguments.place, arguments.seed, arguments.slice)
    try:
        test.run(arguments.cuts)
        test.report["outcome"] = "ok"
    except (Failure, subprocess.SubprocessError) as failure:
        test.report["outcome"] = str(failure)
        say(f"boot-test: {failure}")
        for note in getattr(failure, "__notes__", []):
            say(note)
    test.report["took_s"] = round(test.report["took_s"] + time.monotonic() - test.began, 1)
    with open(arguments.report, "w") as file:
        json.dump(test.report, file, indent=2)
    sys.exit(test.report["outcome"] != "ok")


if __name__ == "__main__":
    main()
