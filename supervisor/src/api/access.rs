//! Who may talk to us from inside a browser.
//!
//! A web page can send requests to any address. Two checks keep foreign pages
//! out: the `Host` must be a name that no public DNS zone can hold (else a page
//! could point its own name at us), and the `Origin`, if there is one, must be
//! this server, this machine, an editor, or one that the operator named.
//! Programs that are not browsers send no `Origin` and are not concerned.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderValue, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, StatusCode, Uri};

use crate::api::Settings;
use crate::api::error::Problem;

/// Ends of names that are resolved locally or not at all.
const LOCAL_SUFFIXES: [&str; 4] = [".localhost", ".local", ".internal", ".home.arpa"];

/// What editors and desktop programs call themselves; no web page can.
const PROGRAM_SCHEMES: [&str; 5] = ["vscode-webview", "vscode-file", "app", "tauri", "file"];

/// Bytes of a host's name that are said back; none has more.
const MAX_HOST: usize = 255;

/// Checks both headers. The result is the origin to which the answer may be shown.
///
/// # Errors
/// 403, naming the setting that allows it.
pub(crate) fn check(
    headers: &HeaderMap,
    uri: &Uri,
    settings: &Settings,
) -> Result<Option<HeaderValue>, Problem> {
    let text = |value: &HeaderValue| value.to_str().map(str::to_owned).unwrap_or_default();
    let host = uri.authority().map(ToString::to_string).or_else(|| headers.get(HOST).map(text));
    if let Some(host) = &host
        && !host_is_local(host, &settings.hosts)
    {
        return Err(forbidden(format!(
            "this server is not called {:?}; name it in server.hosts to allow that",
            host.get(..MAX_HOST).unwrap_or(host)
        )));
    }
    let Some(origin) = headers.get(ORIGIN) else { return Ok(None) };
    if origin_is_allowed(&text(origin), host.as_deref(), &settings.origins) {
        return Ok(Some(origin.clone()));
    }
    Err(forbidden(
        "web pages of this origin may not use this server; name it in server.origins to allow that",
    ))
}

fn forbidden(message: impl Into<String>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "permission_error", message)
}

fn host_is_local(host: &str, named: &[String]) -> bool {
    let Some(name) = name_of(host) else { return false };
    is_address(name)
        // A name without a dot is in no public zone.
        || !name.contains('.')
        || LOCAL_SUFFIXES.iter().any(|suffix| ends_with(name, suffix))
        || named.iter().any(|named| named.eq_ignore_ascii_case(name))
}

fn origin_is_allowed(origin: &str, host: Option<&str>, named: &[String]) -> bool {
    if named.iter().any(|named| named.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let Some((scheme, rest)) = origin.split_once("://") else { return false };
    match scheme {
        "http" | "https" => {
            host.is_some_and(|host| host.eq_ignore_ascii_case(rest))
                || name_of(rest).is_some_and(is_this_machine)
        }
        other => PROGRAM_SCHEMES.contains(&other),
    }
}

/// The name in `name:port`, without brackets or the dot at its end.
fn name_of(host: &str) -> Option<&str> {
    let authority: Authority = host.parse().ok()?;
    let length = authority.host().len();
    let name = host.get(..length)?;
    let name = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    (!name.is_empty()).then_some(name)
}

fn is_address(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok()
}

fn is_this_machine(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || ends_with(name, ".localhost")
        || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn ends_with(name: &str, suffix: &str) -> bool {
    let start = name.len().checked_sub(suffix.len());
    start.and_then(|start| name.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let named = ["coder.example.com".to_owned()];
        for host in [
            "localhost:11434",
            "127.0.0.1",
            "[::1]:11434",
            "192.168.1.7:11434",
            "jetson.local:11434",
            "JETSON.LOCAL",
            "jetson",
            "host.docker.internal:11434",
            "coder.example.com:11434",
        ] {
            assert!(host_is_local(host, &named), "{host}");
        }
        for host in
            ["evil.example", "evil.example:11434", "local.evil.example", "a.localx", "", "a b"]
        {
            assert!(!host_is_local(host, &named), "{host}");
        }
    }

    #[test]
    fn origins() {
        let named = ["https://chat.example.com".to_owned()];
        let allowed = |origin: &str| origin_is_allowed(origin, Some("10.0.0.5:11434"), &named);
        for origin in [
            "http://10.0.0.5:11434",
            "http://localhost:3000",
            "https://127.0.0.1",
            "http://[::1]:8080",
            "vscode-webview://0abc",
            "app://obsidian.md",
            "https://chat.example.com",
        ] {
            assert!(allowed(origin), "{origin}");
        }
        for origin in
            ["null", "http://10.0.0.5", "https://evil.example", "http://localhost.evil.example", ""]
        {
            assert!(!allowed(origin), "{origin}");
        }
    }
}
