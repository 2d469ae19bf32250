//! Roots of makers that are shipped, by name. None of them counts unless somebody chooses it.

use touchmark_crypto::{CryptoError, pem, x509::DeviceAnchors};
use touchmark_rats::MakerKind;

use crate::Maker;

struct Shipped {
    name: &'static str,
    kind: MakerKind,
    roots: &'static str,
    intermediates: Option<&'static str>,
    /// Whether its endorsement certificates lack extended key usage and names.
    bare: bool,
    /// Whether it certifies attestation keys.
    attests: bool,
}

macro_rules! maker {
    ($name:literal, $kind:ident, roots $(, $extra:ident)?) => {
        Shipped {
            name: $name,
            kind: MakerKind::$kind,
            roots: include_str!(concat!("../anchors/", $name, ".pem")),
            intermediates: None,
            bare: maker!(@bare $($extra)?),
            attests: maker!(@attests $($extra)?),
        }
    };
    ($name:literal, $kind:ident, both $(, $extra:ident)?) => {
        Shipped {
            intermediates: Some(include_str!(concat!("../anchors/", $name, "-intermediates.pem"))),
            ..maker!($name, $kind, roots $(, $extra)?)
        }
    };
    (@bare bare) => { true };
    (@bare $($other:ident)?) => { false };
    (@attests attests) => { true };
    (@attests $($other:ident)?) => { false };
}

const SHIPPED: [Shipped; 10] = [
    maker!("amd", Physical, both),
    maker!("azure", Hypervisor, both, attests),
    maker!("google", Hypervisor, both, bare),
    maker!("infineon", Physical, both),
    maker!("intel", Physical, both),
    maker!("microsoft", Physical, both),
    maker!("nationz", Physical, both),
    maker!("nsing", Physical, both),
    maker!("nuvoton", Physical, both),
    maker!("stmicro", Physical, both),
];

/// The names of the makers whose roots are shipped.
pub fn shipped_names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|maker| maker.name)
}

/// A shipped maker by its name; `None` for a name that is none of [`shipped_names`].
pub fn shipped(name: &str) -> Option<Result<Maker, CryptoError>> {
    SHIPPED.iter().find(|maker| maker.name == name).map(Shipped::read)
}

impl Shipped {
    fn read(&self) -> Result<Maker, CryptoError> {
        let read = |text: &str| {
            let ders = pem::decode_all(pem::CERTIFICATE, text)?;
            DeviceAnchors::new(ders.iter().map(Vec::as_slice))
        };
        Ok(Maker {
            name: self.name.to_owned(),
            anchors: read(self.roots)?,
            intermediates: self.intermediates.map(read).transpose()?.unwrap_or_default(),
            kind: self.kind,
            simulated: false,
            bare_certificates: self.bare,
            attestation_certificates: self.attests,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use touchmark_crypto::{
        sha256,
        x509::{DeviceCertificate, Habits, verify_device_path},
    };

    use super::*;

    #[derive(serde::Deserialize)]
    struct List {
        anchor: Vec<Entry>,
    }

    #[derive(serde::Deserialize)]
    struct Entry {
        file: String,
        kind: MakerKind,
        sha256: String,
        origin: String,
    }

    fn list() -> Vec<Entry> {
        toml::from_str::<List>(include_str!("../anchors/anchors.toml"))
            .unwrap()
            .anchor
    }

    #[test]
    fn every_certificate_has_an_origin_and_the_kind_of_its_maker() {
        let entries = list();
        let mut known = BTreeSet::new();
        for entry in &entries {
            assert!(
                entry.origin.contains(':') || entry.origin.starts_with("debian/"),
                "{}",
                entry.origin
            );
            assert!(
                known.insert((entry.file.clone(), entry.sha256.clone())),
                "{}",
                entry.sha256
            );
        }
        let mut there = BTreeSet::new();
        for name in shipped_names() {
            let maker = shipped(name).unwrap().unwrap();
            for (file, anchors) in [
                (format!("{name}.pem"), &maker.anchors),
                (format!("{name}-intermediates.pem"), &maker.intermediates),
            ] {
                for certificate in anchors.certificates() {
                    there.insert((file.clone(), hex::encode(sha256(&[&certificate.facts.der]))));
                }
            }
            assert!(
                entries
                    .iter()
                    .filter(|entry| entry.file.starts_with(name))
                    .all(|entry| entry.kind == maker.kind)
            );
        }
        assert_eq!(there, known);
    }

    #[test]
    fn every_root_may_issue_and_every_intermediate_leads_to_a_root() {
        const NOW: u64 = 1_795_000_000;
        let makers: Vec<Maker> = shipped_names()
            .map(|name| shipped(name).unwrap().unwrap())
            .collect();
        // Some makers' intermediates are below another's root.
        let roots: Vec<&[u8]> = makers
            .iter()
            .flat_map(|maker| maker.anchors.certificates())
            .map(|root| root.facts.der.as_slice())
            .collect();
        let anchors = DeviceAnchors::new(roots).unwrap();
        assert!(anchors.certificates().iter().all(|root| root.facts.is_ca));
        for maker in &makers {
            let helpers: Vec<&DeviceCertificate> = maker.intermediates.certificates().iter().collect();
            for certificate in &helpers {
                let path = verify_device_path(certificate, &helpers, &anchors, Habits::OF_TPMS, NOW);
                assert!(path.is_ok(), "{}: {path:?}", certificate.label());
            }
        }
    }
}
