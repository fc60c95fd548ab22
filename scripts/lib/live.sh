# shellcheck shell=bash
# What a running system has to hear of files that come and go, and what is enabled.
# Needs terminal.sh, files.sh and place.sh, with variables that are not seen in here:
# shellcheck disable=SC2034,SC2154

readonly service=stoker.service
readonly units_at=/$units_below
# Units that start by themselves from now on.
new_units=()

# Older ones lack settings that our units need.
readonly oldest_systemd=249

require_live_system() {
    local version
    ((EUID == 0)) || fail "this changes the system and needs root: sudo scripts/install, or name a directory with DESTDIR"
    [[ -d /run/systemd/system ]] ||
        fail "systemd does not run here; to prepare a directory name it with DESTDIR, and without a service there is scripts/run"
    version=$(systemctl --version | awk 'NR == 1 { print int($2) }')
    ((version >= oldest_systemd)) ||
        fail "systemd $version is too old, $oldest_systemd or newer is needed (Ubuntu 22.04, Debian 12)"
}

# require_programs_that_run DIR
require_programs_that_run() {
    local name missing
    for name in stoker engine-builder; do
        "$1/$name" --version >/dev/null ||
            fail "$1/$name does not run on this machine, see above; build it here: cargo build --release --locked"
    done
    # It cannot be started by hand.
    missing=$(ldd "$1/engine-worker" | sed -n 's/^\s*\(\S*\) => not found$/\1/p')
    [[ -z $missing ]] ||
        fail "engine-worker needs libraries that are not here: ${missing//$'\n'/, }; apt-get install libgomp1 libstdc++6"
}

# As `systemctl enable` would, also for a system that does not run. Who has disabled a
# unit since wants it so.
# enable_new_units SET...
enable_new_units() {
    local name target link
    while read -r name target; do
        $first_time || [[ -z $(recorded "$units_at/$name") ]] || continue
        if ! runs_once "$root" "$name"; then new_units+=("$name"); fi
        link=/etc/systemd/system/$target.wants/$name
        [[ ! -L $destination$link ]] || continue
        mkdir -p -- "$destination${link%/*}"
        ln --symbolic -- "/lib/systemd/system/$name" "$destination$link"
        note new "$link" "starts at boot"
    done < <(wanted_units "$root" "$@")
}

# The units of the record, without drop-ins of other people's.
our_units() {
    recorded | sed -n "s|^.*  $units_at/\([^/]*\)\$|\1|p"
}

disable_units() {
    local name
    while read -r name; do disable "$name"; done < <(our_units)
}

# disable UNIT: whatever wants it.
disable() {
    local link
    for link in "$destination"/etc/systemd/system/*.wants/"$1"; do
        [[ -L $link ]] || continue
        rm -- "$link"
        note removed "${link#"$destination"}"
    done
}

# tell_the_live_system SETS: after files have changed.
tell_the_live_system() {
    systemd-sysusers stoker.conf || fail "make the user stoker: systemd-sysusers failed, see above"
    systemd-tmpfiles --create stoker.conf || fail "make $data: systemd-tmpfiles failed, see above"
    systemctl daemon-reload
    reload_what_runs "$1"
    local name
    for name in "${new_units[@]}"; do
        systemctl start "$name" || fail_to_start "$name"
    done
    if [[ " ${new_units[*]} " == *" $service "* ]]; then
        invite
    else
        # The engine stays loaded, and who connects meanwhile waits a moment. A service
        # that somebody has stopped stays so.
        systemctl try-restart "$service" || fail_to_start "$service"
    fi
}

# reload_what_runs SETS: not all of it runs on every system, and nothing here keeps a
# service from serving.
reload_what_runs() {
    if udevadm control --reload 2>/dev/null; then
        udevadm trigger --action=add --subsystem-match=devfreq || true
    fi
    if [[ " $1 " == *' appliance '* ]]; then
        /lib/systemd/systemd-sysctl /usr/lib/sysctl.d/90-stoker.conf ||
            say "  Some of /usr/lib/sysctl.d/90-stoker.conf is not in force; at the next boot it is tried again."
        systemctl try-restart systemd-journald.service || true
    fi
}

invite() {
    say "The service runs: stoker status, journalctl -u stoker, http://127.0.0.1:11434/"
    if ! compgen -G "$data/engines/*/engine.toml" >/dev/null; then
        say "It has no engine yet. To get the default model and serve it:"
        say "  engine-builder build smollm2-135m-instruct && systemctl restart stoker"
    fi
}

# fail_to_start UNIT
fail_to_start() {
    # Its own words, without what systemd says of them.
    journalctl --lines=2 --output=cat --no-pager "_SYSTEMD_UNIT=$1" >&2 || true
    fail "$1 does not start, see above and journalctl -u $1; mend that and start this again"
}

stop_the_live_system() {
    local running
    mapfile -t running < <(our_units | grep -v '\.slice$')
    systemctl stop "${running[@]}" ||
        fail "stop ${running[*]}: see journalctl -u stoker; nothing was taken away"
}

forget_in_the_live_system() {
    systemctl daemon-reload
    systemctl reset-failed "$service" 2>/dev/null || true
    say "What was set in the kernel and in systemd stays so until the next boot."
    say "The user stoker stays, since files may belong to it; userdel stoker takes it away."
}
