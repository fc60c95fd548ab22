//! What a person may write into `stoker.toml` for the first boot, checked.
//!
//! The file comes from outside and its values become lines of system files, so each
//! is a type of its own that cannot hold a line break.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use jetpack::setting::{Address, Wifi};
use serde::Deserialize;

use crate::config::EngineId;
use crate::keys::{Hash, KeyName, Keys};

/// Most keys of each kind.
const MOST_KEYS: usize = 32;
/// Longest line of a key; an RSA key of 16384 bits has 2800 characters.
const LONGEST_KEY: usize = 4096;
/// Most name servers; resolvers ask three.
const MOST_DNS: usize = 3;

/// Algorithms, and how the key itself begins: with the algorithm's name once more.
const ALGORITHMS: [(&str, &str); 7] = [
    ("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5"),
    ("ssh-rsa", "AAAAB3NzaC1y"),
    ("ecdsa-sha2-nistp256", "AAAAE2VjZHNhLXNoYTItbmlzdHAy"),
    ("ecdsa-sha2-nistp384", "AAAAE2VjZHNhLXNoYTItbmlzdHAz"),
    ("ecdsa-sha2-nistp521", "AAAAE2VjZHNhLXNoYTItbmlzdHA1"),
    ("sk-ssh-ed25519@openssh.com", "AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t"),
    ("sk-ecdsa-sha2-nistp256@openssh.com", "AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5j"),
];

/// Everything that can be wished for, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    pub hostname: Option<String>,
    pub ssh_keys: Vec<String>,
    /// What is kept of the keys that are to be asked for.
    pub api_keys: Keys,
    /// Nobody is to be asked for one.
    pub open_to_all: bool,
    pub model: Option<EngineId>,
    pub time_server: Option<String>,
    pub address: Option<Address>,
    pub wifi: Option<Wifi>,
    pub locale: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    hostname: Option<String>,
    ssh_keys: Vec<String>,
    api_keys: RawKeys,
    open_to_all: bool,
    model: Option<String>,
    time_server: Option<String>,
    network: Option<Network>,
    wifi: Option<RawWifi>,
    locale: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWifi {
    name: String,
    password: Option<String>,
}

/// With names of one's own, or without.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a list of keys, or a table of names and keys")]
enum RawKeys {
    List(Vec<String>),
    Named(BTreeMap<String, String>),
}

impl Default for RawKeys {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl RawKeys {
    fn named(self) -> Vec<(String, String)> {
        match self {
            Self::Named(keys) => keys.into_iter().collect(),
            Self::List(keys) => {
                let numbered = keys.into_iter().enumerate();
                numbered.map(|(at, key)| (format!("key-{}", at + 1), key)).collect()
            }
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    address: String,
    gateway: Option<Ipv4Addr>,
    #[serde(default)]
    dns: Vec<IpAddr>,
}

impl Wishes {
    /// Reads the text of the file.
    ///
    /// # Errors
    /// What is wrong, in words for the person who wrote it. No value that may be a
    /// secret is repeated.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return Err("the file is UTF-16; save it as UTF-8".to_owned());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text")?;
        let raw: Raw = toml::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
            let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
            let line = line.map_or_else(String::new, |line| format!("line {line}: "));
            format!("{line}{}", without_values(error.message()))
        })?;
        Self::check(raw)
    }

    fn check(raw: Raw) -> Result<Self, String> {
        let named = raw.api_keys.named();
        if raw.ssh_keys.len().max(named.len()) > MOST_KEYS {
            return Err(format!("at most {MOST_KEYS} keys of a kind"));
        }
        if raw.open_to_all && !named.is_empty() {
            return Err("open_to_all: either API keys are asked for or nobody is".to_owned());
        }
        let keys = raw.ssh_keys.iter().enumerate();
        let ssh_keys = keys
            .map(|(at, key)| ssh_key(key).map_err(|why| format!("ssh_keys: key {}: {why}", at + 1)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            hostname: raw.hostname.map(|name| hostname(&name)).transpose()?,
            ssh_keys,
            api_keys: api_keys(&named)?,
            open_to_all: raw.open_to_all,
            model: raw.model.map(|name| model(&name)).transpose()?,
            time_server: raw.time_server.map(|name| time_server(&name)).transpose()?,
            address: raw.network.map(address).transpose()?,
            wifi: raw.wifi.map(wifi).transpose()?,
            locale: raw.locale.map(locale).transpose()?,
        })
    }
}

fn api_keys(named: &[(String, String)]) -> Result<Keys, String> {
    let mut keys = Keys::default();
    for (at, (name, key)) in named.iter().enumerate() {
        // A name may be a key that was put in its place.
        let wrong = |why: &dyn fmt::Display| format!("api_keys: key {}: {why}", at + 1);
        let name = KeyName::new(name)
            .ok_or_else(|| wrong(&"its name is a word of letters, digits, `.`, `_` and `-`"))?;
        let hash = Hash::of_brought(key).map_err(|weak| wrong(&weak))?;
        keys.put(name, hash).map_err(|error| wrong(&error))?;
    }
    Ok(keys)
}

/// A value in the wrong place may be a key, and this is shown.
fn without_values(message: &str) -> String {
    let message = message.trim_end();
    match message.split_once(", expected ") {
        Some((_, expected)) if message.starts_with("invalid ") => format!("expected {expected}"),
        _ => message.to_owned(),
    }
}

fn is_label(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (1..=63).contains(&name.len())
        && name.chars().all(plain)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn hostname(name: &str) -> Result<String, String> {
    let numbers = name.chars().all(|c| c.is_ascii_digit());
    if is_label(name) && !numbers && !name.eq_ignore_ascii_case("localhost") {
        return Ok(name.to_ascii_lowercase());
    }
    Err("hostname: one word of letters, digits and hyphens, as in \"stoker-2\"".to_owned())
}

fn time_server(name: &str) -> Result<String, String> {
    if name.parse::<IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(is_label)) {
        return Ok(name.to_owned());
    }
    Err("time_server: a name such as \"ntp.example.org\" or an address".to_owned())
}

fn model(name: &str) -> Result<EngineId, String> {
    EngineId::new(name)
        .ok_or_else(|| "model: an engine's name, as `engine-builder list` shows it".to_owned())
}

fn wifi(RawWifi { name, password }: RawWifi) -> Result<Wifi, String> {
    if !(1..=32).contains(&name.len()) {
        return Err("wifi.name: the network's name, of 1 to 32 bytes".to_owned());
    }
    let is_one = |password: &String| {
        (8..=63).contains(&password.len()) && password.bytes().all(|byte| (32..127).contains(&byte))
    };
    if !password.as_ref().is_none_or(is_one) {
        return Err(
            "wifi.password: 8 to 63 letters, digits and signs; none for an open network".into()
        );
    }
    Ok(Wifi { name, password })
}

/// As `de_DE.UTF-8`. Others are for terminals of another age.
fn locale(name: String) -> Result<String, String> {
    let language = name.strip_suffix(".UTF-8").unwrap_or_default();
    let (of, country) = language.split_once('_').unwrap_or((language, "XX"));
    let is_one = ((2..=3).contains(&of.len()) && of.bytes().all(|byte| byte.is_ascii_lowercase()))
        || of == "C";
    let in_one = country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase());
    match is_one && in_one {
        true => Ok(name),
        false => Err("locale: a language and a country, as in \"de_DE.UTF-8\"".to_owned()),
    }
}

/// One line of an `authorized_keys` file without options.
fn ssh_key(line: &str) -> Result<String, &'static str> {
    if line.contains("PRIVATE KEY") {
        return Err("this is a private key; the public one is in the file that ends in .pub");
    }
    let line = line.trim();
    if line.len() > LONGEST_KEY || line.chars().any(|c| c.is_control()) {
        return Err("one line, as in the file that ends in .pub");
    }
    let mut words = line.split_ascii_whitespace();
    let (algorithm, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let Some((_, begin)) = ALGORITHMS.iter().find(|(name, _)| *name == algorithm) else {
        return Err("it has to begin with its kind, such as ssh-ed25519, without options");
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let whole = key.len() > begin.len() + 20 && key.len() % 4 == 0;
    if !key.starts_with(begin) || !key.chars().all(plain) || !whole {
        return Err("the key is cut short or is of another kind than it says");
    }
    Ok(line.to_owned())
}

fn address(network: Network) -> Result<Address, String> {
    let wrong = || {
        "network.address: an address and its network's length, as in \"192.168.1.20/24\"".to_owned()
    };
    let (ip, prefix) = network.address.split_once('/').ok_or_else(wrong)?;
    let ip: Ipv4Addr = ip.parse().map_err(|_| wrong())?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    if !(1..=30).contains(&prefix) {
        return Err("network.address: the network's length is between 1 and 30".to_owned());
    }
    let mask = u32::MAX << (32 - prefix);
    let host = ip.to_bits() & !mask;
    if host == 0 || host == !mask || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() {
        return Err(format!("network.address: {ip} cannot be one machine's address"));
    }
    if let Some(gateway) = network.gateway
        && (gateway == ip || gateway.to_bits() & mask != ip.to_bits() & mask)
    {
        return Err(format!("network.gateway: {gateway} is not another machine of that network"));
    }
    if network.dns.len() > MOST_DNS {
        return Err(format!("network.dns: at most {MOST_DNS}"));
    }
    Ok(Address { ip, prefix, gateway: network.gateway, dns: network.dns })
}

#[cfg(test)]
mod tests;
