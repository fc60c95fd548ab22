# shellcheck shell=bash
# Files put on a machine so that they can be taken away again: written beside and
# renamed, with a record of what was put there, and never over what somebody has
# changed. `destination` is the machine's root. Needs terminal.sh, files.sh and
# live.sh, and gives and takes variables that are not seen in here:
# shellcheck disable=SC2034,SC2154

# What was put there: a line for each file with its SHA-256, or with the target of a
# link. Only root can write it.
readonly record=/usr/lib/stoker/installed
# Its last line as long as the service has not started for the first time.
readonly never_started='# unfinished, first time'
readonly data=/var/lib/stoker
# That it has booted before, and which systems were good.
readonly boots=(/var/lib/stoker-firstboot /var/lib/stoker-health)
# Gigabytes that are nobody's data.
readonly swap=/var/lib/stoker-swap

destination=
# Nothing was there before.
first_time=false
# How many files were changed, and each of them for --format json.
changes=0
json_files=()
# The lines of the new record.
placed=()

# place MODE PATH SOURCE
place() {
    local mode=$1 path=$2 source=$3 to=$destination$2 sum
    if [[ $mode == link ]]; then
        place_link "$path" "$(readlink -- "$source")"
        return
    fi
    sum=$(sum_of "$source")
    placed+=("$sum  $path")
    if [[ ! -e $to && ! -L $to ]]; then
        write "$mode" "$source" "$to"
        note new "$path"
    elif [[ -f $to && $(sum_of "$to") == "$sum" ]]; then
        if [[ $(stat --format=%a -- "$to") == "$mode" ]]; then return; fi
        write "$mode" "$source" "$to"
        note updated "$path"
    elif is_configuration "$path" && [[ $(recorded "$path") != "$(sum_of "$to")" ]]; then
        keep "$mode" "$path" "$source" "$sum"
    else
        write "$mode" "$source" "$to"
        note updated "$path"
    fi
}

# It is somebody's now. Ours goes beside it when it is one that they have not seen.
keep() {
    local mode=$1 path=$2 source=$3 sum=$4 beside=$destination$2.stoker-new
    [[ $(recorded "$path") != "$sum" ]] || return 0
    [[ ! -f $beside || $(sum_of "$beside") != "$sum" ]] || return 0
    write "$mode" "$source" "$beside"
    note kept "$path" "was changed here; ours is beside it as $path.stoker-new"
}

# place_link PATH TARGET: what was there, if only the same, comes back when ours
# goes. A link that somebody has turned elsewhere since stays so.
place_link() {
    local path=$1 target=$2 to=$destination$1
    placed+=("link:$target  $path")
    [[ -z $(recorded "$path") ]] || return 0
    mkdir -p -- "${to%/*}"
    # Not once more after an installation that was cut.
    if [[ -e $to || -L $to ]] && [[ ! -e $to.before-stoker && ! -L $to.before-stoker ]]; then
        mv --no-target-directory -- "$to" "$to.before-stoker"
    fi
    ln --symbolic --force --no-dereference -- "$target" "$to"
    note new "$path" "points to $target"
}

# write MODE SOURCE TO: whole or not at all, also for a program that runs.
write() {
    mkdir -p -- "${3%/*}" || fail "create ${3%/*}"
    # Not `install`, which would leave half a file where the disk is full.
    if ! { cp -- "$2" "$3.stoker-part" && chmod "$1" -- "$3.stoker-part" &&
        mv --force --no-target-directory -- "$3.stoker-part" "$3"; }; then
        rm -f -- "$3.stoker-part"
        fail "write $3, see above; what was there is as it was. Mend that and start again"
    fi
}

sum_of() {
    local sum
    sum=$(sha256sum <"$1") || fail "read $1"
    printf '%s' "${sum%% *}"
}

# recorded [PATH]: the record, or what it says of one file.
recorded() {
    local file=$destination$record
    [[ -f $file ]] || return 0
    if (($#)); then
        awk -v path="$1" '$2 == path { print $1 }' "$file"
    else
        cat -- "$file"
    fi
}

# was_installed SET
was_installed() {
    local sets=
    read -r sets < <(recorded) || true
    [[ " $sets " == *" $1 "* ]]
}

# Of an earlier version.
remove_what_is_no_longer_listed() {
    local sum path
    while read -r sum path; do
        if [[ $sum != '#' && " ${placed[*]} " != *"  $path "* ]]; then
            remove "$sum" "$path" false
            if [[ $path == "$units_at"/* ]]; then disable "${path##*/}"; fi
        fi
    done < <(recorded)
}

# record_of SET...: what the record should say.
record_of() {
    printf '%s\n' "# sets: $*" "${placed[@]}"
}

write_record() {
    write 644 <(printf '%s\n' "$1") "$destination$record"
}

# remove_all PURGE
remove_all() {
    local sum path
    while read -r sum path; do
        [[ $sum == '#' ]] || remove "$sum" "$path" "$1"
    done < <(recorded)
    rm -f -- "$destination$record"
    rm -rf -- "$destination$swap"
    # Of a machine that nobody has claimed.
    rm -f -- "$destination/etc/issue.d/50-stoker.issue"
    local directory
    for directory in /usr/lib/stoker /etc/stoker/conf.d /etc/stoker \
        "$units_at/avahi-daemon.service.d" "$units_at/nv-l4t-bootloader-config.service.d" \
        "$units_at/nvzramconfig.service.d" "$units_at/rauc.service.d" "$units_at/ssh.service.d"; do
        rmdir --ignore-fail-on-non-empty -- "$destination$directory" 2>/dev/null || true
    done
}

# remove SUM PATH PURGE
remove() {
    local sum=$1 path=$2 to=$destination$2
    [[ -e $to || -L $to ]] || return 0
    if [[ $sum == link:* ]]; then
        remove_link "$path" "${sum#link:}"
        return
    fi
    if is_configuration "$path" && ! $3 && [[ $(sum_of "$to") != "$sum" ]]; then
        rm -f -- "$to.stoker-new"
        note kept "$path" "was changed here"
        return
    fi
    rm -f -- "$to" "$to.stoker-new"
    note removed "$path"
}

# remove_link PATH TARGET
remove_link() {
    local path=$1 to=$destination$1
    if [[ $(readlink -- "$to") != "$2" ]]; then
        rm -f -- "$to.before-stoker"
        note kept "$path" "was changed here"
    elif [[ -e $to.before-stoker || -L $to.before-stoker ]]; then
        mv --force --no-target-directory -- "$to.before-stoker" "$to"
        note restored "$path"
    else
        rm -- "$to"
        note removed "$path"
    fi
}

# remove_data PURGE
remove_data() {
    local to=$destination$data
    [[ -d $to ]] || return 0
    if ! $1; then
        say "Engines and database stay in $to ($(du --summarize --human-readable -- "$to" 2>/dev/null | cut -f 1)); scripts/install --uninstall --purge takes them away."
        return
    fi
    # The directory itself may be a mounted disk.
    find "$to" -xdev -mindepth 1 -delete || fail "take away what is in $to, see above"
    rmdir -- "$to" 2>/dev/null || true
    rm -rf -- "$destination/etc/stoker" "${boots[@]/#/$destination}"
    note removed "$data" "engines and database"
}

# note WHAT PATH [WHY]
note() {
    changes=$((changes + 1))
    json_files+=("{\"path\": \"$2\", \"action\": \"$1\"}")
    say "$(printf '  %-9s %s%s' "$1" "$2" "${3:+, $3}")"
}

# print_json ACTION: our own paths need no escapes, a directory's name may.
print_json() {
    local below=${destination//\\/\\\\} changed=false files
    if ((changes)); then changed=true; fi
    files=$(IFS=, && printf '%s' "${json_files[*]}")
    printf '{"action": "%s", "destination": "%s", "changed": %s, "files": [%s]}\n' \
        "$1" "${below//\"/\\\"}" "$changed" "$files"
}
