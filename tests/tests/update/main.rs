//! `stoker update` below a directory, beside stand-ins for dpkg and systemctl that can
//! cut the power whenever they are called: each cut leads to one whole version.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

mod system;
mod yard;

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use tests::appliance::Appliance;
use tests::engine::Engine;
use tests::patience::until;
use tests::process::program;
use yard::{NOBODY, RECORD, UNIT, Yard, cut_everywhere, staged};

#[test]
fn a_version_that_is_well_stays_wherever_the_power_fails() {
    let appliance = Appliance::start(&Engine::echo());
    let staged = staged(&appliance.address().to_string());
    let cuts = cut_everywhere(&staged, |yard| match yard.phase().as_str() {
        "committed" => yard.assert_is("0.2.0", "committed"),
        _ => yard.assert_is("0.1.0", "went_back"),
    });
    // A look at the service, dpkg in three places, and tidying up.
    assert!(cuts >= 7, "{cuts}");
    let whole = staged.copy();
    assert!(whole.keep(0).status.success());
    whole.assert_is("0.2.0", "committed");
}

#[test]
fn a_version_that_is_ill_goes_back_with_its_database_wherever_the_power_fails() {
    let appliance = Appliance::start(&Engine::echo());
    let staged = staged(&appliance.address().to_string());
    // Nobody serves any more once the new version is there.
    drop(appliance);
    let cuts = cut_everywhere(&staged, |yard| yard.assert_is("0.1.0", "went_back"));
    assert!(cuts >= 16, "{cuts}");
    let whole = staged.copy();
    assert!(whole.keep(0).status.success());
    whole.assert_is("0.1.0", "went_back");
    let status = Command::new(program("stoker"))
        .args(["update", "status", "--root"])
        .arg(whole.place.root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(said.starts_with("version 0.1.0 is there as before; 0.2.0 was given up"), "{said}");
}

#[test]
fn a_trial_that_is_cut_again_and_again_goes_back() {
    let appliance = Appliance::start(&Engine::echo());
    let yard = staged(&appliance.address().to_string());
    drop(appliance);
    // It waits for the new version to be well, and the machine starts again meanwhile.
    let record = yard.read(RECORD).replace("\"patience_s\":0", "\"patience_s\":600");
    yard.place.write(RECORD, &record);
    let mut boots = 0;
    while yard.place.path(UNIT).exists() {
        boots += 1;
        assert!(boots <= 5, "{}", yard.read(RECORD));
        let mut keeper = Command::new(program("stoker"))
            .args(["update", "keep", "--root"])
            .arg(yard.place.root())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let starts = format!("\"starts\":{boots}");
        until("it looks once more, or ends", || {
            let is_cut = yard.read(RECORD).contains(&starts);
            (is_cut || keeper.try_wait().unwrap().is_some()).then_some(())
        });
        let _ = keeper.kill();
        keeper.wait().unwrap();
    }
    assert_eq!(boots, 4);
    yard.assert_is("0.1.0", "went_back");
}

#[test]
fn a_beginning_that_is_cut_changes_nothing_and_can_be_made_again() {
    let yard = Yard::new();
    let file = yard.update("0.2.0", "amd64", "ours");
    for cut in 1.. {
        yard.place.write("fake/moments", "");
        yard.place.write("fake/systemctl", "");
        yard.place.write("fake/cut", &format!("{cut}\n"));
        let mut command = yard.command(&file, NOBODY);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let was_cut = until("it is cut or waits for the keeper", || {
            let is_begun = yard.read("fake/systemctl").contains("start stoker-update.service");
            let ended = child.try_wait().unwrap().map(|status| status.code().is_none());
            ended.or((is_begun && yard.phase() == "ready").then_some(false))
        });
        let _ = child.kill();
        child.wait().unwrap();
        assert_eq!((yard.read("fake/version").as_str(), yard.row().as_str()), ("0.1.0", "old"));
        if !was_cut {
            break;
        }
        assert!(cut < 40);
        if yard.phase() == "ready" {
            // Everything is there: it goes on at the next boot.
            break;
        }
        yard.keep(0);
        assert!(!yard.place.path(UNIT).exists());
    }
    assert!(yard.keep(0).status.success());
    // Nothing answered before, so nothing more is asked of the new version.
    yard.assert_is("0.2.0", "committed");
}

#[test]
fn only_what_is_signed_whole_newer_and_for_this_machine_is_taken() {
    let yard = Yard::new();
    let good = yard.update("0.2.0", "amd64", "ours");
    let output = yard.looked(&good, &["--dry-run", "--format", "json"]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["to"], &said["signer"]), (&"0.2.0".into(), &"ours".into()), "{output:?}");

    yard.sign_with("theirs");
    let theirs = yard.update("0.2.0", "amd64", "theirs");
    let other = yard.update("0.2.0", "arm64", "ours");
    let same = yard.update("0.1.0", "amd64", "ours");
    let whole = fs::read(&good).unwrap();
    let (cut, damaged) = (yard.place.path("cut.update"), yard.place.path("damaged.update"));
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let at = whole.windows(8).rposition(|bytes| bytes == b"!<arch>\n").unwrap() + 70;
    fs::write(&damaged, [&whole[..at], b"x", &whole[at + 1..]].concat()).unwrap();
    yard.place.write("no.update", "no tar at all");
    let broken = yard.place.path("no.update");
    for (file, why) in [
        (&theirs, "no key in etc/stoker/update-keys.d has signed this update"),
        (&other, "it is for arm64, and this machine is amd64"),
        (&same, "version 0.1.0 is installed already"),
        (&cut, "is not as the manifest says"),
        (&damaged, "is not as the manifest says"),
        (&broken, "the file is no update"),
    ] {
        let said = yard.refusal(file);
        assert!(said.contains(why), "{said}");
        // The same without --dry-run, and nothing is left to be done.
        let output = yard.looked(file, &[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!yard.place.path(UNIT).exists() && yard.read("fake/version") == "0.1.0");
    }
    fs::remove_file(yard.place.path("etc/stoker/update-keys.d/ours.pub")).unwrap();
    let said = yard.refusal(&good);
    assert!(said.contains("no update is believed, because there is no key in"), "{said}");
}
