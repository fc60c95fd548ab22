//! Versions of us: three numbers, compared as such.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `MAJOR.MINOR.PATCH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version([u32; 3]);

/// It is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a version is three numbers such as 1.2.3")]
pub struct NoVersion;

impl FromStr for Version {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let plain = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
        let mut parts = text.split('.').filter(plain).map(|part| part.parse().ok());
        let mut part = || parts.next().flatten().ok_or(NoVersion);
        let version = Self([part()?, part()?, part()?]);
        // In one way alone, so that a name has one version.
        if version.to_string() == text { Ok(version) } else { Err(NoVersion) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([major, minor, patch]) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl TryFrom<String> for Version {
    type Error = NoVersion;

    fn try_from(text: String) -> Result<Self, NoVersion> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_compared_and_nothing_else_is_a_version() {
        let version = |text: &str| text.parse::<Version>();
        assert!(version("0.10.0").unwrap() > version("0.9.9").unwrap());
        for text in ["", "1", "1.2", "1.2.3.4", "1.2.x", "01.2.3", "1..2.3", "+1.2.3", " 1.2.3"] {
            assert_eq!(version(text), Err(NoVersion), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(numbers: [u32; 3]) {
            let version = Version(numbers);
            prop_assert_eq!(version.to_string().parse(), Ok(version));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9.a]{0,16}") {
            if let Ok(version) = text.parse::<Version>() {
                prop_assert_eq!(version.to_string(), text);
            }
        }
    }
}
