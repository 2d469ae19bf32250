//! Labels that what an operator applies is for, and no host has: mostly a slip of the pen.

use std::collections::BTreeSet;

use touchmark_store::StoreError;

use crate::Service;

/// Those of these labels that no host has.
pub(crate) async fn of_nobody(
    service: &Service,
    labels: impl IntoIterator<Item = String>,
) -> Result<Vec<String>, StoreError> {
    let wanted: BTreeSet<String> = labels.into_iter().collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let hosts = service.store.hosts().await?;
    let there: BTreeSet<&String> = hosts.iter().flat_map(|host| &host.labels).collect();
    Ok(wanted
        .into_iter()
        .filter(|label| !there.contains(label))
        .collect())
}
