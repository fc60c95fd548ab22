"""What is done in the machine while somebody may cut its power: the deeds of a person and
of those who use it, and what must hold after each."""

import http.client
import itertools
import json
import subprocess
import threading
import time

from emulator import check
from stick import KEY, MODEL

CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 16}
# The stick stays in the machine, and a person has mounted it.
STICK = "/run/boot-test-stick"
UPDATE = "/var/tmp/broken.update"
# An emulated dpkg is slow, and a shared host makes it slower.
PATIENCE_S = 1200


class Acknowledged:
    """What the machine has confirmed, and has to have for ever: keys that were printed, and
    repositories."""

    def __init__(self, keys=(), repositories=()):
        self.keys = [tuple(key) for key in keys]
        self.repositories = list(repositories)

    def __len__(self):
        return len(self.keys) + len(self.repositories)

    def look(self, emulator):
        for name, key in self.keys:
            status, _ = emulator.ask("/api/repositories", key=key)
            check(status == 200, f"the key {name} was acknowledged and is gone", emulator)
        _, text = emulator.ask("/api/repositories", key=KEY)
        there = {one["name"] for one in json.loads(text)["repositories"]}
        lost = [name for name in self.repositories if name not in there]
        check(not lost, f"acknowledged and gone: {lost}", emulator)


def answers(emulator):
    status, text = emulator.ask("/v1/chat/completions", CHAT, KEY)
    return status == 200 and json.loads(text)["choices"][0]["message"]["content"]


def serve(emulator, number, acknowledged):
    """Answers, keys and repositories."""
    in_background(lambda: administrate(emulator, number, acknowledged))
    in_background(lambda: talk(emulator))


def talk(emulator):
    while answers(emulator):
        pass


def administrate(emulator, number, acknowledged):
    directories = itertools.cycle(("/usr/lib/stoker", "/etc/stoker", "/usr/share/stoker", "/etc"))
    for at in itertools.count():
        name = f"cut{number}-{at}"
        acknowledged.keys.append((name, emulator.run(f"stoker key add {name}")))
        if at % 3 == 2:
            add_repository(emulator, f"r{number}-{at}", next(directories), acknowledged)


def add_repository(emulator, name, path, acknowledged):
    emulator.run(
        f"mkdir -p {path} && STOKER_KEY={KEY} stoker index add --shared --name {name} {path}"
    )
    acknowledged.repositories.append(name)


def build(emulator, number):
    """An engine of the model on the stick, for a machine of little memory. It is not the
    one that serves."""
    return emulator.run(
        f"mkdir -p {STICK} && {{ mountpoint -q {STICK} || mount -o ro LABEL=STOKER {STICK}; }} && "
        f"engine-builder build --gguf {STICK}/{MODEL} --name stick-{number} --users 1",
        PATIENCE_S,
    )


def answer_of(emulator, number):
    """What the engine of the stick's model says in the place of the one that serves."""
    setting = "/etc/stoker/conf.d/99-boot-test.toml"
    restart = "systemctl restart stoker"
    emulator.run(f"printf '[engine]\\nmodel = \"stick-{number}\"\\n' >{setting} && {restart}")
    chat = CHAT | {"max_tokens": 4}

    def said():
        status, text = emulator.ask("/v1/chat/completions", chat, KEY, 600)
        if status != 200:
            return None
        answer = json.loads(text)
        return answer["model"], answer["choices"][0]["message"]["content"]

    model, text = emulator.wait_for("an answer of the stick's model", said)
    check(model != "echo", "the usual engine has answered, and not the stick's", emulator)
    emulator.run(f"rm {setting} && {restart}")
    emulator.wait_for("the usual engine", lambda: answers(emulator))
    return text


def version(emulator):
    return emulator.run("dpkg-query --show --showformat '${Version}' stoker")


def bring_update(emulator, place):
    """The file, on the machine's disk, and whose updates it believes."""
    with open(f"{place}/broken.update", "rb") as file:
        emulator.run(f"cat >{UPDATE} && sync", PATIENCE_S, stdin=file)
    with open(f"{place}/update.pub", "rb") as file:
        emulator.run(
            "mkdir -p /etc/stoker/update-keys.d && cat >/etc/stoker/update-keys.d/boot-test.pub "
            "&& sync",
            stdin=file,
        )


def update(emulator):
    """Installs the broken one, and sees how it ended."""
    command = f"stoker update {UPDATE} --patience-s 20 --steady-s 5 --format json; echo $?"
    *said, status = emulator.run(command, PATIENCE_S).splitlines()
    check(status == "5", f"a broken update ended with {status}: {said}", emulator)


def no_update_is_left(emulator, version):
    """The old version is there, whatever became of an update that was cut short."""

    def ended():
        news = json.loads(emulator.run("stoker update status --format json"))
        return news is None or news["phase"]["name"] == "went_back"

    emulator.wait_for("the end of the update", ended)
    shown = emulator.run("dpkg-query --show --showformat '${db:Status-Status} ${Version}' stoker")
    check(shown == f"installed {version}", f"the package is {shown}", emulator)


def in_background(deed):
    """Until it ends, mostly since the power went."""
    thread = threading.Thread(target=until_it_dies, args=(deed,), daemon=True)
    thread.start()
    return thread


def until_it_dies(deed):
    try:
        deed()
    except (OSError, http.client.HTTPException, subprocess.SubprocessError, ValueError):
        pass  # Whatever a machine says whose power goes.


def took(deed):
    """Seconds."""
    began = time.monotonic()
    deed()
    return round(time.monotonic() - began, 1)
