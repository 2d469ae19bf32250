//! The format of a manifest, version 2: cases with their files, what the relying party brings, and what has to come out.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Map, Value};
use touchmark_attestor_tpm::PcrValues;
use touchmark_crypto::{HashAlg, pem, sha256};

use super::finding::Finding;

/// Largest manifest, and largest file of a case, in bytes.
const MAX_MANIFEST: u64 = 64 << 20;
const MAX_FILE: u64 = 32 << 20;
/// The version of the format.
const FORMAT: u64 = 2;

/// A manifest.
pub(super) struct Manifest {
    pub(super) cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Document {
    format: u64,
    cases: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(rename = "as")]
    kind: String,
    dir: Option<String>,
    profile: Option<String>,
    expected: Expected,
    #[serde(default)]
    class: Vec<String>,
    #[serde(default)]
    caveat: Vec<String>,
    #[serde(default)]
    params: Map<String, Value>,
    #[serde(default)]
    policy: Map<String, Value>,
    #[serde(default)]
    files: Vec<File>,
}

#[derive(Deserialize)]
struct Expected {
    verdict: String,
}

#[derive(Deserialize)]
struct File {
    name: String,
    role: String,
    sha256: Option<String>,
}

/// One case.
pub(super) struct Case {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) profile: Option<String>,
    pub(super) verdict: String,
    pub(super) names: Vec<String>,
    folder: PathBuf,
    params: Map<String, Value>,
    policy: Map<String, Value>,
    files: Vec<File>,
}

impl Manifest {
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let bytes = read_file(path, MAX_MANIFEST)?;
        let document: Document = serde_json::from_slice(&bytes).map_err(|error| {
            format!("not a manifest: {error}; its format is described in docs/guides/verifying.md")
        })?;
        if document.format != FORMAT {
            return Err(format!(
                "format {} of a manifest, where {FORMAT} is understood",
                document.format
            ));
        }
        let here = path.parent().unwrap_or(Path::new("."));
        let cases = document
            .cases
            .into_iter()
            .map(|entry| {
                let folder = inside(here, entry.dir.as_deref().unwrap_or(&entry.id))
                    .ok_or_else(|| format!("case {:?}: its folder is not below the manifest", entry.id))?;
                let names = [entry.class, entry.caveat].concat();
                Ok(Case {
                    id: entry.id,
                    kind: entry.kind,
                    profile: entry.profile,
                    verdict: entry.expected.verdict,
                    names,
                    folder,
                    params: entry.params,
                    policy: entry.policy,
                    files: entry.files,
                })
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { cases })
    }
}

impl Case {
    /// The kind, with the profile where there is one: by this the unsupported ones are counted.
    pub(super) fn kind_with_profile(&self) -> String {
        match &self.profile {
            Some(profile) => format!("{} ({profile})", self.kind),
            None => self.kind.clone(),
        }
    }

    /// Whether what was found is what was expected.
    pub(super) fn agrees(&self, found: &Finding) -> bool {
        let named = |names: &[&str]| {
            names
                .iter()
                .any(|name| self.names.iter().any(|known| known == name))
        };
        match self.verdict.as_str() {
            "valid" => found.refused.is_empty(),
            "invalid" | "parse-error" => named(&found.refused),
            "valid-with-policy-caveat" => named(&found.refused) || named(&found.noted),
            "informational" => true,
            _ => false,
        }
    }

    /// The files of a role, in the order of the manifest.
    pub(super) fn files(&self, role: &str) -> Result<Vec<Vec<u8>>, String> {
        self.files
            .iter()
            .filter(|file| file.role == role)
            .map(|file| {
                let path = inside(&self.folder, &file.name)
                    .ok_or_else(|| format!("file {:?} is not below its case", file.name))?;
                let bytes = read_evidence(&path)?;
                let digest = hex::encode(sha256(&[&bytes]));
                match &file.sha256 {
                    Some(expected) if *expected != digest => Err(format!(
                        "file {:?} is not the one that the manifest names",
                        file.name
                    )),
                    _ => Ok(bytes),
                }
            })
            .collect()
    }

    /// The file of a role, if there is one.
    pub(super) fn optional(&self, role: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(self.files(role)?.into_iter().next())
    }

    /// The file of a role that the kind needs.
    pub(super) fn file(&self, role: &str) -> Result<Vec<u8>, String> {
        self.optional(role)?
            .ok_or_else(|| format!("there is no file of role {role}"))
    }

    /// Certificates of a role, whether DER or PEM.
    pub(super) fn certificates(&self, role: &str) -> Result<Vec<Vec<u8>>, String> {
        Ok(self
            .files(role)?
            .into_iter()
            .flat_map(|bytes| certificates(&bytes))
            .collect())
    }

    /// A parameter that is text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.params.get(name).and_then(Value::as_str)
    }

    /// A parameter, whatever it is.
    pub(super) fn param(&self, name: &str) -> Option<&Value> {
        self.params.get(name)
    }

    /// A parameter in hexadecimal.
    pub(super) fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        self.text(name)
            .map(|text| hex::decode(text).map_err(|_| format!("{name} is not hexadecimal")))
            .transpose()
    }

    /// `verify_time`, in seconds since the epoch.
    pub(super) fn time(&self) -> Result<u64, String> {
        let text = self.text("verify_time").ok_or("there is no verify_time")?;
        touchmark_tls::clock::from_rfc3339(text).ok_or_else(|| "verify_time is not RFC 3339".to_owned())
    }

    /// `verify_time` where there is one, else now.
    pub(super) fn time_or_now(&self) -> Result<u64, String> {
        match self.text("verify_time") {
            Some(_) => self.time(),
            None => Ok(touchmark_tls::clock::now()),
        }
    }

    /// Whether what the relying party demands is of the types that the format has: what is of another would demand nothing.
    pub(super) fn check_policy(&self) -> Result<(), String> {
        for (name, value) in &self.policy {
            let fits = match name.as_str() {
                "allowed_algs" => value
                    .as_array()
                    .is_some_and(|names| names.iter().all(Value::is_string)),
                "max_vmpl" | "max_proof_lifetime_s" => value.is_u64(),
                name if name.starts_with("require_") => value.is_boolean(),
                _ => true,
            };
            if !fits {
                return Err(format!("policy {name} is of another type than the format has"));
            }
        }
        Ok(())
    }

    /// What the relying party demands.
    pub(super) fn demands(&self, name: &str) -> Option<&Value> {
        self.policy.get(name)
    }

    /// Whether it demands this.
    pub(super) fn requires(&self, name: &str) -> bool {
        self.policy.get(name) == Some(&Value::Bool(true))
    }

    /// Register values by bank and number. Registers that do not exist are left out: nothing is compared with them.
    pub(super) fn registers(&self, role: &str) -> Result<Option<PcrValues>, String> {
        let Some(bytes) = self.optional(role)? else {
            return Ok(None);
        };
        let wrong = || format!("{role} is not {{bank: {{index: hex}}}}");
        let text: BTreeMap<String, BTreeMap<u32, String>> =
            serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        let mut out = BTreeMap::new();
        for (name, values) in text {
            let Some(bank) = bank(&name) else { continue };
            let mut registers = BTreeMap::new();
            for (index, value) in values {
                let value = hex::decode(value).map_err(|_| wrong())?;
                if let Ok(index) = u8::try_from(index) {
                    registers.insert(index, value);
                }
            }
            out.insert(bank, registers);
        }
        Ok(Some(out))
    }
}

/// A bank by its name.
pub(super) fn bank(name: &str) -> Option<HashAlg> {
    [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
        .into_iter()
        .find(|hash| hash.name() == name)
}

/// The certificates in a file, whether DER or PEM.
pub(super) fn certificates(bytes: &[u8]) -> Vec<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok();
    let pems = text.and_then(|text| pem::decode_all(pem::CERTIFICATE, text).ok());
    pems.unwrap_or_else(|| vec![bytes.to_vec()])
}

/// A path below a folder, as a manifest names it.
fn inside(folder: &Path, name: &str) -> Option<PathBuf> {
    let name = Path::new(name);
    let plain = name.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && name.components().next().is_some()).then(|| folder.join(name))
}

/// Reads a file of a case. What is no file could keep whoever opens it waiting.
fn read_evidence(path: &Path) -> Result<Vec<u8>, String> {
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(format!("{}: not a file", path.display()));
    }
    read_file(path, MAX_FILE)
}

fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(cannot)?;
    // By how much there is: files below /proc have no length.
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > limit {
        return Err(format!("{}: over {} MiB", path.display(), limit >> 20));
    }
    Ok(bytes)
}
