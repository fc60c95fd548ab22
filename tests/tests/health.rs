//! `stoker health` beside a stand-in of the firmware and of NVIDIA's `nvbootctrl`,
//! which answers in the words that are documented of it: boot after boot, until the
//! machine is where it belongs.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tests::appliance::Setup;
use tests::engine::Engine;
use tests::place::Place;
use tests::process::program;

/// Nothing listens there.
const NOBODY: &str = "127.0.0.1:1";

const NVBOOTCTRL: &str = r#"#!/bin/sh
cd "$(dirname "$0")/../../firmware" || exit 1
case "$*" in
"-t rootfs dump-slots-info")
    if [ "$(cat systems)" = 1 ]; then
        echo "RootFS A/B is not enabled."
        exit 0
    fi
    # As on boards whose kernel has no such device.
    echo "Error: can not open /dev/mem" >&2
    echo "Current rootfs slot: $(cat current)"
    echo "Active rootfs slot: $(cat current)"
    echo "num_slots: 2"
    echo "slot: 0,             retry_count: $(cat retry_A),             status: $(cat status_A)"
    echo "slot: 1,             retry_count: $(cat retry_B),             status: $(cat status_B)"
    exit 1
    ;;
verify) echo 3 >"retry_$(cat current)" ;;
*) exit 2 ;;
esac
"#;

const SYSTEMCTL: &str = "#!/bin/sh\necho \"$*\" >>\"$(dirname \"$0\")/../firmware/systemctl\"\n";

/// A board with firmware, one system or two.
struct Board {
    place: Place,
}

impl Board {
    fn with_systems(systems: u32) -> Self {
        let board = Self { place: Place::new() };
        let owner = "781e084c-a330-417c-b678-38e696380cb9";
        let slot = |name: &str| format!("sys/firmware/efi/efivars/RootfsStatusSlot{name}-{owner}");
        board
            .place
            .write("proc/device-tree/compatible", "nvidia,p3768-0000+p3767-0003\0nvidia,tegra234");
        board.place.write("proc/stat", "btime 1790000000\n");
        board.place.write("sys/class/thermal/thermal_zone0/type", "tj-thermal\n");
        board.place.write("sys/class/thermal/thermal_zone0/temp", "45000\n");
        board.place.write(&slot("A"), "\x07\0\0\0\0\0\0\0");
        board.place.write(&slot("B"), "\x07\0\0\0\0\0\0\0");
        board.release("36.5");
        for (file, says) in
            [("current", "A"), ("retry_A", "3"), ("retry_B", "3"), ("status_A", "normal")]
        {
            board.place.write(&format!("firmware/{file}"), says);
        }
        board.place.write("firmware/status_B", "normal");
        board.place.write("firmware/systems", &systems.to_string());
        board.place.program("usr/sbin/nvbootctrl", NVBOOTCTRL);
        board.place.program("bin/systemctl", SYSTEMCTL);
        board
    }

    /// The release of the system that runs.
    fn release(&self, release: &str) {
        let (major, revision) = release.split_once('.').unwrap();
        let text =
            format!("# R{major} (release), REVISION: {revision}.0, GCID: 1, BOARD: generic\n");
        self.place.write("etc/nv_tegra_release", &text);
    }

    fn firmware(&self, file: &str) -> String {
        fs::read_to_string(self.place.path("firmware").join(file)).unwrap().trim().to_owned()
    }

    /// The machine starts: the firmware counts, and gives a system up that has failed
    /// too often. `/run` is empty then.
    fn power_on(&self) {
        let _ = fs::remove_dir_all(self.place.path("run"));
        let mut current = self.firmware("current");
        if self.firmware(&format!("retry_{current}")) == "0" {
            assert_eq!(self.firmware("systems"), "2", "it boots the recovery system, for ever");
            self.place.write(&format!("firmware/status_{current}"), "unbootable");
            current = if current == "A" { "B" } else { "A" }.to_owned();
            self.place.write("firmware/current", &current);
        }
        let retry = format!("retry_{current}");
        let left: u32 = self.firmware(&retry).parse().unwrap();
        assert_ne!(left, 0, "both systems are used up: it boots the recovery system");
        self.place.write(&format!("firmware/{retry}"), &(left - 1).to_string());
    }

    /// Exit status and what was said.
    fn health(&self, server: &str, patience_s: u32) -> (i32, String) {
        let state = self.place.path("var/lib/stoker");
        fs::create_dir_all(&state).unwrap();
        self.health_with(server, &state, patience_s)
    }

    fn health_with(&self, server: &str, state: &Path, patience_s: u32) -> (i32, String) {
        self.place.write("test.toml", &format!("[server]\nlisten = \"{server}\"\n"));
        let output = Command::new(program("stoker"))
            .args(["health", "--patience-s", &patience_s.to_string()])
            .arg("--config")
            .arg(self.place.path("test.toml"))
            .arg("--root")
            .arg(self.place.root())
            .arg("--state-dir")
            .arg(state)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code().unwrap(), said)
    }

    fn is_going_back(&self) -> bool {
        self.place.path("run/stoker-health/going-back").exists()
    }

    fn is_marked(&self) -> bool {
        self.firmware(&format!("retry_{}", self.firmware("current"))) == "3"
    }
}

/// A server and its address.
fn with_server(engine: &Engine, during: impl FnOnce(&str)) {
    let appliance = Setup::new(engine).listen();
    let address: SocketAddr = appliance.address();
    during(&address.to_string());
}

#[test]
fn the_only_system_never_ends_in_recovery_however_ill_it_is() {
    let board = Board::with_systems(1);
    for _ in 0..6 {
        board.power_on();
        let (status, said) = board.health(NOBODY, 0);
        assert_eq!(status, 3, "{said}");
        assert!(board.is_marked() && !board.is_going_back());
    }
}

#[test]
fn a_system_that_is_well_is_marked_and_so_is_one_without_an_engine() {
    let board = Board::with_systems(2);
    with_server(&Engine::echo(), |server| {
        board.power_on();
        assert!(!board.is_marked());
        let (status, said) = board.health(server, 120);
        assert_eq!(
            (status, said.as_str()),
            (0, "this boot is marked as good\nthe engine answers\n")
        );
        assert!(board.is_marked());
    });
    with_server(&Engine::Absent, |server| {
        board.power_on();
        let (status, said) = board.health(server, 120);
        assert_eq!(status, 3, "{said}");
        assert!(board.is_marked() && said.contains("no engine answers: "), "{said}");
    });
}

#[test]
fn a_new_system_that_is_ill_goes_back_by_itself_after_three_boots() {
    let board = Board::with_systems(2);
    with_server(&Engine::echo(), |server| {
        board.power_on();
        assert_eq!(board.health(server, 120).0, 0);
    });

    // An update, in which the server does not start.
    board.place.write("firmware/current", "B");
    board.release("36.6");
    let mut boots = 0;
    loop {
        board.power_on();
        if board.firmware("current") == "A" {
            break;
        }
        boots += 1;
        let (status, said) = board.health(NOBODY, 0);
        assert_eq!(status, 5, "{said}");
        assert!(board.is_going_back() && !board.is_marked());
        assert!(said.contains("no server answers"), "{said}");
    }
    assert_eq!(boots, 3);
    assert_eq!(board.firmware("systemctl"), ["--no-block reboot"; 3].join("\n"));

    // The old one stays, even if it has become ill.
    board.release("36.5");
    let (status, said) = board.health(NOBODY, 0);
    assert_eq!(status, 3, "{said}");
    assert!(board.is_marked() && !board.is_going_back());
}

#[test]
fn a_new_system_stays_where_there_is_nothing_better() {
    // The other one does not boot.
    let board = Board::with_systems(2);
    board.place.write("firmware/status_B", "unbootable");
    board.power_on();
    assert_eq!(board.health(NOBODY, 0).0, 3);
    assert!(board.is_marked());

    // The disk does not keep the count of its restarts.
    let board = Board::with_systems(2);
    board.place.write("var/lib/stoker-health", "no directory");
    board.power_on();
    let (status, said) = board.health(NOBODY, 0);
    assert_eq!(status, 3, "{said}");
    assert!(said.contains("cannot be written down"), "{said}");
    assert!(board.is_marked() && !board.is_going_back());

    // The firmware does not go back, whatever it says of its count.
    let board = Board::with_systems(2);
    for _ in 0..3 {
        assert_eq!(board.health(NOBODY, 0).0, 5);
    }
    assert_eq!(board.health(NOBODY, 0).0, 3);
}

#[test]
fn a_board_without_nvidia_s_tool_says_that_its_boots_count_as_failed() {
    let board = Board::with_systems(1);
    fs::remove_file(board.place.path("usr/sbin/nvbootctrl")).unwrap();
    let (status, said) = board.health(NOBODY, 0);
    assert_eq!(status, 4, "{said}");
    assert!(said.contains("nvbootctrl is not installed"), "{said}");
}
