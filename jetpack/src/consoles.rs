//! What a person in front of the machine sees: its serial console and its screen, and
//! nobody else does. What is shown here stands in no journal.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;

use nix::fcntl::OFlag;

use crate::Root;
use crate::setting::write_whole;

/// The kernel's own list of its consoles, `tty0 ttyTCU0` on a Jetson.
const ACTIVE: &str = "sys/class/tty/console/active";
/// Terminals at once; kernels have three at most.
const MOST: usize = 8;
/// What getty shows above each login, whenever somebody connects. It clears what was
/// written to a terminal before.
const LOGINS: &str = "run/issue.d";
const LOGIN: &str = "50-stoker.issue";
/// Where there is an `/etc/issue`, getty looks here alone; ours is a link, so that nothing
/// of the text is on the disk.
const LOGINS_WITH_ISSUE: &str = "etc/issue.d";

/// Writes `text` to each console now, and above each login on one until the next boot.
/// The names of the consoles that took it.
///
/// # Errors
/// What stands above logins cannot be written.
pub fn show(root: &Root, text: &str) -> io::Result<Vec<String>> {
    let directory = root.path(LOGINS);
    fs::create_dir_all(&directory)?;
    // A terminal takes escapes of getty's own.
    let escaped = text.replace('\\', "\\\\");
    write_whole(&directory.join(LOGIN), 0o600, escaped.as_bytes())?;
    let links = root.path(LOGINS_WITH_ISSUE);
    fs::create_dir_all(&links)?;
    match symlink(Path::new("/").join(LOGINS).join(LOGIN), links.join(LOGIN)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let active = root.read(ACTIVE).unwrap_or_default();
    let names = active.split_whitespace().filter(|name| !name.contains('/')).take(MOST);
    let took = |name: &&str| write(root, name, text).is_ok();
    Ok(names.filter(took).map(str::to_owned).collect())
}

/// Takes away what [`show`] has put above logins.
///
/// # Errors
/// It is there and cannot be taken away.
pub fn hide(root: &Root) -> io::Result<()> {
    for directory in [LOGINS, LOGINS_WITH_ISSUE] {
        match fs::remove_file(root.path(directory).join(LOGIN)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn write(root: &Root, name: &str, text: &str) -> io::Result<()> {
    // A serial line at which nobody is must not hold up the boot, nor become ours.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let path = root.path("dev").join(name);
    let mut console = File::options().append(true).custom_flags(flags.bits()).open(path)?;
    console.write_all(text.replace('\n', "\r\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tree;

    #[test]
    fn every_console_and_every_login_shows_it() {
        let tree = tree::of(&[
            (ACTIVE, "tty0 ttyTCU0 ttyGone ../passwd\n"),
            ("dev/tty0", ""),
            ("dev/ttyTCU0", "boots\n"),
            ("passwd", ""),
        ]);
        let root = tree.root();
        assert_eq!(show(&root, "a\\b\nc\n").unwrap(), ["tty0", "ttyTCU0"]);
        let read = |path: &str| fs::read_to_string(root.path(path)).unwrap();
        assert_eq!(read("dev/ttyTCU0"), "boots\na\\b\r\nc\r\n");
        assert_eq!(read("passwd"), "");
        assert!(!root.path("dev/ttyGone").exists());
        let login = root.path("run/issue.d/50-stoker.issue");
        assert_eq!(fs::read_to_string(&login).unwrap(), "a\\\\b\nc\n");
        assert_eq!(fs::metadata(&login).unwrap().permissions().mode() & 0o777, 0o600);
        let link = root.path("etc/issue.d/50-stoker.issue");
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("/run/issue.d/50-stoker.issue"));
        show(&root, "again\n").unwrap();
        hide(&root).unwrap();
        hide(&root).unwrap();
        assert!(!login.exists() && !link.is_symlink());
    }
}
