//! What an update says of itself, believed only after its signature was. Its text is
//! checked into types of which none can be a path.

use serde::Deserialize;

use super::version::Version;

/// Longest manifest that is read, in bytes.
pub(super) const LONGEST: u64 = 64 * 1024;

const PRODUCT: &str = "stoker";

/// Ours, in the order in which they depend on each other.
pub(super) const PACKAGES: [&str; 2] = ["stoker", "stoker-appliance"];

/// Longest package, in bytes; ours have a tenth.
const LARGEST: u64 = 1 << 30;

/// An update, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub version: Version,
    /// The oldest version that can be updated with it.
    pub oldest: Version,
    /// What its programs are for, in Debian's words.
    pub architecture: String,
    /// Boards that it is for, by how their `compatible` begins; none: any machine.
    pub boards: Vec<String>,
    pub members: Vec<Member>,
}

/// A package in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub package: &'static str,
    /// A plain file name.
    pub name: String,
    pub bytes: u64,
    /// In lower-case hexadecimal digits.
    pub sha256: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    product: String,
    version: Version,
    oldest: Version,
    architecture: String,
    #[serde(default)]
    boards: Vec<String>,
    member: Vec<RawMember>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMember {
    package: String,
    name: String,
    bytes: u64,
    sha256: String,
}

impl Manifest {
    /// Reads its text.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no text")?;
        let raw: Raw = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        if raw.product != PRODUCT {
            return Err(format!("it is for {:?} and not for {PRODUCT}", raw.product));
        }
        if raw.oldest > raw.version {
            return Err("it is older than what it is for".to_owned());
        }
        let members = raw.member.into_iter().map(member).collect::<Result<Vec<_>, _>>()?;
        let packages: Vec<_> = members.iter().map(|member| member.package).collect();
        if !packages.starts_with(&PACKAGES[..1]) || !PACKAGES.starts_with(&packages) {
            return Err(format!("it has to hold {}, in this order", PACKAGES.join(" and ")));
        }
        Ok(Self {
            version: raw.version,
            oldest: raw.oldest,
            architecture: raw.architecture,
            boards: raw.boards,
            members,
        })
    }

    /// Bytes of all its packages.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.members.iter().map(|member| member.bytes).sum()
    }

    /// Whether it is for this machine, which runs that version of us.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn fits(
        &self,
        installed: Version,
        architecture: &str,
        board: &[String],
    ) -> Result<(), String> {
        if self.architecture != architecture {
            let theirs = &self.architecture;
            return Err(format!("it is for {theirs}, and this machine is {architecture}"));
        }
        let is_its = |of: &String| board.iter().any(|name| name.starts_with(of.as_str()));
        if !self.boards.is_empty() && !self.boards.iter().any(is_its) {
            let board = if board.is_empty() { "no board".to_owned() } else { board.join(" ") };
            return Err(format!("it is for {}, and this is {board}", self.boards.join(" or ")));
        }
        if installed == self.version {
            return Err(format!("version {installed} is installed already"));
        }
        if installed > self.version {
            return Err(format!(
                "it has version {} and {installed} is installed, whose databases it may not be able to read",
                self.version
            ));
        }
        if installed < self.oldest {
            return Err(format!(
                "it is for version {} and newer, and {installed} is installed: install one in between first",
                self.oldest
            ));
        }
        Ok(())
    }
}

fn member(raw: RawMember) -> Result<Member, String> {
    let RawMember { package, name, bytes, sha256 } = raw;
    let package = PACKAGES.into_iter().find(|known| *known == package);
    let Some(package) = package else { return Err("it holds a package that is not ours".into()) };
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._+-".contains(&byte);
    let is_plain = name.bytes().all(plain) && name.starts_with(package) && name.ends_with(".deb");
    if !is_plain || name.len() > 90 {
        return Err(format!("{package}: the file's name is none of a package"));
    }
    if bytes == 0 || bytes > LARGEST {
        return Err(format!("{package}: {bytes} bytes are no package"));
    }
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if sha256.len() != 64 || !sha256.bytes().all(is_digit) {
        return Err(format!("{package}: the hash is none"));
    }
    Ok(Member { package, name, bytes, sha256 })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in super::super) fn text(members: &str) -> String {
        format!(
            "product = \"stoker\"\nversion = \"0.2.0\"\noldest = \"0.1.0\"\narchitecture = \"arm64\"\n{members}"
        )
    }

    pub(in super::super) fn a_member(package: &str, name: &str, content: &[u8]) -> String {
        use sha2::{Digest, Sha256};
        let sum = crate::hexadecimal::Hexadecimal(&Sha256::digest(content)).to_string();
        let bytes = content.len();
        format!(
            "[[member]]\npackage = \"{package}\"\nname = \"{name}\"\nbytes = {bytes}\nsha256 = \"{sum}\"\n"
        )
    }

    fn good() -> String {
        text(
            &(a_member("stoker", "stoker_0.2.0_arm64.deb", b"1")
                + &a_member("stoker-appliance", "stoker-appliance_0.2.0_all.deb", b"2")),
        )
    }

    fn parse(text: &str) -> Result<Manifest, String> {
        Manifest::parse(text.as_bytes())
    }

    #[test]
    fn what_fits_is_newer_and_for_this_machine() {
        let manifest = parse(&good()).unwrap();
        let version = |text: &str| text.parse().unwrap();
        let board = ["nvidia,p3768-0000+p3767-0003".to_owned(), "nvidia,tegra234".to_owned()];
        let fits = |installed, architecture, board: &[String]| {
            manifest.fits(version(installed), architecture, board)
        };
        assert_eq!(fits("0.1.0", "arm64", &board), Ok(()));
        for (installed, architecture, why) in [
            ("0.1.0", "amd64", "it is for arm64, and this machine is amd64"),
            ("0.2.0", "arm64", "version 0.2.0 is installed already"),
            ("0.3.0", "arm64", "it has version 0.2.0 and 0.3.0 is installed"),
            ("0.0.9", "arm64", "it is for version 0.1.0 and newer, and 0.0.9 is installed"),
        ] {
            let said = fits(installed, architecture, &board).unwrap_err();
            assert!(said.starts_with(why), "{said}");
        }
        let mut manifest = manifest;
        manifest.boards = vec!["nvidia,p3701".into(), "nvidia,p3768-0000+p3767".into()];
        assert_eq!(manifest.fits(version("0.1.0"), "arm64", &board), Ok(()));
        for board in [&board[1..], &[]] {
            assert!(manifest.fits(version("0.1.0"), "arm64", board).is_err());
        }
    }

    #[test]
    fn whatever_could_lead_elsewhere_is_refused() {
        assert_eq!(parse(&good()).unwrap().members.len(), 2);
        for (from, to) in [
            ("product = \"stoker\"", "product = \"other\""),
            ("oldest = \"0.1.0\"", "oldest = \"0.2.1\""),
            ("name = \"stoker_0.2.0_arm64.deb\"", "name = \"stoker/../../etc.deb\""),
            ("name = \"stoker_0.2.0_arm64.deb\"", "name = \"/etc/stoker.deb\""),
            ("name = \"stoker_0.2.0_arm64.deb\"", "name = \"stoker\""),
            ("package = \"stoker-appliance\"", "package = \"bash\""),
            ("package = \"stoker-appliance\"", "package = \"stoker\""),
            ("package = \"stoker\"\n", "package = \"stoker-appliance\"\n"),
            ("bytes = 1", "bytes = 0"),
            ("bytes = 1", "bytes = -1"),
            ("bytes = 1", "bytes = 9000000000000000000"),
            ("sha256 = \"", "sha256 = \"A"),
            ("architecture", "more = 1\narchitecture"),
        ] {
            let wrong = good().replacen(from, to, 1);
            assert_ne!(wrong, good(), "{from}");
            assert!(parse(&wrong).is_err(), "{to}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Manifest::parse(&bytes);
        }

        #[test]
        fn a_byte_that_is_changed_leads_nowhere_else(at: prop::sample::Index, byte: u8) {
            let mut bytes = good().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(manifest) = Manifest::parse(&bytes) {
                for member in manifest.members {
                    prop_assert!(!member.name.contains('/') && !member.name.starts_with('.'));
                }
            }
        }
    }
}
