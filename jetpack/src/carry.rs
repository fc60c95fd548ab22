//! What makes a machine itself, copied into the other of its two systems: its name, its
//! keys, its networks, and each setting of ours that somebody has changed.
//!
//! Everything else is the other system's own, accounts and packages among it. A setting
//! that nobody has changed is not copied either: the other system may have a better one.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Root;
use crate::packages::Packages;
use crate::program::{Program, ProgramError};
use crate::setting::write_whole;

/// Files, and directories with all that is in them. What ends in `*` is the beginning of
/// names.
const OWN: [&str; 14] = [
    "etc/adjtime",
    "etc/default/locale",
    "etc/hostname",
    "etc/hosts",
    "etc/localtime",
    "etc/machine-id",
    "etc/timezone",
    "etc/NetworkManager/system-connections",
    "etc/ssh/ssh_host_*",
    "etc/ssh/sshd_config.d",
    "etc/systemd/network",
    "etc/systemd/timesyncd.conf.d",
    "root/.ssh",
    // The file for the first boot was taken.
    "var/lib/stoker-firstboot",
];
const OURS: &str = "etc/stoker";
/// Whose systems are believed. One that came with the other system stays.
const KEY: &str = "etc/stoker/update-keys.d/system.pem";

/// NVIDIA's names of the partitions with the systems A and B.
const PARTITIONS: [(char, &str); 2] =
    [('A', "dev/disk/by-partlabel/APP"), ('B', "dev/disk/by-partlabel/APP_b")];
/// Whose the state directory is.
const USER: &str = "stoker";
/// What a Jetson's loader starts, in each system.
const LOADER: &str = "boot/extlinux/extlinux.conf";
/// Where the other system is while something is written to it.
const MOUNTED: &str = "run/stoker-update/other";
/// A slow card writes what it has been given.
const LIMIT: Duration = Duration::from_secs(300);

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("copy {}", path.display())]
    Copy { path: PathBuf, source: io::Error },
    #[error("write into the other system")]
    Write(#[source] io::Error),
    #[error("there is no system {0}")]
    NoSystem(char),
}

/// Copies what is the machine's own into the system of that name, which does not run, has
/// `also` write to it, and has all of that on the disk when it returns.
///
/// # Errors
/// See [`CarryError`]. The other system is not to be started then.
pub fn carry(
    root: &Root,
    to: char,
    also: impl FnOnce(&Root) -> io::Result<()>,
) -> Result<(), CarryError> {
    let partition = PARTITIONS.iter().find(|(name, _)| *name == to);
    let (_, partition) = partition.ok_or(CarryError::NoSystem(to))?;
    let program = |path: &str| Program { path: root.path(path), limit: LIMIT };
    let (device, place) = (root.path(partition), root.path(MOUNTED));
    fs::create_dir_all(&place).map_err(CarryError::Write)?;
    let unmount = || program("bin/umount").run_well(std::slice::from_ref(&place)).map(drop);
    // Where somebody was killed in here before.
    let _ = unmount();
    program("bin/mount").run_well(&[&device, &place])?;
    let carried = own(root, &Packages::of(root))
        .and_then(|mut paths| {
            // Who signs may come to sign with another key.
            paths.retain(|path| path != Path::new(KEY) || !place.join(KEY).exists());
            copy_all(root, &paths, &place)
        })
        .and_then(|()| {
            let other = Root::new(&place);
            start_from(&other, partition_id(root, &device))
                .and_then(|()| keep_number(root, &other))
                .and_then(|()| also(&other))
                .map_err(CarryError::Write)
        });
    // All of it is written before this returns.
    unmount()?;
    carried
}

/// What tells a partition from every other one.
fn partition_id(root: &Root, device: &Path) -> Option<String> {
    let device = device.canonicalize().ok()?;
    let ids = root.path("dev/disk/by-partuuid");
    let is_its = |id: &String| ids.join(id).canonicalize().is_ok_and(|target| target == device);
    crate::root::list(&ids).into_iter().find(is_its)
}

/// Has the kernel of a system take that partition for its own. An image does not know on
/// which one it lies; where a machine is flashed, NVIDIA's tool writes it there.
fn start_from(system: &Root, partition: Option<String>) -> io::Result<()> {
    let path = system.path(LOADER);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let id = partition.ok_or_else(|| {
        io::Error::other("the other system's partition has no link in /dev/disk/by-partuuid")
    })?;
    write_whole(&path, 0o644, with_root(&text, &id).as_bytes())
}

/// The loader's settings with another root file system.
fn with_root(text: &str, id: &str) -> String {
    let line = |line: &str| {
        let is_arguments = line.trim_start().starts_with("APPEND ");
        let words = line.split(' ').map(|word| match word.starts_with("root=") && is_arguments {
            true => format!("root=PARTUUID={id}"),
            false => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ") + "\n"
    };
    text.lines().map(line).collect()
}

/// Has our user the number that it has here: both systems use what belongs to it.
fn keep_number(root: &Root, other: &Root) -> io::Result<()> {
    for (file, numbers) in [("etc/passwd", 2), ("etc/group", 1)] {
        let read = |root: &Root| fs::read_to_string(root.path(file)).unwrap_or_default();
        let new = with_number(&read(root), &read(other), numbers).map_err(io::Error::other)?;
        if let Some(new) = new {
            write_whole(&other.path(file), 0o644, new.as_bytes())?;
        }
    }
    Ok(())
}

/// The text of the other system's file with as many numbers of our user as here; `None` if
/// they are the same.
fn with_number(own: &str, other: &str, numbers: usize) -> Result<Option<String>, String> {
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let is_ours = |fields: &Vec<String>| fields[0] == USER && fields.len() > 2 + numbers;
    let Some(ours) = own.lines().map(fields).find(is_ours) else { return Ok(None) };
    let ours = &ours[2..2 + numbers];
    let mut all: Vec<_> = other.lines().map(fields).collect();
    let Some(at) = all.iter().position(is_ours) else { return Ok(None) };
    if all[at][2..2 + numbers] == *ours {
        return Ok(None);
    }
    let number = ours[0].clone();
    if let Some(holder) = all.iter().find(|line| line[0] != USER && line.get(2) == Some(&number)) {
        return Err(format!(
            "{USER} has the number {number} here, which the other system has given to {}",
            holder[0]
        ));
    }
    all[at][2..2 + numbers].clone_from_slice(ours);
    Ok(Some(all.iter().map(|line| line.join(":") + "\n").collect()))
}

/// What is the machine's own, relative to the root.
fn own(root: &Root, packages: &Packages) -> Result<Vec<PathBuf>, CarryError> {
    let mut unchanged = HashSet::new();
    let mut paths: Vec<PathBuf> = OWN.iter().flat_map(|path| found(root, path)).collect();
    for package in ["stoker", "stoker-appliance"] {
        for (path, changed) in packages.settings(package)? {
            let path = PathBuf::from(path.trim_start_matches('/'));
            match changed {
                true => paths.push(path),
                false => drop(unchanged.insert(path)),
            }
        }
    }
    let mut all = Vec::new();
    for path in paths.iter().map(PathBuf::as_path).chain([Path::new(OURS)]) {
        walk(root, path, &mut all)
            .map_err(|source| CarryError::Copy { path: path.to_owned(), source })?;
    }
    all.retain(|path| !unchanged.contains(path));
    Ok(all)
}

fn found(root: &Root, path: &str) -> Vec<PathBuf> {
    let Some(beginning) = path.strip_suffix('*') else { return vec![path.into()] };
    let (directory, beginning) = beginning.rsplit_once('/').unwrap_or(("", beginning));
    let names = crate::root::list(&root.path(directory));
    let names = names.into_iter().filter(|name| name.starts_with(beginning));
    names.map(|name| Path::new(directory).join(name)).collect()
}

/// A path and all that is below it, directories before what they hold.
fn walk(root: &Root, path: &Path, all: &mut Vec<PathBuf>) -> io::Result<()> {
    let at = root.as_path().join(path);
    let kind = match at.symlink_metadata() {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    all.push(path.to_owned());
    if kind.is_dir() {
        for entry in fs::read_dir(&at)? {
            walk(root, &path.join(entry?.file_name()), all)?;
        }
    }
    Ok(())
}

fn copy_all(root: &Root, paths: &[PathBuf], to: &Path) -> Result<(), CarryError> {
    paths.iter().try_for_each(|path| {
        copy(&root.as_path().join(path), &to.join(path))
            .map_err(|source| CarryError::Copy { path: path.clone(), source })
    })
}

/// One file, link or directory with its owner and rights, in the place of what is there.
/// Nothing is written through a link.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = from.symlink_metadata()?;
    let kind = metadata.file_type();
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    let there = to.symlink_metadata().ok().map(|metadata| metadata.file_type());
    match there {
        Some(there) if there.is_dir() && kind.is_dir() => {}
        Some(there) if there.is_dir() => fs::remove_dir_all(to)?,
        Some(_) => fs::remove_file(to)?,
        None => {}
    }
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else if kind.is_dir() {
        fs::create_dir_all(to)?;
    } else if kind.is_file() {
        io::copy(&mut File::open(from)?, &mut File::create_new(to)?)?;
    } else {
        // A socket or a pipe is no setting.
        return Ok(());
    }
    lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    match kind.is_symlink() {
        true => Ok(()),
        // After the owner, which takes bits away.
        false => fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    /// Mounts a directory: a link to it in the place of the other one.
    const MOUNT: &str = "#!/bin/sh\nrmdir \"$2\" && ln -s \"$1\" \"$2\"\n";
    const UMOUNT: &str = "#!/bin/sh\ntest -L \"$1\" && rm \"$1\" && mkdir \"$1\"\n";
    const QUERY: &str = "#!/bin/sh\ncase \"$*\" in *appliance*) ;; *) \
        printf ' /etc/stoker/same.toml 0123\\n /etc/other/changed 4567\\n' ;; esac\n";
    const SUM: &str = "#!/bin/sh\necho 0123 \"$1\"\n";

    fn machine() -> tree::Tree {
        let tree = tree::of(&[
            ("bin/mount", MOUNT),
            ("bin/umount", UMOUNT),
            ("usr/bin/dpkg-query", QUERY),
            ("usr/bin/md5sum", SUM),
            (
                "dev/disk/by-partlabel/APP_b/boot/extlinux/extlinux.conf",
                "# root=kept\n  APPEND ${cbootargs} root=/dev/mmcblk0p1 rw rootwait\n",
            ),
            ("dev/disk/by-partlabel/APP_b/etc/hostname", "image"),
            ("dev/disk/by-partlabel/APP_b/etc/stoker/same.toml", "newer"),
            ("dev/disk/by-partlabel/APP_b/etc/ssh/sshd_config.d", "a file"),
            ("dev/disk/by-partlabel/APP_b/etc/stoker/update-keys.d/system.pem", "new key"),
            ("etc/stoker/update-keys.d/system.pem", "old key"),
            ("etc/stoker/update-keys.d/own.pub", "own key"),
            ("etc/hostname", "box"),
            ("etc/passwd", "root"),
            ("etc/ssh/ssh_host_rsa_key", "secret"),
            ("etc/ssh/ssh_config", "not its own"),
            ("etc/ssh/sshd_config.d/own.conf", "x"),
            ("etc/stoker/same.toml", "older"),
            ("etc/stoker/conf.d/own.toml", "own"),
            ("etc/other/changed", "by somebody"),
        ]);
        tree.link("etc/localtime", "/usr/share/zoneinfo/UTC");
        tree.link("dev/disk/by-partuuid/0b-1", "../by-partlabel/APP_b");
        tree.link("dev/disk/by-partuuid/0a-1", "../../etc");
        for program in ["bin/mount", "bin/umount", "usr/bin/dpkg-query", "usr/bin/md5sum"] {
            let rights = fs::Permissions::from_mode(0o755);
            fs::set_permissions(tree.path().join(program), rights).unwrap();
        }
        let rights = fs::Permissions::from_mode(0o600);
        fs::set_permissions(tree.path().join("etc/ssh/ssh_host_rsa_key"), rights).unwrap();
        tree
    }

    #[test]
    fn what_is_the_machine_s_own_goes_along_and_nothing_else() {
        let tree = machine();
        for _ in 0..2 {
            carry(&tree.root(), 'B', |root| fs::write(root.path("etc/also"), "also")).unwrap();
        }
        let other = tree.path().join("dev/disk/by-partlabel/APP_b");
        let read = |path: &str| fs::read_to_string(other.join(path)).unwrap_or_default();
        for (path, content) in [
            (
                "boot/extlinux/extlinux.conf",
                "# root=kept\n  APPEND ${cbootargs} root=PARTUUID=0b-1 rw rootwait\n",
            ),
            ("etc/hostname", "box"),
            ("etc/also", "also"),
            ("etc/ssh/ssh_host_rsa_key", "secret"),
            ("etc/ssh/sshd_config.d/own.conf", "x"),
            ("etc/stoker/same.toml", "newer"),
            ("etc/stoker/update-keys.d/system.pem", "new key"),
            ("etc/stoker/update-keys.d/own.pub", "own key"),
            ("etc/stoker/conf.d/own.toml", "own"),
            ("etc/other/changed", "by somebody"),
            ("etc/passwd", ""),
            ("etc/ssh/ssh_config", ""),
        ] {
            assert_eq!(read(path), content, "{path}");
        }
        let key = fs::metadata(other.join("etc/ssh/ssh_host_rsa_key")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
        let zone = fs::read_link(other.join("etc/localtime")).unwrap();
        assert_eq!(zone, Path::new("/usr/share/zoneinfo/UTC"));
        assert!(!tree.path().join(MOUNTED).is_symlink());
    }

    #[test]
    fn our_user_has_the_same_number_in_both() {
        let own = "root:x:0:0:::\nstoker:x:996:995::/:/x\n";
        let other = "root:x:0:0:::\nstoker:x:990:991::/:/x\nother:x:995:1::/:/x\n";
        let expected = "root:x:0:0:::\nstoker:x:996:995::/:/x\nother:x:995:1::/:/x\n";
        assert_eq!(with_number(own, other, 2), Ok(Some(expected.to_owned())));
        assert_eq!(with_number(own, expected, 2), Ok(None));
        assert_eq!(with_number(own, "root:x:0:0:::\n", 2), Ok(None));
        assert_eq!(with_number("", other, 2), Ok(None));
        let taken = with_number("stoker:x:995:\n", "other:x:995:a\nstoker:x:1:\n", 1);
        assert!(taken.unwrap_err().ends_with("which the other system has given to other"));
        assert_eq!(
            with_number("stoker:x:995:\n", "stoker:x:1:\n", 1),
            Ok(Some("stoker:x:995:\n".to_owned()))
        );
    }

    #[test]
    fn a_system_that_is_not_there_is_an_error() {
        let tree = machine();
        assert!(matches!(carry(&tree.root(), 'C', |_| Ok(())), Err(CarryError::NoSystem('C'))));
        fs::write(tree.path().join("bin/mount"), "#!/bin/sh\nexit 32\n").unwrap();
        assert!(matches!(carry(&tree.root(), 'B', |_| Ok(())), Err(CarryError::Program(_))));
    }
}
