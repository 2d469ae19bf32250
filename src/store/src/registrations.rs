//! Registrations, as text: their meaning is the issuer's.

use sqlx::{Row, Sqlite, Transaction};

use crate::{Store, StoreError, events::record, open::signed};

/// A registration on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRegistration {
    /// Label.
    pub label: String,
    /// Name.
    pub name: String,
    /// Identifier.
    pub identifier: String,
    /// The whole of it, JSON.
    pub body: String,
}

/// What applying a file does to one registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added(String),
    /// It is there with other content.
    Changed {
        /// Its name.
        name: String,
        /// The whole of it as it was, JSON.
        before: String,
        /// The whole of it as it is wanted, JSON.
        after: String,
    },
    /// It is there as it is.
    Unchanged(String),
    /// The file does not have it, and it is deleted.
    Deleted(String),
    /// The file does not have it, and it stays.
    Kept(String),
}

impl Store {
    /// All registrations, by label and name.
    pub async fn registrations(&self) -> Result<Vec<StoredRegistration>, StoreError> {
        let rows =
            sqlx::query("SELECT label, name, identifier, body FROM registrations ORDER BY label, name")
                .fetch_all(&self.pool)
                .await?;
        rows.iter().map(registration).collect()
    }

    /// Applies a label's registrations as a whole, or says what would change. With `prune`, entries of the label that
    /// are not given are deleted. An identifier whose credentials of another registration still live is not given to
    /// somebody else: that is a conflict, and nothing changes.
    pub async fn apply_registrations(
        &self,
        label: &str,
        wanted: &[StoredRegistration],
        prune: bool,
        dry_run: bool,
        now: u64,
    ) -> Result<Vec<Change>, StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let rows = sqlx::query("SELECT label, name, identifier, body FROM registrations WHERE label = ?")
            .bind(label)
            .fetch_all(&mut *tx)
            .await?;
        let present: Vec<StoredRegistration> = rows.iter().map(registration).collect::<Result<_, _>>()?;
        let mut changes = Vec::new();
        let mut gone = Vec::new();
        for before in present
            .iter()
            .filter(|before| !wanted.iter().any(|entry| entry.name == before.name))
        {
            if prune {
                delete(&mut tx, label, &before.name).await?;
                gone.push(Change::Deleted(before.name.clone()));
            } else {
                gone.push(Change::Kept(before.name.clone()));
            }
        }
        for entry in wanted {
            let before = present.iter().find(|other| other.name == entry.name);
            match before {
                Some(before) if before.body == entry.body => {
                    changes.push(Change::Unchanged(entry.name.clone()));
                    continue;
                }
                Some(before) => changes.push(Change::Changed {
                    name: entry.name.clone(),
                    before: before.body.clone(),
                    after: entry.body.clone(),
                }),
                None => changes.push(Change::Added(entry.name.clone())),
            }
            check_identifier(&mut tx, entry, now).await?;
            sqlx::query(
                "INSERT INTO registrations (label, name, identifier, body, applied_at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (label, name) DO UPDATE SET identifier = ?3, body = ?4, applied_at = ?5",
            )
            .bind(label)
            .bind(&entry.name)
            .bind(&entry.identifier)
            .bind(&entry.body)
            .bind(signed(now))
            .execute(&mut *tx)
            .await?;
        }
        changes.extend(gone);
        let nothing = changes
            .iter()
            .all(|change| matches!(change, Change::Unchanged(_) | Change::Kept(_)));
        if dry_run || nothing {
            tx.rollback().await?;
        } else {
            record(
                &mut tx,
                now,
                "registration.applied",
                label,
                &format!("{} entries", wanted.len()),
            )
            .await?;
            tx.commit().await?;
        }
        Ok(changes)
    }

    /// Deletes one registration.
    pub async fn delete_registration(&self, label: &str, name: &str, now: u64) -> Result<(), StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if delete(&mut tx, label, name).await? == 0 {
            return Err(StoreError::NotFound {
                what: "registration",
                id: format!("{label}/{name}"),
            });
        }
        record(&mut tx, now, "registration.deleted", label, name).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// No reuse within the longest life of a credential: what the last holder has must have expired.
async fn check_identifier(
    tx: &mut Transaction<'_, Sqlite>,
    entry: &StoredRegistration,
    now: u64,
) -> Result<(), StoreError> {
    let reference = format!("{}/{}", entry.label, entry.name);
    let holder: Option<(String, i64)> = sqlx::query_as(
        "SELECT registration, MAX(not_after) FROM issuances
         WHERE identifier = ?1 AND registration <> ?2 AND not_after > ?3
         AND NOT EXISTS (SELECT 1 FROM registrations WHERE label || '/' || name = registration AND identifier = ?1)
         GROUP BY registration",
    )
    .bind(&entry.identifier)
    .bind(&reference)
    .bind(signed(now))
    .fetch_optional(&mut **tx)
    .await?;
    match holder {
        None => Ok(()),
        Some((holder, until)) => Err(StoreError::Conflict(format!(
            "{} was issued to registration {holder}, which is gone, and credentials live until {until} (seconds since \
             the epoch): use another identifier or wait; nothing was changed",
            entry.identifier
        ))),
    }
}

async fn delete(tx: &mut Transaction<'_, Sqlite>, label: &str, name: &str) -> Result<u64, StoreError> {
    let done = sqlx::query("DELETE FROM registrations WHERE label = ? AND name = ?")
        .bind(label)
        .bind(name)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected())
}

fn registration(row: &sqlx::sqlite::SqliteRow) -> Result<StoredRegistration, StoreError> {
    Ok(StoredRegistration {
        label: row.try_get("label")?,
        name: row.try_get("name")?,
        identifier: row.try_get("identifier")?,
        body: row.try_get("body")?,
    })
}
