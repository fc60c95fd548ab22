# shellcheck shell=bash
# The one list of what Stoker puts on a machine, for scripts/install and
# scripts/package-deb alike: the programs, every unit in systemd/ and every file
# in rootfs-overlay/, in two sets. `service` is what it takes to serve.
# `appliance` changes the machine as a whole, and is only for one that does
# nothing else.

readonly programs=(stoker engine-worker engine-builder)

# All others are of the set `service`.
readonly appliance_files=(
    etc/avahi/services/stoker.service
    etc/systemd/system/default.target
    usr/lib/stoker/stoker.toml
    usr/lib/sysctl.d/90-stoker.conf
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
        for name in "$root"/systemd/*; do
            printf '644\t/usr/lib/systemd/system/%s\t%s\n' "${name##*/}" "$name"
        done
    fi
    while read -r name; do
        [[ $(set_of "$name") == "$set" ]] || continue
        mode=644
        if [[ -L $root/rootfs-overlay/$name ]]; then mode='link'; fi
        printf '%s\t/%s\t%s\n' "$mode" "$name" "$root/rootfs-overlay/$name"
    done < <(cd -- "$root/rootfs-overlay" && find . ! -type d -printf '%P\n' | LC_ALL=C sort)
}

# wanted_units ROOT: what starts by itself, a line for each: the unit, and the target
# that wants it.
wanted_units() {
    local file
    for file in "$1"/systemd/*; do
        sed -n "s/^WantedBy=/${file##*/} /p" "$file"
    done
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
