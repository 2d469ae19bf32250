//! Certificates beside the keys that they are of, under the same label and identifier, as other programs look for them.

use cryptoki::object::{Attribute, AttributeType, CertificateType, ObjectClass};
use touchmark_api::device::FaultKind;
use touchmark_crypto::{
    der,
    x509::{Certificate, distinguished_names},
};
use touchmark_custody::pkcs11_uri::Pkcs11Uri;

use super::{Open, fault::Failure};

impl Open {
    /// Puts a certificate beside its key, in place of those that were there.
    pub(super) fn store_certificate(&mut self, uri: &Pkcs11Uri, certificate: &[u8]) -> Result<(), Failure> {
        let found = self.find(uri)?;
        let unusable = |what: &str| Failure::fault(FaultKind::Refused, format!("the certificate: {what}"));
        let facts = Certificate::parse(certificate).map_err(|error| unusable(&error.to_string()))?;
        if facts.spki != found.public.spki() {
            return Err(unusable("it is of another key"));
        }
        let (subject, issuer) =
            distinguished_names(certificate).map_err(|error| unusable(&error.to_string()))?;
        let mut named = self.attributes(found.handle, &[AttributeType::Label, AttributeType::Id])?;
        named.retain(|attribute| matches!(attribute, Attribute::Label(_) | Attribute::Id(_)));
        let id = named
            .iter()
            .find(|attribute| matches!(attribute, Attribute::Id(id) if !id.is_empty()));
        let id = id
            .cloned()
            .ok_or_else(|| unusable("its key has no identifier to find it by"))?;
        let wanted = [
            Attribute::Class(ObjectClass::CERTIFICATE),
            Attribute::Token(true),
            id,
        ];
        let before = self
            .session
            .find_objects(&wanted)
            .map_err(|error| Failure::module("C_FindObjects", error))?;
        let [class, token, _] = wanted;
        let mut template = vec![
            class,
            token,
            Attribute::CertificateType(CertificateType::X_509),
            Attribute::Private(false),
            Attribute::Subject(subject),
            Attribute::Issuer(issuer),
            Attribute::SerialNumber(der::tlv(0x02, &[&facts.serial])),
            Attribute::Value(certificate.to_vec()),
        ];
        template.extend(named);
        self.session
            .create_object(&template)
            .map_err(|error| Failure::module("C_CreateObject", error))?;
        for old in before {
            self.session
                .destroy_object(old)
                .map_err(|error| Failure::module("C_DestroyObject", error))?;
        }
        Ok(())
    }
}
