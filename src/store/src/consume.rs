//! Consuming a challenge: one row, written in the transaction that writes what it led to.

use sqlx::{Row, Sqlite, Transaction};
use touchmark_identity::WorkloadId;
use touchmark_issuer::{Credential, Kind};

use crate::{
    AttestationKey, CertifiedKey, Kept, Seen, Store, StoreError, StoredRefusal,
    certified::{certify, prolong},
    events::{record, write_refusal},
    evidence::keep_evidence,
    open::signed,
    standing::{advance_counters, note_observed},
};

/// An answer that was given to a challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Digest of the message that was answered.
    pub message: Vec<u8>,
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub answer: Vec<u8>,
}

/// The consumption of a challenge by a message.
#[derive(Debug, Clone)]
pub struct Consumption {
    /// The challenge's id.
    pub challenge: [u8; 16],
    /// Digest of the message.
    pub message: [u8; 32],
    /// The host.
    pub host: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// The answer.
    pub answer: Vec<u8>,
    /// When the challenge expires.
    pub expires_at: u64,
}

/// How a consumption went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consumed {
    /// This message was the first: what it leads to is on disk.
    First,
    /// The challenge was consumed before; this is the answer that was given.
    Before(Stored),
}

/// A credential as it is recorded.
#[derive(Debug, Clone)]
pub struct Issuance {
    /// Registration, as label/name; `host` for a host's own, `server` for the service's.
    pub registration: String,
    /// The registration as it was when it was decided, JSON; it has to be the same when it is written.
    pub registered: String,
    /// What was issued.
    pub credential: Credential,
    /// Its key, where its certification came with the request; `None` where it is on record, or for the service's own.
    pub certified: Option<CertifiedKey>,
}

/// A host's admission.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Its attestation key, as it stands after this.
    pub key: AttestationKey,
    /// The evidence.
    pub evidence: Vec<u8>,
    /// The boot log.
    pub log: Vec<u8>,
    /// What is kept of its appraisal.
    pub kept: Kept,
    /// What policies that only observe would have done; empty where they agree.
    pub observed: String,
    /// The host's certificate.
    pub issuance: Issuance,
}

/// A host's refusal after its evidence was authenticated.
#[derive(Debug, Clone)]
pub struct RefusedAttempt {
    /// The refusal.
    pub refusal: StoredRefusal,
    /// The evidence.
    pub evidence: Vec<u8>,
    /// The boot log.
    pub log: Vec<u8>,
    /// What is kept of its appraisal.
    pub kept: Kept,
    /// The counters in it.
    pub seen: Option<Seen>,
    /// Whether it shows that there may be two of this host: then it gets nothing more until an operator has acted.
    pub suspect: bool,
}

impl Store {
    /// The answer that a challenge was given, if it was consumed.
    pub async fn answer(&self, challenge: &[u8; 16]) -> Result<Option<Stored>, StoreError> {
        let row = sqlx::query("SELECT message, status, answer FROM consumed WHERE challenge = ?")
            .bind(challenge.as_slice())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(stored).transpose()
    }

    /// Admits a host: consumption, host state, attestation key, evidence and issuance in one transaction.
    pub async fn admit(
        &self,
        consumption: &Consumption,
        admitted: &Admitted,
        now: u64,
    ) -> Result<Consumed, StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        lock_active(&mut tx, &consumption.host).await?;
        if let Some(before) = consume(&mut tx, consumption, now).await? {
            return Ok(Consumed::Before(before));
        }
        sqlx::query(
            "UPDATE hosts SET state = 'attested', last_attested = ?, reason = NULL, refusal = NULL, note = NULL,
             note_at = NULL WHERE id = ?",
        )
        .bind(signed(now))
        .bind(&consumption.host)
        .execute(&mut *tx)
        .await?;
        let key = &admitted.key;
        let written = sqlx::query(
            "INSERT INTO attestation_keys
             (name, host, endorsement, public, voucher, reset_count, clock, evidence, activated_at, seen_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)
             ON CONFLICT (name) DO UPDATE SET endorsement = ?3, voucher = ?5, reset_count = ?6, clock = ?7, evidence = ?8,
             activated_at = ?9, seen_at = ?9
             WHERE host = ?2 AND (reset_count < ?6 OR (reset_count = ?6 AND clock <= ?7))",
        )
        .bind(&key.name)
        .bind(&key.host)
        .bind(&key.endorsement)
        .bind(&key.public)
        .bind(&key.voucher)
        .bind(i64::from(key.reset_count))
        .bind(signed(key.clock))
        .bind(&key.evidence)
        .bind(signed(now))
        .execute(&mut *tx)
        .await?;
        if written.rows_affected() != 1 {
            return Err(StoreError::Conflict(format!(
                "the attestation key of host {} is on record for another host, or was seen later meanwhile",
                consumption.host
            )));
        }
        keep_evidence(
            &mut tx,
            &consumption.host,
            &admitted.evidence,
            Some(&admitted.log),
            &admitted.kept,
            now,
        )
        .await?;
        note_observed(&mut tx, &consumption.host, &admitted.observed, now).await?;
        write_issuance(&mut tx, &consumption.host, &admitted.issuance, now).await?;
        record(
            &mut tx,
            now,
            "host.attested",
            &consumption.host,
            admitted.issuance.credential.identifier().as_str(),
        )
        .await?;
        tx.commit().await?;
        Ok(Consumed::First)
    }

    /// Refuses a host whose evidence was authentic: consumption, refusal, host state and evidence in one transaction.
    pub async fn refuse(
        &self,
        consumption: &Consumption,
        attempt: &RefusedAttempt,
        now: u64,
    ) -> Result<Consumed, StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if let Some(before) = consume(&mut tx, consumption, now).await? {
            return Ok(Consumed::Before(before));
        }
        let refusal = &attempt.refusal;
        write_refusal(&mut tx, refusal).await?;
        if let Some(seen) = &attempt.seen {
            advance_counters(&mut tx, seen, now).await?;
        }
        sqlx::query(
            "UPDATE hosts SET state = CASE WHEN state IN ('evicted', 'suspect') THEN state ELSE ? END,
             reason = ?, refusal = ?, note = NULL, note_at = NULL WHERE id = ?",
        )
        .bind(if attempt.suspect { "suspect" } else { "refused" })
        .bind(&refusal.reason)
        .bind(&refusal.id)
        .bind(&consumption.host)
        .execute(&mut *tx)
        .await?;
        keep_evidence(
            &mut tx,
            &consumption.host,
            &attempt.evidence,
            Some(&attempt.log),
            &attempt.kept,
            now,
        )
        .await?;
        record(
            &mut tx,
            now,
            if attempt.suspect {
                "host.suspect"
            } else {
                "host.refused"
            },
            &consumption.host,
            &format!("{} {}", refusal.id, refusal.reason),
        )
        .await?;
        tx.commit().await?;
        Ok(Consumed::First)
    }

    /// What else this key has a credential for, if not this identifier and kind.
    pub async fn key_elsewhere(
        &self,
        key_digest: &[u8; 32],
        identifier: &WorkloadId,
        kind: Kind,
    ) -> Result<Option<String>, StoreError> {
        elsewhere(&self.pool, key_digest, identifier, kind).await
    }

    /// Issues a workload's credential: consumption and issuance in one transaction. The host has to be attested at this
    /// moment, and the key to have no credential of another identifier or kind.
    pub async fn issue(
        &self,
        consumption: &Consumption,
        issuance: &Issuance,
        key: &AttestationKey,
        now: u64,
    ) -> Result<Consumed, StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        lock_active(&mut tx, &consumption.host).await?;
        // By the very device, in the very boot, that was judged.
        let attested: Option<String> = sqlx::query_scalar(
            "SELECT hosts.id FROM hosts JOIN attestation_keys ON attestation_keys.host = hosts.id
             WHERE hosts.id = ? AND state = 'attested' AND attestation_keys.name = ? AND reset_count = ?",
        )
        .bind(&consumption.host)
        .bind(&key.name)
        .bind(i64::from(key.reset_count))
        .fetch_optional(&mut *tx)
        .await?;
        let (label, name) = issuance.registration.split_once('/').unwrap_or_default();
        let registered: Option<String> =
            sqlx::query_scalar("SELECT name FROM registrations WHERE label = ? AND name = ? AND body = ?")
                .bind(label)
                .bind(name)
                .bind(&issuance.registered)
                .fetch_optional(&mut *tx)
                .await?;
        let elsewhere = elsewhere(
            &mut *tx,
            &issuance.credential.key_digest(),
            issuance.credential.identifier(),
            issuance.credential.kind(),
        )
        .await?;
        if elsewhere.is_some() {
            return Err(StoreError::Conflict(
                "the key has a credential of another identifier or kind".to_owned(),
            ));
        }
        if attested.is_none() || registered.is_none() {
            return Err(StoreError::Conflict(
                "the host is no longer attested, or the registration no longer what it was".to_owned(),
            ));
        }
        if let Some(before) = consume(&mut tx, consumption, now).await? {
            return Ok(Consumed::Before(before));
        }
        write_issuance(&mut tx, &consumption.host, issuance, now).await?;
        let detail = described(&issuance.credential);
        record(&mut tx, now, "credential.issued", &consumption.host, &detail).await?;
        tx.commit().await?;
        Ok(Consumed::First)
    }

    /// Records a credential that the service issued to itself.
    pub async fn record_own(&self, issuance: &Issuance, now: u64) -> Result<(), StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        write_issuance(&mut tx, &issuance.registration, issuance, now).await?;
        let detail = described(&issuance.credential);
        record(&mut tx, now, "credential.issued", &issuance.registration, &detail).await?;
        Ok(tx.commit().await?)
    }

    /// Refuses an authenticated request of a host that is not about its own attestation.
    pub async fn refuse_request(
        &self,
        consumption: Option<&Consumption>,
        refusal: &StoredRefusal,
        now: u64,
    ) -> Result<Consumed, StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if let Some(consumption) = consumption
            && let Some(before) = consume(&mut tx, consumption, now).await?
        {
            return Ok(Consumed::Before(before));
        }
        write_refusal(&mut tx, refusal).await?;
        record(
            &mut tx,
            now,
            "request.refused",
            &refusal.host,
            &format!("{} {}", refusal.id, refusal.reason),
        )
        .await?;
        tx.commit().await?;
        Ok(Consumed::First)
    }
}

/// Refuses unless the host may be given something; takes the write lock on its row.
pub(crate) async fn lock_active(tx: &mut Transaction<'_, Sqlite>, host: &str) -> Result<(), StoreError> {
    let locked =
        sqlx::query("UPDATE hosts SET state = state WHERE id = ? AND state NOT IN ('evicted', 'suspect')")
            .bind(host)
            .execute(&mut **tx)
            .await?;
    if locked.rows_affected() == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict(format!("host {host} is not active")))
    }
}

/// How long the record of a consumed challenge outlives it, in seconds: nobody's clock is that far off.
const KEPT: u64 = 600;

/// Writes the consumption; returns the stored answer if the challenge was consumed before.
pub(crate) async fn consume(
    tx: &mut Transaction<'_, Sqlite>,
    consumption: &Consumption,
    now: u64,
) -> Result<Option<Stored>, StoreError> {
    sqlx::query("DELETE FROM consumed WHERE expires_at < ?")
        .bind(signed(now.saturating_sub(KEPT)))
        .execute(&mut **tx)
        .await?;
    let inserted = sqlx::query(
        "INSERT INTO consumed (challenge, message, host, status, answer, expires_at) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (challenge) DO NOTHING",
    )
    .bind(consumption.challenge.as_slice())
    .bind(consumption.message.as_slice())
    .bind(&consumption.host)
    .bind(i64::from(consumption.status))
    .bind(&consumption.answer)
    .bind(signed(consumption.expires_at))
    .execute(&mut **tx)
    .await?;
    if inserted.rows_affected() == 1 {
        return Ok(None);
    }
    let row = sqlx::query("SELECT message, status, answer FROM consumed WHERE challenge = ?")
        .bind(consumption.challenge.as_slice())
        .fetch_one(&mut **tx)
        .await?;
    stored(&row).map(Some)
}

fn stored(row: &sqlx::sqlite::SqliteRow) -> Result<Stored, StoreError> {
    Ok(Stored {
        message: row.try_get("message")?,
        status: u16::try_from(row.try_get::<i64, _>("status")?).unwrap_or(500),
        answer: row.try_get("answer")?,
    })
}

async fn elsewhere(
    executor: impl sqlx::SqliteExecutor<'_>,
    key_digest: &[u8; 32],
    identifier: &WorkloadId,
    kind: Kind,
) -> Result<Option<String>, StoreError> {
    let found: Option<String> = sqlx::query_scalar(
        "SELECT kind || ' ' || identifier FROM issuances
         WHERE key_digest = ? AND (identifier <> ? OR kind <> ?) LIMIT 1",
    )
    .bind(key_digest.as_slice())
    .bind(identifier.as_str())
    .bind(kind.as_str())
    .fetch_optional(executor)
    .await?;
    Ok(found)
}

/// A credential as the audit trail names it.
fn described(credential: &Credential) -> String {
    format!(
        "{} {} {}",
        credential.kind().as_str(),
        credential.identifier(),
        credential.class()
    )
}

pub(crate) async fn write_issuance(
    tx: &mut Transaction<'_, Sqlite>,
    host: &str,
    issuance: &Issuance,
    now: u64,
) -> Result<(), StoreError> {
    let credential = &issuance.credential;
    sqlx::query(
        "INSERT INTO issuances
         (at, host, registration, identifier, kind, custody, key_digest, credential_digest, not_after)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(signed(now))
    .bind(host)
    .bind(&issuance.registration)
    .bind(credential.identifier().as_str())
    .bind(credential.kind().as_str())
    .bind(credential.class().as_str())
    .bind(credential.key_digest().as_slice())
    .bind(credential.digest().as_slice())
    .bind(signed(credential.not_after()))
    .execute(&mut **tx)
    .await?;
    match &issuance.certified {
        Some(certified) => certify(tx, host, certified, credential.not_after(), now).await,
        None => prolong(tx, host, &credential.key_digest(), credential.not_after()).await,
    }
}
