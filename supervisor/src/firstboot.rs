//! `stoker firstboot`: settings of a machine that nobody has a keyboard for, from one
//! optional file, taken once.
//!
//! ```text
//!  stoker.toml ──► Wishes ──► files below the root ──► shredded ──► done, for ever
//!       │             └─ wrong: nothing is changed, and it is said on the medium
//!       └─ none: nothing happens, and the next boot looks again
//! ```
//!
//! Each step can be cut by a power failure: the file is there until everything that
//! it says is on the disk, and taking it once more gives the same.

mod medium;
mod wishes;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jetpack::Root;
use jetpack::setting::{self, MEDIA, Setting};

use crate::keys::{self, KeyName, KeysError, claim};
use medium::Medium;
pub use wishes::Wishes;

/// There when it was done; `stoker-firstboot.service` does not start then.
const DONE: &str = "var/lib/stoker-firstboot/done";
/// Where the service keeps what it needs, as the units have it.
const STATE_DIR: &str = "var/lib/stoker";
/// What the server is to do otherwise than its defaults.
const SERVER: &str = "etc/stoker/conf.d/50-first-boot.toml";

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There is no file, or it was taken before.
    Nothing,
    Taken,
    /// Something in it is wrong; nothing was changed.
    Refused,
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum FirstBootError {
    #[error("read stoker.toml")]
    Read(#[source] io::Error),
    #[error("read the settings that are there already")]
    There(#[source] io::Error),
    #[error("write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("keep the API keys")]
    Keys(#[from] KeysError),
    #[error("make {} unreadable; take it away by hand", path.display())]
    Shred { path: PathBuf, source: io::Error },
    #[error("say what was done")]
    Print(#[from] io::Error),
}

/// Takes the file, if there is one, for the machine below `root`. `media` take the
/// place of the directories in which it is looked for.
///
/// # Errors
/// See [`FirstBootError`]. The file is still there then, and can be taken again.
pub fn first_boot(
    root: &Root,
    media: &[PathBuf],
    out: &mut impl Write,
) -> Result<Outcome, FirstBootError> {
    let done = root.as_path().join(DONE);
    if done.exists() {
        writeln!(out, "the first boot was long ago; nothing is taken any more")?;
        return Ok(Outcome::Nothing);
    }
    let usual = MEDIA.map(|directory| root.as_path().join(directory));
    let media = if media.is_empty() { &usual[..] } else { media };
    let Some(medium) = Medium::find(media).map_err(FirstBootError::Read)? else {
        writeln!(out, "there is no stoker.toml")?;
        return Ok(Outcome::Nothing);
    };
    if !medium.is_shredded() {
        let wishes = match Wishes::parse(&medium.bytes) {
            Ok(wishes) => wishes,
            Err(why) => {
                let said = format!("nothing was changed, because stoker.toml is wrong: {why}\n");
                out.write_all(said.as_bytes())?;
                // A medium that cannot be written is no other case.
                let _ = medium.tell(&said);
                return Ok(Outcome::Refused);
            }
        };
        for setting in settings(root, &wishes).map_err(FirstBootError::There)? {
            let failed = |source| FirstBootError::Write { path: setting.path.into(), source };
            root.put(&setting).map_err(failed)?;
        }
        keep_keys(root, &wishes)?;
        let said = report(root, &wishes);
        out.write_all(said.as_bytes())?;
        let _ = medium.tell(&said);
    }
    medium
        .shred()
        .map_err(|source| FirstBootError::Shred { path: medium.path().into(), source })?;
    remember(&done).map_err(|source| FirstBootError::Write { path: done, source })?;
    Ok(Outcome::Taken)
}

/// Who may come in is known before the server's first start. Who says nothing of it leaves
/// the machine to whoever claims it.
fn keep_keys(root: &Root, wishes: &Wishes) -> Result<(), FirstBootError> {
    let new = &wishes.api_keys;
    if new.is_empty() && !wishes.open_to_all {
        return Ok(());
    }
    let state_dir = root.as_path().join(STATE_DIR);
    fs::create_dir_all(&state_dir)
        .map_err(|source| FirstBootError::Write { path: state_dir.clone(), source })?;
    match wishes.open_to_all {
        true => claim::end(&state_dir)?,
        false => keys::change(&state_dir, |keys| keys.extend(new.clone()))?,
    }
    Ok(())
}

fn remember(done: &Path) -> io::Result<()> {
    fs::create_dir_all(done.parent().unwrap_or(done))?;
    fs::File::create(done)?.sync_all()
}

/// What the wishes make of the machine's files.
fn settings(root: &Root, wishes: &Wishes) -> io::Result<Vec<Setting>> {
    let mut settings = Vec::new();
    if let Some(name) = &wishes.hostname {
        settings.extend(setting::hostname(root, name)?);
    }
    if !wishes.ssh_keys.is_empty() {
        settings.extend(setting::ssh_keys(root, &wishes.ssh_keys)?);
    }
    if let Some(address) = &wishes.address {
        settings.extend(setting::address(root, address));
    }
    settings.extend(wishes.wifi.as_ref().and_then(|wifi| setting::wifi(root, wifi)));
    settings.extend(wishes.locale.as_deref().map(setting::locale));
    if let Some(server) = &wishes.time_server {
        settings.extend(setting::time_server(server));
    }
    let mut server = String::new();
    if let Some(model) = &wishes.model {
        server += &format!("[engine]\nmodel = \"{model}\"\n");
    }
    if !server.is_empty() {
        settings.push(Setting { path: SERVER, mode: 0o644, content: server });
    }
    Ok(settings)
}

/// For the journal and the medium: what was done, and no secret.
fn report(root: &Root, wishes: &Wishes) -> String {
    let mut said = String::new();
    let mut line = |text: String| said += &(text + "\n");
    if let Some(name) = &wishes.hostname {
        line(format!("the machine is called {name}"));
    }
    if !wishes.ssh_keys.is_empty() {
        let count = wishes.ssh_keys.len();
        line(format!("{count} SSH keys log in as root, and passwords do not"));
    }
    if let Some(address) = &wishes.address {
        line(format!("its address is {}/{}", address.ip, address.prefix));
    }
    if let Some(wifi) = &wishes.wifi {
        let name = &wifi.name;
        line(match setting::wifi(root, wifi) {
            Some(_) => format!("it joins the Wi-Fi network {name:?}"),
            None => format!("it does not join {name:?}: there is no NetworkManager here"),
        });
    }
    if let Some(locale) = &wishes.locale {
        line(format!("the locale is {locale}"));
    }
    if let Some(server) = &wishes.time_server {
        line(format!("{server} tells the time"));
    }
    if let Some(model) = &wishes.model {
        line(format!("the engine {model} is served"));
    }
    if !wishes.api_keys.is_empty() {
        let names: Vec<_> = wishes.api_keys.names().map(KeyName::as_str).collect();
        line(format!("everybody is asked for an API key: {}", names.join(", ")));
    }
    if said.is_empty() {
        said += "stoker.toml wished for nothing\n";
    }
    if wishes.open_to_all {
        said += "nobody is asked for an API key\n";
    } else if wishes.api_keys.is_empty() {
        said += "unless there are API keys already, who reads its console claims it on the status page\n";
    }
    said
}

#[cfg(test)]
mod tests;
