//! `scripts/capture-board`, run on recreated boards and on this machine: what
//! it leaves is a board that reads the same, without anybody's names.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tree::{self, Tree};
use crate::{Absent, Machine, Root, Sample};

/// Captures `root` and unpacks the archive; the captured board is in it.
fn capture(root: &Path) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("board.tar.gz");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/capture-board");
    let output = Command::new(script).arg("--root").arg(root).arg(&archive).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let unpacked =
        Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(dir.path()).status().unwrap();
    assert!(unpacked.success());
    let board = dir.path().join("board");
    (dir, board)
}

fn sample(root: impl Into<PathBuf>) -> Sample {
    Machine::open(Root::new(root)).sample()
}

/// A sample without the times at which it was taken.
fn timeless(sample: &Sample) -> serde_json::Value {
    let mut json = serde_json::to_value(sample).unwrap();
    json["at"] = 0.into();
    json
}

fn all_text(directory: &Path) -> String {
    let output = Command::new("grep").args(["-rah", ""]).arg(directory).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_captured_board_reads_as_the_board_did() {
    for tree in [tree::orin_nano(), tree::agx_orin_64gb()] {
        let (_dir, board) = capture(tree.path());
        assert_eq!(timeless(&sample(board)), timeless(&sample(tree.path())));
    }
}

#[test]
fn nobody_s_names_and_numbers_are_in_it() {
    let tree = secretive();
    let (_dir, board) = capture(tree.path());
    let text = all_text(&board);
    for secret in ["1424123012345", "48:b0:2d:aa:bb:cc", "annas-box", "Anna", "anna"] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert!(text.contains("REDACTED"));
    assert_eq!(sample(board).facts.module.as_ref().unwrap().sku, "p3767-0005");
}

/// A board that says who owns it in files that are captured.
fn secretive() -> Tree {
    let tree = tree::orin_nano();
    tree.write("etc/hostname", "annas-box\n");
    tree.write("sys/class/net/eth0/address", "48:b0:2d:aa:bb:cc\n");
    tree.write("etc/NetworkManager/system-connections/home", "[wifi]\nssid=AnnasNet\n");
    tree.write(
        "etc/nvfancontrol.conf",
        "# annas-box 48:b0:2d:aa:bb:cc AnnasNet 1424123012345\nFAN_DEFAULT_PROFILE quiet\n",
    );
    tree.write(
        "proc/swaps",
        "Filename Type Size Used Priority\n/home/anna/swap file 8388604 0 -2\n",
    );
    tree.write(
        "proc/mounts",
        "/dev/nvme0n1p1 / ext4 rw 0 0\n//server/anna /mnt cifs rw,username=anna 0 0\n",
    );
    tree
}

#[test]
fn a_file_that_hangs_is_left_out_and_named() {
    let tree = tree::orin_nano();
    tree.hang("sys/class/thermal/thermal_zone0/temp");
    let (_dir, board) = capture(tree.path());
    let unread = std::fs::read_to_string(board.join("capture/unread.txt")).unwrap();
    assert_eq!(unread, "sys/class/thermal/thermal_zone0/temp: no answer within 2s\n");
    let cpu = sample(board).zones.into_iter().find(|zone| zone.name == "cpu-thermal").unwrap();
    assert_eq!(cpu.absent, Some(Absent::NotReported));
}

#[test]
fn this_machine_can_be_captured() {
    let (_dir, board) = capture(Path::new("/"));
    let (captured, here) = (sample(board), sample("/"));
    assert!(captured.memory.is_some() && captured.silent.is_empty());
    let total = |sample: &Sample| sample.memory.as_ref().map(|memory| memory.total_bytes);
    assert_eq!((captured.cpu.cores, total(&captured)), (here.cpu.cores, total(&here)));
}
