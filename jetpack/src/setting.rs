//! What a machine is set to once, before anybody has logged in: its name, who may
//! log in, its address, who tells it the time.
//!
//! Each function gives the files that say so, for [`Root::put`] to write. They are
//! given what was checked before: a name is one, an address can be one's own.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::Root;

/// Where a file for the first boot may lie, the first of these first: the partition
/// that the firmware reads, and a stick that `stoker-firstboot.service` mounts.
pub const MEDIA: [&str; 3] = ["boot/efi", "boot", "run/stoker-firstboot/stick"];

/// A file that is to be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Relative to the root.
    pub path: &'static str,
    pub mode: u32,
    pub content: String,
}

/// An address of one's own on a wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub ip: Ipv4Addr,
    pub prefix: u8,
    pub gateway: Option<Ipv4Addr>,
    pub dns: Vec<IpAddr>,
}

/// A network without a wire.
#[derive(Clone, PartialEq, Eq)]
pub struct Wifi {
    pub name: String,
    /// `None` for one that everybody may join.
    pub password: Option<String>,
}

/// The password is nobody's to see.
impl fmt::Debug for Wifi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wifi").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The machine's name; others find it as `NAME.local`.
///
/// # Errors
/// What is there already cannot be read.
pub fn hostname(root: &Root, name: &str) -> io::Result<Vec<Setting>> {
    let own = format!("127.0.1.1\t{name}");
    let hosts = there(root, "etc/hosts")?.unwrap_or_else(|| "127.0.0.1\tlocalhost".to_owned());
    let mut lines: Vec<&str> =
        hosts.lines().filter(|line| !line.trim_start().starts_with("127.0.1.1")).collect();
    lines.insert(lines.len().min(1), &own);
    let hosts = plain("etc/hosts", lines.join("\n") + "\n");
    Ok(vec![plain("etc/hostname", format!("{name}\n")), hosts])
}

/// Keys that log in as root, beside those that do already; passwords do not any more.
///
/// # Errors
/// What is there already cannot be read.
pub fn ssh_keys(root: &Root, keys: &[String]) -> io::Result<Vec<Setting>> {
    const KEYS: &str = "root/.ssh/authorized_keys";
    let mut all = there(root, KEYS)?.unwrap_or_default();
    for key in keys {
        if !all.lines().any(|line| line == key) {
            if !all.is_empty() && !all.ends_with('\n') {
                all.push('\n');
            }
            all = all + key + "\n";
        }
    }
    let server = "# Keys were given at the first boot.\n\
        PasswordAuthentication no\nKbdInteractiveAuthentication no\n";
    let server = plain("etc/ssh/sshd_config.d/10-stoker.conf", server.to_owned());
    Ok(vec![Setting { path: KEYS, mode: 0o600, content: all }, server])
}

/// The address on the wire, told to whoever manages the network here.
#[must_use]
pub fn address(root: &Root, address: &Address) -> Vec<Setting> {
    let Address { ip, prefix, gateway, dns } = address;
    let names = |separator: &str, of: &dyn Fn(&IpAddr) -> bool| {
        let names: Vec<_> = dns.iter().filter(|ip| of(ip)).map(IpAddr::to_string).collect();
        names.join(separator)
    };
    if root.has("etc/NetworkManager") {
        let gateway = gateway.map_or_else(String::new, |ip| format!(",{ip}"));
        let content = format!(
            "[connection]\nid=stoker\ntype=ethernet\nautoconnect-priority=10\n\n\
             [match]\ninterface-name=en*;eth*;\n\n\
             [ipv4]\nmethod=manual\naddress1={ip}/{prefix}{gateway}\ndns={}\n\n\
             [ipv6]\nmethod=auto\ndns={}\n",
            names(";", &IpAddr::is_ipv4),
            names(";", &IpAddr::is_ipv6),
        );
        // NetworkManager takes no notice of files that others can read.
        let path = "etc/NetworkManager/system-connections/stoker.nmconnection";
        return vec![Setting { path, mode: 0o600, content }];
    }
    let mut content =
        format!("[Match]\nName=en* eth*\n\n[Network]\nAddress={ip}/{prefix}\nLLDP=no\n");
    if let Some(gateway) = gateway {
        content += &format!("Gateway={gateway}\n");
    }
    if !dns.is_empty() {
        content += &format!("DNS={}\n", names(" ", &|_| true));
    }
    vec![plain("etc/systemd/network/10-stoker.network", content)]
}

/// The network without a wire, told to NetworkManager; `None` where there is none.
#[must_use]
pub fn wifi(root: &Root, wifi: &Wifi) -> Option<Setting> {
    if !root.has("etc/NetworkManager") {
        return None;
    }
    // As numbers, a name needs no escapes.
    let name: String = wifi.name.bytes().map(|byte| format!("{byte};")).collect();
    let security = wifi.password.as_ref().map_or_else(String::new, |password| {
        let escaped = password.replace('\\', "\\\\").replace(' ', "\\s");
        format!("[wifi-security]\nkey-mgmt=wpa-psk\npsk={escaped}\n\n")
    });
    let content = format!(
        "[connection]\nid=stoker-wifi\ntype=wifi\nautoconnect-priority=5\n\n\
         [wifi]\nmode=infrastructure\nssid={name}\n\n{security}\
         [ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n"
    );
    // It has a password, and NetworkManager takes no notice of files that others can read.
    let path = "etc/NetworkManager/system-connections/stoker-wifi.nmconnection";
    Some(Setting { path, mode: 0o600, content })
}

/// The language and the signs of a country. It has to be one that the system has.
#[must_use]
pub fn locale(name: &str) -> Setting {
    plain("etc/default/locale", format!("LANG={name}\n"))
}

/// Who tells the time.
#[must_use]
pub fn time_server(server: &str) -> Vec<Setting> {
    let content = format!("[Time]\nNTP={server}\n");
    vec![plain("etc/systemd/timesyncd.conf.d/50-stoker.conf", content)]
}

/// What is there already; `None` if nothing.
fn there(root: &Root, path: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(root.path(path)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn plain(path: &'static str, content: String) -> Setting {
    Setting { path, mode: 0o644, content }
}

impl Root {
    /// Writes a setting, as [`write_whole`] does.
    ///
    /// # Errors
    /// It cannot be written; what was there before is there still.
    pub fn put(&self, setting: &Setting) -> io::Result<()> {
        let path = self.path(setting.path);
        fs::create_dir_all(path.parent().unwrap_or(self.as_path()))?;
        write_whole(&path, setting.mode, setting.content.as_bytes())
    }
}

/// Writes a file whole or not at all, and on the disk when it returns. It has these rights,
/// whatever the umask is.
///
/// # Errors
/// It cannot be written; what was there before is there still.
pub fn write_whole(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    let part = directory.join(".stoker-part");
    // One that was left by a power cut may have other rights.
    let _ = fs::remove_file(&part);
    let mut file = File::options().write(true).create_new(true).mode(mode).open(&part)?;
    let written = file
        .set_permissions(Permissions::from_mode(mode))
        .and_then(|()| file.write_all(content))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tree;

    fn contents(settings: &[Setting]) -> Vec<&str> {
        settings.iter().map(|setting| setting.content.as_str()).collect()
    }

    #[test]
    fn a_name_takes_the_place_of_the_one_before() {
        let tree =
            tree::of(&[("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 old\n::1 localhost\n")]);
        let expected = ["box\n", "127.0.0.1 localhost\n127.0.1.1\tbox\n::1 localhost\n"];
        assert_eq!(contents(&hostname(&tree.root(), "box").unwrap()), expected);
        let expected = ["box\n", "127.0.0.1\tlocalhost\n127.0.1.1\tbox\n"];
        assert_eq!(contents(&hostname(&tree::of(&[]).root(), "box").unwrap()), expected);
    }

    #[test]
    fn keys_are_added_once_and_only_root_reads_them() {
        let tree = tree::of(&[("root/.ssh/authorized_keys", "ssh-rsa old\n")]);
        let keys = ["ssh-ed25519 new".to_owned()];
        for _ in 0..2 {
            let settings = ssh_keys(&tree.root(), &keys).unwrap();
            assert_eq!(settings[0].content, "ssh-rsa old\nssh-ed25519 new\n");
            tree.root::<Root>().put(&settings[0]).unwrap();
        }
        let file = tree.path().join("root/.ssh/authorized_keys");
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(tree.path().join("root/.ssh")).unwrap().count(), 1);
    }

    #[test]
    fn whoever_manages_the_network_is_told() {
        let own = Address {
            ip: Ipv4Addr::new(10, 0, 0, 5),
            prefix: 24,
            gateway: Some(Ipv4Addr::new(10, 0, 0, 1)),
            dns: vec![Ipv4Addr::new(10, 0, 0, 1).into(), IpAddr::V6("fd00::1".parse().unwrap())],
        };
        let networkd = "[Match]\nName=en* eth*\n\n[Network]\nAddress=10.0.0.5/24\nLLDP=no\n\
            Gateway=10.0.0.1\nDNS=10.0.0.1 fd00::1\n";
        assert_eq!(contents(&address(&tree::of(&[]).root(), &own)), [networkd]);
        let manager = tree::of(&[("etc/NetworkManager/NetworkManager.conf", "")]);
        let [setting] = &address(&manager.root(), &own)[..] else { panic!("one file") };
        assert_eq!(setting.mode, 0o600);
        assert!(setting.content.contains("address1=10.0.0.5/24,10.0.0.1\ndns=10.0.0.1\n"));
        assert!(setting.content.ends_with("[ipv6]\nmethod=auto\ndns=fd00::1\n"));
    }

    #[test]
    fn a_network_without_a_wire_is_told_to_its_manager_alone() {
        let own = Wifi { name: "a;b".into(), password: Some("two words\\".into()) };
        assert_eq!(wifi(&tree::of(&[]).root(), &own), None);
        let manager = tree::of(&[("etc/NetworkManager/NetworkManager.conf", "")]);
        let setting = wifi(&manager.root(), &own).unwrap();
        assert_eq!(setting.mode, 0o600);
        assert!(setting.content.contains("\nssid=97;59;98;\n"), "{}", setting.content);
        assert!(setting.content.contains("\nkey-mgmt=wpa-psk\npsk=two\\swords\\\\\n"));
        let open = wifi(&manager.root(), &Wifi { password: None, ..own.clone() }).unwrap();
        assert!(!open.content.contains("security"), "{}", open.content);
        assert!(!format!("{own:?}").contains("words"));
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let tree = tree::of(&[("etc/hostname/is-a-directory", "")]);
        let settings = hostname(&tree.root(), "box").unwrap();
        assert!(tree.root::<Root>().put(&settings[0]).is_err());
        assert_eq!(fs::read_dir(tree.path().join("etc")).unwrap().count(), 1);
    }
}
