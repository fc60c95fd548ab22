# shellcheck shell=bash
# What scripts/build-image does, step by step, all below `$cache`. Needs terminal.sh,
# machine.sh, steps.sh and files.sh, and `root`, `here`, `cache` and `architecture`:
# shellcheck disable=SC2034,SC2154

# What a plain appliance needs of Debian 12, beside what is essential.
readonly suite=bookworm
readonly debian_packages=(
    systemd systemd-sysv systemd-timesyncd udev dbus kmod init-system-helpers
    initramfs-tools e2fsprogs libgomp1 libstdc++6 openssh-server avahi-daemon
)
# A higher number makes the plain Debian anew, with newer packages.
readonly base_version=1
# Drivers of the emulator's disk, network and watchdog; a board's are built in or
# loaded from its own initrd.
readonly initrd_modules='virtio_pci virtio_blk virtio_net ext4 i6300esb'
# Whole, with room for a database and an engine or two.
readonly disk_bytes=$((2 * 1024 * 1024 * 1024))

need_image_packages() {
    need mmdebstrap command -v mmdebstrap
    need e2fsprogs command -v mke2fs
    if is_foreign; then
        need arch-test command -v arch-test
        need qemu-user-static command -v qemu-aarch64-static
    fi
}

is_foreign() {
    [[ $architecture != "$(dpkg --print-architecture)" ]]
}

# The kernel hands programs for arm64 to the emulator, if it was told to.
run_foreign_programs() {
    local register=/proc/sys/fs/binfmt_misc
    is_foreign || return 0
    [[ $architecture == arm64 ]] || fail "an image for $architecture is made on such a machine alone"
    if arch-test arm64 >/dev/null 2>&1; then return; fi
    [[ -e $register/register ]] || mount -t binfmt_misc binfmt_misc "$register"
    [[ -e $register/qemu-aarch64 ]] || cat /usr/lib/binfmt.d/qemu-aarch64.conf >"$register/register"
    arch-test arm64 >/dev/null ||
        fail "this kernel does not run programs for arm64 through qemu-user-static"
}

# base_key PACKAGE...
base_key() {
    printf '%s %s %s %s %s' "$suite" "$base_version" "$architecture" "$*" "$initrd_modules"
}

# make_base PACKAGE...: leaves a plain Debian with these packages in base/.
make_base() {
    local hooks=$here/lib/boot
    rm -rf -- "$cache/base" "$cache/base.part"
    mmdebstrap --quiet --variant=minbase --architectures="$architecture" \
        --include="linux-image-$architecture,$(IFS=, && printf '%s' "$*")" \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --essential-hook="'$hooks/initrd-settings' \"\$1\" $initrd_modules" \
        "$suite" "$cache/base.part" >&2
    mv -- "$cache/base.part" "$cache/base"
}

# packages_key PROGRAMS_DIR: what we install and how it is set up.
packages_key() {
    (cd -- "$root" && find rootfs-overlay systemd scripts/package-deb scripts/lib/deb \
        scripts/lib/files.sh scripts/lib/image.sh \
        "${programs[@]/#/$1/}" -type f -print0 |
        LC_ALL=C sort -z | xargs -0 sha256sum)
}

# add_packages PROGRAMS_DIR: leaves the machine without an engine in tree/.
add_packages() {
    local tree=$cache/tree.part
    rm -rf -- "$cache/tree" "$tree"
    cp --archive --reflink=auto -- "$cache/base" "$tree"
    install_packages "$tree" "$1"
    set_up_machine "$tree"
    mv -- "$tree" "$cache/tree"
}

# install_packages TREE PROGRAMS_DIR: both of ours, as dpkg does.
install_packages() {
    local tree=$1 debs
    rm -rf -- "$cache/debs"
    debs=$("$here/package-deb" --programs "$2" --output "$cache/debs" --compression none)
    mkdir -p -- "$tree/tmp/debs"
    # shellcheck disable=SC2086
    cp -- $debs "$tree/tmp/debs"
    # No service is started in there.
    printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
    chmod 755 "$tree/usr/sbin/policy-rc.d"
    in_machine "$tree" sh -c 'dpkg --install /tmp/debs/*.deb' >&2 ||
        fail "install our packages in the image, see above"
    rm -rf -- "$tree/tmp/debs" "$tree/usr/sbin/policy-rc.d"
}

# in_machine TREE COMMAND...: as its root, in a mount namespace that ends with it.
in_machine() {
    # shellcheck disable=SC2016
    unshare --mount sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$@"
}

# set_up_machine TREE: what an image is to have that is nobody's in particular.
set_up_machine() {
    local tree=$1
    printf 'stoker\n' >"$tree/etc/hostname"
    printf '127.0.0.1\tlocalhost\n127.0.1.1\tstoker\n::1\tlocalhost\n' >"$tree/etc/hosts"
    # The file system grows to what the disk has.
    printf '/dev/vda / ext4 defaults,x-systemd.growfs 0 1\n' >"$tree/etc/fstab"
    printf '[Match]\nName=en* eth*\n\n[Network]\nDHCP=yes\n' >"$tree/etc/systemd/network/20-wired.network"
    in_machine "$tree" systemctl --quiet enable systemd-networkd.service systemd-timesyncd.service
    forget_identity "$tree"
    rm -rf -- "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/*.bin
}

# forget_identity TREE: what is made at the first boot, else all machines were one, and
# how nobody logs in.
forget_identity() {
    : >"$1/etc/machine-id"
    rm -f -- "$1"/etc/ssh/ssh_host_* "$1"/var/lib/dbus/machine-id
    mkdir -p -- "$1/etc/ssh/sshd_config.d"
    printf '# Keys alone: an image has no password that is not everybody'\''s.\n%s\n%s\n' \
        'PasswordAuthentication no' 'KbdInteractiveAuthentication no' \
        >"$1/etc/ssh/sshd_config.d/10-stoker.conf"
}

# engine_key ENGINE
engine_key() {
    if [[ -z $1 ]]; then
        printf none
    elif [[ $1 == echo ]]; then
        sha256sum <"$here/lib/boot/echo-engine.toml"
    else
        sha256sum <"$1/engine.toml" || fail "there is no engine in '$1': it has no engine.toml"
    fi
}

# add_engine ENGINE
add_engine() {
    put_engine "$cache/tree/var/lib/stoker/engines" "$1"
}

# put_engine ENGINES ENGINE: the only one that the machine has; none if it is empty.
put_engine() {
    local engines=$1 name=echo
    rm -rf -- "$engines"
    [[ -n $2 ]] || return 0
    if [[ $2 == echo ]]; then
        mkdir -p -- "$engines/echo"
        cp -- "$here/lib/boot/echo-engine.toml" "$engines/echo/engine.toml"
    else
        name=$(basename -- "$(realpath -- "$2")")
        mkdir -p -- "$engines"
        cp --recursive --dereference -- "$2" "$engines/$name"
    fi
    chmod -R u=rwX,go=rX -- "$engines"
}

# make_disk ENGINE: leaves disk, kernel, initrd and what is known of them in qemu/.
make_disk() {
    local part=$cache/qemu.part tree=$cache/tree
    rm -rf -- "$part" "$cache/qemu"
    mkdir -p -- "$part"
    mke2fs -q -t ext4 -L stoker -d "$tree" "$part/disk.img" $((disk_bytes / 1024))k >&2 ||
        fail "make the file system of the image, see above"
    put_beside "$tree" "$part" "$1"
    mv -- "$part" "$cache/qemu"
}

# put_beside TREE PART ENGINE: kernel, initrd and what is known of the image in PART.
put_beside() {
    local kernel
    for kernel in "$1"/boot/vmlinuz-*; do
        cp -- "$kernel" "$2/kernel"
        cp -- "$1/boot/initrd.img-${kernel##*/vmlinuz-}" "$2/initrd"
    done
    "$here/lib/boot/image-facts" "$1" "$2" "$3" "$architecture" >"$2/image.json"
}
