//! What a damaged database still gives: every row that can be read goes into
//! the new one, and what cannot is named.
//!
//! SQLite reads a table in the order of its ids and stops at the first bad
//! page. The first id after which it can read again is then searched for, and
//! the reading goes on there.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

/// How long it may take; what was not read by then counts as lost.
const TIME: Duration = Duration::from_secs(5);

/// Bad places in one table before the rest is given up.
const MAX_HOLES: usize = 64;

/// What became of one table.
#[derive(Debug, Default, PartialEq, Eq)]
struct Saved {
    rows: usize,
    /// Ids among which some rows may be missing.
    lost: Vec<RangeInclusive<i64>>,
    /// The last id that was read, if it is not known what came after it.
    cut_after: Option<i64>,
}

/// Copies `tables` from the damaged file into `to`, and says in words what came across.
pub(super) fn salvage(
    from: &Path,
    to: &mut Connection,
    tables: &[(&str, &str)],
) -> rusqlite::Result<String> {
    let until = Instant::now() + TIME;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let damaged = Connection::open_with_flags(from, flags);
    let transaction = to.transaction()?;
    let mut words = Vec::new();
    for (table, columns) in tables {
        let saved = match &damaged {
            Ok(damaged) => copy(damaged, &transaction, table, columns, until)?,
            Err(_) => Saved { cut_after: Some(0), ..Saved::default() },
        };
        words.push(saved.in_words(table));
    }
    transaction.commit()?;
    Ok(words.join("; "))
}

/// Only what `to` says is an error; the other side is known to be damaged.
fn copy(
    from: &Connection,
    to: &Connection,
    table: &str,
    columns: &str,
    until: Instant,
) -> rusqlite::Result<Saved> {
    let count = columns.split(',').count();
    let marks = vec!["?"; count].join(", ");
    let mut insert =
        to.prepare(&format!("INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})"))?;
    let select = format!("SELECT {columns} FROM {table} WHERE id > ?1 ORDER BY id");
    let mut saved = Saved::default();
    let mut last = 0;
    for _ in 0..MAX_HOLES {
        let came = read(from, &select, last, &mut |row| {
            if let Some(Value::Integer(id)) = row.first() {
                last = *id;
                // A row that the new table refuses was not a good one.
                saved.rows += insert.execute(params_from_iter(row)).unwrap_or(0);
            }
            Instant::now() < until
        });
        if came.is_ok() {
            return Ok(saved);
        }
        let one = format!("{select} LIMIT 1");
        let readable = |after: i64| read(from, &one, after, &mut |_| true).is_ok();
        let Some(next) = next_readable(last, readable).filter(|_| Instant::now() < until) else {
            break;
        };
        saved.lost.push(last + 1..=next);
        last = next;
    }
    saved.cut_after = Some(last);
    Ok(saved)
}

/// Gives each row to `take` until that returns false, which is an error as well.
fn read(
    from: &Connection,
    select: &str,
    after: i64,
    take: &mut dyn FnMut(Vec<Value>) -> bool,
) -> rusqlite::Result<()> {
    let mut statement = from.prepare_cached(select)?;
    let columns = statement.column_count();
    let mut rows = statement.query([after])?;
    while let Some(row) = rows.next()? {
        let values = (0..columns).map(|column| row.get(column)).collect::<Result<_, _>>()?;
        if !take(values) {
            return Err(rusqlite::Error::QueryReturnedNoRows);
        }
    }
    Ok(())
}

/// The least id above `last` after which something, or the end, can be read.
fn next_readable(last: i64, readable: impl Fn(i64) -> bool) -> Option<i64> {
    let far =
        (0..62).map(|power| last.saturating_add(1 << power)).find(|after| readable(*after))?;
    let (mut bad, mut good) = (last, far);
    while good - bad > 1 {
        let middle = bad + (good - bad) / 2;
        match readable(middle) {
            true => good = middle,
            false => bad = middle,
        }
    }
    Some(good)
}

impl Saved {
    fn in_words(&self, table: &str) -> String {
        let mut words = format!("{} rows of {table} were taken over", self.rows);
        for range in &self.lost {
            let (first, last) = range.clone().into_inner();
            words.push_str(&format!(", those with ids {first} to {last} are lost"));
        }
        match self.cut_after {
            Some(0) => words.push_str(", the others are lost"),
            Some(id) => words.push_str(&format!(", those with ids above {id} are lost")),
            None => {}
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_readable_place_is_found_exactly() {
        for (last, bad) in [(0, 1..=1), (0, 1..=900_050), (512, 513..=700), (5, 6..=6)] {
            let found = next_readable(last, |after| after >= *bad.end());
            assert_eq!(found, Some(*bad.end()), "{bad:?}");
        }
        assert_eq!(next_readable(7, |_| false), None);
    }

    #[test]
    fn what_is_lost_is_said() {
        let saved = Saved { rows: 90, lost: vec![10..=19], cut_after: None };
        let words = "90 rows of requests were taken over, those with ids 10 to 19 are lost";
        assert_eq!(saved.in_words("requests"), words);
        let saved = Saved { rows: 0, lost: Vec::new(), cut_after: Some(0) };
        let words = "0 rows of incidents were taken over, the others are lost";
        assert_eq!(saved.in_words("incidents"), words);
    }
}
