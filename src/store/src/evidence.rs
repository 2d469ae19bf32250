//! What is kept of each host's last evidence.

use std::collections::HashMap;

use crate::{Host, Store, StoreError};

/// What is kept of an appraisal beside the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// Reference values captured from the boot, TOML, where its log explained the quote.
    pub reference: Option<String>,
    /// What was established, JSON: what policies are tried on before they are applied.
    pub claims: String,
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
            .filter_map(|(id, reference, claims)| Some((active.remove(&id)?, Kept { reference, claims })))
            .collect();
        out.sort_by(|one, other| one.0.name.cmp(&other.0.name));
        Ok(out)
    }
}
