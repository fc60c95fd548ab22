//! URLs of git repositories: which are taken, and what they are called. Pure.

use std::fmt;

/// Bytes of a URL at most.
const LONGEST: usize = 2048;
/// What git may be asked to speak.
pub(super) const SCHEMES: [&str; 4] = ["https", "http", "ssh", "git"];

/// A URL without any secret that git can be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitUrl(String);

/// Why a URL is not taken. It is not repeated, because a secret may stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrongUrl {
    #[error("begins with none of https://, http://, ssh:// and git://")]
    Scheme,
    #[error(
        "has a name or a password in it, which others would see; for https git reads them from \
         `.netrc` in the home of the server's user, for ssh it has that user's key"
    )]
    Secret,
    #[error(
        "is no URL of a repository: it needs a host and a path, and has no spaces, `?` and `#`"
    )]
    Form,
    #[error("is longer than {LONGEST} bytes")]
    Long,
}

impl GitUrl {
    /// Takes what git can be given without harm.
    ///
    /// # Errors
    /// It is of another form, or has a secret in it.
    pub fn parse(text: &str) -> Result<Self, WrongUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(WrongUrl::Scheme)?;
        if !SCHEMES.contains(&scheme) {
            return Err(WrongUrl::Scheme);
        }
        if text.len() > LONGEST {
            return Err(WrongUrl::Long);
        }
        let (authority, path) = rest.split_once('/').ok_or(WrongUrl::Form)?;
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        // Of ssh the name says whose key is meant, and is mostly `git`.
        let plain = |user: &str| {
            user.starts_with(|c: char| c.is_ascii_alphanumeric())
                && user.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        if user.is_some_and(|user| scheme != "ssh" || !plain(user)) {
            return Err(WrongUrl::Secret);
        }
        // A host that begins with `-` would be an option of ssh.
        let good = host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
            && host.chars().all(|c| c.is_ascii_alphanumeric() || "._-:[]".contains(c))
            && !path.is_empty()
            && !path.starts_with('-')
            && path.chars().all(|c| c.is_ascii_graphic() && !"?#\\".contains(c));
        if good { Ok(Self(text.to_owned())) } else { Err(WrongUrl::Form) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part of its path, as `git clone` names a directory.
    #[must_use]
    pub fn own_name(&self) -> &str {
        let last = self.0.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        last.strip_suffix(".git").unwrap_or(last)
    }
}

impl fmt::Display for GitUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_that_git_may_be_given() {
        for (text, name) in [
            ("https://git.lan/team/fans.git", "fans"),
            ("http://10.0.0.2:3000/team/fans/", "fans"),
            ("ssh://git@git.lan:2222/~team/c++.git", "c++"),
            ("git://[fe80::1]:9418/fans", "fans"),
        ] {
            assert_eq!(GitUrl::parse(text).unwrap().own_name(), name, "{text}");
        }
    }

    #[test]
    fn urls_that_it_may_not() {
        for (text, why) in [
            ("/srv/fans", WrongUrl::Scheme),
            ("file:///srv/fans", WrongUrl::Scheme),
            ("ext::sh -c date", WrongUrl::Scheme),
            ("HTTPS://git.lan/a", WrongUrl::Scheme),
            ("https://alice:hunter2@git.lan/a", WrongUrl::Secret),
            ("https://token@git.lan/a", WrongUrl::Secret),
            ("ssh://git:hunter2@git.lan/a", WrongUrl::Secret),
            ("ssh://-oProxyCommand=x@git.lan/a", WrongUrl::Secret),
            ("ssh://-oProxyCommand=x/a", WrongUrl::Form),
            ("https://git.lan", WrongUrl::Form),
            ("https://git.lan/", WrongUrl::Form),
            ("https:///a", WrongUrl::Form),
            ("https://git.lan/a?token=hunter2", WrongUrl::Form),
            ("https://git.lan/a b", WrongUrl::Form),
            ("https://git.lan/a\nb", WrongUrl::Form),
        ] {
            let refused = GitUrl::parse(text).unwrap_err();
            assert_eq!(refused, why, "{text}");
            assert!(!refused.to_string().contains("hunter2"));
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_has_no_secret_and_is_no_option(
            scheme in "(https|http|ssh|git|file|ext)",
            rest in "[a-z@:/.?#\\- ]{0,24}",
        ) {
            if let Ok(url) = GitUrl::parse(&format!("{scheme}://{rest}")) {
                prop_assert!(SCHEMES.contains(&scheme.as_str()));
                let authority = rest.split('/').next().unwrap();
                let host = authority.rsplit('@').next().unwrap();
                prop_assert!(!host.starts_with('-') && !authority.starts_with('-'));
                prop_assert!(!rest.contains(['?', '#', ' ']));
                if let Some((user, _)) = authority.rsplit_once('@') {
                    prop_assert!(scheme == "ssh" && !user.contains(':'));
                }
                prop_assert_eq!(GitUrl::parse(url.as_str()), Ok(url.clone()));
            }
        }
    }
}
