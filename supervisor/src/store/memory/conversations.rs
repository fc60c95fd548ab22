//! The rows of conversations: what was said, how it was made shorter, and passages
//! that can be found again.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use crate::index::words;
use crate::memory::chain::Link;
use crate::memory::recall::{self, Found, MOST_PASSAGES, Passage};

/// Passages of all conversations that are looked at for one question.
const LOOKED_AT: usize = 500;
/// Around a word that was found; no passage has them left after `words::split`.
const MARKS: (char, char) = ('\u{2}', '\u{3}');

/// A message as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Hash of all messages up to it.
    pub link: Link,
    /// Hash of it alone.
    pub alone: Link,
    /// `system`, `user`, `assistant` or `tool`.
    pub role: &'static str,
    pub content: String,
    pub calls: Option<String>,
}

/// What is known of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    pub id: i64,
    pub cut: Option<Cut>,
    /// The last message up to which tool output is masked.
    pub masked: Option<usize>,
}

/// How a conversation was made shorter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cut {
    /// The last message that is left out.
    pub at: usize,
    /// What stands in the place of all of them.
    pub block: String,
    /// JSON: what is in the block, for receipts.
    pub receipt: String,
    /// It was decided in advance, and holds since the last message of the user.
    pub is_new: bool,
}

/// A decision to make a conversation shorter, and from when on it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The last message that it is about.
    pub link: Link,
    /// Tool output up to there is left out, and not all.
    pub masked: bool,
    pub block: String,
    pub receipt: String,
    /// It holds for what comes after this message; `None`: at once.
    pub behind: Option<Link>,
}

/// A conversation as its owner may see it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Shown {
    pub id: i64,
    pub name: Option<String>,
    /// Seconds since 1970.
    pub begun: u64,
    pub touched: u64,
    pub messages: u64,
    pub bytes: u64,
}

/// How much is kept of everybody's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub conversations: u64,
    pub messages: u64,
    /// Of what was said.
    pub bytes: u64,
}

/// One message of an export.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Exported {
    pub conversation: i64,
    pub role: String,
    pub content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<String>,
    /// Seconds since 1970.
    pub at: u64,
}

/// Finds the conversation that these messages are of, or begins one, and keeps those
/// that are new; `now` is in seconds since 1970, here and below.
pub(super) fn open(
    connection: &mut Connection,
    owner: &str,
    name: Option<&str>,
    said: &[Said],
    now: u64,
) -> rusqlite::Result<Known> {
    let transaction = connection.transaction()?;
    let found = match name {
        Some(name) => transaction
            .prepare_cached("SELECT id FROM conversations WHERE owner = ?1 AND name = ?2")?
            .query_row(params![owner, name], |row| row.get(0))
            .optional()?,
        None => by_messages(&transaction, owner, said)?,
    };
    let id: i64 = match found {
        Some(id) => id,
        None => {
            transaction.execute(
                "INSERT INTO conversations (owner, name, begun, touched, bytes)
                 VALUES (?1, ?2, ?3, ?3, 0)",
                params![owner, name, now],
            )?;
            transaction.last_insert_rowid()
        }
    };
    let mut bytes = 0;
    for said in said {
        bytes += keep(&transaction, id, name.is_some(), said, now)?;
    }
    transaction.execute(
        "UPDATE conversations SET touched = ?2, bytes = bytes + ?3 WHERE id = ?1",
        params![id, now, bytes],
    )?;
    let known = decided(&transaction, id, said)?;
    transaction.commit()?;
    Ok(known)
}

/// What is known of a conversation, if it was not forgotten. Nothing is kept.
pub(super) fn again(
    connection: &Connection,
    conversation: i64,
    said: &[Said],
) -> rusqlite::Result<Option<Known>> {
    let mut select = connection.prepare_cached("SELECT 1 FROM conversations WHERE id = ?1")?;
    select.exists([conversation])?.then(|| decided(connection, conversation, said)).transpose()
}

/// The newest decisions that hold for these messages.
fn decided(connection: &Connection, id: i64, said: &[Said]) -> rusqlite::Result<Known> {
    let earlier = &said[..said.len().saturating_sub(1)];
    let mut select = connection.prepare_cached(
        "SELECT block, receipt, behind FROM resets
         WHERE conversation = ?1 AND link = ?2 AND masked = ?3",
    )?;
    let mut newest = |masked: bool| -> rusqlite::Result<Option<Cut>> {
        for (at, is) in said.iter().enumerate().rev() {
            let row = select.query_row(params![id, is.link.0, masked], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<[u8; 16]>>(2)?))
            });
            let Some((block, receipt, behind)) = row.optional()? else { continue };
            let since = match behind {
                None => None,
                Some(link) => match earlier.iter().rposition(|said| said.link.0 == link) {
                    Some(since) => Some(since),
                    None => continue,
                },
            };
            let is_new = since
                .is_some_and(|since| earlier[since + 1..].iter().all(|said| said.role != "user"));
            return Ok(Some(Cut { at, block, receipt, is_new }));
        }
        Ok(None)
    };
    Ok(Known { id, cut: newest(false)?, masked: newest(true)?.map(|masked| masked.at) })
}

/// The conversation that has the most of these messages, with one of the user at least.
fn by_messages(
    connection: &Connection,
    owner: &str,
    said: &[Said],
) -> rusqlite::Result<Option<i64>> {
    let Some(first) = said.iter().position(|said| said.role == "user") else { return Ok(None) };
    let mut select = connection.prepare_cached(
        "SELECT conversations.id FROM turns JOIN conversations ON conversations.id = conversation
         WHERE link = ?1 AND owner = ?2 ORDER BY touched DESC LIMIT 1",
    )?;
    for said in said[first..].iter().rev() {
        let found = select.query_row(params![said.link.0, owner], |row| row.get(0)).optional()?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Keeps a message, and says how many bytes that took.
fn keep(
    connection: &Connection,
    conversation: i64,
    is_named: bool,
    said: &Said,
    now: u64,
) -> rusqlite::Result<usize> {
    // A client that gave it a name may send only the end of it.
    let is_there = |column: &str, hash: Link| {
        let select = format!("SELECT 1 FROM turns WHERE conversation = ?1 AND {column} = ?2");
        connection.prepare_cached(&select)?.exists(params![conversation, hash.0])
    };
    if is_there("link", said.link)? || is_named && is_there("alone", said.alone)? {
        return Ok(0);
    }
    let Said { link, alone, role, content, calls } = said;
    let mut insert = connection.prepare_cached(
        "INSERT INTO turns (conversation, link, alone, role, content, calls, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    insert.execute(params![conversation, link.0, alone.0, role, content, calls, now])?;
    let turn = connection.last_insert_rowid();
    if *role != "system" {
        let mut insert = connection
            .prepare_cached("INSERT INTO passages (rowid, words, text) VALUES (?1, ?2, ?3)")?;
        for (number, passage) in (0_i64..).zip(recall::passages(content)) {
            insert.execute(params![first(turn) + number, words::split(passage), passage])?;
        }
    }
    Ok(content.len() + calls.as_ref().map_or(0, String::len))
}

/// The id of a message's first passage.
fn first(turn: i64) -> i64 {
    turn * i64::from(MOST_PASSAGES)
}

/// Notes how a conversation was made shorter. What was decided at a message in advance
/// leaves there what was decided before.
pub(super) fn shorten(
    connection: &mut Connection,
    conversation: i64,
    decisions: &[Decision],
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    let mut insert = transaction.prepare_cached(
        // It may have been forgotten since it was asked for.
        "INSERT INTO resets (conversation, link, masked, block, receipt, behind)
         SELECT id, ?2, ?3, ?4, ?5, ?6 FROM conversations WHERE id = ?1
         ON CONFLICT DO UPDATE SET block = ?4, receipt = ?5, behind = NULL WHERE ?6 IS NULL",
    )?;
    for Decision { link, masked, block, receipt, behind } in decisions {
        let behind = behind.map(|link| link.0);
        insert.execute(params![conversation, link.0, masked, block, receipt, behind])?;
    }
    drop(insert);
    transaction.commit()
}

/// What was said of these words in a conversation, best first, and of about equals the
/// newest: of all of it, or where
/// `among` is given, in those messages, and those that are `there` apart; never the
/// `question` itself.
pub(super) fn recall(
    connection: &Connection,
    conversation: i64,
    terms: &[String],
    among: Option<&[Link]>,
    there: &[Link],
    question: Link,
) -> rusqlite::Result<Found> {
    let mut quoted: Vec<_> = terms.iter().map(|term| format!("\"{term}\"")).collect();
    // Words that stand side by side in the question say more there than each alone.
    quoted.extend(terms.windows(2).map(|pair| format!("\"{} {}\"", pair[0], pair[1])));
    let (begin, end) = MARKS;
    let mut select = connection.prepare_cached(
        "SELECT role, text, link, alone, highlight(passages, 0, ?3, ?4), turns.id
         FROM passages JOIN turns ON turns.id = passages.rowid / ?5
         WHERE passages MATCH ?1 AND conversation = ?2
         ORDER BY round(passages.rank, 1), turns.id DESC LIMIT ?6",
    )?;
    let values = params![
        quoted.join(" OR "),
        conversation,
        begin.to_string(),
        end.to_string(),
        MOST_PASSAGES,
        LOOKED_AT
    ];
    let mut rows = select.query(values)?;
    let messages = connection
        .prepare_cached("SELECT count(*) FROM turns WHERE conversation = ?1")?
        .query_row([conversation], |row| row.get(0))?;
    let mut found = Found { messages, ..Found::default() };
    while let Some(row) = rows.next()? {
        let (link, alone) = (Link(row.get(2)?), Link(row.get(3)?));
        let is_there = there.contains(&alone);
        let is_of_another = || among.is_some_and(|among| !among.contains(&link));
        if alone == question || !is_there && is_of_another() {
            continue;
        }
        let text: String = row.get(1)?;
        let same = if is_there { &mut found.there } else { &mut found.gone };
        if same.iter().any(|known| known.text == text) {
            continue;
        }
        let (words, phrases) = marked(&row.get::<_, String>(4)?);
        same.push(Passage { role: row.get(0)?, text, words, phrases, at: row.get(5)? });
    }
    Ok(found)
}

/// The different words that stand between the marks, and those that stand side by side.
fn marked(text: &str) -> (Vec<String>, Vec<String>) {
    let (begin, end) = MARKS;
    let (mut words, mut phrases): (Vec<String>, Vec<String>) = Default::default();
    for part in text.split(begin).skip(1) {
        let part = part.split(end).next().unwrap_or_default().to_lowercase();
        words.extend(part.split([' ', '_']).map(str::to_owned));
        if part.contains(' ') {
            phrases.push(part);
        }
    }
    for all in [&mut words, &mut phrases] {
        all.sort();
        all.dedup();
    }
    (words, phrases)
}

/// All conversations of an owner, the newest first.
pub(super) fn list(connection: &Connection, owner: &str) -> rusqlite::Result<Vec<Shown>> {
    let mut select = connection.prepare_cached(
        "SELECT id, name, begun, touched, bytes,
             (SELECT count(*) FROM turns WHERE conversation = conversations.id)
         FROM conversations WHERE owner = ?1 ORDER BY touched DESC, id DESC",
    )?;
    let rows = select.query_map([owner], |row| {
        Ok(Shown {
            id: row.get(0)?,
            name: row.get(1)?,
            begun: row.get(2)?,
            touched: row.get(3)?,
            bytes: row.get(4)?,
            messages: row.get(5)?,
        })
    })?;
    rows.collect()
}

/// Some messages of an owner that are kept, in the order in which they came, behind one.
pub(super) fn export(
    connection: &Connection,
    owner: &str,
    conversation: Option<i64>,
) -> rusqlite::Result<Vec<Exported>> {
    let mut select = connection.prepare_cached(
        "SELECT conversation, role, content, calls, at
         FROM turns JOIN conversations ON conversations.id = conversation
         WHERE owner = ?1 AND (?2 IS NULL OR conversation = ?2) ORDER BY conversation, turns.id",
    )?;
    let rows = select.query_map(params![owner, conversation], |row| {
        Ok(Exported {
            conversation: row.get(0)?,
            role: row.get(1)?,
            content: row.get(2)?,
            tool_calls: row.get(3)?,
            at: row.get(4)?,
        })
    })?;
    rows.collect()
}

pub(super) fn counts(connection: &Connection) -> rusqlite::Result<Counts> {
    let select = "SELECT count(*), coalesce(sum(bytes), 0), (SELECT count(*) FROM turns)
                  FROM conversations";
    connection.query_row(select, [], |row| {
        Ok(Counts { conversations: row.get(0)?, bytes: row.get(1)?, messages: row.get(2)? })
    })
}

/// Deletes a conversation of an owner, or all of them with all that was added to this
/// one's chats. Says how many conversations.
pub(super) fn forget(
    connection: &mut Connection,
    owner: &str,
    conversation: Option<i64>,
) -> rusqlite::Result<usize> {
    let transaction = connection.transaction()?;
    let mut select = transaction
        .prepare("SELECT id FROM conversations WHERE owner = ?1 AND (?2 IS NULL OR id = ?2)")?;
    let ids = select.query_map(params![owner, conversation], |row| row.get(0))?;
    let ids: Vec<i64> = ids.collect::<Result<_, _>>()?;
    drop(select);
    for id in &ids {
        delete(&transaction, *id)?;
    }
    if conversation.is_none() {
        transaction.execute("DELETE FROM additions WHERE owner = ?1", [owner])?;
    }
    transaction.commit()?;
    Ok(ids.len())
}

/// Deletes a conversation and all that hangs on it; passages have no foreign keys.
fn delete(connection: &Connection, conversation: i64) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached("SELECT id FROM turns WHERE conversation = ?1")?;
    let turns = select.query_map([conversation], |row| row.get(0))?;
    let turns: Vec<i64> = turns.collect::<Result<_, _>>()?;
    let mut passages =
        connection.prepare_cached("DELETE FROM passages WHERE rowid BETWEEN ?1 AND ?2")?;
    for turn in turns {
        passages.execute(params![first(turn), first(turn + 1) - 1])?;
    }
    connection.execute("DELETE FROM conversations WHERE id = ?1", [conversation]).map(drop)
}

/// Deletes what is too old, or from another time because the clock was set, then the
/// oldest of what is too much. Says how many.
pub(super) fn retain(
    connection: &mut Connection,
    kept: Duration,
    bytes: u64,
    now: u64,
) -> rusqlite::Result<usize> {
    let seconds = kept.as_secs();
    let transaction = connection.transaction()?;
    let mut select = transaction.prepare(
        "SELECT id FROM (
             SELECT id, touched, sum(bytes) OVER (ORDER BY touched DESC, id DESC) AS with_newer
             FROM conversations)
         WHERE touched NOT BETWEEN ?1 AND ?2 OR with_newer > ?3",
    )?;
    let values = params![(now + 1).saturating_sub(seconds), now + seconds, bytes];
    let ids = select.query_map(values, |row| row.get(0))?;
    let ids: Vec<i64> = ids.collect::<Result<_, _>>()?;
    drop(select);
    for id in &ids {
        delete(&transaction, *id)?;
    }
    transaction.commit()?;
    Ok(ids.len())
}
