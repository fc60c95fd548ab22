# shellcheck shell=bash
# The one list of what Stoker puts on a machine, for scripts/install and
# scripts/package-deb alike: the programs, every unit in systemd/ and every file
# in rootfs-overlay/, in two sets. `service` is what it takes to serve.
# `appliance` changes the machine as a whole, and is only for one that does
# nothing else.

readonly programs=(stoker engine-worker indexer engine-builder)

readonly units_below=usr/lib/systemd/system

# All others are of the set `service`.
readonly appliance_files=(
    etc/apt/preferences.d/50-stoker.pref
    etc/avahi/services/stoker.service
    etc/systemd/system/default.target
    usr/lib/stoker/rauc-backend
    usr/lib/stoker/stoker.toml
    usr/lib/sysctl.d/90-stoker.conf
    # Restarts the machine, and sets who may log in.
    usr/lib/systemd/system/avahi-daemon.service.d/50-stoker.conf
    usr/lib/systemd/system/nv-l4t-bootloader-config.service.d/50-stoker.conf
    usr/lib/systemd/system/nvzramconfig.service.d/50-stoker.conf
    usr/lib/systemd/system/rauc.service.d/50-stoker.conf
    usr/lib/systemd/system/ssh.service.d/50-stoker.conf
    usr/lib/systemd/system/stoker-claim.service
    usr/lib/systemd/system/stoker-firstboot.service
    usr/lib/systemd/system/stoker-grow.service
    usr/lib/systemd/system/stoker-health.service
    usr/lib/systemd/system/stoker-swap.service
    usr/lib/systemd/journald.conf.d/50-stoker.conf
    usr/lib/systemd/system.conf.d/zz-stoker-watchdog.conf
)

# files SET ROOT PROGRAMS_DIR: a line for each file: mode, path on the machine and
# where it comes from, between tabs. The mode of a symbolic link is `link`.
files() {
    local set=$1 root=$2 programs_dir=$3 name mode
    if [[ $set == service ]]; then
        for name in "${programs[@]}"; do
            printf '755\t/usr/bin/%s\t%s\n' "$name" "$programs_dir/$name"
        done
    fi
    while read -r name; do
        printf '644\t/%s\t%s\n' "$units_below/$name" "$root/systemd/$name"
    done < <(units "$set" "$root")
    while read -r name; do
        [[ $(set_of "$name") == "$set" ]] || continue
        mode=644
        if [[ -x $root/rootfs-overlay/$name ]]; then mode=755; fi
        if [[ -L $root/rootfs-overlay/$name ]]; then mode='link'; fi
        printf '%s\t/%s\t%s\n' "$mode" "$name" "$root/rootfs-overlay/$name"
    done < <(cd -- "$root/rootfs-overlay" && find . ! -type d -printf '%P\n' | LC_ALL=C sort)
}

# units SET ROOT: the names of our units, a line for each.
units() {
    local file
    for file in "$2"/systemd/*; do
        [[ $(set_of "$units_below/${file##*/}") != "$1" ]] || printf '%s\n' "${file##*/}"
    done
}

# wanted_units ROOT SET...: what starts by itself, a line for each: the unit, and the
# target that wants it.
wanted_units() {
    local root=$1 set name
    shift
    for set in "$@"; do
        while read -r name; do
            sed -n "s/^WantedBy=/$name /p" "$root/systemd/$name"
        done < <(units "$set" "$root")
    done
}

# runs_once ROOT UNIT: it is for a boot, and is not started in between.
runs_once() {
    grep --quiet '^Type=oneshot$' "$1/systemd/$2"
}

set_of() {
    case " ${appliance_files[*]} " in
    *" $1 "*) printf appliance ;;
    *) printf service ;;
    esac
}

# is_configuration PATH: somebody may have changed it, and it is theirs then.
is_configuration() {
    [[ $1 == /etc/* ]]
}

# architecture_of PROGRAM, by the second byte of its ELF header's machine field.
architecture_of() {
    case $(od --address-radix=n --format=x2 --skip-bytes=18 --read-bytes=2 --endian=little -- "$1") in
    *003e) printf amd64 ;;
    *00b7) printf arm64 ;;
    *) fail "$1 is a program for neither amd64 nor arm64" ;;
    esac
}
