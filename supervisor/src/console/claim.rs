//! `stoker claim`: shows the token with which the network's first visitor claims this
//! machine, to whoever is in front of it. It never stands in the journal.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jetpack::{Root, consoles};

use crate::keys::KeysError;
use crate::keys::claim::{self, Token};

/// Why it could not be shown. No token stands in it.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("make the state directory {}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("write what stands above logins")]
    Show(#[source] io::Error),
    #[error("print it")]
    Print(#[from] io::Error),
}

/// Makes a token, if the machine waits to be claimed, and shows it on the consoles of the
/// machine below `root`. `out` is told which they are.
///
/// # Errors
/// See [`ClaimError`]. The machine stays closed then: a token that nobody has seen opens
/// nothing.
pub fn show(
    root: &Root,
    state_dir: &Path,
    port: u16,
    out: &mut impl Write,
) -> Result<(), ClaimError> {
    fs::create_dir_all(state_dir)
        .map_err(|source| ClaimError::Make { path: state_dir.to_owned(), source })?;
    let Some(token) = claim::offer(state_dir)? else {
        consoles::hide(root).map_err(ClaimError::Show)?;
        return Ok(writeln!(out, "nobody is waited for: this machine is claimed")?);
    };
    let text = words(&name(root), port, &token);
    let consoles = consoles::show(root, &text).map_err(ClaimError::Show)?;
    let consoles = match consoles.is_empty() {
        true => "above the login alone: no console took it".to_owned(),
        false => format!("on {} and above logins there", consoles.join(", ")),
    };
    Ok(writeln!(out, "nobody has claimed this machine; a new token stands {consoles}")?)
}

fn words(name: &str, port: u16, token: &Token) -> String {
    format!(
        "\n  Nobody has claimed this Stoker yet. Open http://{name}.local:{port}/ (or its address)\n  \
         in a browser of this network, and enter the token:   {token}\n  \
         It is good once, and until the next start of the machine.\n\n"
    )
}

fn name(root: &Root) -> String {
    let there = fs::read_to_string(root.as_path().join("etc/hostname")).unwrap_or_default();
    let name = there.trim();
    if name.is_empty() { "stoker".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVE: (&str, &str) = ("sys/class/tty/console/active", "ttyTCU0\n");

    fn shown(tree: &recreated_boards::Tree) -> (String, String) {
        let root = tree.root();
        let mut out = Vec::new();
        show(&root, &root.as_path().join("state"), 11434, &mut out).unwrap();
        let console = fs::read_to_string(root.as_path().join("dev/ttyTCU0")).unwrap();
        (String::from_utf8(out).unwrap(), console)
    }

    #[test]
    fn the_console_has_the_token_and_the_journal_has_not() {
        let tree = recreated_boards::of(&[ACTIVE, ("dev/ttyTCU0", ""), ("etc/hostname", "box\n")]);
        let (said, console) = shown(&tree);
        assert!(console.contains("http://box.local:11434/"), "{console}");
        let token = console.split("token:").nth(1).unwrap().split_whitespace().next().unwrap();
        let parsed = Token::parse(token).unwrap();
        assert!(!said.contains(token) && said.contains("on ttyTCU0"), "{said}");
        let state = tree.path().join("state");
        let admin = crate::keys::KeyName::new("admin").unwrap();
        assert!(claim::take(&state, &parsed, admin).is_ok());
        assert_eq!(shown(&tree).0, "nobody is waited for: this machine is claimed\n");
        assert!(!tree.path().join("run/issue.d/50-stoker.issue").exists());
    }
}
