//! `server.toml`: parsed whole before anything is opened.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::{Map, Value};
use touchmark_attestor_tpm::{Maker, ima::SignatureKeys};
use touchmark_crypto::{
    HashAlg, PublicKey,
    jose::json,
    pem,
    x509::{DeviceAnchors, DeviceCertificate},
};
use touchmark_external::MAX_VERIFIERS;
use touchmark_identity::{Naming, TrustDomain};
use touchmark_issuer::parse_duration;
use touchmark_rats::{MakerKind, PcrSelection, RUNTIME_REGISTER};
use touchmark_tls::files;

use crate::{
    ServerError,
    holders::{DeviceFile, Holders, HsmFile, KeysFile},
    verifiers::{OtherVerifier, VerifierFile},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    trust_domain: String,
    #[serde(default)]
    naming: Naming,
    #[serde(default = "state")]
    state: PathBuf,
    #[serde(default = "one_hour")]
    host_lifetime: String,
    #[serde(default = "ten_minutes")]
    reattest_interval: String,
    listen: Listen,
    #[serde(default)]
    admin: Admin,
    #[serde(default)]
    device: DeviceFile,
    hsm: Option<HsmFile>,
    #[serde(default)]
    keys: KeysFile,
    #[serde(default)]
    tpm: Tpm,
    #[serde(default)]
    reference: ReferenceFile,
    #[serde(default)]
    ima: ImaFile,
    #[serde(default, rename = "verifier")]
    verifiers: Vec<VerifierFile>,
    #[serde(default)]
    limits: Limits,
}

/// What hosts' kernels measure while they run.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImaFile {
    /// Whether hosts are asked for it.
    #[serde(default)]
    enabled: bool,
    /// Files with public keys or certificates, PEM, of those whose signatures of files count.
    #[serde(default)]
    keys: Vec<PathBuf>,
}

/// Who may sign reference values: names and files with their public keys, JWK.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReferenceFile {
    #[serde(default)]
    signers: BTreeMap<String, PathBuf>,
}

fn state() -> PathBuf {
    PathBuf::from("/var/lib/touchmark/server")
}

fn one_hour() -> String {
    "1h".to_owned()
}

fn ten_minutes() -> String {
    "10m".to_owned()
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listen {
    attest: SocketAddr,
    hosts: SocketAddr,
    bundle: Option<SocketAddr>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Admin {
    socket: PathBuf,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            socket: PathBuf::from(touchmark_api::admin::DEFAULT_SOCKET),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tpm {
    #[serde(default)]
    pcrs: Option<Vec<u8>>,
    #[serde(default)]
    bank: Bank,
    #[serde(default, rename = "maker")]
    makers: Vec<MakerConfig>,
    #[serde(default)]
    shipped: Vec<String>,
}

/// The bank of registers that hosts quote.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Bank {
    #[default]
    Sha256,
    Sha384,
}

/// A maker of TPMs in configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakerConfig {
    /// Name in claims.
    pub name: String,
    /// PEM file with its roots.
    pub roots: PathBuf,
    /// PEM file with certificates between its roots and its chips, where the chips do not bring them.
    #[serde(default)]
    pub intermediates: Option<PathBuf>,
    /// What it vouches for.
    pub kind: MakerKind,
    /// Whether it is a simulation.
    #[serde(default)]
    pub simulated: bool,
    /// Whether its endorsement certificates lack extended key usage and names.
    #[serde(default)]
    pub bare_certificates: bool,
    /// Whether it certifies attestation keys.
    #[serde(default)]
    pub attestation_certificates: bool,
}

/// What peers may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests per second from one address at `listen.attest`, after a burst of ten times as many.
    pub per_source: u32,
    /// Requests per second from one attested host at `listen.hosts`, after a burst of ten times as many.
    pub per_host: u32,
    /// Requests per second at a listener, and new connections, after a burst of twice as many.
    pub overall: u32,
    /// New connections per second from one address at a listener, after a burst of ten times as many.
    pub handshakes_per_source: u32,
    /// Open connections per listener.
    pub connections: usize,
    /// Open connections of one address per listener.
    pub connections_per_source: usize,
    /// Open sessions of attested hosts, who keep one each.
    pub sessions: usize,
    /// Memory for messages that are arriving, in MiB, over all listeners.
    pub messages: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_source: 10,
            per_host: 100,
            overall: 1_000,
            handshakes_per_source: 20,
            connections: 4_096,
            connections_per_source: 256,
            sessions: 16_384,
            messages: 256,
        }
    }
}

impl Limits {
    /// The same for `listen.hosts`: a session each for as many hosts, however many of them come from behind one address.
    pub(crate) fn for_hosts(&self) -> Self {
        Self {
            connections: self.sessions,
            connections_per_source: self.sessions,
            ..*self
        }
    }

    /// Nothing is unlimited, and nothing is closed by a zero.
    fn check(&self) -> Result<(), String> {
        let smallest = [
            self.per_source,
            self.per_host,
            self.overall,
            self.handshakes_per_source,
        ];
        if smallest.contains(&0)
            || [self.connections, self.connections_per_source, self.sessions].contains(&0)
        {
            return Err("limits: a limit of 0 would serve nobody; leave it out for the default".into());
        }
        if !(16..=65_536).contains(&self.messages) || self.connections.max(self.sessions) > 1_000_000 {
            return Err(
                "limits: messages is 16 to 65536 MiB, connections and sessions at most 1000000".into(),
            );
        }
        Ok(())
    }
}

/// The configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// State folder.
    pub state: PathBuf,
    /// Life of host certificates, seconds.
    pub host_lifetime: u64,
    /// Seconds within which a host has to attest again; one that does not gets nothing more until it does.
    pub reattest_interval: u64,
    /// Address for hosts without a certificate.
    pub attest: SocketAddr,
    /// Address for mutual TLS.
    pub hosts: SocketAddr,
    /// Address that serves only the bundle.
    pub bundle: Option<SocketAddr>,
    /// Operators' socket.
    pub admin_socket: PathBuf,
    /// What holds the service's keys.
    pub holders: Holders,
    /// Registers that hosts quote.
    pub selection: PcrSelection,
    /// Makers whose chips are believed.
    pub makers: Vec<Maker>,
    /// Keys whose signatures of files count.
    pub file_keys: SignatureKeys,
    /// Who may sign reference values, by name.
    pub reference_signers: Vec<(String, Map<String, Value>)>,
    /// Verifiers whose results about hosts are demanded beside our own appraisal.
    pub verifiers: Vec<Arc<OtherVerifier>>,
    /// Request rates.
    pub limits: Limits,
}

impl Config {
    /// Reads and checks a file, which others must not be able to write. Relative paths are relative to it.
    pub fn load(path: &Path) -> Result<Self, ServerError> {
        let wrong = |what: String| ServerError::Config {
            path: path.to_owned(),
            what,
        };
        let text = files::read_config(path)?;
        let file: File = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let here = path.parent().unwrap_or(Path::new("."));
        let trust_domain = TrustDomain::configured(&file.trust_domain, &file.naming)
            .map_err(|error| wrong(format!("trust_domain: {error}; {}", error.remedy())))?;
        let host_lifetime = parse_duration(&file.host_lifetime)
            .filter(|seconds| (30..=86_400).contains(seconds))
            .ok_or_else(|| wrong("host_lifetime: between 30s and 24h, for example \"1h\"".into()))?;
        let reattest_interval = parse_duration(&file.reattest_interval)
            .filter(|seconds| (3..=86_400).contains(seconds))
            .ok_or_else(|| wrong("reattest_interval: between 3s and 24h, for example \"10m\"".into()))?;
        let mut pcrs = file.tpm.pcrs.unwrap_or_else(|| (0..=9).collect());
        if pcrs.is_empty() || pcrs.iter().any(|pcr| *pcr > 23) {
            return Err(wrong(
                "tpm.pcrs: one or more register numbers from 0 to 23".into(),
            ));
        }
        if pcrs.iter().any(|pcr| [16, 23].contains(pcr)) {
            return Err(wrong(
                "tpm.pcrs: 16 and 23 can be reset by anybody on the host and prove nothing".into(),
            ));
        }
        if pcrs.contains(&RUNTIME_REGISTER) {
            return Err(wrong(
                "tpm.pcrs: 10 goes on changing while a host runs, and no boot log explains it; say [ima] enabled = true".into(),
            ));
        }
        pcrs.extend(file.ima.enabled.then_some(RUNTIME_REGISTER));
        let file_keys = read_file_keys(here, &file.ima.keys).map_err(wrong)?;
        file.limits.check().map_err(wrong)?;
        let mut makers: Vec<Maker> = Vec::new();
        for name in &file.tpm.shipped {
            let known: Vec<&str> = touchmark_attestor_tpm::shipped_names().collect();
            let maker = touchmark_attestor_tpm::shipped(name).ok_or_else(|| {
                wrong(format!(
                    "tpm.shipped: no maker {name:?}; there are {}",
                    known.join(", ")
                ))
            })?;
            makers.push(maker.map_err(|error| wrong(format!("tpm.shipped: {name}: {error}")))?);
        }
        for maker in &file.tpm.makers {
            if makers.iter().any(|other| other.name == maker.name) {
                return Err(wrong(format!("tpm.maker: {:?} appears twice", maker.name)));
            }
            makers.push(read_maker(here, maker)?);
        }
        let mut reference_signers = Vec::new();
        for (name, path) in &file.reference.signers {
            let path = here.join(path);
            let text = files::read_config(&path)?;
            let jwk = json::object(text.as_bytes())
                .ok()
                .filter(|jwk| !jwk.contains_key("d"));
            let jwk = jwk.ok_or_else(|| {
                wrong(format!(
                    "reference.signers.{name}: {} is no public JWK",
                    path.display()
                ))
            })?;
            reference_signers.push((name.clone(), jwk));
        }
        if file.verifiers.len() > MAX_VERIFIERS {
            return Err(wrong(format!("verifier: at most {MAX_VERIFIERS}")));
        }
        let mut verifiers: Vec<Arc<OtherVerifier>> = Vec::new();
        let mut names = BTreeSet::new();
        for verifier in file.verifiers {
            if !names.insert(verifier.name.clone()) {
                return Err(wrong(format!("verifier: {:?} appears twice", verifier.name)));
            }
            verifiers.push(Arc::new(verifier.read(here).map_err(wrong)?));
        }
        let holders = Holders::read(here, file.device, file.hsm, &file.keys).map_err(wrong)?;
        Ok(Self {
            trust_domain,
            state: here.join(file.state),
            host_lifetime,
            reattest_interval,
            attest: file.listen.attest,
            hosts: file.listen.hosts,
            bundle: file.listen.bundle,
            admin_socket: here.join(file.admin.socket),
            holders,
            selection: match file.tpm.bank {
                Bank::Sha256 => PcrSelection::sha256(pcrs),
                Bank::Sha384 => PcrSelection::of(HashAlg::Sha384, pcrs),
            },
            makers,
            file_keys,
            reference_signers,
            verifiers,
            limits: file.limits,
        })
    }
}

fn read_file_keys(here: &Path, paths: &[PathBuf]) -> Result<SignatureKeys, String> {
    let mut keys = Vec::new();
    for path in paths {
        let path = here.join(path);
        let wrong = |what: &str| format!("ima.keys: {}: {what}", path.display());
        let text = files::read_config(&path).map_err(|error| wrong(&error.to_string()))?;
        let mut spkis = pem::decode_all("PUBLIC KEY", &text).unwrap_or_default();
        for der in pem::decode_all(pem::CERTIFICATE, &text).unwrap_or_default() {
            let certificate = DeviceCertificate::parse(&der).map_err(|error| wrong(&error.to_string()))?;
            spkis.push(certificate.facts.spki);
        }
        if spkis.is_empty() {
            return Err(wrong("neither a public key nor a certificate in PEM form"));
        }
        for spki in spkis {
            keys.push(PublicKey::from_file_signer_spki(&spki).map_err(|error| wrong(&error.to_string()))?);
        }
    }
    Ok(SignatureKeys::new(keys))
}

fn read_maker(here: &Path, maker: &MakerConfig) -> Result<Maker, ServerError> {
    let read = |path: &PathBuf| -> Result<DeviceAnchors, ServerError> {
        let path = here.join(path);
        let wrong = |what: String| ServerError::File {
            path: path.clone(),
            what,
        };
        let text = files::read_config(&path)?;
        let ders = pem::decode_all(pem::CERTIFICATE, &text)
            .map_err(|_| wrong("no certificate in PEM form".into()))?;
        DeviceAnchors::new(ders.iter().map(Vec::as_slice)).map_err(|error| wrong(error.to_string()))
    };
    let intermediates = maker.intermediates.as_ref().map(read).transpose()?;
    Ok(Maker {
        name: maker.name.clone(),
        anchors: read(&maker.roots)?,
        intermediates: intermediates.unwrap_or_default(),
        kind: maker.kind,
        simulated: maker.simulated,
        bare_certificates: maker.bare_certificates,
        attestation_certificates: maker.attestation_certificates,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e23_registers_that_anybody_on_the_host_can_reset_or_that_change_all_day_are_not_asked_for() {
        let refused = |tpm: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("server.toml");
            let text = format!(
                "trust_domain = \"spiffe://example.org\"\n[listen]\nattest = \"127.0.0.1:1\"\nhosts = \"127.0.0.1:2\"\n\
                 [device]\ntcti = \"device:/dev/tpmrm0\"\npath = \"touchmark-device\"\n{tpm}\n"
            );
            files::write_private(&path, text.as_bytes()).unwrap();
            Config::load(&path).map_err(|error| error.to_string())
        };
        for pcr in [16, 23] {
            let error = refused(&format!("[tpm]\npcrs = [0, {pcr}]")).unwrap_err();
            assert!(error.contains("can be reset by anybody"), "{error}");
        }
        let error = refused("[tpm]\npcrs = [0, 10]").unwrap_err();
        assert!(error.contains("[ima] enabled = true"), "{error}");
        let config = refused("[ima]\nenabled = true").unwrap();
        assert_eq!(config.selection, PcrSelection::sha256(0..=10));
        assert_eq!(refused("").unwrap().selection, PcrSelection::boot());
    }

    #[test]
    fn limits_are_what_the_documentation_says_and_none_is_zero() {
        let limits = Limits::default();
        let each = [
            limits.per_source,
            limits.per_host,
            limits.overall,
            limits.handshakes_per_source,
            limits.messages,
        ];
        assert_eq!(each, [10, 100, 1_000, 20, 256]);
        assert_eq!((limits.connections, limits.connections_per_source), (4_096, 256));
        assert_eq!(limits.sessions, 16_384);
        limits.check().unwrap();
        for wrong in [
            Limits {
                per_source: 0,
                ..limits
            },
            Limits {
                per_host: 0,
                ..limits
            },
            Limits { overall: 0, ..limits },
            Limits {
                handshakes_per_source: 0,
                ..limits
            },
            Limits {
                connections: 0,
                ..limits
            },
            Limits {
                connections_per_source: 0,
                ..limits
            },
            Limits {
                sessions: 0,
                ..limits
            },
            Limits {
                messages: 1,
                ..limits
            },
        ] {
            assert!(wrong.check().unwrap_err().starts_with("limits:"), "{wrong:?}");
        }
    }
}
