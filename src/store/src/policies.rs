//! Sets of policies, as text: their meaning is the policy crate's.

use crate::{Store, StoreError, events::record, open::signed};

/// A set of policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyText {
    /// Its label.
    pub label: String,
    /// The policies.
    pub body: String,
    /// Labels of hosts for which it only observes.
    pub observe: Vec<String>,
}

impl Store {
    /// Applies a set under its label, replacing the one before. Returns whether anything changed.
    pub async fn apply_policies(&self, set: &PolicyText, now: u64) -> Result<bool, StoreError> {
        let observe = serde_json::to_string(&set.observe).unwrap_or_default();
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let before: Option<(String, String)> =
            sqlx::query_as("SELECT body, observe FROM policy_sets WHERE label = ?")
                .bind(&set.label)
                .fetch_optional(&mut *tx)
                .await?;
        if before.is_some_and(|(body, observed)| body == set.body && observed == observe) {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO policy_sets (label, body, observe, applied_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (label) DO UPDATE SET body = ?2, observe = ?3, applied_at = ?4",
        )
        .bind(&set.label)
        .bind(&set.body)
        .bind(&observe)
        .bind(signed(now))
        .execute(&mut *tx)
        .await?;
        let detail = if set.observe.is_empty() {
            String::new()
        } else {
            format!("observes {observe}")
        };
        record(&mut tx, now, "policy.applied", &set.label, &detail).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Withdraws a set.
    pub async fn delete_policies(&self, label: &str, now: u64) -> Result<(), StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let deleted = sqlx::query("DELETE FROM policy_sets WHERE label = ?")
            .bind(label)
            .execute(&mut *tx)
            .await?;
        if deleted.rows_affected() == 0 {
            return Err(StoreError::NotFound {
                what: "set of policies",
                id: label.to_owned(),
            });
        }
        record(&mut tx, now, "policy.deleted", label, "").await?;
        Ok(tx.commit().await?)
    }

    /// All sets by label.
    pub async fn policies(&self) -> Result<Vec<PolicyText>, StoreError> {
        let rows: Vec<(String, String, String)> =
            sqlx::query_as("SELECT label, body, observe FROM policy_sets ORDER BY label")
                .fetch_all(&self.pool)
                .await?;
        rows.into_iter()
            .map(|(label, body, observe)| {
                let observe = serde_json::from_str(&observe).map_err(|_| {
                    StoreError::Conflict(format!("set of policies {label}: its record cannot be read"))
                })?;
                Ok(PolicyText { label, body, observe })
            })
            .collect()
    }
}
