#!/usr/bin/env python3
"""Boots an image, uses it from outside and cuts its power at drawn moments.

    boot_test.py IMAGE PLACE --cuts N --seed SEED --report FILE

Where it is, stands in PLACE/progress.json after each cut: what was interrupted goes on
there when it is started again with the same PLACE.

A key that `stoker key add` has printed, and a repository that `stoker index add` has
confirmed, are acknowledged: after each cut all of them must be there. So must the
settings that the first boot took from the stick. The report has what was measured.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import threading
import time

from emulator import Emulator, Failure
from volatile_disk import VolatileDisk

GIB = 1024**3
DISK_BYTES = 3 * GIB
HOSTNAME = "cut-me-off"
KEY = "boot-test-0123456789abcdef0123456789abcdef"
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 16}
# Somebody works for so long at most before a cut.
WORK_S = 40
# How long a dead machine may stand still: the watchdog's 30 s and what an emulator adds.
WATCHDOG_S = 180


def say(text):
    print(text, file=sys.stderr, flush=True)


def check(is_so, what, emulator=None):
    if not is_so:
        raise Failure(what, emulator)


class Test:
    def __init__(self, image, place, seed):
        self.image, self.place = image, place
        self.progress = f"{place}/progress.json"
        self.began = time.monotonic()
        if os.path.exists(self.progress):
            self._go_on(seed)
        else:
            self._begin(seed)
        self.disks = [
            VolatileDisk(f"{place}/{name}.img", f"{place}/{name}.socket")
            for name in ("disk", "stick")
        ]

    def _begin(self, seed):
        self.report = {"seed": seed, "boots": [], "cuts": [], "took_s": 0}
        with open(f"{self.image}/image.json") as file:
            self.report["image"] = json.load(file)
        self.keys, self.repositories = [], []
        self.has_looked = False
        disk = f"{self.place}/disk.img"
        subprocess.run(["cp", "--sparse=always", f"{self.image}/disk.img", disk], check=True)
        os.truncate(disk, DISK_BYTES)
        self._make_stick()
        self.save()

    def _go_on(self, seed):
        with open(self.progress) as file:
            progress = json.load(file)
        self.report = progress["report"]
        if self.report["seed"] != seed:
            raise SystemExit(f"{self.place} belongs to the seed {self.report['seed']}")
        self.keys = [tuple(key) for key in progress["keys"]]
        self.repositories = progress["repositories"]
        self.has_looked = progress["has_looked"]
        say(f"going on after {len(self.report['cuts'])} cuts")

    def save(self):
        """On the disk whole or not at all."""
        now = time.monotonic()
        self.report["took_s"] += round(now - self.began, 1)
        self.began = now
        progress = {
            "report": self.report,
            "keys": self.keys,
            "repositories": self.repositories,
            "has_looked": self.has_looked,
        }
        with open(f"{self.progress}.part", "w") as file:
            json.dump(progress, file)
        os.replace(f"{self.progress}.part", self.progress)

    def _make_stick(self):
        """What a person brings along: a FAT stick with one file."""
        place = self.place
        login = f"{place}/login"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", login], check=True)
        with open(f"{login}.pub") as file:
            public = file.read().strip()
        with open(f"{place}/stoker.toml", "w") as file:
            file.write(f'hostname = "{HOSTNAME}"\nssh_keys = ["{public}"]\n')
            file.write(f'time_server = "10.0.2.2"\n[api_keys]\nboot = "{KEY}"\n')
        stick = f"{place}/stick.img"
        quiet = {"check": True, "stdout": subprocess.DEVNULL}
        subprocess.run(["mkfs.vfat", "-C", "-n", "STOKER", stick, "16384"], **quiet)
        subprocess.run(["mcopy", "-i", stick, f"{place}/stoker.toml", "::"], **quiet)

    def start(self):
        number = len(self.report["boots"])
        sockets = [f"{self.place}/{name}.socket" for name in ("disk", "stick")]
        return Emulator(self.image, sockets, self.place, f"{self.place}/console-{number}.log")

    def boot(self):
        """Starts it and waits until it has answered."""
        emulator = self.start()
        times = {}

        def since_start(name, look):
            emulator.wait_for(name, look)
            times[name] = round(emulator.age(), 1)

        try:
            since_start("status_page", lambda: "<title>" in emulator.ask("/")[1])
            since_start("ready", lambda: emulator.ask("/ready")[0] == 200)
            since_start("answer", lambda: self.answers(emulator))
        except BaseException:
            emulator.kill()
            raise
        self.report["boots"].append(times)
        say("  boot: " + ", ".join(f"{name} after {at} s" for name, at in times.items()))
        return emulator

    @staticmethod
    def answers(emulator):
        status, text = emulator.ask("/v1/chat/completions", CHAT, KEY)
        return status == 200 and json.loads(text)["choices"][0]["message"]["content"]

    def look_at_the_first_boot(self, emulator):
        status, text = emulator.ask("/v1/chat/completions", CHAT)
        check(status == 401, f"without a key: {status} {text}", emulator)
        shell = lambda command: emulator.wait_for(command, lambda: emulator.run(command))
        check(shell("hostname") == HOSTNAME, "the name is the stick's", emulator)
        watchdog = shell(
            "cd /sys/class/watchdog/watchdog0 && echo $(cat identity), $(cat state), $(cat timeout) s"
        )
        say(f"  watchdog: {watchdog}")
        check(", active, " in watchdog, f"the watchdog is {watchdog}", emulator)
        failed = emulator.run("systemctl list-units --failed --plain --no-legend | cut -d' ' -f1")
        check(not failed, f"units have failed: {failed}", emulator)
        passwords = emulator.run("awk -F: '$2 !~ /^[!*]/ { print $1 }' /etc/shadow")
        check(not passwords, f"who logs in with a password: {passwords}", emulator)
        self.report["watchdog"] = watchdog
        self.report["boot"] = emulator.wait_for(
            "the end of the boot", lambda: emulator.run("systemd-analyze time | head -1")
        )
        self.report["critical_chain"] = emulator.run(
            "systemd-analyze critical-chain --no-pager stoker.service"
        )
        self.report["room"] = emulator.run("df --output=size,used --block-size=1 / | tail -1")
        self.report["memory"] = emulator.run(
            "grep -h VmRSS /proc/$(pidof stoker)/status /proc/$(pidof engine-worker)/status; free -b"
        )
        size = int(self.report["room"].split()[0])
        check(size > DISK_BYTES * 0.9, f"the file system has {size} bytes", emulator)
        say(f"  {self.report['boot']}")

    def all_that_was_acknowledged(self, emulator):
        for name, key in self.keys:
            status, _ = emulator.ask("/api/repositories", key=key)
            check(status == 200, f"the key {name} was acknowledged and is gone", emulator)
        _, text = emulator.ask("/api/repositories", key=KEY)
        there = {one["name"] for one in json.loads(text)["repositories"]}
        lost = [name for name in self.repositories if name not in there]
        check(not lost, f"acknowledged and gone: {lost}", emulator)

    def work(self, emulator, number):
        """Until the power goes: answers, keys, repositories."""
        directories = iter(["/usr/lib/stoker", "/etc/stoker", "/usr/share/stoker", "/etc"])

        def administrate():
            for at in range(1000):
                name = f"cut{number}-{at}"
                key = emulator.run(f"stoker key add {name}")
                self.keys.append((name, key))
                if at % 3 == 2:
                    path = next(directories)
                    repository = f"r{number}-{at}"
                    emulator.run(
                        f"mkdir -p {path} && STOKER_KEY={KEY} "
                        f"stoker index add --shared --name {repository} {path}"
                    )
                    self.repositories.append(repository)

        def talk():
            while self.answers(emulator):
                pass

        for worker in (administrate, talk):
            threading.Thread(target=until_it_dies, args=(worker,), daemon=True).start()

    def cut(self, emulator, moment):
        emulator.kill()
        # Whoever worked in it has noticed.
        time.sleep(1)
        lost = [disk.cut(self.draw) for disk in self.disks]
        cut = {
            "moment": moment,
            "after_s": round(emulator.age() - 1, 1),
            "writes_in_cache": sum(writes for writes, _ in lost),
            "bytes_lost": sum(bytes_lost for _, bytes_lost in lost),
            "acknowledged": len(self.keys) + len(self.repositories),
        }
        self.report["cuts"].append(cut)
        say(
            f"  cut in {moment} after {cut['after_s']} s: {cut['writes_in_cache']} writes were in "
            f"the caches, {cut['bytes_lost']} bytes lost; {cut['acknowledged']} acknowledged so far"
        )

    def cut_in_boot(self, longest):
        emulator = self.start()
        time.sleep(self.draw.uniform(0, longest))
        self.cut(emulator, "boot")

    def run(self, cuts):
        while True:
            done = len(self.report["cuts"])
            # The same for each cut, however often the test was interrupted before.
            self.draw = random.Random(f"{self.report['seed']}/{done}")
            self.say_how_far(done, cuts)
            # A first boot takes a minute and more; a cut in it is as good as any.
            if done < cuts and (done == 0 or self.has_looked and self.draw.random() < 0.3):
                boots = self.report["boots"]
                say("a boot, cut off")
                self.cut_in_boot(boots[-1]["status_page"] if boots else 60)
                self.save()
                continue
            say("a boot" if self.has_looked else "the first boot")
            emulator = self.boot()
            self.all_that_was_acknowledged(emulator)
            if not self.has_looked:
                self.look_at_the_first_boot(emulator)
                self.has_looked = True
            if done >= cuts:
                break
            self.work(emulator, done)
            time.sleep(self.draw.uniform(5, WORK_S))
            self.cut(emulator, "serving")
            self.save()
        self.let_the_watchdog_fire(emulator)
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
        until_it_dies(
            lambda: emulator.run("sysctl -q kernel.panic=0; echo c >/proc/sysrq-trigger", 5)
        )
        stands_since = time.monotonic()
        try:
            emulator.process.wait(WATCHDOG_S)
        except subprocess.TimeoutExpired:
            emulator.kill()
            raise Failure("the watchdog did not fire", emulator) from None
        self.report["watchdog_fired_after_s"] = round(time.monotonic() - stands_since + 5, 1)
        say(f"  the watchdog fired after {self.report['watchdog_fired_after_s']} s")

    def look_at_the_disks(self):
        for disk in self.disks:
            disk.end()
        stick = subprocess.run(
            ["mdir", "-b", "-i", f"{self.place}/stick.img", "::"], capture_output=True, text=True
        )
        files = [name.strip().lower() for name in stick.stdout.splitlines()]
        check("::/stoker.toml" not in files, "the stick's file is still there")
        check("::/stoker-result.txt" in files, f"no result is on the stick: {files}")
        with open(f"{self.place}/stick.img", "rb") as file:
            check(KEY.encode() not in file.read(), "the key can still be read on the stick")
        fsck = subprocess.run(
            ["e2fsck", "-f", "-p", f"{self.place}/disk.img"], capture_output=True, text=True
        )
        # 1: something was mended, as a journal is played back.
        self.report["fsck"] = fsck.returncode
        check(fsck.returncode in (0, 1), f"the file system is ill: {fsck.stdout}{fsck.stderr}")


def until_it_dies(work):
    try:
        work()
    except Exception:  # noqa: BLE001: whatever a machine does whose power goes
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("image")
    parser.add_argument("place")
    parser.add_argument("--cuts", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--report", required=True)
    arguments = parser.parse_args()
    test = Test(arguments.image, arguments.place, arguments.seed)
    try:
        test.run(arguments.cuts)
        test.report["outcome"] = "ok"
    except Failure as failure:
        test.report["outcome"] = str(failure)
        say(f"boot-test: {failure}")
        for note in getattr(failure, "__notes__", []):
            say(note)
    test.report["took_s"] += round(time.monotonic() - test.began, 1)
    with open(arguments.report, "w") as file:
        json.dump(test.report, file, indent=2)
    sys.exit(test.report["outcome"] != "ok")


if __name__ == "__main__":
    main()
