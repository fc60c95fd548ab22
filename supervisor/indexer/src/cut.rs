//! Cuts a file into chunks: what is defined together stays together, nothing is
//! longer than a model can take in, and every line is in one chunk.
//!
//! Lengths are counted in characters that are not blank, so that deep
//! indentation does not make code long. Pure.

use std::collections::BTreeSet;
use std::ops::Range;

use engine_api::index::{Chunk, ChunkKind, Defined};

use crate::language::{Language, Role};
use crate::names::{Is, Name};
use crate::syntax::{self, Definition, NotParsed, Parts};

/// Characters, blanks left out, of a chunk at most. Longest that a model for
/// embeddings with a short window takes in without loss is near this.
pub const LONGEST: usize = 1200;
/// A chunk shorter than this is put together with its neighbour.
const SHORTEST: usize = 120;
/// Lines of a chunk of which nothing is known, and of them those that the next
/// begins with, too: none here, because what is found is shown with its
/// surroundings.
const LINES: usize = 40;
/// Bytes of a chunk's text, blanks and all. Only a file with monstrous lines
/// comes near it.
const LONGEST_TEXT: usize = 16 * 1024;
/// Names that a chunk defines, and others that it uses, at most. A chunk of some forty
/// lines has about a dozen.
const MOST_NAMES: usize = 64;

/// Cuts a text by its syntax.
///
/// # Errors
/// Its syntax was not understood in time.
pub fn by_syntax(path: &str, language: Language, text: &str) -> Result<Vec<Chunk>, NotParsed> {
    let Parts { definitions, seams, names } = syntax::parts(language, text)?;
    let file = File::new(path, text);
    let mut pieces = Vec::new();
    file.cut(&definitions, &seams, 0..file.lines.len(), &[], &mut pieces);
    let mut chunks = file.chunks(pieces);
    name(&mut chunks, names);
    Ok(chunks)
}

/// Cuts a text of which nothing is known.
#[must_use]
pub fn by_lines(path: &str, text: &str) -> Vec<Chunk> {
    let file = File::new(path, text);
    let mut pieces = Vec::new();
    file.rest(0..file.lines.len(), &[], &[], &mut pieces);
    file.chunks(pieces)
}

/// Gives each name to the chunk in which it stands.
fn name(chunks: &mut [Chunk], mut names: Vec<Name<'_>>) {
    names.sort_by_key(|name| name.line);
    let mut names = names.into_iter().peekable();
    for chunk in chunks {
        let first = usize::try_from(chunk.first_line).unwrap_or(usize::MAX).saturating_sub(1);
        let end = usize::try_from(chunk.last_line).unwrap_or(usize::MAX);
        while names.next_if(|name| name.line < first).is_some() {}
        let mut uses = BTreeSet::new();
        while let Some(Name { name, line, is }) = names.next_if(|name| name.line < end) {
            match is {
                Is::Defined if chunk.defines.len() < MOST_NAMES => {
                    let line = u32::try_from(line - first).unwrap_or(u32::MAX);
                    chunk.defines.push(Defined { name: name.to_owned(), line });
                }
                Is::Used if uses.len() < MOST_NAMES => {
                    uses.insert(name);
                }
                Is::Defined | Is::Used => {}
            }
        }
        // What calls itself has no need to be told where it is.
        uses.retain(|used| !chunk.defines.iter().any(|defined| defined.name == *used));
        chunk.uses = uses.into_iter().map(str::to_owned).collect();
    }
}

struct File<'a> {
    path: &'a str,
    lines: Vec<&'a str>,
    /// Characters that are not blank before each line, and in all.
    lengths: Vec<usize>,
}

/// Lines that will be a chunk, or a part of one.
#[derive(Debug, Clone)]
struct Piece {
    lines: Range<usize>,
    /// What it is in, outermost first.
    within: Vec<String>,
    names: Vec<String>,
    kind: ChunkKind,
}

impl<'a> File<'a> {
    fn new(path: &'a str, text: &'a str) -> Self {
        let lines: Vec<_> = text.split('\n').collect();
        let mut lengths = vec![0];
        let mut length = 0;
        for line in &lines {
            length += line.chars().filter(|char| !char.is_whitespace()).count();
            lengths.push(length);
        }
        Self { path, lines, lengths }
    }

    /// Characters that are not blank.
    fn length(&self, lines: &Range<usize>) -> usize {
        self.lengths[lines.end] - self.lengths[lines.start]
    }

    /// Cuts `lines`, in which `definitions` are.
    fn cut(
        &self,
        definitions: &[Definition],
        seams: &[usize],
        lines: Range<usize>,
        within: &[String],
        pieces: &mut Vec<Piece>,
    ) {
        let mut at = lines.start;
        for definition in definitions {
            // What begins on the line where the one before ended is in its chunk.
            let own = definition.lines.start.max(at)..definition.lines.end.min(lines.end);
            if own.is_empty() {
                continue;
            }
            self.rest(at..own.start, seams, within, pieces);
            at = own.end;
            self.definition(definition, own, within, pieces);
        }
        self.rest(at..lines.end, seams, within, pieces);
    }

    fn definition(
        &self,
        definition: &Definition,
        lines: Range<usize>,
        within: &[String],
        pieces: &mut Vec<Piece>,
    ) {
        let long = self.length(&lines) > LONGEST;
        let inside = || [within, std::slice::from_ref(&definition.name)].concat();
        match definition.role {
            Role::Scope => {
                self.cut(&definition.members, &definition.seams, lines, &inside(), pieces);
            }
            _ if long && !definition.members.is_empty() => {
                self.cut(&definition.members, &definition.seams, lines, &inside(), pieces);
            }
            role => {
                let kind = match role {
                    Role::Function => ChunkKind::Function,
                    Role::Section => ChunkKind::Section,
                    _ => ChunkKind::Type,
                };
                for part in self.parts(lines, &definition.seams) {
                    let (within, names) = (inside(), vec![definition.name.clone()]);
                    pieces.push(Piece { lines: part, within, names, kind });
                }
            }
        }
    }

    /// What stands between definitions.
    fn rest(
        &self,
        lines: Range<usize>,
        seams: &[usize],
        within: &[String],
        pieces: &mut Vec<Piece>,
    ) {
        if self.length(&lines) == 0 {
            return;
        }
        for part in self.parts(lines, seams) {
            let (within, names) = (within.to_vec(), Vec::new());
            pieces.push(Piece { lines: part, within, names, kind: ChunkKind::Rest });
        }
    }

    /// Cuts what is too long, before a seam if there is one near the end.
    fn parts(&self, lines: Range<usize>, seams: &[usize]) -> Vec<Range<usize>> {
        let mut parts = Vec::new();
        let mut start = lines.start;
        while start < lines.end {
            let mut end = start + 1;
            while end < lines.end
                && self.length(&(start..end + 1)) <= LONGEST
                && (!seams.is_empty() || end - start < LINES)
            {
                end += 1;
            }
            if end < lines.end {
                let seam = seams.iter().rfind(|seam| (start + 1..=end).contains(seam));
                end = seam.copied().filter(|seam| seam - start > (end - start) / 2).unwrap_or(end);
            }
            parts.push(start..end);
            start = end;
        }
        parts
    }

    /// Puts small neighbours together and writes everything out.
    fn chunks(&self, pieces: Vec<Piece>) -> Vec<Chunk> {
        let mut joined: Vec<Piece> = Vec::new();
        for piece in pieces {
            match joined.last_mut().filter(|last| self.fit(last, &piece)) {
                Some(last) => last.join(piece),
                None => joined.push(piece),
            }
        }
        joined.into_iter().flat_map(|piece| self.written(&piece)).collect()
    }

    /// Whether two pieces are better one: both are small, or one is hardly there,
    /// and they are in the same thing.
    fn fit(&self, one: &Piece, next: &Piece) -> bool {
        let (a, b) = (self.length(&one.lines), self.length(&next.lines));
        one.lines.end == next.lines.start
            && a + b <= LONGEST
            && (a.max(b) < SHORTEST || a.min(b) < SHORTEST / 6)
            && (one.place() == next.place() || b < SHORTEST / 6)
    }

    /// A piece as a chunk, or as several if it has monstrous lines.
    fn written(&self, piece: &Piece) -> Vec<Chunk> {
        let blank = |line: &&&str| line.trim().is_empty();
        let all = &self.lines[piece.lines.clone()];
        let before = all.iter().take_while(blank).count();
        let behind = all.iter().rev().take_while(blank).count();
        if before == all.len() {
            return Vec::new();
        }
        let lines = piece.lines.start + before..piece.lines.end - behind;
        let number = |line: usize| u32::try_from(line).unwrap_or(u32::MAX);
        let text = self.lines[lines.clone()].join("\n");
        let chunk = |text: &str| Chunk {
            header: self.header(piece),
            names: piece.names.clone(),
            kind: piece.kind,
            first_line: number(lines.start + 1),
            last_line: number(lines.end),
            text: text.to_owned(),
            defines: Vec::new(),
            uses: Vec::new(),
        };
        let mut chunks = Vec::new();
        let mut left = text.as_str();
        while left.len() > LONGEST_TEXT {
            let whole = (0..=LONGEST_TEXT).rev().find(|at| left.is_char_boundary(*at));
            let (part, rest) = left.split_at(whole.expect("a character has four bytes at most"));
            chunks.push(chunk(part));
            left = rest;
        }
        chunks.push(chunk(left));
        chunks
    }

    fn header(&self, piece: &Piece) -> String {
        let mut header = self.path.to_owned();
        let place = match piece.names.len() {
            // Several small ones stand for themselves.
            0 | 1 => &piece.within[..],
            _ => piece.place(),
        };
        for part in place {
            header.push_str(" > ");
            header.push_str(part);
        }
        if piece.names.len() > 1 {
            header.push_str(" > ");
            header.push_str(&piece.names.join(", "));
        }
        header
    }
}

impl Piece {
    /// What it is in, without itself.
    fn place(&self) -> &[String] {
        match self.names.is_empty() {
            true => &self.within,
            false => &self.within[..self.within.len().saturating_sub(1)],
        }
    }

    fn join(&mut self, next: Self) {
        self.lines.end = next.lines.end;
        if self.names.is_empty() && !next.names.is_empty() {
            self.within = next.within;
            self.kind = next.kind;
        }
        for name in next.names {
            if !self.names.contains(&name) {
                self.names.push(name);
            }
        }
    }
}

#[cfg(test)]
#[path = "cut/tests.rs"]
mod tests;
