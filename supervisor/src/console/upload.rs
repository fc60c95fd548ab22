//! `stoker index upload`: a directory of this machine goes to a server as an archive
//! that is made while it is sent.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use ignore::{DirEntry, WalkBuilder};
use serde_json::Value;
use tar::{Builder, Header};

use super::StatusError;
use super::ask::{answer, connect, host_of};
use super::code::Server;

/// The server may have to write what it was sent, and be in the middle of a batch.
const PATIENCE: Duration = Duration::from_secs(360);
/// How long it may take nothing of what is sent.
const TAKING: Duration = Duration::from_secs(60);
/// Larger files are passed over by the indexer, and need not be sent.
const LARGEST: u64 = 1024 * 1024;
/// Bytes of one part of the body.
const PART: usize = 64 * 1024;

/// Sends a directory, in the place of what was sent under that name.
///
/// # Errors
/// See [`StatusError`].
pub fn send(
    server: Server<'_>,
    name: &str,
    directory: &Path,
    shared: bool,
    out: &mut impl Write,
) -> Result<(), StatusError> {
    let of = |source| StatusError::Send { path: directory.to_owned(), source };
    if !directory.metadata().map_err(of)?.is_dir() {
        return Err(of(io::Error::from(io::ErrorKind::NotADirectory)));
    }
    let host = host_of(server.url).ok_or_else(|| StatusError::Url(server.url.to_owned()))?;
    let mut stream = connect(&host)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(of)?;
    stream.set_write_timeout(Some(TAKING)).map_err(of)?;
    let sent = head(&mut stream, &host, server.key, name, shared)
        .and_then(|()| archive(directory, Chunked(&mut stream)));
    // A server that refuses says why, and takes no more.
    let said = answer(&stream, &host);
    let said = match (sent, said) {
        (Ok(()), said) => said?,
        (Err(_), Err(StatusError::Refused(why))) => return Err(StatusError::Refused(why)),
        (Err(source), _) => return Err(of(source)),
    };
    let said: Value = serde_json::from_str(&said)
        .map_err(|error| StatusError::Answer { host, problem: error.to_string() })?;
    let whose = if said["shared"] == true { "everybody" } else { "this key alone" };
    let (files, bytes) = (&said["files"], &said["bytes"]);
    writeln!(out, "{name}: {files} files, {bytes} bytes, for {whose}; they are gone over now")
        .map_err(StatusError::Print)
}

fn head(
    stream: &mut TcpStream,
    host: &str,
    key: Option<&str>,
    name: &str,
    shared: bool,
) -> io::Result<()> {
    // Whatever is no part of a name is refused by the server, if it is one line.
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !"/?#%".contains(c) { c } else { '!' })
        .collect();
    let mut head = format!(
        "PUT /api/repositories/{name}/contents?shared={shared} HTTP/1.1\r\nHost: {host}\r\n\
         Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
    );
    if let Some(key) = key {
        head.push_str(&format!("Authorization: Bearer {key}\r\n"));
    }
    write!(stream, "{head}\r\n")
}

/// Writes all files that an indexer would read.
fn archive(directory: &Path, into: Chunked<'_>) -> io::Result<()> {
    let into = GzEncoder::new(BufWriter::with_capacity(PART, into), Compression::fast());
    let mut builder = Builder::new(into);
    for entry in walk(directory) {
        let entry = entry.map_err(io::Error::other)?;
        let Ok(below) = entry.path().strip_prefix(directory) else { continue };
        // What goes or cannot be read meanwhile is left out.
        let Ok(mut file) = File::open(entry.path()) else { continue };
        let facts = file.metadata()?;
        if !facts.is_file() || facts.len() > LARGEST {
            continue;
        }
        let mut text = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(&mut file, LARGEST), &mut text)?;
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, below, &text[..])?;
    }
    let whole = builder.into_inner()?.finish()?;
    let Chunked(stream) = whole.into_inner().map_err(io::IntoInnerError::into_error)?;
    stream.write_all(b"0\r\n\r\n")?;
    stream.flush()
}

/// Plain files, by the rules of the indexer.
fn walk(directory: &Path) -> impl Iterator<Item = Result<DirEntry, ignore::Error>> {
    let mut walk = WalkBuilder::new(directory);
    walk.hidden(false).require_git(false).git_global(false).parents(false);
    walk.add_custom_ignore_filename(".stokerignore");
    walk.filter_entry(|entry| entry.file_name() != ".git");
    walk.sort_by_file_path(Path::cmp);
    let is_file = |entry: &DirEntry| entry.file_type().is_some_and(|file_type| file_type.is_file());
    walk.build().filter(move |entry| entry.as_ref().map_or(true, is_file))
}

/// A body whose length nobody knows before.
struct Chunked<'a>(&'a mut TcpStream);

impl Write for Chunked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            // Nothing would be the end.
            return Ok(0);
        }
        write!(self.0, "{:x}\r\n", bytes.len())?;
        self.0.write_all(bytes)?;
        self.0.write_all(b"\r\n")?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
