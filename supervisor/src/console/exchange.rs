//! One request to a server that is near, over HTTP/1.0, so that the answer is
//! neither chunked nor kept open.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::StatusError;

/// How long it may take to be connected.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 4 * 1024 * 1024;

/// The body of the answer, if its status is 200. `body` is JSON. Each step may take
/// as long as `patience`.
pub(crate) fn exchange(
    host: &str,
    method: &str,
    path: &str,
    body: Option<&str>,
    patience: Duration,
) -> Result<String, StatusError> {
    let stream =
        connect(host).map_err(|source| StatusError::Connect { host: host.to_owned(), source })?;
    let body = body.unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let answer = ask(&stream, &(head + body), patience)
        .map_err(|source| StatusError::Read { host: host.to_owned(), source })?;
    answer.map_err(|problem| StatusError::Answer { host: host.to_owned(), problem })
}

fn connect(host: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn ask(
    mut stream: &TcpStream,
    request: &str,
    patience: Duration,
) -> io::Result<Result<String, String>> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(request.as_bytes())?;
    let mut reader = BufReader::new(stream.take(MAX_ANSWER));
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        line.clear();
    }
    let mut body = String::new();
    reader.read_to_string(&mut body)?;
    Ok(match first.split_whitespace().nth(1) {
        Some("200") => Ok(body),
        _ => Err(first.trim_end().to_owned()),
    })
}
