//! Debian packages: what is installed, files of packages installed, and what is installed
//! made into such a file again.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Root;
use crate::program::{Program, ProgramError};

/// Unpacking, and what the packages' own scripts wait for: a service that starts.
const LIMIT: Duration = Duration::from_secs(600);
/// Asking takes no time, and waits for no lock.
const SHORT_LIMIT: Duration = Duration::from_secs(30);

/// The packages of the machine below a root.
#[derive(Debug, Clone)]
pub struct Packages {
    root: Root,
}

/// Why that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("copy {}", path.display())]
    Copy { path: PathBuf, source: io::Error },
}

impl Packages {
    #[must_use]
    pub fn of(root: &Root) -> Self {
        Self { root: root.clone() }
    }

    fn program(&self, name: &str, limit: Duration) -> Program {
        Program { path: self.root.path(name), limit }
    }

    fn query(&self, arguments: &[&str]) -> Result<String, ProgramError> {
        self.program("usr/bin/dpkg-query", SHORT_LIMIT).run_well(arguments)
    }

    /// What its programs are for, in Debian's words.
    ///
    /// # Errors
    /// There is no dpkg.
    pub fn architecture(&self) -> Result<String, ProgramError> {
        let dpkg = self.program("usr/bin/dpkg", SHORT_LIMIT);
        Ok(dpkg.run_well(&["--print-architecture"])?.trim().to_owned())
    }

    /// The version of a package that is installed, whole or not; `None` if it is not.
    ///
    /// # Errors
    /// dpkg cannot be asked.
    pub fn version(&self, name: &str) -> Result<Option<String>, ProgramError> {
        let format = "--showformat=${db:Status-Status} ${Version}";
        // Its status is 1 for a package of which it has never heard.
        let query = self.program("usr/bin/dpkg-query", SHORT_LIMIT);
        let (status, said) = query.run(&["--show", format, name])?;
        let known = said.trim().split_once(' ').filter(|_| status.success());
        let there = known.filter(|(is, _)| !["not-installed", "config-files"].contains(is));
        Ok(there.map(|(_, version)| version.to_owned()))
    }

    /// Installs these files, newer or older than what is there. Settings that somebody
    /// has changed stay.
    ///
    /// # Errors
    /// dpkg says that it failed; then some of them may be there, and some may not.
    pub fn install(&self, files: &[PathBuf]) -> Result<(), ProgramError> {
        let options = ["--force-confold", "--force-downgrade", "--install"].map(PathBuf::from);
        self.program("usr/bin/dpkg", LIMIT).run_well(&[&options, files].concat()).map(drop)
    }

    /// Makes a file at `to` of a package as it is installed, with `work` for its tree. A
    /// setting that somebody has changed is left out: it would be taken for ours later,
    /// and replaced.
    ///
    /// # Errors
    /// dpkg cannot be asked, or files cannot be copied.
    pub fn pack(&self, name: &str, work: &Path, to: &Path) -> Result<(), PackageError> {
        let control = work.join("DEBIAN");
        let settings = self.settings(name)?;
        let is_changed =
            |path: &str| settings.iter().any(|(name, changed)| *changed && name == path);
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| PackageError::Copy { path, source }
        };
        for directory in [work, &control] {
            // Whatever umask root has.
            fs::create_dir_all(directory)
                .and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(0o755)))
                .map_err(at(directory))?;
        }
        let files = self.query(&["--listfiles", name])?;
        for path in files.lines().filter(|line| line.starts_with('/') && *line != "/.") {
            if !is_changed(path) {
                let (from, to) = (self.root.path(&path[1..]), work.join(&path[1..]));
                copy(&from, &to).map_err(at(&from))?;
            }
        }
        for part in self.query(&["--control-list", name])?.lines() {
            let mut content = self.query(&["--control-show", name, part])?;
            if part == "conffiles" {
                let there = |line: &&str| work.join(line.trim_start_matches('/')).exists();
                content = content.lines().filter(there).map(|line| format!("{line}\n")).collect();
            }
            let path = control.join(part);
            fs::write(&path, content).map_err(at(&path))?;
            let is_data = ["conffiles", "md5sums"].contains(&part);
            let mode = fs::Permissions::from_mode(if is_data { 0o644 } else { 0o755 });
            fs::set_permissions(&path, mode).map_err(at(&path))?;
        }
        let path = control.join("control");
        fs::write(&path, control_file(&self.query(&["--status", name])?)).map_err(at(&path))?;
        let build = ["--root-owner-group", "-Znone", "--build"].map(PathBuf::from);
        let dpkg_deb = self.program("usr/bin/dpkg-deb", LIMIT);
        dpkg_deb.run_well(&[&build[..], &[work.to_owned(), to.to_owned()]].concat())?;
        fs::File::open(to).and_then(|file| file.sync_all()).map_err(at(to))
    }

    /// The settings of a package, and whether each is not as the package brought it, or
    /// gone. None if the package is not installed.
    ///
    /// # Errors
    /// dpkg cannot be asked.
    pub fn settings(&self, name: &str) -> Result<Vec<(String, bool)>, ProgramError> {
        // Its status is 1 for a package of which it has never heard.
        let query = self.program("usr/bin/dpkg-query", SHORT_LIMIT);
        let (status, said) = query.run(&["--show", "--showformat=${Conffiles}\n", name])?;
        if !status.success() {
            return Ok(Vec::new());
        }
        let md5sum = self.program("usr/bin/md5sum", SHORT_LIMIT);
        let mut settings = Vec::new();
        for line in said.lines() {
            let mut words = line.split_whitespace();
            let (Some(path), Some(sum)) = (words.next(), words.next()) else { continue };
            let is = md5sum.run_well(&[self.root.path(path.trim_start_matches('/'))]);
            let is_same = is.is_ok_and(|is| is.split_whitespace().next() == Some(sum));
            settings.push((path.to_owned(), !is_same));
        }
        Ok(settings)
    }
}

/// What a package says of itself, without what dpkg says of it.
fn control_file(status: &str) -> String {
    let mut keep = true;
    let kept = status.lines().filter(|line| {
        if !line.starts_with(' ') {
            let dpkgs = ["Status:", "Conffiles:", "Config-Version:"];
            keep = !line.is_empty() && !dpkgs.iter().any(|field| line.starts_with(field));
        }
        keep
    });
    kept.map(|line| format!("{line}\n")).collect()
}

/// A file or a link with the directories above it; a directory alone is no file.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let kind = match from.symlink_metadata() {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if kind.is_dir() {
        fs::create_dir_all(to)?;
        return fs::set_permissions(to, from.metadata()?.permissions());
    }
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    match kind.is_symlink() {
        true => symlink(fs::read_link(from)?, to),
        false => fs::copy(from, to).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_s_own_words_are_kept_and_dpkg_s_are_not() {
        let status = "Package: stoker\nStatus: install ok installed\nVersion: 0.1.0\n\
            Conffiles:\n /etc/stoker/stoker.toml 0123\n /etc/other 4567\n\
            Description: serves\n a model\n";
        let control = "Package: stoker\nVersion: 0.1.0\nDescription: serves\n a model\n";
        assert_eq!(control_file(status), control);
        assert_eq!(control_file(""), "");
    }
}
