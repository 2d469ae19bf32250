//! The audit trail and stored refusals.

use sqlx::{Row, Sqlite, Transaction, sqlite::SqliteRow};

use crate::{
    Store, StoreError,
    open::{signed, unsigned},
};

/// How many refusals of one host are kept in full.
const KEPT: i64 = 100;

/// A refusal as it is kept for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRefusal {
    /// What the peer was told.
    pub id: String,
    /// When.
    pub at: u64,
    /// The host.
    pub host: String,
    /// Whom or what it is about, for people.
    pub subject: String,
    /// The check.
    pub check: String,
    /// The reason code.
    pub reason: String,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
    /// What to do.
    pub remedy: String,
}

/// An entry of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Number, growing.
    pub id: u64,
    /// When.
    pub at: u64,
    /// What happened.
    pub kind: String,
    /// To whom.
    pub subject: String,
    /// Details.
    pub detail: String,
}

impl Store {
    /// The refusal of this id.
    pub async fn refusal(&self, id: &str) -> Result<StoredRefusal, StoreError> {
        let row = sqlx::query("SELECT * FROM refusals WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        let row = row.ok_or_else(|| StoreError::NotFound {
            what: "refusal",
            id: id.to_owned(),
        })?;
        Ok(StoredRefusal {
            id: row.try_get("id")?,
            at: unsigned(row.try_get("at")?),
            host: row.try_get("host")?,
            subject: row.try_get("subject")?,
            check: row.try_get("check_name")?,
            reason: row.try_get("reason")?,
            expected: row.try_get("expected")?,
            found: row.try_get("found")?,
            remedy: row.try_get("remedy")?,
        })
    }

    /// The latest entry of one kind about one subject.
    pub async fn latest(&self, subject: &str, kind: &str) -> Result<Option<Event>, StoreError> {
        let row = sqlx::query("SELECT * FROM events WHERE subject = ? AND kind = ? ORDER BY id DESC LIMIT 1")
            .bind(subject)
            .bind(kind)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(event).transpose()
    }

    /// Adds an entry to the audit trail that belongs to no other change.
    pub async fn record(&self, now: u64, kind: &str, subject: &str, detail: &str) -> Result<(), StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        record(&mut tx, now, kind, subject, detail).await?;
        Ok(tx.commit().await?)
    }

    /// The latest entries of the audit trail, latest first; or those after an entry, oldest first.
    pub async fn events(&self, limit: u32, after: Option<u64>) -> Result<Vec<Event>, StoreError> {
        let rows = match after {
            None => sqlx::query("SELECT * FROM events ORDER BY id DESC LIMIT ?"),
            Some(after) => {
                sqlx::query("SELECT * FROM events WHERE id > ? ORDER BY id LIMIT ?").bind(signed(after))
            }
        };
        let rows = rows.bind(i64::from(limit)).fetch_all(&self.pool).await?;
        rows.iter().map(event).collect()
    }
}

fn event(row: &SqliteRow) -> Result<Event, StoreError> {
    Ok(Event {
        id: unsigned(row.try_get("id")?),
        at: unsigned(row.try_get("at")?),
        kind: row.try_get("kind")?,
        subject: row.try_get("subject")?,
        detail: row.try_get("detail")?,
    })
}

pub(crate) async fn write_refusal(
    tx: &mut Transaction<'_, Sqlite>,
    refusal: &StoredRefusal,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO refusals (id, at, host, subject, check_name, reason, expected, found, remedy)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&refusal.id)
    .bind(signed(refusal.at))
    .bind(&refusal.host)
    .bind(&refusal.subject)
    .bind(&refusal.check)
    .bind(&refusal.reason)
    .bind(&refusal.expected)
    .bind(&refusal.found)
    .bind(&refusal.remedy)
    .execute(&mut **tx)
    .await?;
    // A host that is refused every minute for a year leaves its latest refusals; the audit trail has them all.
    sqlx::query(
        "DELETE FROM refusals WHERE host = ?1 AND id NOT IN
         (SELECT id FROM refusals WHERE host = ?1 ORDER BY at DESC, rowid DESC LIMIT ?2)",
    )
    .bind(&refusal.host)
    .bind(KEPT)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(crate) async fn record(
    tx: &mut Transaction<'_, Sqlite>,
    now: u64,
    kind: &str,
    subject: &str,
    detail: &str,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO events (at, kind, subject, detail) VALUES (?, ?, ?, ?)")
        .bind(signed(now))
        .bind(kind)
        .bind(subject)
        .bind(detail)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
