//! What operators ask about lists of known files, answered.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use touchmark_store::FilesText;
use touchmark_verifier::FileList;

use crate::{
    Service, labels,
    operator::{Failure, Outcome},
};

/// Applies a list. One that is damaged is refused, and the one before stays.
pub(crate) async fn apply(
    service: &Arc<Service>,
    label: &str,
    hosts: Option<Vec<String>>,
    digests: &str,
    now: u64,
) -> Outcome {
    let body = STANDARD
        .decode(digests)
        .map_err(|_| Failure::Unusable("the list is not base64".to_owned()))?;
    let list = FileList::from_bytes(label, hosts.clone(), &body)
        .map_err(|error| Failure::Unusable(error.to_string()))?;
    let stored = FilesText {
        label: label.to_owned(),
        hosts,
        body,
    };
    let _turn = service.changes.lock().await;
    service
        .store
        .apply_files(&stored, &format!("{} files, {}", list.len(), list.id()), now)
        .await?;
    service.reload_files().await?;
    let nobody = labels::of_nobody(service, stored.hosts.unwrap_or_default()).await?;
    Ok(json!({"label": label, "files": list.len(), "id": list.id(), "labels_of_nobody": nobody}))
}

/// The lists that are applied.
pub(crate) fn list(service: &Service) -> Outcome {
    Ok(service
        .file_lists()
        .iter()
        .map(|list| json!({"label": list.label(), "files": list.len(), "hosts": list.hosts(), "id": list.id()}))
        .collect())
}

pub(crate) async fn delete(service: &Arc<Service>, label: &str, now: u64) -> Outcome {
    let _turn = service.changes.lock().await;
    service.store.delete_files(label, now).await?;
    service.reload_files().await?;
    Ok(json!({"label": label, "deleted": true}))
}
