//! Names of repositories and of those to whom they belong. Pure.

use std::path::Path;

/// Characters of a name.
const LONGEST: usize = 100;
/// Digits of a key's digest that tell keys apart.
const DIGITS: usize = 16;

/// The name that was given, else the directory's own.
///
/// # Errors
/// It could not be told from a path, or not be written into a URL; in words.
pub fn of(given: Option<&str>, path: &Path) -> Result<String, String> {
    let own = || path.file_name().and_then(|name| name.to_str());
    let Some(name) = given.or_else(own) else {
        return Err("it needs a name".to_owned());
    };
    let plain = |char: char| char.is_ascii_alphanumeric() || "._-+".contains(char);
    let good = !name.is_empty() && !name.starts_with('.') && name.chars().all(plain);
    match good && name.chars().count() <= LONGEST {
        true => Ok(name.to_owned()),
        false => {
            Err("its name may have plain letters, digits, `.`, `_`, `-` and `+`, and begins with \
                      no `.`; give it another with `name`"
                .to_owned())
        }
    }
}

/// An owner as it stands beside what is kept for it, from the digits that an
/// operator wrote; `None` if these are none.
#[must_use]
pub fn owner(digits: &str) -> Option<String> {
    let digits = digits.strip_prefix("key ").unwrap_or(digits);
    let good = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    good.then(|| format!("key {}", digits.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_the_name_of_its_directory_or_the_one_given() {
        let of = |given, path| of(given, Path::new(path));
        assert_eq!(of(None, "/srv/fans"), Ok("fans".to_owned()));
        assert_eq!(of(Some("c++"), "/srv/fans"), Ok("c++".to_owned()));
        for (given, path) in [
            (None, "/"),
            (None, "/srv/.git"),
            (Some(""), "/a"),
            (Some("a/b"), "/a"),
            (None, "/a b"),
        ] {
            assert!(of(given, path).is_err(), "{given:?} {path}");
        }
    }

    #[test]
    fn an_owner_is_the_beginning_of_a_digest() {
        assert_eq!(owner("0B05a15e39a26ebc").as_deref(), Some("key 0b05a15e39a26ebc"));
        assert_eq!(owner("key 0b05a15e39a26ebc").as_deref(), Some("key 0b05a15e39a26ebc"));
        assert_eq!(owner("0b05"), None);
        assert_eq!(owner("alice-has-no-key"), None);
    }
}
