//! What is kept of each host's last evidence.

use std::collections::HashMap;

use sqlx::{Sqlite, Transaction};

use crate::{
    Host, Store, StoreError,
    open::{signed, unsigned},
};

/// What is kept of an appraisal beside the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// Reference values captured from the boot, TOML, where its log explained the quote.
    pub reference: Option<String>,
    /// What was established, JSON: what policies are tried on before they are applied.
    pub claims: String,
    /// How far the list of what was measured at run time has been appraised. Without it the next appraisal begins at its beginning.
    pub runtime: Option<RuntimeKept>,
}

/// How far a list of what was measured at run time has been appraised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeKept {
    /// In bytes.
    pub offset: u64,
    /// Whether every file that was not known is in the state.
    pub complete: bool,
    /// The lists of known files that it was held against.
    pub lists: Vec<String>,
    /// The appraiser's own; empty where it was not asked for.
    pub state: Vec<u8>,
}

impl Store {
    /// Reference values captured from a host's last authenticated evidence, TOML.
    pub async fn captured(&self, host: &str) -> Result<Option<String>, StoreError> {
        let captured: Option<Option<String>> =
            sqlx::query_scalar("SELECT reference FROM evidence WHERE host = ?")
                .bind(host)
                .fetch_optional(&self.pool)
                .await?;
        Ok(captured.flatten())
    }
}

impl Store {
    /// What was kept of the last appraisal of each active host: host, name, labels, captured reference values, claims.
    pub async fn appraisals(&self) -> Result<Vec<(Host, Kept)>, StoreError> {
        let rows: Vec<(String, Option<String>, String)> =
            sqlx::query_as("SELECT host, reference, claims FROM evidence")
                .fetch_all(&self.pool)
                .await?;
        let mut active: HashMap<String, Host> = self
            .hosts()
            .await?
            .into_iter()
            .filter(Host::is_active)
            .map(|host| (host.id.clone(), host))
            .collect();
        let mut out: Vec<(Host, Kept)> = rows
            .into_iter()
            .filter_map(|(id, reference, claims)| {
                let kept = Kept {
                    reference,
                    claims,
                    runtime: None,
                };
                Some((active.remove(&id)?, kept))
            })
            .collect();
        out.sort_by(|one, other| one.0.name.cmp(&other.0.name));
        Ok(out)
    }

    /// What is kept of a host's last appraisal.
    pub async fn appraisal(&self, host: &str) -> Result<Option<Kept>, StoreError> {
        let row: Option<(Option<String>, String)> =
            sqlx::query_as("SELECT reference, claims FROM evidence WHERE host = ?")
                .bind(host)
                .fetch_optional(&self.pool)
                .await?;
        Ok(row.map(|(reference, claims)| Kept {
            reference,
            claims,
            runtime: None,
        }))
    }

    /// How far a host's list has been appraised, with the state or without.
    pub async fn runtime(&self, host: &str, with_state: bool) -> Result<Option<RuntimeKept>, StoreError> {
        let row: Option<(i64, bool, String, Vec<u8>)> = sqlx::query_as(
            "SELECT offset, complete, lists, CASE WHEN ?2 THEN state ELSE x'' END FROM runtime_lists WHERE host = ?1",
        )
        .bind(host)
        .bind(with_state)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|(offset, complete, lists, state)| RuntimeKept {
            offset: unsigned(offset),
            complete,
            lists: serde_json::from_str(&lists).unwrap_or_default(),
            state,
        }))
    }
}

/// Keeps what authentic evidence brought: the log only where there is one, what is known of a list only where it goes on.
pub(crate) async fn keep_evidence(
    tx: &mut Transaction<'_, Sqlite>,
    host: &str,
    evidence: &[u8],
    log: Option<&[u8]>,
    kept: &Kept,
    now: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO evidence (host, at, evidence, log, reference, claims) VALUES (?1, ?2, ?3, coalesce(?4, x''), ?5, ?6)
         ON CONFLICT (host) DO UPDATE SET at = ?2, evidence = ?3, log = coalesce(?4, log), reference = ?5, claims = ?6",
    )
    .bind(host)
    .bind(signed(now))
    .bind(evidence)
    .bind(log)
    .bind(&kept.reference)
    .bind(&kept.claims)
    .execute(&mut **tx)
    .await?;
    let Some(runtime) = &kept.runtime else {
        sqlx::query("DELETE FROM runtime_lists WHERE host = ?")
            .bind(host)
            .execute(&mut **tx)
            .await?;
        return Ok(());
    };
    sqlx::query(
        "INSERT INTO runtime_lists (host, offset, complete, lists, state) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (host) DO UPDATE SET offset = ?2, complete = ?3, lists = ?4, state = ?5",
    )
    .bind(host)
    .bind(signed(runtime.offset))
    .bind(runtime.complete)
    .bind(serde_json::to_string(&runtime.lists).unwrap_or_default())
    .bind(&runtime.state)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
