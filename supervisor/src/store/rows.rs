//! The statements for requests and incidents: rows in, rows out, old rows gone.

use rusqlite::{Connection, params};

use super::{IncidentRow, RequestRow};
use crate::snapshot::{Incident, MAX_INCIDENTS};

/// A row of one of the tables.
#[derive(Debug)]
pub(super) enum Row {
    Request(RequestRow),
    Incident(IncidentRow),
}

/// Writes the rows together. An incident is on the disk when this returns,
/// because it may be the last thing before the power goes; a request need not be.
pub(super) fn write(connection: &mut Connection, rows: &[Row]) -> rusqlite::Result<()> {
    let durable = rows.iter().any(|row| matches!(row, Row::Incident(_)));
    let level = if durable { "FULL" } else { "NORMAL" };
    connection.pragma_update(None, "synchronous", level)?;
    let transaction = connection.transaction()?;
    for row in rows {
        match row {
            Row::Request(row) => write_request(&transaction, row)?,
            Row::Incident(row) => write_incident(&transaction, row)?,
        }
    }
    transaction.commit()
}

fn write_request(connection: &Connection, row: &RequestRow) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO requests (at, client, endpoint, model, outcome, reason, prompt_tokens,
             cached_tokens, completion_tokens, queued_ms, prefill_ms, decode_ms, total_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    statement.execute(params![
        row.at,
        row.client,
        row.endpoint,
        row.model,
        row.outcome.as_str(),
        row.reason,
        row.usage.prompt_tokens,
        row.usage.cached_tokens,
        row.usage.completion_tokens,
        row.queued_ms,
        row.prefill_ms,
        row.decode_ms,
        row.total_ms,
    ])?;
    Ok(())
}

fn write_incident(connection: &Connection, row: &IncidentRow) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO incidents (id, at, kind, problem, cause, evidence, done, advice)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let Incident { id, at, kind, problem, done, advice } = &row.incident;
    statement.execute(params![
        id,
        at,
        kind,
        problem,
        row.cause,
        row.evidence.to_string(),
        done,
        advice
    ])?;
    Ok(())
}

/// The newest incidents, newest first.
pub(super) fn recent_incidents(connection: &Connection) -> rusqlite::Result<Vec<Incident>> {
    let mut statement = connection.prepare(
        "SELECT id, at, kind, problem, done, advice FROM incidents ORDER BY id DESC LIMIT ?1",
    )?;
    let rows = statement.query_map([MAX_INCIDENTS], |row| {
        Ok(Incident {
            id: row.get(0)?,
            at: row.get(1)?,
            kind: row.get(2)?,
            problem: row.get(3)?,
            done: row.get(4)?,
            advice: row.get(5)?,
        })
    })?;
    rows.collect()
}

/// Deletes the oldest rows beyond the bounds.
pub(super) fn retain(
    connection: &Connection,
    requests: u64,
    incidents: u64,
) -> rusqlite::Result<()> {
    for (table, kept) in [("requests", requests), ("incidents", incidents)] {
        let delete = format!("DELETE FROM {table} WHERE id <= (SELECT max(id) FROM {table}) - ?1");
        connection.execute(&delete, [kept])?;
    }
    Ok(())
}
