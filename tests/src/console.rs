//! `stoker` at a command line, as somebody runs it beside an appliance.

use std::process::{Command, Output};

use crate::appliance::Appliance;
use crate::process;

/// What a command that asks this appliance came to. It sends no key.
///
/// # Panics
/// It cannot be run.
#[must_use]
pub fn stoker(appliance: &Appliance, arguments: &[&str]) -> Output {
    let mut command = Command::new(process::program("stoker"));
    command.args(arguments).env("STOKER_URL", format!("http://{}", appliance.address()));
    command.env_remove("STOKER_KEY").output().expect("the program can be started")
}

/// What a command says that goes well.
///
/// # Panics
/// It does not.
#[must_use]
pub fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("it speaks UTF-8")
}

/// What a command complains of that fails.
///
/// # Panics
/// It does not.
#[must_use]
pub fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).expect("it speaks UTF-8")
}
