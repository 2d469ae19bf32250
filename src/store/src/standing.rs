//! How hosts stand over time: attested again, silent, suspect, replaced.

use sqlx::{Sqlite, Transaction};

use crate::{
    Consumed, Consumption, Issuance, Kept, Store, StoreError, StoredRefusal,
    consume::{consume, lock_active, write_issuance},
    events::{record, write_refusal},
    evidence::keep_evidence,
    open::signed,
};

/// Counters of a device as authentic evidence showed them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Name of the attestation key.
    pub attestation: Vec<u8>,
    /// Resets.
    pub reset_count: u32,
    /// Clock, milliseconds.
    pub clock: u64,
}

/// A re-attestation.
#[derive(Debug, Clone)]
pub struct Reattested {
    /// The counters.
    pub seen: Seen,
    /// The evidence.
    pub evidence: Vec<u8>,
    /// Its digest.
    pub digest: [u8; 32],
    /// The boot log, whole; `None` where it gained nothing.
    pub log: Option<Vec<u8>>,
    /// What is kept of its appraisal; `None` where neither log nor list gained anything.
    pub kept: Option<Kept>,
    /// What policies that only observe would have done; empty where they agree.
    pub observed: String,
    /// The host's certificate, where it was renewed.
    pub issuance: Option<Issuance>,
}

impl Store {
    /// A host attested again: consumption, host state, counters, evidence and the renewed certificate in one transaction. It
    /// has to be attested, or to have been silent, until now.
    pub async fn reattest(
        &self,
        consumption: &Consumption,
        reattested: &Reattested,
        now: u64,
    ) -> Result<Consumed, StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        lock_active(&mut tx, &consumption.host).await?;
        if let Some(before) = consume(&mut tx, consumption, now).await? {
            return Ok(Consumed::Before(before));
        }
        let attested = sqlx::query(
            "UPDATE hosts SET state = 'attested', last_attested = ?, reason = NULL, refusal = NULL, note = NULL, note_at = NULL
             WHERE id = ? AND state IN ('attested', 'silent')",
        )
        .bind(signed(now))
        .bind(&consumption.host)
        .execute(&mut *tx)
        .await?;
        if attested.rows_affected() != 1 {
            return Err(StoreError::Conflict("the host was refused meanwhile".to_owned()));
        }
        note_counters(&mut tx, &reattested.seen, now).await?;
        sqlx::query("UPDATE attestation_keys SET evidence = ? WHERE name = ?")
            .bind(reattested.digest.as_slice())
            .bind(&reattested.seen.attestation)
            .execute(&mut *tx)
            .await?;
        let (host, evidence) = (&consumption.host, &reattested.evidence);
        match &reattested.kept {
            Some(kept) => {
                keep_evidence(&mut tx, host, evidence, reattested.log.as_deref(), kept, now).await?;
            }
            None => {
                sqlx::query("UPDATE evidence SET at = ?, evidence = ? WHERE host = ?")
                    .bind(signed(now))
                    .bind(evidence)
                    .bind(host)
                    .execute(&mut *tx)
                    .await?;
            }
        }
        note_observed(&mut tx, host, &reattested.observed, now).await?;
        if let Some(issuance) = &reattested.issuance {
            write_issuance(&mut tx, &consumption.host, issuance, now).await?;
            let detail = format!("x509 {} renewed", issuance.credential.identifier());
            record(&mut tx, now, "credential.issued", &consumption.host, &detail).await?;
        }
        tx.commit().await?;
        Ok(Consumed::First)
    }

    /// Where a host's boot log on record ends, in bytes, and the log.
    pub async fn boot_log(&self, host: &str) -> Result<Vec<u8>, StoreError> {
        let log: Option<Vec<u8>> = sqlx::query_scalar("SELECT log FROM evidence WHERE host = ?")
            .bind(host)
            .fetch_optional(&self.pool)
            .await?;
        Ok(log.unwrap_or_default())
    }

    /// How long a host's boot log on record is, in bytes.
    pub async fn boot_log_length(&self, host: &str) -> Result<u64, StoreError> {
        let length: Option<i64> = sqlx::query_scalar("SELECT length(log) FROM evidence WHERE host = ?")
            .bind(host)
            .fetch_optional(&self.pool)
            .await?;
        Ok(length.and_then(|length| u64::try_from(length).ok()).unwrap_or(0))
    }

    /// There may be two of this host: it gets nothing more until an operator has acted.
    pub async fn suspect(&self, host: &str, refusal: &StoredRefusal, now: u64) -> Result<(), StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        write_refusal(&mut tx, refusal).await?;
        sqlx::query(
            "UPDATE hosts SET state = 'suspect', reason = ?, refusal = ?, note = NULL, note_at = NULL
             WHERE id = ? AND state <> 'evicted'",
        )
        .bind(&refusal.reason)
        .bind(&refusal.id)
        .bind(host)
        .execute(&mut *tx)
        .await?;
        let detail = format!("{} {}", refusal.id, refusal.reason);
        record(&mut tx, now, "host.suspect", host, &detail).await?;
        Ok(tx.commit().await?)
    }

    /// Hosts that attested last before `then` are silent from now on; returns their ids.
    pub async fn fall_silent(&self, then: u64, now: u64) -> Result<Vec<String>, StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let silent: Vec<String> = sqlx::query_scalar(
            "UPDATE hosts SET state = 'silent', reason = 'silent' WHERE state = 'attested' AND last_attested < ?
             RETURNING id",
        )
        .bind(signed(then))
        .fetch_all(&mut *tx)
        .await?;
        for host in &silent {
            record(&mut tx, now, "host.silent", host, "did not attest again in time").await?;
        }
        tx.commit().await?;
        Ok(silent)
    }

    /// Gives a host other endorsement keys: its record and name stay, its attestation keys, evidence and certifications go, and
    /// it has to attest from the beginning. Returns when the last credential that it was issued ends.
    pub async fn replace(
        &self,
        host: &str,
        endorsements: &[([u8; 32], bool)],
        reason: &str,
        now: u64,
    ) -> Result<u64, StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let replaced = sqlx::query(
            "UPDATE hosts SET state = 'enrolled', reason = NULL, refusal = NULL, note = NULL, note_at = NULL
             WHERE id = ? AND state <> 'evicted'",
        )
        .bind(host)
        .execute(&mut *tx)
        .await?;
        if replaced.rows_affected() != 1 {
            return Err(StoreError::Conflict(
                "the host is evicted; enrol it under its name instead".to_owned(),
            ));
        }
        forget_device(&mut tx, host).await?;
        for (digest, by_certificate) in endorsements {
            let written = sqlx::query(
                "INSERT INTO endorsements (digest, host, by_certificate) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            )
            .bind(digest.as_slice())
            .bind(host)
            .bind(*by_certificate)
            .execute(&mut *tx)
            .await?;
            if written.rows_affected() != 1 {
                return Err(StoreError::Conflict(
                    "an endorsement key is enrolled for another host; nothing was changed".to_owned(),
                ));
            }
            sqlx::query("DELETE FROM pending WHERE digest = ?")
                .bind(digest.as_slice())
                .execute(&mut *tx)
                .await?;
        }
        let until = last_credential(&mut tx, host).await?;
        record(&mut tx, now, "host.replaced", host, reason).await?;
        tx.commit().await?;
        Ok(until)
    }
}

/// Forgets the device of a host: what it proved, what it certified, what it is known by.
pub(crate) async fn forget_device(tx: &mut Transaction<'_, Sqlite>, host: &str) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM attestation_keys WHERE host = ?",
        "DELETE FROM certified_keys WHERE host = ?",
        "DELETE FROM endorsements WHERE host = ?",
        "DELETE FROM evidence WHERE host = ?",
        "DELETE FROM runtime_lists WHERE host = ?",
    ] {
        sqlx::query(statement).bind(host).execute(&mut **tx).await?;
    }
    Ok(())
}

/// When the last credential that a host was issued ends.
pub(crate) async fn last_credential(tx: &mut Transaction<'_, Sqlite>, host: &str) -> Result<u64, StoreError> {
    let until: Option<i64> = sqlx::query_scalar("SELECT MAX(not_after) FROM issuances WHERE host = ?")
        .bind(host)
        .fetch_one(&mut **tx)
        .await?;
    Ok(until.and_then(|until| u64::try_from(until).ok()).unwrap_or(0))
}

/// Notes a device's counters within its boot. Another copy of it may have been seen meanwhile.
async fn note_counters(tx: &mut Transaction<'_, Sqlite>, seen: &Seen, now: u64) -> Result<(), StoreError> {
    let noted = sqlx::query(
        "UPDATE attestation_keys SET clock = ?1, seen_at = ?4 WHERE name = ?2 AND reset_count = ?3 AND clock <= ?1",
    )
    .bind(signed(seen.clock))
    .bind(&seen.attestation)
    .bind(i64::from(seen.reset_count))
    .bind(signed(now))
    .execute(&mut **tx)
    .await?;
    if noted.rows_affected() == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict(
            "the attestation key is gone, or was seen later or after another reset meanwhile".to_owned(),
        ))
    }
}

/// Notes what policies that only observe would have done about a host; the trail tells when that changes.
pub(crate) async fn note_observed(
    tx: &mut Transaction<'_, Sqlite>,
    host: &str,
    observed: &str,
    now: u64,
) -> Result<(), StoreError> {
    let changed = sqlx::query("UPDATE hosts SET observed = ?1 WHERE id = ?2 AND observed <> ?1")
        .bind(observed)
        .bind(host)
        .execute(&mut **tx)
        .await?;
    if changed.rows_affected() == 0 {
        return Ok(());
    }
    let detail = if observed.is_empty() {
        "policies that only observe agree"
    } else {
        observed
    };
    record(tx, now, "policy.observed", host, detail).await
}

/// Notes counters of evidence that was refused, where they are ahead: what was quoted before it is out of date.
pub(crate) async fn advance_counters(
    tx: &mut Transaction<'_, Sqlite>,
    seen: &Seen,
    now: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE attestation_keys SET reset_count = ?1, clock = ?2, seen_at = ?4
         WHERE name = ?3 AND (reset_count < ?1 OR (reset_count = ?1 AND clock <= ?2))",
    )
    .bind(i64::from(seen.reset_count))
    .bind(signed(seen.clock))
    .bind(&seen.attestation)
    .bind(signed(now))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
