//! Keys whose certification is on record.

use sqlx::{Row, Sqlite, Transaction, sqlite::SqliteRow};

use crate::{Store, StoreError, open::signed};

/// A key that a host's attestation key certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedKey {
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub digest: [u8; 32],
    /// Name of the attestation key that certified it.
    pub attestation: Vec<u8>,
    /// Resets when it did.
    pub reset_count: u32,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
    /// The key's Name.
    pub name: Vec<u8>,
    /// Its public area.
    pub area: Vec<u8>,
    /// Digest of the evidence.
    pub evidence: Vec<u8>,
}

impl Store {
    /// The certification of a host's key of this Name, if it is on record and has not ended.
    pub async fn certified_key(
        &self,
        host: &str,
        name: &[u8],
        now: u64,
    ) -> Result<Option<CertifiedKey>, StoreError> {
        let row = sqlx::query("SELECT * FROM certified_keys WHERE host = ? AND name = ? AND until >= ?")
            .bind(host)
            .bind(name)
            .bind(signed(now))
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(certified).transpose()
    }

    /// The certification of a host's key of this digest, if it is on record and has not ended.
    pub async fn certification(
        &self,
        host: &str,
        digest: &[u8; 32],
        now: u64,
    ) -> Result<Option<CertifiedKey>, StoreError> {
        let row = sqlx::query("SELECT * FROM certified_keys WHERE digest = ? AND host = ? AND until >= ?")
            .bind(digest.as_slice())
            .bind(host)
            .bind(signed(now))
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(certified).transpose()
    }
}

fn certified(row: &SqliteRow) -> Result<CertifiedKey, StoreError> {
    Ok(CertifiedKey {
        digest: row.try_get::<Vec<u8>, _>("digest")?.try_into().unwrap_or([0; 32]),
        attestation: row.try_get("attestation")?,
        reset_count: u32::try_from(row.try_get::<i64, _>("reset_count")?).unwrap_or(u32::MAX),
        spki: row.try_get("spki")?,
        name: row.try_get("name")?,
        area: row.try_get("area")?,
        evidence: row.try_get("evidence")?,
    })
}

/// Records a certification, for as long as what was issued for the key; those that have ended go.
pub(crate) async fn certify(
    tx: &mut Transaction<'_, Sqlite>,
    host: &str,
    key: &CertifiedKey,
    until: u64,
    now: u64,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM certified_keys WHERE until < ?")
        .bind(signed(now))
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "INSERT INTO certified_keys (digest, host, attestation, reset_count, spki, name, area, evidence, until)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (digest) DO UPDATE SET attestation = ?3, reset_count = ?4, evidence = ?8, until = ?9 WHERE host = ?2",
    )
    .bind(key.digest.as_slice())
    .bind(host)
    .bind(&key.attestation)
    .bind(i64::from(key.reset_count))
    .bind(&key.spki)
    .bind(&key.name)
    .bind(&key.area)
    .bind(&key.evidence)
    .bind(signed(until))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Keeps a certification for as long as what was renewed on it.
pub(crate) async fn prolong(
    tx: &mut Transaction<'_, Sqlite>,
    host: &str,
    digest: &[u8; 32],
    until: u64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE certified_keys SET until = MAX(until, ?) WHERE digest = ? AND host = ?")
        .bind(signed(until))
        .bind(digest.as_slice())
        .bind(host)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
