//! Sets of reference values and their generations, as text: their meaning is the verifier's.

use sqlx::{Sqlite, Transaction};

use crate::{
    Store, StoreError,
    events::record,
    open::{signed, unsigned},
};

/// Most retired generations that are kept of a label.
const MAX_RETIRED: i64 = 16;

/// A generation of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// The set's label.
    pub label: String,
    /// Its number, from 1.
    pub number: u64,
    /// `staged`, `valid` or `retired`.
    pub state: String,
    /// Who says so.
    pub source: String,
    /// The values.
    pub body: String,
    /// When it was applied, seconds since the epoch.
    pub applied_at: u64,
}

/// How a new generation comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// It decides nothing until it is promoted.
    Staged,
    /// It is valid instead of those before.
    Instead,
    /// It is valid beside those before.
    Beside,
}

impl Store {
    /// Adds a generation under its label. Returns its number and whether anything changed: the same values that are the only valid ones
    /// change nothing.
    pub async fn apply_reference(
        &self,
        label: &str,
        body: &str,
        source: &str,
        entry: Entry,
        now: u64,
    ) -> Result<(u64, bool), StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let wanted = if entry == Entry::Staged { "staged" } else { "valid" };
        let same: Vec<(i64, String)> = sqlx::query_as(
            "SELECT generation, body FROM reference_sets WHERE label = ? AND state = ? ORDER BY generation",
        )
        .bind(label)
        .bind(wanted)
        .fetch_all(&mut *tx)
        .await?;
        if let Some((number, _)) = same.iter().find(|(_, known)| known == body)
            && (entry != Entry::Instead || same.len() == 1)
        {
            return Ok((unsigned(*number), false));
        }
        if entry == Entry::Instead {
            sqlx::query("UPDATE reference_sets SET state = 'retired' WHERE label = ? AND state = 'valid'")
                .bind(label)
                .execute(&mut *tx)
                .await?;
        }
        let last: Option<i64> =
            sqlx::query_scalar("SELECT max(generation) FROM reference_sets WHERE label = ?")
                .bind(label)
                .fetch_one(&mut *tx)
                .await?;
        let number = last.unwrap_or(0) + 1;
        sqlx::query(
            "INSERT INTO reference_sets (label, generation, state, source, body, applied_at) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(label)
        .bind(number)
        .bind(wanted)
        .bind(source)
        .bind(body)
        .bind(signed(now))
        .execute(&mut *tx)
        .await?;
        prune(&mut tx, label).await?;
        let kind = if entry == Entry::Staged {
            "reference.staged"
        } else {
            "reference.applied"
        };
        record(
            &mut tx,
            now,
            kind,
            label,
            &format!("generation {number} by {source}"),
        )
        .await?;
        tx.commit().await?;
        Ok((unsigned(number), true))
    }

    /// Makes a label's staged generation valid beside the others: the one that is named, or the only one.
    pub async fn promote_reference(
        &self,
        label: &str,
        wanted: Option<u64>,
        now: u64,
    ) -> Result<u64, StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let staged: Vec<i64> = sqlx::query_scalar(
            "SELECT generation FROM reference_sets WHERE label = ? AND state = 'staged' ORDER BY generation",
        )
        .bind(label)
        .fetch_all(&mut *tx)
        .await?;
        let number = match (wanted, staged.as_slice()) {
            (None, [only]) => Some(*only),
            (None, []) => None,
            // Whoever reviewed one does not want what was staged after it.
            (None, several) => {
                let names: Vec<String> = several.iter().map(|number| format!("{label}@{number}")).collect();
                return Err(StoreError::Conflict(format!(
                    "several generations are staged: name the one that was looked at, {}",
                    names.join(" or ")
                )));
            }
            (Some(wanted), staged) => staged.iter().copied().find(|number| unsigned(*number) == wanted),
        };
        let named = wanted.map_or(label.to_owned(), |number| format!("{label}@{number}"));
        let number = number.ok_or_else(|| missing("staged set of reference values", &named))?;
        // Older ones that were never promoted are out of date.
        sqlx::query("UPDATE reference_sets SET state = 'retired' WHERE label = ? AND state = 'staged' AND generation < ?")
            .bind(label)
            .bind(number)
            .execute(&mut *tx)
            .await?;
        sqlx::query("UPDATE reference_sets SET state = 'valid' WHERE label = ? AND generation = ?")
            .bind(label)
            .bind(number)
            .execute(&mut *tx)
            .await?;
        record(
            &mut tx,
            now,
            "reference.promoted",
            label,
            &format!("generation {number}"),
        )
        .await?;
        tx.commit().await?;
        Ok(unsigned(number))
    }

    /// Retires a label's valid generations but the newest. Returns how many.
    pub async fn retire_reference(&self, label: &str, now: u64) -> Result<u64, StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let retired = sqlx::query(
            "UPDATE reference_sets SET state = 'retired' WHERE label = ?1 AND state = 'valid' AND generation <
             (SELECT max(generation) FROM reference_sets WHERE label = ?1 AND state = 'valid')",
        )
        .bind(label)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if retired == 0 {
            return Err(missing(
                "set of reference values with several valid generations",
                label,
            ));
        }
        prune(&mut tx, label).await?;
        record(
            &mut tx,
            now,
            "reference.retired",
            label,
            &format!("{retired} generations"),
        )
        .await?;
        tx.commit().await?;
        Ok(retired)
    }

    /// Withdraws a label with all its generations.
    pub async fn delete_reference(&self, label: &str, now: u64) -> Result<(), StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let deleted = sqlx::query("DELETE FROM reference_sets WHERE label = ?")
            .bind(label)
            .execute(&mut *tx)
            .await?;
        if deleted.rows_affected() == 0 {
            return Err(missing("set of reference values", label));
        }
        record(&mut tx, now, "reference.deleted", label, "").await?;
        Ok(tx.commit().await?)
    }

    /// All generations, by label and number.
    pub async fn references(&self) -> Result<Vec<Generation>, StoreError> {
        let rows: Vec<(String, i64, String, String, String, i64)> = sqlx::query_as(
            "SELECT label, generation, state, source, body, applied_at FROM reference_sets ORDER BY label, generation",
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|(label, number, state, source, body, applied_at)| Generation {
                label,
                number: unsigned(number),
                state,
                source,
                body,
                applied_at: unsigned(applied_at),
            })
            .collect())
    }
}

fn missing(what: &'static str, label: &str) -> StoreError {
    StoreError::NotFound {
        what,
        id: label.to_owned(),
    }
}

/// Forgets the oldest of the retired generations.
async fn prune(tx: &mut Transaction<'_, Sqlite>, label: &str) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM reference_sets WHERE label = ?1 AND state = 'retired' AND generation NOT IN
         (SELECT generation FROM reference_sets WHERE label = ?1 AND state = 'retired' ORDER BY generation DESC LIMIT ?2)",
    )
    .bind(label)
    .bind(MAX_RETIRED)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
