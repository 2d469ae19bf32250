//! Signatures. The token gets a digest (CKM_ECDSA), and answers `r ‖ s`. The first signature of a key is verified: a private and a
//! public key of one name need not belong together.

use cryptoki::mechanism::Mechanism;
use touchmark_api::device::FaultKind;
use touchmark_crypto::{HashAlg, KeyKind, SigScheme};
use touchmark_custody::pkcs11_uri::Pkcs11Uri;

use super::{Open, Shared, fault::Failure, lock};

impl Open {
    /// Signs a message; `r ‖ s`.
    pub(super) fn sign(
        &mut self,
        uri: &Pkcs11Uri,
        message: &[u8],
        shared: &Shared,
    ) -> Result<Vec<u8>, Failure> {
        let found = self.find(uri)?;
        let hash = match found.public.kind() {
            KeyKind::P384 => HashAlg::Sha384,
            _ => HashAlg::Sha256,
        };
        let signature = if found.always_authenticate {
            let mechanism = match hash {
                HashAlg::Sha384 => Mechanism::EcdsaSha384,
                _ => Mechanism::EcdsaSha256,
            };
            let failed = |error| Failure::module("C_Sign", error);
            self.session.sign_init(&mechanism, found.handle).map_err(failed)?;
            lock(&shared.login).once(&self.session, &shared.settings)?;
            self.session.sign_update(message).map_err(failed)?;
            self.session.sign_final().map_err(failed)?
        } else {
            let digest = hash.digest(&[message]);
            self.session
                .sign(&Mechanism::Ecdsa, found.handle, &digest)
                .map_err(|error| Failure::module("C_Sign", error))?
        };
        if !found.proved {
            found
                .public
                .verify(SigScheme::Ecdsa(hash), message, &signature)
                .map_err(|_| {
                    let what = "the token's signature is not one of the public key beside it: they do not belong together";
                    Failure::fault(FaultKind::Untrusted, what)
                })?;
            if let Some(remembered) = self.keys.get_mut(&uri.to_string()) {
                remembered.proved = true;
            }
        }
        Ok(signature)
    }
}
