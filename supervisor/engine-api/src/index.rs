//! The messages between the supervisor and the indexer, which reads foreign code
//! and is therefore a process of its own.
//!
//! The supervisor says what it knows of a repository's files, which of them it asks
//! about if not about all, then `Begin`. The indexer answers with what is different: files that are new or changed, each cut
//! into chunks, files that are gone, and files that it passed over and why. Every
//! message stands in a frame of [`crate::frame`].

use serde::{Deserialize, Serialize};

/// From the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToIndexer {
    /// A file that was looked at before.
    Known(KnownFile),
    /// Only this file, or what is below this directory, and others that are named so, is
    /// to be looked at. Nothing else is said to be known then.
    Only(String),
    /// That was all that is known.
    Begin,
}

/// From the indexer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromIndexer {
    /// How far it is. The first says how many files there are.
    Progress { looked_at: u64, of: u64 },
    /// A directory in which files are looked at, below the repository; empty for itself.
    /// These come first.
    Directory { path: String },
    /// A file that is new or holds something else than before.
    Indexed(IndexedFile),
    /// A file that was written, and holds what it held.
    Touched { path: String, stamp: Stamp },
    /// A file that holds what another one is known to hold, such as one that was
    /// renamed. It would be cut into the same.
    Same { path: String, stamp: Stamp, hash: [u8; 32], known_as: String },
    /// A file that is known and is not there any more.
    Gone { path: String },
    /// A file that is not indexed. What was known of it is to be forgotten. Without a
    /// stamp it is looked at again each time.
    Skipped { path: String, stamp: Option<Stamp>, reason: String },
    /// All was looked at.
    Done(Totals),
}

/// A file that was looked at before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownFile {
    /// Below the repository, with `/` between its parts.
    pub path: String,
    pub stamp: Option<Stamp>,
    /// SHA-256 of what it held, and of how it was cut; `None` if it was passed over.
    pub hash: Option<[u8; 32]>,
}

/// What changes when a file is written. If it is the same, the file is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Nanoseconds since 1970 of the last change of content or of the inode.
    pub changed_ns: i128,
    /// Bytes.
    pub size: u64,
    pub inode: u64,
}

/// A file and what it was cut into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedFile {
    pub path: String,
    pub stamp: Stamp,
    pub hash: [u8; 32],
    /// Its language, such as `rust`; `text` where it is not known.
    pub language: String,
    /// Why it was cut by lines, although its language is known.
    pub note: Option<String>,
    /// In the order of the file. Every line that is not blank is in one of them.
    pub chunks: Vec<Chunk>,
}

/// Some lines of a file that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Where it stands: the path, then what it is in, outermost first, such as
    /// `src/fan.rs > Fan > set_speed`.
    pub header: String,
    /// What is defined in it.
    pub names: Vec<String>,
    pub kind: ChunkKind,
    /// Its first line, counted from 1.
    pub first_line: u32,
    /// Its last line.
    pub last_line: u32,
    pub text: String,
    /// Names that are defined in it, those within a type or a function as well.
    pub defines: Vec<Defined>,
    /// Other names that it calls, or names as types. Each once.
    pub uses: Vec<String>,
}

/// A name that is defined in a chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defined {
    pub name: String,
    /// The line where the name stands, counted from 0 at the chunk's first.
    pub line: u32,
}

/// What a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkKind {
    /// A function or a method, or several small ones.
    Function,
    /// A type with all that is in it.
    Type,
    /// A part of a document or of a file of settings.
    Section,
    /// What stands between: imports, fields, statements, text.
    Rest,
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub files: u64,
    /// Files that were read, because they are new or were written.
    pub read: u64,
    pub indexed: u64,
    /// Files that hold what another one held.
    pub same: u64,
    pub skipped: u64,
    pub gone: u64,
    pub chunks: u64,
}
