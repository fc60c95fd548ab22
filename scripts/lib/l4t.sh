# shellcheck shell=bash
# What `scripts/build-image --l4t` does, step by step: NVIDIA's archives become the tree that
# NVIDIA's tools flash, with our packages in it. Needs terminal.sh, machine.sh, steps.sh and
# image.sh, and `root`, `here` and `cache`:
# shellcheck disable=SC2034,SC2154

# A fault of this release: large allocations on the GPU fail.
readonly faulty_release=36.4.7
# A higher number makes the tree anew.
readonly l4t_version=1
# Seconds between two signs of life.
readonly report_every=10
# NVIDIA's dialogue at a first boot with a screen, and what updates by itself.
readonly masked_units=(
    'nv-oem-config*' apt-daily.timer apt-daily-upgrade.timer unattended-upgrades.service
)
# Marks boots as good. Without it a Jetson boots recovery for ever after three of them.
readonly marking_unit=nv-l4t-bootloader-config.service
# How a disk is divided for two systems, and what is written to the partition for data.
readonly nvidias_layout=flash_l4t_t234_nvme_rootfs_ab.xml our_layout=flash_stoker_nvme_rootfs_ab.xml
readonly data_image=stoker-data.img

need_l4t_packages() {
    need arch-test command -v arch-test
    need qemu-user-static command -v qemu-aarch64-static
    need bzip2 command -v bzip2
    need e2fsprogs command -v mke2fs
}

# find_archives DIR: sets `bsp`, `samplefs` and `release`.
find_archives() {
    local directory=$1 of_samplefs
    [[ -d $directory ]] || fail "there is no directory '$directory' with NVIDIA's archives"
    bsp=$(only_one "$directory" 'Jetson_Linux_[rR]*_aarch64.tbz2')
    samplefs=$(only_one "$directory" 'Tegra_Linux_Sample-Root-Filesystem_[rR]*_aarch64.tbz2')
    release=$(release_of "$bsp")
    of_samplefs=$(release_of "$samplefs")
    [[ $release == "$of_samplefs" ]] ||
        fail "${bsp##*/} is of release $release and ${samplefs##*/} of $of_samplefs; both have to be of one"
    [[ $release == 36.* ]] || fail "Jetson Linux 36 (JetPack 6) is needed, not $release"
    [[ $release != "$faulty_release" ]] ||
        fail "Jetson Linux $faulty_release cannot give the GPU large pieces of memory, so models do not load; take 36.4.4, or 36.5.0 and newer"
}

# only_one DIR PATTERN
only_one() {
    local found
    mapfile -t found < <(compgen -G "$1/$2")
    ((${#found[@]} == 1)) ||
        fail "'$1' has ${#found[@]} files $2, and one is needed; NVIDIA's page of Jetson Linux has it"
    printf '%s' "${found[0]}"
}

# release_of ARCHIVE: 36.4.3 of Jetson_Linux_R36.4.3_aarch64.tbz2.
release_of() {
    sed -n 's/.*_[rR]\([0-9][0-9.]*\)_aarch64\.tbz2$/\1/p' <<<"$1"
}

# archives_key: the same files have these.
archives_key() {
    stat --format='%n %s %Y' -- "$bsp" "$samplefs"
    cat -- "${bsp%/*}/SHA256SUMS" 2>/dev/null || true
}

# check_archives: by the hashes that whoever fetched them has put beside them.
check_archives() {
    local archive sum sums=${bsp%/*}/SHA256SUMS wanted unknown=()
    for archive in "$bsp" "$samplefs"; do
        sum=$(fed_with "$archive" sha256sum) || fail "read $archive, see above"
        sum=${sum%% *}
        wanted=
        if [[ -f $sums ]]; then
            wanted=$(awk -v name="${archive##*/}" '$2 == name || $2 == "*" name { print $1 }' "$sums")
        fi
        if [[ -z $wanted ]]; then
            unknown+=("$sum  ${archive##*/}")
        elif [[ ${wanted,,} != "$sum" ]]; then
            fail "${archive##*/} is damaged or another file: its SHA-256 is $sum, and SHA256SUMS says $wanted"
        fi
    done
    ((${#unknown[@]} == 0)) || fail "$sums does not say what these files are to be. If NVIDIA's page says the same, put this into it and start again:
$(printf '%s\n' "${unknown[@]}")"
}

# fed_with FILE COMMAND...: its standard input is the file, and how far it is is said.
fed_with() {
    local file=$1 size pid started=$SECONDS at told=$SECONDS
    shift
    size=$(stat --dereference --format=%s -- "$file")
    "$@" <"$file" &
    pid=$!
    while [[ -e /proc/$pid/fdinfo/0 ]]; do
        sleep 0.2
        ((SECONDS - told >= report_every)) || continue
        told=$SECONDS
        at=$(sed -n 's/^pos:\s*//p' "/proc/$pid/fdinfo/0" 2>/dev/null) || true
        if ((${at:-0} > 0 && at < size)); then
            say "  ${file##*/}: $((100 * at / size)) %, about $(((SECONDS - started) * (size - at) / at)) s left"
        fi
    done
    wait "$pid"
}

# make_l4t_base: unpacks both and has NVIDIA's script put its own packages in.
make_l4t_base() {
    local part=$cache/l4t-base.part tree
    rm -rf -- "$cache/l4t-base" "$part"
    mkdir -p -- "$part"
    unpack "$bsp" "$part"
    tree=$part/Linux_for_Tegra
    [[ -x $tree/apply_binaries.sh ]] || fail "${bsp##*/} has no Linux_for_Tegra/apply_binaries.sh"
    mkdir -p -- "$tree/rootfs"
    unpack "$samplefs" "$tree/rootfs"
    say "  NVIDIA's own packages"
    (cd -- "$tree" && ./apply_binaries.sh) >&2 || fail "apply_binaries.sh failed, see above"
    mv -- "$part" "$cache/l4t-base"
}

# unpack ARCHIVE DIR: with owners and rights as they are.
unpack() {
    fed_with "$1" bzip2 --decompress --stdout |
        tar --extract --preserve-permissions --numeric-owner --file=- --directory="$2" ||
        fail "unpack $1, see above"
}

# add_l4t_packages PROGRAMS_DIR SLOTS: leaves the tree without an engine in l4t.part.
add_l4t_packages() {
    rm -rf -- "$cache/l4t" "$cache/l4t.part"
    cp --archive --reflink=auto -- "$cache/l4t-base" "$cache/l4t.part"
    local tree=$cache/l4t.part/Linux_for_Tegra/rootfs
    if $2; then add_rauc "$tree"; fi
    install_packages "$tree" "$1"
    printf 'stoker\n' >"$tree/etc/hostname"
    printf '127.0.0.1\tlocalhost\n127.0.1.1\tstoker\n::1\tlocalhost\n' >"$tree/etc/hosts"
    mask_units "$tree"
    forget_identity "$tree"
}

# mask_units TREE: of the patterns those that are there.
mask_units() {
    local pattern unit
    for pattern in "${masked_units[@]}"; do
        while read -r unit; do
            ln --symbolic --force -- /dev/null "$1/etc/systemd/system/$unit"
        done < <(find "$1/lib/systemd/system/" "$1/usr/lib/systemd/system/" "$1/etc/systemd/system/" \
            -maxdepth 1 -name "$pattern" ! -name '*.wants' ! -name '*.d' -printf '%f\n' 2>/dev/null | sort -u)
    done
}

# add_rauc TREE: from where Ubuntu's packages are, with the name servers of this machine.
add_rauc() {
    local resolv=$1/etc/resolv.conf before=$1/etc/resolv.conf.before
    if [[ -e $resolv || -L $resolv ]]; then mv -- "$resolv" "$before"; fi
    cp --dereference -- /etc/resolv.conf "$resolv"
    in_machine "$1" sh -c 'apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install \
        --yes --no-install-recommends "$@"' - "${slots_packages[@]}" >&2 ||
        fail "install ${slots_packages[*]} in the tree, see above; it takes a network"
    rm -f -- "$resolv"
    if [[ -e $before || -L $before ]]; then mv -- "$before" "$resolv"; fi
}

# finish_l4t ENGINE FIRST_BOOT SLOTS CERTIFICATE: what is of this image alone, and a last
# look.
finish_l4t() {
    local done_tree=$cache/l4t part=$cache/l4t.part tree
    # Done once, and its key has changed since.
    if [[ ! -d $part ]]; then mv -- "$done_tree" "$part"; fi
    tree=$part/Linux_for_Tegra/rootfs
    if $3; then
        make_l4t_slots "$part/Linux_for_Tegra" "$1" "$4"
    else
        put_engine "$tree/var/lib/stoker/engines" "$1"
    fi
    rm -f -- "$tree/boot/stoker.toml"
    if [[ -n $2 ]]; then
        # It has keys: nobody but root reads it, and the first boot takes it away.
        mkdir -p -- "$tree/boot"
        install --mode=600 -- "$2" "$tree/boot/stoker.toml"
    fi
    check_l4t "$tree"
    flash_commands "$3" >"$part/flash.txt"
    mv -- "$part" "$done_tree"
}

# make_l4t_slots LINUX_FOR_TEGRA ENGINE CERTIFICATE: NVIDIA's layout for two systems gets a
# partition for what is the machine's own. NVIDIA's UDA is not it: that lies before the
# systems, where it cannot grow, and is for NVIDIA's own updates.
make_l4t_slots() {
    local tree=$1/rootfs data=$1/../data layouts=$1/tools/kernel_flash
    if [[ ! -d $data ]]; then keep_apart "$tree" "$data"; fi
    put_engine "$data/stoker/engines" "$2"
    set_up_slot "$tree" "stoker-jetson-$release" "$3"
    rm -f -- "$1/bootloader/$data_image"
    mkdir -p -- "$1/bootloader"
    truncate --size="$data_bytes" "$1/bootloader/$data_image"
    make_file_system "$data" stoker-data "$1/bootloader/$data_image" 0 "$data_bytes"
    [[ -f $layouts/$nvidias_layout ]] ||
        fail "NVIDIA's tree has no tools/kernel_flash/$nvidias_layout, which says how a disk is divided for two systems"
    python3 "$here/lib/l4t_layout.py" stoker-data "$data_image" "$data_bytes" \
        <"$layouts/$nvidias_layout" >"$layouts/$our_layout" ||
        fail "add a partition to $nvidias_layout, see above"
}

# check_l4t TREE: what would be found out on the board only.
check_l4t() {
    local tree=$1 named
    named=$(sed -n 's/^# R\([0-9]*\) (release), REVISION: \([0-9.]*\).*/\1.\2/p' "$tree/etc/nv_tegra_release")
    [[ $named == "$release" ]] ||
        fail "the tree says that it is of release ${named:-nobody knows which}, and the archives are of $release"
    [[ -L $tree/etc/systemd/system/multi-user.target.wants/$marking_unit ]] ||
        fail "$marking_unit does not start in this tree; without it a board boots recovery for ever after three boots"
    named=$(awk -F : '$2 ~ /^[^!*]/ { print $1 }' "$tree/etc/shadow" | paste -sd ' ')
    [[ -z $named ]] || fail "the tree has a password for: $named; nobody is to log in by one that all boards share"
    ! compgen -G "$tree/etc/ssh/ssh_host_*" >/dev/null ||
        fail "the tree has host keys, which all boards would share"
    [[ ! -s $tree/etc/machine-id ]] || fail "the tree has a machine-id, which all boards would share"
}

# flash_commands SLOTS: as NVIDIA's README_initrd_flash.txt has them.
flash_commands() {
    local nvme='--external-device nvme0n1p1 -c tools/kernel_flash/flash_l4t_t234_nvme.xml'
    local ab="--external-device nvme0n1p1 -c tools/kernel_flash/$nvidias_layout"
    if $1; then ab="--external-device nvme0n1p1 -c tools/kernel_flash/$our_layout"; fi
    local qspi='-p "-c bootloader/generic/cfg/flash_t234_qspi.xml"'
    local initrd='./tools/kernel_flash/l4t_initrd_flash.sh' nano=jetson-orin-nano-devkit-super
    cat <<END
# Jetson Linux $release with Stoker. Once on this PC (Ubuntu 20.04 or 22.04), then with the board
# in recovery mode on its USB port. "Flash is successful" is the end, not what is said before.
# Nothing here has been tried on a board.
cd $cache/l4t/Linux_for_Tegra
sudo ./tools/l4t_flash_prerequisites.sh

END
    if $1; then
        cat <<END
# Orin Nano or NX on NVIDIA's carrier, two systems (A/B) on NVMe. -S is the size of each; the
# rest of the disk is for engines and data.
sudo ROOTFS_AB=1 ROOTFS_RETRY_COUNT_MAX=3 $initrd $ab $qspi -S 24GiB --showlogs --network usb0 $nano external
END
        return
    fi
    cat <<END
# Orin Nano or NX on NVIDIA's carrier, system on NVMe
sudo $initrd $nvme $qspi --showlogs --network usb0 $nano internal

# The same with two systems (A/B), each of half the size. For updates of the whole system
# build the tree with --slots.
sudo ROOTFS_AB=1 ROOTFS_RETRY_COUNT_MAX=3 $initrd $ab $qspi --showlogs --network usb0 $nano external

# AGX Orin, system on its eMMC
sudo ./flash.sh jetson-agx-orin-devkit internal

# Many Orin Nano or NX of one kind: once with one of them in recovery mode, then five at a time
sudo $initrd --no-flash $nvme $qspi --network usb0 $nano internal
sudo $initrd --flash-only --massflash 5 --showlogs --network usb0
END
}
