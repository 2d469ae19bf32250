//! The certification authority's four acts: make the offline root, ask for an intermediate, sign it, install it.
//!
//! The root's key is made in a TPM or an HSM of its own and used only to sign intermediates; the intermediate's key is made in the
//! service's. What crosses between the two machines is a PKCS #10 request, of which only the key is taken, and
//! certificates.

use std::path::{Path, PathBuf};

use touchmark_crypto::{
    CryptoError, Entropy, PublicKey, Signer, SystemEntropy, pem,
    x509::{
        Anchors, Certificate, Profile, Template, Usage, issue, parse_request, self_signed, verify_path,
        write_request,
    },
};
use touchmark_identity::TrustDomain;

use touchmark_tls::files;

use crate::{Config, Holder, ServerError, keys};

/// Life of a root.
const ROOT_LIFETIME: u64 = 10 * 365 * 86_400;
/// How far back certificates begin.
const BACKDATE: u64 = 3_600;

/// Where the service keeps its certificates and keys.
pub(crate) struct Places {
    pub(crate) keys: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) intermediate: PathBuf,
}

impl Places {
    pub(crate) fn of(state: &Path) -> Self {
        Self {
            keys: state.join("keys"),
            root: state.join("root.pem"),
            intermediate: state.join("intermediate.pem"),
        }
    }
}

/// Makes the offline root in `folder`, its key in `holder`. Returns its certificate.
pub fn init(
    folder: &Path,
    trust_domain: &TrustDomain,
    holder: &Holder,
    now: u64,
) -> Result<Certificate, ServerError> {
    files::private_folder(folder)?;
    let path = folder.join("root.pem");
    if path.exists() {
        return Err(ServerError::File {
            path,
            what: "a root exists here already and is not replaced".into(),
        });
    }
    let key = keys::ROOT.open_or_create(folder, &*holder.keys(), trust_domain)?;
    let template = Template {
        profile: Profile::Root,
        common_name: format!("Touchmark root {}", trust_domain.name()),
        uri: Some(trust_domain.to_string()),
        dns_names: Vec::new(),
        not_before: now - BACKDATE,
        not_after: now + ROOT_LIFETIME,
        serial: SystemEntropy.array()?,
        extensions: Vec::new(),
    };
    let der = self_signed(&template, &key)?;
    holder.store(&keys::ROOT.reference(folder)?, &der)?;
    files::write_public(&path, pem::encode(pem::CERTIFICATE, &der).as_bytes())?;
    Ok(Certificate::parse(&der)?)
}

/// Where the root's key is and what its device says of it, for whoever has to be told.
pub fn tell_root(folder: &Path, holder: &Holder) -> Result<String, ServerError> {
    holder.tell(&keys::ROOT.reference(folder)?)
}

/// Makes the intermediate's key in the service's device, where there is none, and returns a request for it, PEM, with the
/// digest of the key.
pub fn request(config: &Config) -> Result<(String, [u8; 32]), ServerError> {
    files::private_folder(&config.state)?;
    let places = Places::of(&config.state);
    files::private_folder(&places.keys)?;
    let key = keys::INTERMEDIATE.open_or_create(
        &places.keys,
        &*config.holders.intermediate.keys(),
        &config.trust_domain,
    )?;
    let request = pem::encode(pem::CERTIFICATE_REQUEST, &write_request(&key)?);
    Ok((request, key.public_key().digest()))
}

/// What a root is about to sign: for the person who decides.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The key in the request.
    pub key: PublicKey,
    /// The certificate that will sign.
    pub root: Certificate,
    /// Common name of the intermediate.
    pub common_name: String,
    /// Start of validity, seconds since the epoch.
    pub not_before: u64,
    /// End of validity.
    pub not_after: u64,
}

/// Reads a request and says what signing it would mean. Subject, attributes and extensions of the request are ignored.
pub fn propose(folder: &Path, request: &str, lifetime: u64, now: u64) -> Result<Proposal, ServerError> {
    let root = read_certificate(&folder.join("root.pem"))?;
    let blocks = pem::decode_all(pem::CERTIFICATE_REQUEST, request)?;
    let [request] = blocks.as_slice() else {
        return Err(ServerError::Other(
            "the file holds more than one certificate request".into(),
        ));
    };
    let key = parse_request(request)?;
    let end = u64::try_from(root.not_after).unwrap_or(0);
    Ok(Proposal {
        common_name: format!(
            "Touchmark intermediate {}",
            hex::encode(key.digest().get(..8).unwrap_or_default())
        ),
        key,
        root,
        not_before: now - BACKDATE,
        not_after: (now + lifetime).min(end),
    })
}

/// Signs a proposal with the root's key; PEM.
pub fn sign(folder: &Path, proposal: &Proposal, holder: &Holder) -> Result<String, ServerError> {
    let key = keys::ROOT.open(folder, &*holder.keys())?;
    let template = Template {
        profile: Profile::Intermediate,
        common_name: proposal.common_name.clone(),
        uri: proposal.root.uri_sans.first().cloned(),
        dns_names: Vec::new(),
        not_before: proposal.not_before,
        not_after: proposal.not_after,
        serial: SystemEntropy.array()?,
        extensions: Vec::new(),
    };
    let der = issue(&template, &proposal.key, &proposal.root, &key)?;
    Ok(pem::encode(pem::CERTIFICATE, &der))
}

/// Installs root and intermediate after checking that they belong together, to this trust domain and to the service's
/// key.
pub fn install(config: &Config, root: &str, intermediate: &str, now: u64) -> Result<(), ServerError> {
    let places = Places::of(&config.state);
    let key = keys::INTERMEDIATE.open(&places.keys, &*config.holders.intermediate.keys())?;
    let root = one(root)?;
    let intermediate = one(intermediate)?;
    check(&config.trust_domain, &root, &intermediate, &key, now)?;
    let holder = &config.holders.intermediate;
    holder.store(&keys::INTERMEDIATE.reference(&places.keys)?, &intermediate.der)?;
    files::write_public(&places.root, pem::encode(pem::CERTIFICATE, &root.der).as_bytes())?;
    Ok(files::write_public(
        &places.intermediate,
        pem::encode(pem::CERTIFICATE, &intermediate.der).as_bytes(),
    )?)
}

/// What is installed: root and intermediate.
pub fn installed(config: &Config) -> Result<(Certificate, Certificate), ServerError> {
    let places = Places::of(&config.state);
    if !places.intermediate.exists() {
        return Err(ServerError::File {
            path: places.intermediate,
            what: "no intermediate is installed: run touchmark ca request, sign-intermediate and install"
                .into(),
        });
    }
    Ok((
        read_certificate(&places.root)?,
        read_certificate(&places.intermediate)?,
    ))
}

/// Checks that certificates and key make one authority of this trust domain.
pub(crate) fn check(
    trust_domain: &TrustDomain,
    root: &Certificate,
    intermediate: &Certificate,
    key: &dyn Signer,
    now: u64,
) -> Result<(), ServerError> {
    let refuse = |what: &str| Err(ServerError::Other(what.to_owned()));
    if intermediate.spki != key.public_key().spki() {
        return refuse(
            "the intermediate certificate is for another key than this service's; sign its own request",
        );
    }
    if !intermediate.is_ca || !intermediate.can_sign_certificates {
        return refuse("the intermediate certificate is not a CA certificate");
    }
    let origin = trust_domain.to_string();
    if [root, intermediate]
        .iter()
        .any(|certificate| certificate.uri_sans != [origin.as_str()])
    {
        return Err(ServerError::Other(format!(
            "root or intermediate is not of trust domain {origin}"
        )));
    }
    if !root.self_issued {
        return refuse("the root certificate is not self-signed");
    }
    // A CA certificate passes the path builder only as what it is: build the path of a leaf that stands for it.
    let anchors = Anchors::new([root.der.clone()])?;
    let probe = probe(intermediate, key, now)?;
    verify_path(
        &probe,
        std::slice::from_ref(&intermediate.der),
        &anchors,
        Usage::Server,
        now,
    )
    .map_err(CryptoError::from)?;
    Ok(())
}

/// A leaf below the intermediate that lives for a moment: it shows that chains will verify.
fn probe(intermediate: &Certificate, key: &dyn Signer, now: u64) -> Result<Vec<u8>, ServerError> {
    let template = Template {
        profile: Profile::Leaf,
        common_name: String::new(),
        uri: None,
        dns_names: vec!["probe.invalid".to_owned()],
        not_before: now.saturating_sub(1),
        not_after: now + 1,
        serial: SystemEntropy.array()?,
        extensions: Vec::new(),
    };
    Ok(issue(&template, key.public_key(), intermediate, key)?)
}

pub(crate) fn read_certificate(path: &Path) -> Result<Certificate, ServerError> {
    one(&files::read_config(path)?)
}

fn one(text: &str) -> Result<Certificate, ServerError> {
    match pem::decode_all(pem::CERTIFICATE, text)?.as_slice() {
        [der] => Ok(Certificate::parse(der)?),
        _ => Err(ServerError::Other(
            "a file with exactly one certificate is expected".into(),
        )),
    }
}
