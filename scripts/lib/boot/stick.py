"""The stick that a person brings along: a FAT file system with settings for the first boot
and, where there is one, a model."""

import os
import subprocess

from emulator import check

HOSTNAME = "cut-me-off"
# Who may use the model, from the first boot on.
KEY = "boot-test-0123456789abcdef0123456789abcdef"
MODEL = "model.gguf"


def make(place):
    """Leaves PLACE/stick.img, and PLACE/login for who logs in."""
    login = f"{place}/login"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", login], check=True)
    with open(f"{login}.pub") as file:
        public = file.read().strip()
    with open(f"{place}/stoker.toml", "w") as file:
        file.write(f'hostname = "{HOSTNAME}"\nssh_keys = ["{public}"]\n')
        # The engine of the image, whatever is built later.
        file.write('model = "echo"\ntime_server = "10.0.2.2"\n')
        file.write(f'[api_keys]\nboot = "{KEY}"\n')
    image = f"{place}/stick.img"
    files = [f"{place}/{name}" for name in ("stoker.toml", MODEL)]
    files = [file for file in files if os.path.exists(file)]
    kib = 16384 + sum(os.path.getsize(file) for file in files) // 1024
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run(["mkfs.vfat", "-C", "-n", "STOKER", image, str(kib)], **quiet)
    subprocess.run(["mcopy", "-i", image, *files, "::"], **quiet)


def look(place):
    """The settings were taken, and cannot be read on it any more."""
    image = f"{place}/stick.img"
    listed = subprocess.run(["mdir", "-b", "-i", image, "::"], capture_output=True, text=True)
    files = [name.strip().lower() for name in listed.stdout.splitlines()]
    check("::/stoker.toml" not in files, "the stick's file is still there")
    check("::/stoker-result.txt" in files, f"no result is on the stick: {files}")
    with open(image, "rb") as file:
        check(KEY.encode() not in file.read(), "the key can still be read on the stick")
