//! JetPack releases for Orin, and the libraries that come with them.

use jetpack::L4t;
use serde::Serialize;

use crate::error::Error;

/// A JetPack release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Release {
    pub jetpack: &'static str,
    /// Major and minor of `jetpack`.
    #[serde(skip)]
    pub version: (u8, u8),
    pub l4t: L4t,
    pub cuda: &'static str,
    /// `None`: not known here.
    pub tensorrt: Option<&'static str>,
}

/// What a plan for a named board assumes when no release is named: the first
/// one after the repair of large allocations.
pub const USUAL: &str = "6.2.2";

const TENSORRT_10_3: Option<&str> = Some("10.3.0");

const fn release(
    jetpack: &'static str,
    version: (u8, u8),
    (major, minor, patch): (u32, u32, u32),
    cuda: &'static str,
    tensorrt: Option<&'static str>,
) -> Release {
    Release { jetpack, version, l4t: L4t { major, minor, patch }, cuda, tensorrt }
}

/// In the order in which they came out. JetPack 7.0 and 7.1 are for Thor only.
const RELEASES: [Release; 9] = [
    release("6.0", (6, 0), (36, 3, 0), "12.2", Some("8.6.2")),
    release("6.1", (6, 1), (36, 4, 0), "12.6", TENSORRT_10_3),
    release("6.1", (6, 1), (36, 4, 2), "12.6", TENSORRT_10_3),
    release("6.2", (6, 2), (36, 4, 3), "12.6", TENSORRT_10_3),
    release("6.2.1", (6, 2), (36, 4, 4), "12.6", TENSORRT_10_3),
    release("6.2.1", (6, 2), (36, 4, 7), "12.6", TENSORRT_10_3),
    release("6.2.2", (6, 2), (36, 5, 0), "12.6", TENSORRT_10_3),
    release("6.2.3", (6, 2), (36, 5, 2), "12.6", TENSORRT_10_3),
    release("7.2", (7, 2), (39, 2, 0), "13.2", None),
];

/// From this one on large allocations of GPU memory fail, until the repair.
const BROKEN: L4t = L4t { major: 36, minor: 4, patch: 7 };
const REPAIRED: L4t = L4t { major: 36, minor: 5, patch: 0 };

impl Release {
    /// The release of this name, a JetPack (`6.2`) or a Jetson Linux (`36.4.7`).
    ///
    /// # Errors
    /// [`Error::Usage`] with the names there are.
    pub fn named(name: &str) -> Result<Self, Error> {
        let found = RELEASES.iter().find(|known| known.jetpack == name);
        let by_l4t = || RELEASES.iter().find(|known| known.l4t.to_string() == name);
        found.or_else(by_l4t).cloned().ok_or_else(|| {
            let why = match name {
                "7.0" | "7.1" => "does not run on Orin",
                _ => "is not known here",
            };
            Error::Usage(format!("JetPack {name:?} {why}; there are {}", names().join(", ")))
        })
    }

    /// The release that has this Jetson Linux. A patch that is not known counts
    /// as the last known one before it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if there is none.
    pub fn of(l4t: L4t) -> Result<Self, Error> {
        let same = |known: &&Self| known.l4t.major == l4t.major && known.l4t <= l4t;
        match RELEASES.iter().rfind(same) {
            Some(known) => Ok(Self { l4t, ..known.clone() }),
            None => Err(Error::Unsupported(format!("Jetson Linux {l4t} is not known here"))),
        }
    }

    /// Why nothing should be built on it.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        (BROKEN..REPAIRED).contains(&self.l4t).then(|| {
            format!(
                "L4T {} fails to allocate large blocks of GPU memory (NvMap error 12) until the \
                 next restart; update to L4T {REPAIRED} (JetPack 6.2.2) or later",
                self.l4t
            )
        })
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JetPack {} (L4T {})", self.jetpack, self.l4t)
    }
}

fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = RELEASES.iter().map(|known| known.jetpack).collect();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn l4t(major: u32, minor: u32, patch: u32) -> L4t {
        L4t { major, minor, patch }
    }

    #[test]
    fn a_release_is_found_by_either_name() {
        assert_eq!(Release::named("6.2").unwrap().l4t, l4t(36, 4, 3));
        assert_eq!(Release::named("36.4.4").unwrap().jetpack, "6.2.1");
        let refuse = |name| Release::named(name).unwrap_err().to_string();
        assert_eq!(
            refuse("5.1"),
            "JetPack \"5.1\" is not known here; there are 6.0, 6.1, 6.2, 6.2.1, 6.2.2, 6.2.3, 7.2"
        );
        assert!(refuse("7.1").contains("does not run on Orin"));
        assert!(Release::named(USUAL).unwrap().fault().is_none());
    }

    #[test]
    fn a_patch_after_the_last_known_one_counts_as_that() {
        let of = |l4t| Release::of(l4t).map(|release| release.jetpack).ok();
        assert_eq!(of(l4t(36, 5, 9)), Some("6.2.3"));
        assert_eq!(of(l4t(36, 4, 5)), Some("6.2.1"));
        assert_eq!(of(l4t(39, 2, 1)), Some("7.2"));
        assert_eq!(of(l4t(35, 4, 1)), None);
        assert_eq!(of(l4t(38, 4, 0)), None);
        assert_eq!(of(l4t(36, 2, 0)), None);
    }

    #[test]
    fn the_release_that_cannot_allocate_is_known() {
        assert!(Release::named("36.4.7").unwrap().fault().unwrap().contains("36.5.0"));
        for (l4t, bad) in [
            (l4t(36, 4, 4), false),
            (l4t(36, 4, 7), true),
            (l4t(36, 4, 9), true),
            (l4t(36, 5, 0), false),
        ] {
            assert_eq!(Release::of(l4t).unwrap().fault().is_some(), bad, "{l4t}");
        }
    }
}
