//! A whole system into the one of two that does not run, beside stand-ins for RAUC,
//! nvbootctrl and mount, on the firmware's variables.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use tests::appliance::Appliance;
use tests::engine::Engine;

use crate::yard::{NOBODY, RECORD, STAND_IN, UNIT, Yard, cut_everywhere};

/// Whether the firmware starts system B.
pub(crate) const STATUS_B: &str =
    "sys/firmware/efi/efivars/RootfsStatusSlotB-781e084c-a330-417c-b678-38e696380cb9";
const NORMAL: [u8; 8] = [7, 0, 0, 0, 0, 0, 0, 0];
/// The other system, as a directory.
const SYSTEM_B: &str = "dev/disk/by-partlabel/APP_b";

const NVBOOTCTRL: &str = r#"
case "$*" in
"-t rootfs dump-slots-info")
    case $(od -An -tu1 -j4 -N1 "../$STATUS") in *255) is=unbootable ;; *) is=normal ;; esac
    printf 'Current rootfs slot: %s\nActive rootfs slot: %s\nnum_slots: 2\n' \
        "$(cat running)" "$(cat active)"
    printf 'slot: 0,             retry_count: 3,             status: normal\n'
    printf 'slot: 1,             retry_count: 3,             status: %s\n' $is
    ;;
"set-active-boot-slot 0") echo A >active ;;
"set-active-boot-slot 1") echo B >active ;;
*) exit 2 ;;
esac
moment
"#;

/// A file's second line is for whom it is, its third which version, its fourth who signed.
const RAUC: &str = r#"
line() { sed -n "$1p" "$file"; }
case $1 in
info)
    file=$3
    if [ "$(line 4)" != ours ]; then
        echo 'signature verification failed: Verify error: self-signed certificate' >&2
        exit 1
    fi
    echo 'rauc-Message: Verified inline signature' >&2
    printf '{"compatible":"%s","version":"%s","images":[]}\n' "$(line 2)" "$(line 3)"
    ;;
install)
    file=$2
    printf '\007\000\000\000\377\000\000\000' >"../$STATUS"
    rm -rf ../$SYSTEM/*
    echo '  0% Installing'
    moment
    mkdir -p ../$SYSTEM/etc
    echo image >../$SYSTEM/etc/hostname
    echo '100% Installing done.'
    ;;
esac
moment
"#;

const MOUNT: &str = "moment\nrmdir \"$2\" && ln -s \"$1\" \"$2\"\n";
const UMOUNT: &str = "[ -L \"$1\" ] && rm \"$1\" && mkdir \"$1\" && moment\n";

impl Yard {
    /// The same machine with two systems, of which A runs.
    fn with_two_systems() -> Self {
        let yard = Self::new();
        for (name, text) in [
            ("usr/sbin/nvbootctrl", NVBOOTCTRL),
            ("usr/bin/rauc", RAUC),
            ("bin/mount", MOUNT),
            ("bin/umount", UMOUNT),
        ] {
            let names = format!("STATUS={STATUS_B}\nSYSTEM={SYSTEM_B}\n");
            yard.place.program(name, &[STAND_IN, &names, text].concat());
        }
        yard.place.write("etc/rauc/system.conf", "[system]\ncompatible=a-box\n");
        yard.place.write(STATUS_B, "");
        fs::write(yard.place.path(STATUS_B), NORMAL).unwrap();
        yard.place.write("fake/running", "A\n");
        yard.place.write("fake/active", "A\n");
        yard.place.write("etc/hostname", "box\n");
        yard.place.write(&format!("{SYSTEM_B}/etc/hostname"), "old\n");
        yard
    }

    fn system(&self, compatible: &str, version: &str, signer: &str) -> PathBuf {
        let name = format!("{compatible}-{version}-{signer}.raucb");
        self.place.write(&name, &format!("hsqs\n{compatible}\n{version}\n{signer}\n"));
        self.place.path(&name)
    }

    /// System, database and record agree, and nothing is left.
    fn assert_runs(&self, system: &str, phase: &str) {
        let runs = (self.read("fake/running"), self.read("fake/active"));
        assert_eq!(runs, (system.to_owned(), system.to_owned()));
        assert_eq!(self.phase(), phase, "{}", self.read(RECORD));
        assert_eq!(self.row(), if system == "A" { "old" } else { "new" });
        self.assert_is_tidy();
    }
}

fn staged(server: &str) -> Yard {
    let yard = Yard::with_two_systems();
    let file = yard.system("a-box", "0.2.0", "ours");
    yard.stage(&file, server);
    yard.link_keeper();
    yard
}

/// Boots until the update has ended.
fn boot_to_the_end(yard: &Yard) -> Vec<Output> {
    let mut outputs = Vec::new();
    while yard.place.path(UNIT).exists() {
        outputs.push(yard.keep(0));
        assert!(outputs.len() <= 5, "{outputs:?} {}", yard.read(RECORD));
    }
    outputs
}

#[test]
fn a_system_that_is_well_stays_wherever_the_power_fails() {
    let appliance = Appliance::start(&Engine::echo());
    let staged = staged(&appliance.address().to_string());
    let cuts = cut_everywhere(&staged, |yard| match yard.phase().as_str() {
        "committed" => yard.assert_runs("B", "committed"),
        _ => yard.assert_runs("A", "went_back"),
    });
    // Each of RAUC, mount, umount and nvbootctrl before and after.
    assert!(cuts >= 12, "{cuts}");
    boot_to_the_end(&staged);
    staged.assert_runs("B", "committed");
    let own = staged.read(&format!("{SYSTEM_B}/etc/hostname"));
    let unit = staged.read(&format!("{SYSTEM_B}/{UNIT}"));
    assert!(own == "box" && unit.contains("update keep"), "{own} {unit}");
}

#[test]
fn a_system_that_is_ill_goes_back_with_its_database_wherever_the_power_fails() {
    let appliance = Appliance::start(&Engine::echo());
    let staged = staged(&appliance.address().to_string());
    drop(appliance);
    cut_everywhere(&staged, |yard| yard.assert_runs("A", "went_back"));
    // The new system has begun, and is cut everywhere, too.
    assert!(staged.keep(0).status.success());
    assert_eq!((staged.phase().as_str(), staged.read("fake/active").as_str()), ("trial", "B"));
    assert!(staged.read("fake/systemctl").ends_with("--no-block reboot"));
    let cuts = cut_everywhere(&staged, |yard| yard.assert_runs("A", "went_back"));
    assert!(cuts >= 4, "{cuts}");
}

#[test]
fn a_system_that_the_firmware_gave_up_is_over() {
    let appliance = Appliance::start(&Engine::echo());
    let yard = staged(&appliance.address().to_string());
    assert!(yard.keep(0).status.success());
    // It never reached its keeper, and the firmware has gone back.
    fs::write(yard.place.path(STATUS_B), [7, 0, 0, 0, 0xff, 0, 0, 0]).unwrap();
    boot_to_the_end(&yard);
    yard.assert_runs("A", "went_back");
    assert!(yard.read(RECORD).contains("the new system did not start"));
    // The next one gets its turn: what was given up is started again.
    let file = yard.system("a-box", "0.3.0", "ours");
    yard.stage(&file, &appliance.address().to_string());
    yard.link_keeper();
    boot_to_the_end(&yard);
    yard.assert_runs("B", "committed");
}

#[test]
fn a_file_that_is_damaged_inside_ends_where_it_began() {
    let yard = Yard::with_two_systems();
    let file = yard.system("a-box", "0.2.0", "ours");
    yard.stage(&file, NOBODY);
    yard.link_keeper();
    fs::remove_file(&file).unwrap();
    let refuse = "#!/bin/sh\necho 'LastError: Invalid bundle' >&2\nexit 1\n";
    yard.place.program("usr/bin/rauc", refuse);
    // It goes back at once: nothing was started that would have to be left.
    assert!(yard.keep(0).status.success());
    yard.assert_runs("A", "went_back");
    assert!(yard.read(RECORD).contains("LastError: Invalid bundle"));
    assert!(!yard.read("fake/systemctl").contains("reboot"));
}

#[test]
fn only_a_system_that_is_signed_not_older_and_for_this_machine_is_taken() {
    let yard = Yard::with_two_systems();
    let good = yard.system("a-box", "0.1.0", "ours");
    let output = yard.looked(&good, &["--dry-run"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("version 0.1.0; 0.1.0 is installed"), "{output:?}");
    for (compatible, version, signer, why) in [
        ("a-box", "0.2.0", "theirs", "signature verification failed"),
        ("b-box", "0.2.0", "ours", "the system is for b-box, and this machine is a-box"),
        ("a-box", "0.0.9", "ours", "it has version 0.0.9 and 0.1.0 is installed"),
        ("a-box", "new", "ours", "the version \"new\", which is none of ours"),
    ] {
        let file = yard.system(compatible, version, signer);
        let said = yard.refusal(&file);
        assert!(said.contains(why), "{said}");
        let output = yard.looked(&file, &[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!yard.place.path(UNIT).exists() && yard.read("fake/active") == "A");
    }
    let one = Yard::new();
    let said = one.refusal(&one.system("a-box", "0.2.0", "ours"));
    assert!(said.contains("goes to a machine with two of them"), "{said}");
    yard.place.write("fake/active", "B\n");
    let said = yard.refusal(&good);
    assert!(said.contains("starts system B next"), "{said}");
}

#[test]
fn rauc_asks_in_its_own_words() {
    let yard = Yard::with_two_systems();
    let ask = |arguments: &[&str]| {
        let mut command = std::process::Command::new(tests::process::program("stoker"));
        let output =
            command.arg("slots").args(arguments).arg("--root").arg(yard.place.root()).output();
        let output = output.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let yes = |said: &str| (true, said.to_owned());
    assert_eq!(ask(&["get-primary"]), yes("A"));
    for (state, is) in [("bad", 0xff), ("good", 0)] {
        assert_eq!(ask(&["set-state", "B", state]), yes(""));
        assert_eq!(ask(&["get-state", "B"]), yes(state));
        assert_eq!(fs::read(yard.place.path(STATUS_B)).unwrap()[4], is);
    }
    // The one that runs is not given up.
    assert!(!ask(&["set-state", "A", "bad"]).0 && !ask(&["get-state", "C"]).0);
    assert_eq!((ask(&["set-primary", "B"]), ask(&["get-primary"])), (yes(""), yes("B")));
}
