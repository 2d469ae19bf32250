//! Lists of known files, as bytes: their meaning is the verifier's.

use crate::{Store, StoreError, events::record, open::signed};

/// A list of known files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesText {
    /// Its label.
    pub label: String,
    /// Labels of the hosts that it is for; `None` for all.
    pub hosts: Option<Vec<String>>,
    /// The digests.
    pub body: Vec<u8>,
}

impl Store {
    /// Applies a list in place of the one before under its label.
    pub async fn apply_files(&self, list: &FilesText, what: &str, now: u64) -> Result<(), StoreError> {
        let hosts = list
            .hosts
            .as_ref()
            .map(|hosts| serde_json::to_string(hosts).unwrap_or_default());
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "INSERT INTO file_lists (label, hosts, body, applied_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (label) DO UPDATE SET hosts = ?2, body = ?3, applied_at = ?4",
        )
        .bind(&list.label)
        .bind(hosts)
        .bind(&list.body)
        .bind(signed(now))
        .execute(&mut *tx)
        .await?;
        record(&mut tx, now, "files.applied", &list.label, what).await?;
        Ok(tx.commit().await?)
    }

    /// Withdraws a list.
    pub async fn delete_files(&self, label: &str, now: u64) -> Result<(), StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let deleted = sqlx::query("DELETE FROM file_lists WHERE label = ?")
            .bind(label)
            .execute(&mut *tx)
            .await?;
        if deleted.rows_affected() != 1 {
            return Err(StoreError::NotFound {
                what: "list of known files",
                id: label.to_owned(),
            });
        }
        record(&mut tx, now, "files.deleted", label, "").await?;
        Ok(tx.commit().await?)
    }

    /// All lists, by label.
    pub async fn files(&self) -> Result<Vec<FilesText>, StoreError> {
        let rows: Vec<(String, Option<String>, Vec<u8>)> =
            sqlx::query_as("SELECT label, hosts, body FROM file_lists ORDER BY label")
                .fetch_all(&self.pool)
                .await?;
        let list = |(label, hosts, body): (String, Option<String>, Vec<u8>)| FilesText {
            label,
            // A list that is for nobody rather than for everybody, should its row be damaged.
            hosts: hosts.map(|text| serde_json::from_str(&text).unwrap_or_default()),
            body,
        };
        Ok(rows.into_iter().map(list).collect())
    }
}
