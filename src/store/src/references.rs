//! Sets of reference values, as text: their meaning is the verifier's.

use crate::{Store, StoreError, events::record, open::signed};

impl Store {
    /// Applies a set under its label, replacing the one before. Returns whether anything changed.
    pub async fn apply_reference(&self, label: &str, body: &str, now: u64) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let before: Option<String> = sqlx::query_scalar("SELECT body FROM reference_sets WHERE label = ?")
            .bind(label)
            .fetch_optional(&mut *tx)
            .await?;
        if before.as_deref() == Some(body) {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO reference_sets (label, body, applied_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (label) DO UPDATE SET body = ?2, applied_at = ?3",
        )
        .bind(label)
        .bind(body)
        .bind(signed(now))
        .execute(&mut *tx)
        .await?;
        record(&mut tx, now, "reference.applied", label, "").await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Withdraws a set.
    pub async fn delete_reference(&self, label: &str, now: u64) -> Result<(), StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let deleted = sqlx::query("DELETE FROM reference_sets WHERE label = ?")
            .bind(label)
            .execute(&mut *tx)
            .await?;
        if deleted.rows_affected() == 0 {
            return Err(StoreError::NotFound {
                what: "set of reference values",
                id: label.to_owned(),
            });
        }
        record(&mut tx, now, "reference.deleted", label, "").await?;
        Ok(tx.commit().await?)
    }

    /// All sets by label.
    pub async fn references(&self) -> Result<Vec<(String, String)>, StoreError> {
        Ok(
            sqlx::query_as("SELECT label, body FROM reference_sets ORDER BY label")
                .fetch_all(&self.pool)
                .await?,
        )
    }
}
