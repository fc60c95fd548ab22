# shellcheck shell=bash
# What `scripts/build-image --slots` does beside image.sh and l4t.sh: the same system twice,
# of which one runs and RAUC writes the other, and what is the machine's own, which both
# use, on a partition of its own. Needs terminal.sh, steps.sh and image.sh, and `here`,
# `cache` and `architecture`:
# shellcheck disable=SC2034,SC2154

# What a system in a slot needs beside a plain appliance.
readonly slots_packages=(rauc rauc-service cloud-guest-utils fdisk)
# The partitions, as NVIDIA's flashing names the first two, behind their table and before
# its copy.
readonly slot_bytes=$((1536 * 1024 * 1024)) data_bytes=$((1024 * 1024 * 1024))
readonly slots_begin=$((1024 * 1024))
# What is kept on the data partition, and where both systems have it.
readonly kept=(
    stoker:/var/lib/stoker stoker-update:/var/lib/stoker-update journal:/var/log/journal
)

# check_certificate SLOTS FILE
check_certificate() {
    $1 || fail "--update-certificate goes with --slots; a single system takes updates of packages"
    [[ -f $2 ]] || fail "there is no file '$2'"
    grep --quiet 'BEGIN CERTIFICATE' -- "$2" ||
        fail "'$2' is no certificate: it has to be PEM, and never the key"
}

# slots_key ENGINE CERTIFICATE
slots_key() {
    engine_key "$1"
    sha256sum <"$here/lib/slots.sh"
    sha256sum <"$here/lib/boot/nvbootctrl"
    [[ -z $2 ]] || sha256sum <"$2"
}

# make_slots ENGINE CERTIFICATE: has the tree take its place in either slot, and leaves in
# data/ what is on the partition beside them.
make_slots() {
    rm -rf -- "$cache/data"
    keep_apart "$cache/tree" "$cache/data"
    put_engine "$cache/data/stoker/engines" "$1"
    set_up_slot "$cache/tree" "stoker-qemu-$architecture" "$2"
    # In the place of NVIDIA's, which has no firmware here.
    install --mode=755 -- "$here/lib/boot/nvbootctrl" "$cache/tree/usr/sbin/nvbootctrl"
}

# keep_apart TREE DATA: directories as the tree has them, and nothing in those of the tree.
keep_apart() {
    local tree=$1 data=$2 pair there
    for pair in "${kept[@]}"; do
        there=$tree${pair#*:}
        mkdir -p -- "$data" "$there"
        cp --archive -- "$there" "$data/${pair%%:*}"
        find "$there" -mindepth 1 -delete
    done
    mkdir -p -- "$tree/data" "$data/rauc"
    # It has copies of databases.
    chmod 700 -- "$data/stoker-update"
}

# set_up_slot TREE COMPATIBLE CERTIFICATE: an update for another COMPATIBLE is refused.
set_up_slot() {
    local tree=$1 keys=$1/etc/stoker/update-keys.d
    slot_fstab >"$tree/etc/fstab"
    mkdir -p -- "$tree/etc/rauc" "$keys"
    rauc_settings "$2" >"$tree/etc/rauc/system.conf"
    rm -f -- "$keys/system.pem"
    if [[ -n $3 ]]; then install --mode=644 -- "$3" "$keys/system.pem"; fi
}

# slot_fstab: not the root, which is whichever the firmware has chosen. A machine without
# its data comes up nevertheless and can be asked why; what needs them waits for them.
slot_fstab() {
    local early=nofail,x-systemd.before=local-fs.target pair
    printf 'LABEL=stoker-data /data ext4 defaults,%s,x-systemd.growfs,%s 0 2\n' \
        "$early" x-systemd.device-timeout=30s
    for pair in "${kept[@]}"; do
        printf '/data/%s %s none bind,%s,x-systemd.requires-mounts-for=/data 0 0\n' \
            "${pair%%:*}" "${pair#*:}" "$early"
    done
}

# rauc_settings COMPATIBLE: which slot is which, who tells the firmware, and whose updates are good.
rauc_settings() {
    cat <<END
[system]
compatible=$1
bootloader=custom
bundle-formats=verity
statusfile=/data/rauc/status
activate-installed=false

[keyring]
path=/etc/stoker/update-keys.d/system.pem
# The clock of a board without a battery may stand at 1970.
use-bundle-signing-time=true

[handlers]
bootloader-custom-backend=/usr/lib/stoker/rauc-backend

[slot.rootfs.0]
device=/dev/disk/by-partlabel/APP
type=ext4
bootname=A
resize=true

[slot.rootfs.1]
device=/dev/disk/by-partlabel/APP_b
type=ext4
bootname=B
resize=true
END
}

# make_slots_disk ENGINE: leaves disk, kernel, initrd and what is known of them in qemu/.
make_slots_disk() {
    local part=$cache/qemu.part disk at=$slots_begin
    rm -rf -- "$part" "$cache/qemu"
    mkdir -p -- "$part"
    disk=$part/disk.img
    truncate --size=$((slots_begin * 2 + slot_bytes * 2 + data_bytes)) "$disk"
    partition "$disk"
    make_file_system "$cache/tree" stoker "$disk" "$at" "$slot_bytes"
    dd if="$disk" of="$disk" bs=1M skip=$((at >> 20)) seek=$(((at + slot_bytes) >> 20)) \
        count=$((slot_bytes >> 20)) conv=notrunc,sparse status=none ||
        fail "copy the system into the other slot of $disk, see above"
    make_file_system "$cache/data" stoker-data "$disk" $((at + 2 * slot_bytes)) "$data_bytes"
    put_beside "$cache/tree" "$part" "$1"
    mv -- "$part" "$cache/qemu"
}

# partition DISK
partition() {
    sfdisk --quiet "$1" >&2 <<END || fail "divide $1 into partitions, see above"
label: gpt
unit: sectors
start=$((slots_begin / 512)), size=$((slot_bytes / 512)), type=linux, name=APP
size=$((slot_bytes / 512)), type=linux, name=APP_b
size=$((data_bytes / 512)), type=linux, name=stoker-data
END
}

# make_file_system TREE LABEL DISK AT BYTES
make_file_system() {
    mke2fs -q -F -t ext4 -L "$2" -d "$1" -E offset="$4" "$3" $(($5 / 1024))k >&2 ||
        fail "make the file system $2 in $3, see above"
}
