//! Results of other verifiers about this host, which it asks for itself and presents with its evidence (RFC 9334, section 5.1).

use std::sync::Arc;

use touchmark_api::frame::MAX_RESULTS;
use touchmark_external::{EVIDENCE_TYPE, HostEvidence, Unanswered, ask_all};
use touchmark_rats::ear::Presented;

use crate::{AttestationError, Config};

/// What the verifiers in configuration say about evidence under this binding: a section of the message, empty where there are none.
pub(crate) async fn results(
    config: &Config,
    bind: [u8; 32],
    evidence: HostEvidence<'_>,
) -> Result<Vec<u8>, AttestationError> {
    if config.verifiers.is_empty() {
        return Ok(Vec::new());
    }
    let endpoints = config
        .verifiers
        .iter()
        .map(|(_, endpoint)| Arc::clone(endpoint))
        .collect();
    let answers = ask_all(endpoints, bind, EVIDENCE_TYPE, evidence.to_cmw()).await;
    let mut results = Vec::new();
    for ((name, _), answer) in config.verifiers.iter().zip(answers) {
        // Without it the service would refuse the host; nothing is sent, and so nothing is said about it.
        let result = answer.map_err(|why| AttestationError::Verifier {
            name: name.clone(),
            why,
        })?;
        results.push((name.clone(), result));
    }
    let section = Presented::new(results).to_cmw();
    if section.len() > MAX_RESULTS {
        let names: Vec<&str> = config.verifiers.iter().map(|(name, _)| name.as_str()).collect();
        return Err(AttestationError::Verifier {
            name: names.join(", "),
            why: Unanswered::Protocol(format!("results of more than {} KiB", MAX_RESULTS / 1024)),
        });
    }
    Ok(section)
}
