//! The token for a hub: from a file that nobody else can read, and into one
//! header of one host. It is in no argument, no log and no message.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hyper::header::HeaderValue;

/// The name of the credential that systemd hands over (`LoadCredential=`).
const CREDENTIAL: &str = "hub-token";

/// Longest token that is read; real ones have some tens of bytes.
const MOST_BYTES: u64 = 4096;

/// A secret. It does not print itself.
pub struct Token(HeaderValue);

/// Why there is no token in a file.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} can be read by others (mode {mode:o}); chmod 600 it", path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("{} does not hold a token: one word of ASCII", path.display())]
    NotAToken { path: PathBuf },
}

impl Token {
    /// From `file` if one is named, else from systemd's credential directory if
    /// there is one with our credential in it.
    ///
    /// # Errors
    /// See [`TokenError`]. A file that is not named need not exist.
    pub fn find(
        file: Option<&Path>,
        credentials: Option<&Path>,
    ) -> Result<Option<Self>, TokenError> {
        if let Some(file) = file {
            return Self::read(file).map(Some);
        }
        let Some(file) = credentials.map(|dir| dir.join(CREDENTIAL)) else { return Ok(None) };
        if file.exists() { Self::read(&file).map(Some) } else { Ok(None) }
    }

    fn read(path: &Path) -> Result<Self, TokenError> {
        let read = |source| TokenError::Read { path: path.into(), source };
        let mut options = File::options();
        // A pipe without a writer would be waited for.
        options.read(true).custom_flags(nix::libc::O_NONBLOCK);
        let file = options.open(path).map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        if metadata.mode() & 0o077 != 0 {
            return Err(TokenError::Open { path: path.into(), mode: metadata.mode() & 0o777 });
        }
        let mut text = String::new();
        file.take(MOST_BYTES).read_to_string(&mut text).map_err(read)?;
        let word = text.trim();
        if !metadata.is_file() || word.is_empty() || !word.bytes().all(|it| it.is_ascii_graphic()) {
            return Err(TokenError::NotAToken { path: path.into() });
        }
        let mut value = HeaderValue::from_str(&format!("Bearer {word}"))
            .map_err(|_| TokenError::NotAToken { path: path.into() })?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// The value of the `Authorization` header.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn token(content: &str, mode: u32) -> Result<Option<Token>, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hub-token");
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let named = Token::find(Some(&file), None).map_err(|error| error.to_string());
        let credential = Token::find(None, Some(dir.path()));
        assert_eq!(named.is_ok(), credential.is_ok());
        named
    }

    #[test]
    fn a_token_is_one_word_in_a_file_of_our_own() {
        let found = token("hf_secret\n", 0o600).unwrap().unwrap();
        assert_eq!(found.header(), "Bearer hf_secret");
        assert_eq!(format!("{found:?}, {:?}", found.header()), "Token(…), Sensitive");
        assert!(token("hf_secret", 0o400).is_ok());
        assert!(Token::find(None, None).unwrap().is_none());
        assert!(Token::find(None, Some(Path::new("/nowhere"))).unwrap().is_none());
    }

    #[test]
    fn a_file_that_others_can_read_or_that_holds_no_token_is_refused_without_its_content() {
        let error = token("hf_secret", 0o644).unwrap_err();
        assert!(error.ends_with("can be read by others (mode 644); chmod 600 it"), "{error}");
        for content in ["", "two words", "hf_s\u{e9}cret", "a\nb"] {
            let error = token(content, 0o600).unwrap_err();
            assert!(error.ends_with("does not hold a token: one word of ASCII"), "{error}");
            assert!(content.is_empty() || !error.contains(content));
        }
    }
}
