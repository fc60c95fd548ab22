//! One request to a server, over plain HTTP, and its answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

use super::StatusError;

/// How long the server may take to be reached, and to take what is sent.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

/// What is asked, and of whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    /// `host:port`.
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) body: Option<&'a Value>,
    /// How long the server may take for its answer.
    pub(crate) patience: Duration,
}

/// `host:port` of a URL without a path; the port may be left out.
pub(super) fn host_of(url: &str) -> Option<String> {
    let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    if host.is_empty() || host.contains(['/', '@', ' ']) {
        return None;
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some(if has_port { host.to_owned() } else { format!("{host}:11434") })
}

/// A document that anybody may have, soon.
pub(crate) fn get(host: &str, path: &str) -> Result<String, StatusError> {
    ask(&Ask { method: "GET", host, path, key: None, body: None, patience: TIMEOUT })
}

/// The answer's body, if it is a good one.
pub(crate) fn ask(asked: &Ask<'_>) -> Result<String, StatusError> {
    let host = asked.host.to_owned();
    let stream = connect(asked.host)?;
    request(&stream, asked).map_err(|source| StatusError::Read { host, source })?;
    answer(&stream, asked.host)
}

/// The answer to what was sent.
pub(super) fn answer(stream: &TcpStream, host: &str) -> Result<String, StatusError> {
    let host = host.to_owned();
    let (first, body) =
        read(stream).map_err(|source| StatusError::Read { host: host.clone(), source })?;
    match first.split_whitespace().nth(1) {
        Some("200") => Ok(body),
        Some(_) => Err(match message(&body) {
            Some(message) => StatusError::Refused(message),
            None => StatusError::Answer { host, problem: first.trim_end().to_owned() },
        }),
        None => Err(StatusError::Answer { host, problem: first.trim_end().to_owned() }),
    }
}

pub(super) fn connect(host: &str) -> Result<TcpStream, StatusError> {
    reach(host).map_err(|source| StatusError::Connect { host: host.to_owned(), source })
}

fn reach(host: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// HTTP/1.0, so that the answer is neither chunked nor kept open.
fn request(mut stream: &TcpStream, asked: &Ask<'_>) -> io::Result<()> {
    stream.set_read_timeout(Some(asked.patience))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let Ask { method, host, path, .. } = asked;
    let mut request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n\
         Connection: close\r\n"
    );
    if let Some(key) = asked.key {
        request.push_str(&format!("Authorization: Bearer {key}\r\n"));
    }
    let body = asked.body.map(Value::to_string).unwrap_or_default();
    if asked.body.is_some() {
        let length = body.len();
        request
            .push_str(&format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"));
    }
    write!(stream, "{request}\r\n{body}")
}

/// An answer's first line and its body.
fn read(stream: &TcpStream) -> io::Result<(String, String)> {
    let mut reader = BufReader::new(stream.take(MAX_ANSWER));
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        line.clear();
    }
    let mut body = String::new();
    reader.read_to_string(&mut body)?;
    Ok((first, body))
}

/// What a refusal says.
fn message(body: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    Some(body["error"]["message"].as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_with_and_without_their_parts() {
        for (url, host) in [
            ("http://127.0.0.1:11434", Some("127.0.0.1:11434")),
            ("http://127.0.0.1:11434/", Some("127.0.0.1:11434")),
            ("jetson.local", Some("jetson.local:11434")),
            ("http://[::1]:80", Some("[::1]:80")),
            ("", None),
            ("http://a/b", None),
            ("https://a", None),
        ] {
            assert_eq!(host_of(url).as_deref(), host, "{url}");
        }
    }

    #[test]
    fn a_refusal_is_said_in_the_servers_words() {
        assert_eq!(message(r#"{"error":{"message":"no"}}"#).as_deref(), Some("no"));
        assert_eq!(message("<html>"), None);
    }
}
