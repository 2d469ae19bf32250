//! Hosts, their endorsement and attestation keys, and those that knocked without being enrolled.

use sqlx::{Row, sqlite::SqliteRow};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    events::record,
    open::{signed, unsigned},
    standing::{forget_device, last_credential},
};

/// Most endorsement keys remembered that nobody enrolled.
const MAX_PENDING: i64 = 1_000;

/// A host to enrol.
#[derive(Debug, Clone)]
pub struct NewHost {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Vec<String>,
    /// Digests of its endorsement keys, and whether each was enrolled by its certificate.
    pub endorsements: Vec<([u8; 32], bool)>,
}

/// A host's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// UUID.
    pub id: String,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Vec<String>,
    /// State.
    pub state: String,
    /// When it last attested.
    pub last_attested: Option<u64>,
    /// Reason of its last refusal.
    pub reason: Option<String>,
    /// Id of its last stored refusal.
    pub refusal: Option<String>,
    /// Note about an attempt that could not be authenticated, JSON.
    pub note: Option<String>,
    /// When it was made.
    pub note_at: Option<u64>,
    /// What policies that only observe would have done at its last attestation; empty where they agree.
    pub observed: String,
}

impl Host {
    /// Whether it may be given anything.
    pub fn is_active(&self) -> bool {
        !matches!(self.state.as_str(), "evicted" | "suspect")
    }
}

/// A host found by its endorsement key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// The host.
    pub host: Host,
    /// Whether this key was enrolled by its certificate.
    pub by_certificate: bool,
}

/// An attestation key on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationKey {
    /// Its Name.
    pub name: Vec<u8>,
    /// Its host.
    pub host: String,
    /// Digest of the endorsement key behind it.
    pub endorsement: Vec<u8>,
    /// Its public area.
    pub public: Vec<u8>,
    /// The maker that vouches, JSON; `None` for nobody.
    pub voucher: Option<String>,
    /// Resets at the last attestation.
    pub reset_count: u32,
    /// Its device's clock when it was seen last, milliseconds.
    pub clock: u64,
    /// When these counters were seen, seconds since the epoch.
    pub seen_at: u64,
    /// Digest of the last evidence.
    pub evidence: Vec<u8>,
}

/// An endorsement key that knocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Digest of the key.
    pub digest: Vec<u8>,
    /// First attempt.
    pub first_at: u64,
    /// Last attempt.
    pub last_at: u64,
    /// Attempts.
    pub attempts: u64,
    /// What is known about it.
    pub note: String,
}

const COLUMNS: &str = "id, name, labels, state, last_attested, reason, refusal, note, note_at, observed";

impl Store {
    /// Enrols hosts, all or none. A name or an endorsement key that is taken is a conflict, and nothing changes.
    pub async fn enrol(&self, hosts: &[NewHost], now: u64) -> Result<Vec<Host>, StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut enrolled = Vec::new();
        for host in hosts {
            let taken: Option<String> = sqlx::query_scalar("SELECT id FROM hosts WHERE name = ?")
                .bind(&host.name)
                .fetch_optional(&mut *tx)
                .await?;
            // An evicted host gives its name away, and keeps another in the records.
            let evicted = sqlx::query("UPDATE hosts SET name = name || '~' || substr(id, 1, 8) WHERE name = ? AND state = 'evicted'")
                .bind(&host.name)
                .execute(&mut *tx)
                .await?;
            if taken.is_some() && evicted.rows_affected() == 0 {
                return Err(StoreError::Conflict(format!(
                    "a host named {:?} is enrolled already; nothing was changed",
                    host.name
                )));
            }
            let id = Uuid::new_v4().to_string();
            let labels =
                serde_json::to_string(&host.labels).map_err(|error| StoreError::Row(error.to_string()))?;
            sqlx::query(
                "INSERT INTO hosts (id, name, labels, state, enrolled_at) VALUES (?, ?, ?, 'enrolled', ?)",
            )
            .bind(&id)
            .bind(&host.name)
            .bind(&labels)
            .bind(signed(now))
            .execute(&mut *tx)
            .await?;
            for (digest, by_certificate) in &host.endorsements {
                let owner: Option<String> = sqlx::query_scalar(
                    "SELECT hosts.name FROM endorsements JOIN hosts ON hosts.id = host WHERE digest = ?",
                )
                .bind(digest.as_slice())
                .fetch_optional(&mut *tx)
                .await?;
                if let Some(owner) = owner {
                    return Err(StoreError::Conflict(format!(
                        "an endorsement key of {:?} is enrolled already, for host {owner:?}; nothing was changed",
                        host.name
                    )));
                }
                sqlx::query("INSERT INTO endorsements (digest, host, by_certificate) VALUES (?, ?, ?)")
                    .bind(digest.as_slice())
                    .bind(&id)
                    .bind(*by_certificate)
                    .execute(&mut *tx)
                    .await?;
                sqlx::query("DELETE FROM pending WHERE digest = ?")
                    .bind(digest.as_slice())
                    .execute(&mut *tx)
                    .await?;
            }
            record(&mut tx, now, "host.enrolled", &id, &host.name).await?;
            enrolled.push(Host {
                id,
                name: host.name.clone(),
                labels: host.labels.clone(),
                state: "enrolled".to_owned(),
                last_attested: None,
                reason: None,
                refusal: None,
                note: None,
                note_at: None,
                observed: String::new(),
            });
        }
        tx.commit().await?;
        Ok(enrolled)
    }

    /// Evicts a host: its attestation keys, endorsement keys and evidence go in the transaction that changes its state, so
    /// that nothing is issued to it afterwards. Returns when the last credential that it was issued ends.
    pub async fn evict(&self, host: &str, reason: &str, now: u64) -> Result<u64, StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let evicted = sqlx::query(
            "UPDATE hosts SET state = 'evicted', reason = 'evicted', refusal = NULL, note = NULL, note_at = NULL
             WHERE id = ? AND state <> 'evicted'",
        )
        .bind(host)
        .execute(&mut *tx)
        .await?;
        if evicted.rows_affected() != 1 {
            return Err(StoreError::Conflict("the host is evicted already".to_owned()));
        }
        forget_device(&mut tx, host).await?;
        let until = last_credential(&mut tx, host).await?;
        record(&mut tx, now, "host.evicted", host, reason).await?;
        tx.commit().await?;
        Ok(until)
    }

    /// Forgets that endorsement keys knocked: another of the same TPM is enrolled.
    pub async fn forget_pending(&self, digests: &[[u8; 32]]) -> Result<(), StoreError> {
        for digest in digests {
            sqlx::query("DELETE FROM pending WHERE digest = ?")
                .bind(digest.as_slice())
                .execute(&self.pool)
                .await?;
        }
        Ok(())
    }

    /// All hosts by name.
    pub async fn hosts(&self) -> Result<Vec<Host>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM hosts ORDER BY name"
        )))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(host).collect()
    }

    /// The host of this id or name.
    pub async fn host(&self, id_or_name: &str) -> Result<Host, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM hosts WHERE id = ?1 OR name = ?1");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id_or_name)
            .fetch_optional(&self.pool)
            .await?;
        found(row.as_ref(), id_or_name)
    }

    /// The host of this id: what the protocol uses, which knows no names.
    pub async fn host_by_id(&self, id: &str) -> Result<Host, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM hosts WHERE id = ?");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        found(row.as_ref(), id)
    }

    /// The host that an endorsement key is enrolled for.
    pub async fn host_of_endorsement(&self, digest: &[u8; 32]) -> Result<Option<Enrolled>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS}, by_certificate FROM hosts JOIN endorsements ON endorsements.host = hosts.id WHERE digest = ?"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(digest.as_slice())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| {
            Ok(Enrolled {
                host: host(&row)?,
                by_certificate: row.try_get("by_certificate")?,
            })
        })
        .transpose()
    }

    /// Digests of a host's endorsement keys.
    pub async fn endorsements_of(&self, host: &str) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(
            sqlx::query_scalar("SELECT digest FROM endorsements WHERE host = ? ORDER BY digest")
                .bind(host)
                .fetch_all(&self.pool)
                .await?,
        )
    }

    /// An attestation key by its Name.
    pub async fn attestation_key(&self, name: &[u8]) -> Result<Option<AttestationKey>, StoreError> {
        let row = sqlx::query("SELECT * FROM attestation_keys WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(attestation_key).transpose()
    }

    /// The attestation key that a host activated last.
    pub async fn attestation_key_of(&self, host: &str) -> Result<Option<AttestationKey>, StoreError> {
        let row =
            sqlx::query("SELECT * FROM attestation_keys WHERE host = ? ORDER BY activated_at DESC LIMIT 1")
                .bind(host)
                .fetch_optional(&self.pool)
                .await?;
        row.as_ref().map(attestation_key).transpose()
    }

    /// Overwrites the note about attempts that could not be authenticated.
    pub async fn note_host(&self, host: &str, note: &str, now: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE hosts SET note = ?, note_at = ? WHERE id = ?")
            .bind(note)
            .bind(signed(now))
            .bind(host)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Remembers an endorsement key that nobody enrolled; the least recent give way.
    pub async fn note_pending(&self, digest: &[u8; 32], note: &str, now: u64) -> Result<(), StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "INSERT INTO pending (digest, first_at, last_at, attempts, note) VALUES (?1, ?2, ?2, 1, ?3)
             ON CONFLICT (digest) DO UPDATE SET last_at = ?2, attempts = attempts + 1, note = ?3",
        )
        .bind(digest.as_slice())
        .bind(signed(now))
        .bind(note)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "DELETE FROM pending WHERE digest IN (SELECT digest FROM pending ORDER BY last_at DESC LIMIT -1 OFFSET ?)",
        )
        .bind(MAX_PENDING)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Endorsement keys that knocked, the latest first.
    pub async fn pending(&self) -> Result<Vec<Pending>, StoreError> {
        let rows = sqlx::query("SELECT * FROM pending ORDER BY last_at DESC")
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Pending {
                    digest: row.try_get("digest")?,
                    first_at: unsigned(row.try_get("first_at")?),
                    last_at: unsigned(row.try_get("last_at")?),
                    attempts: unsigned(row.try_get("attempts")?),
                    note: row.try_get("note")?,
                })
            })
            .collect()
    }
}

/// The host in this row, or that there is none of this id or name.
fn found(row: Option<&SqliteRow>, id: &str) -> Result<Host, StoreError> {
    row.map(host).transpose()?.ok_or_else(|| StoreError::NotFound {
        what: "host",
        id: id.to_owned(),
    })
}

fn host(row: &SqliteRow) -> Result<Host, StoreError> {
    let labels: String = row.try_get("labels")?;
    Ok(Host {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        labels: serde_json::from_str(&labels).map_err(|error| StoreError::Row(error.to_string()))?,
        state: row.try_get("state")?,
        last_attested: row.try_get::<Option<i64>, _>("last_attested")?.map(unsigned),
        reason: row.try_get("reason")?,
        refusal: row.try_get("refusal")?,
        note: row.try_get("note")?,
        note_at: row.try_get::<Option<i64>, _>("note_at")?.map(unsigned),
        observed: row.try_get("observed")?,
    })
}

fn attestation_key(row: &SqliteRow) -> Result<AttestationKey, StoreError> {
    Ok(AttestationKey {
        name: row.try_get("name")?,
        host: row.try_get("host")?,
        endorsement: row.try_get("endorsement")?,
        public: row.try_get("public")?,
        voucher: row.try_get("voucher")?,
        reset_count: u32::try_from(row.try_get::<i64, _>("reset_count")?).unwrap_or(u32::MAX),
        clock: unsigned(row.try_get("clock")?),
        seen_at: unsigned(row.try_get("seen_at")?),
        evidence: row.try_get("evidence")?,
    })
}
