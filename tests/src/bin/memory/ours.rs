//! The store as the server has it: a file of indexed code, and the thread's search.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use engine_api::index::{Chunk, ChunkKind, FromIndexer, IndexedFile, Stamp};
use supervisor::index::sources::Origin;
use supervisor::store::code::search::{Meant, Question, Search};
use supervisor::store::code::{Code, Embedded, Maker, NewRepository};
use vector_scan::Row;

use super::WANTED;
use super::data::Data;
use super::progress::Progress;

/// Chunks of one file.
const FILE: usize = 100;
/// Vectors that are written at one time.
const WRITTEN: usize = 1000;
/// Files that come and go at one time, as a share of all.
const TURNOVER: usize = 50;
/// How often that happens.
const TURNS: usize = 10;
/// Of so many vectors one pass makes up for the holes.
const TIDIED: usize = 10_000;
const IDENTITY: [u8; 32] = [1; 32];

pub(crate) struct Ours {
    code: Code,
    repository: i64,
    search: Search,
    path: PathBuf,
    /// Milliseconds of the first question, for which all is read from the disk.
    pub(crate) load_ms: f64,
    /// Microseconds of writing one vector.
    pub(crate) insert_us: f64,
    /// What the last round found, of each question.
    pub(crate) found: Vec<Vec<usize>>,
}

pub(crate) struct Churned {
    /// Bytes of the file, and of one that is written anew with what is left.
    pub(crate) bytes: u64,
    pub(crate) ideal: u64,
    /// Vectors that are left.
    pub(crate) left: u64,
    /// Microseconds of deleting one text with its words and its vector.
    pub(crate) delete_us: f64,
}

impl Ours {
    pub(crate) fn build(data: &Data, directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join("code.db");
        let (mut code, repository) = open(data, &path)?;
        write(&mut code, repository, &files(data))?;
        let began = Instant::now();
        embed(&mut code, data)?;
        let insert_us = each(began, data.vectors.len(), 1e6);
        code.passed(repository)?;
        let mut search = Search::new(&path);
        let began = Instant::now();
        let _ = ask(&mut search, &data.questions[0])?;
        let load_ms = each(began, 1, 1e3);
        Ok(Self { code, repository, search, path, load_ms, insert_us, found: Vec::new() })
    }

    /// Milliseconds of each question: the scan, the exact order of the best, and the
    /// ten chunks from the disk.
    pub(crate) fn answer(&mut self, data: &Data) -> anyhow::Result<Vec<f64>> {
        self.found.clear();
        let mut times = Vec::new();
        for question in &data.questions {
            let began = Instant::now();
            let found = ask(&mut self.search, question)?;
            times.push(each(began, 1, 1e3));
            self.found.push(found);
        }
        Ok(times)
    }

    /// Lets files come and go, then half of all go.
    pub(crate) fn churn(&mut self, data: &Data) -> anyhow::Result<Churned> {
        let all = files(data);
        let part = all.len().div_ceil(TURNOVER);
        for turn in 0..TURNS {
            let those =
                &all[turn * part % all.len()..][..part.min(all.len() - turn * part % all.len())];
            write(&mut self.code, self.repository, &gone(those))?;
            self.code.passed(self.repository)?;
            write(&mut self.code, self.repository, those)?;
            embed(&mut self.code, data)?;
        }
        let (leave, stay): (Vec<_>, Vec<_>) =
            all.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
        let leave: Vec<_> = leave.into_iter().map(|(_, file)| file).collect();
        let stay: Vec<_> = stay.into_iter().map(|(_, file)| file).collect();
        let began = Instant::now();
        write(&mut self.code, self.repository, &gone(&leave))?;
        let delete_us = each(began, leave.len() * FILE, 1e6);
        // Each pass tidies up for a bounded time.
        for _ in 0..TURNS.max(data.vectors.len() / TIDIED) {
            self.code.passed(self.repository)?;
        }
        let fresh = self.path.with_extension("fresh");
        let (mut code, repository) = open(data, &fresh)?;
        write(&mut code, repository, &stay)?;
        embed(&mut code, data)?;
        code.passed(repository)?;
        let left = self.code.standing()?.coverage.made;
        ensure!(code.standing()?.coverage.made == left, "other vectors are left than should be");
        let bytes = |path: &Path| path.metadata().map(|facts| facts.len());
        Ok(Churned { bytes: bytes(&self.path)?, ideal: bytes(&fresh)?, left, delete_us })
    }
}

fn open(data: &Data, path: &Path) -> anyhow::Result<(Code, i64)> {
    let mut code = Code::new(path);
    let new =
        NewRepository { name: "bench".into(), origin: Origin::Path("/bench".into()), owner: None };
    let repository = code.add(&new)?.id;
    let dimension = u32::try_from(data.dimension)?;
    code.made_by(&Maker { identity: IDENTITY, model: "bench".into(), dimension })?;
    Ok((code, repository))
}

/// One chunk for each vector, that says its number and no more.
fn files(data: &Data) -> Vec<FromIndexer> {
    let numbers: Vec<_> = (0..data.vectors.len()).collect();
    let file = |(at, numbers): (usize, &[usize])| {
        let path = format!("{at}.txt");
        let chunk = |number: &usize| Chunk {
            header: path.clone(),
            names: Vec::new(),
            kind: ChunkKind::Rest,
            first_line: 1,
            last_line: 1,
            text: number.to_string(),
            defines: Vec::new(),
            uses: Vec::new(),
        };
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&at.to_le_bytes());
        FromIndexer::Indexed(IndexedFile {
            chunks: numbers.iter().map(chunk).collect(),
            stamp: Stamp { changed_ns: 0, size: 0, inode: 0 },
            language: "text".to_owned(),
            note: None,
            hash,
            path,
        })
    };
    numbers.chunks(FILE).enumerate().map(file).collect()
}

fn gone(files: &[FromIndexer]) -> Vec<FromIndexer> {
    let path = |file: &FromIndexer| match file {
        FromIndexer::Indexed(file) => Some(FromIndexer::Gone { path: file.path.clone() }),
        _ => None,
    };
    files.iter().filter_map(path).collect()
}

fn write(code: &mut Code, repository: i64, said: &[FromIndexer]) -> anyhow::Result<()> {
    let mut progress = Progress::new("files written", said.len());
    said.chunks(10).try_for_each(|said| {
        code.apply(repository, said).context("write files")?;
        progress.more(said.len());
        Ok(())
    })
}

/// Gives each text its vector.
fn embed(code: &mut Code, data: &Data) -> anyhow::Result<()> {
    let mut progress = Progress::new("vectors written", data.vectors.len());
    loop {
        let texts = code.unembedded(WRITTEN)?;
        if texts.is_empty() {
            return Ok(());
        }
        let made = texts.into_iter().map(|text| {
            let number: usize = text.body.parse().context("a text is a number")?;
            let row = Row::new(&data.vectors[number]);
            Ok(Embedded { text: text.text, hash: text.hash, row })
        });
        let made = made.collect::<anyhow::Result<Vec<_>>>()?;
        code.embedded(IDENTITY, &made)?;
        progress.more(made.len());
    }
}

/// The vectors that are nearest to a question without words.
fn ask(search: &mut Search, question: &[f32]) -> anyhow::Result<Vec<usize>> {
    let meant = Meant { identity: IDENTITY, values: question.to_vec() };
    let question = Question { text: "?".to_owned(), limit: WANTED, ..Question::default() };
    let found = search.find(&question, Ok(&meant))?;
    ensure!(found.words_only.is_none(), "no vector counted: {:?}", found.words_only);
    found.hits.iter().map(|hit| hit.text.parse().context("a text is a number")).collect()
}

fn each(began: Instant, count: usize, unit: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "some million")]
    let count = count.max(1) as f64;
    began.elapsed().as_secs_f64() * unit / count
}
