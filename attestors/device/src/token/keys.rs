//! Keys in a token: made for signatures alone, found by URI, described by what the token says of them.

use cryptoki::{
    error::RvError,
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
};
use serde_bytes::ByteBuf;
use touchmark_api::device::{FaultKind, TokenKeyKind};
use touchmark_crypto::{Entropy, KeyKind, PublicKey, SystemEntropy, der};
use touchmark_custody::pkcs11_uri::{ObjectType, Pkcs11Uri};
use touchmark_rats::token::{TokenAttributes, TokenKey};

use super::{MAX_REMEMBERED, Open, fault::Failure};

/// Longest label of a key, in bytes.
const MAX_LABEL: usize = 64;

/// Named curves, DER.
const P256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const P384: &[u8] = &[0x06, 5, 0x2b, 0x81, 4, 0, 0x22];

/// A key that was found.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) handle: ObjectHandle,
    pub(super) public: PublicKey,
    pub(super) always_authenticate: bool,
    /// Whether a signature of it was seen to be one of the public key.
    pub(super) proved: bool,
}

impl Open {
    /// Makes a key pair, and makes sure that it is what was asked for: one that could leave the token is destroyed again.
    pub(super) fn create_key(&mut self, kind: TokenKeyKind, label: &str) -> Result<TokenKey, Failure> {
        if label.is_empty() || label.len() > MAX_LABEL {
            return Err(Failure::fault(
                FaultKind::Refused,
                "a key's label has 1 to 64 bytes",
            ));
        }
        let curve = match kind {
            TokenKeyKind::P256 => P256,
            TokenKeyKind::P384 => P384,
        };
        // A name of its own: labels may be there twice.
        let mut id = vec![0; 16];
        SystemEntropy
            .fill(&mut id)
            .map_err(|_| Failure::fault(FaultKind::Unavailable, "the system has no random numbers"))?;
        let (public, private) = self.generate(curve, label, &id)?;
        let made = self
            .described(private, label, &id)
            .and_then(|key| match key.attributes.could_leave() {
                None => Ok(key),
                Some(why) => Err(Failure::fault(
                    FaultKind::Untrusted,
                    format!("the token made a key that could leave it: {why}; it was destroyed again"),
                )),
            });
        if made.is_err() {
            for handle in [public, private] {
                let _ = self.session.destroy_object(handle);
            }
        }
        made
    }

    /// Generates with all restrictions that PKCS#11 has, or with those that this token knows.
    fn generate(
        &self,
        curve: &[u8],
        label: &str,
        id: &[u8],
    ) -> Result<(ObjectHandle, ObjectHandle), Failure> {
        let named = [
            Attribute::Label(label.as_bytes().to_vec()),
            Attribute::Id(id.to_vec()),
        ];
        let public = [
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::EcParams(curve.to_vec()),
        ];
        let needed = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
        ];
        // Nothing but signatures; and no change later. Some tokens have one switch for several of these, and refuse what contradicts itself.
        let alone = [
            Attribute::Decrypt(false),
            Attribute::Unwrap(false),
            Attribute::Derive(false),
        ];
        let fixed = [
            Attribute::SignRecover(false),
            Attribute::Modifiable(false),
            Attribute::Copyable(false),
        ];
        let nothing_else = [Attribute::Encrypt(false), Attribute::Wrap(false)];
        let tries = [
            (nothing_else.to_vec(), [&alone[..], &fixed[..]].concat()),
            (nothing_else.to_vec(), alone.to_vec()),
            (Vec::new(), alone.to_vec()),
            (Vec::new(), Vec::new()),
        ];
        let mut last = None;
        for (of_public, more) in tries {
            let public: Vec<Attribute> = of_public.iter().chain(&named).chain(&public).cloned().collect();
            // What a key may do comes last: there are modules that take back by one attribute what another gave.
            let private: Vec<Attribute> = more.iter().chain(&named).chain(&needed).cloned().collect();
            match self
                .session
                .generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)
            {
                Ok(pair) => return Ok(pair),
                Err(error) => {
                    let failure = Failure::module("C_GenerateKeyPair", error);
                    // Of attributes that a token does not know, or does not let be chosen, the next try has fewer.
                    let attribute = matches!(
                        failure.answer(),
                        Some(
                            RvError::AttributeTypeInvalid
                                | RvError::AttributeValueInvalid
                                | RvError::AttributeReadOnly
                                | RvError::TemplateInconsistent
                                | RvError::GeneralError
                        )
                    );
                    if !attribute {
                        return Err(failure);
                    }
                    last = Some(failure);
                }
            }
        }
        Err(last.unwrap_or_else(|| Failure::fault(FaultKind::Refused, "the token makes no such key")))
    }

    /// What the token says of a key.
    pub(super) fn describe_key(&mut self, uri: &Pkcs11Uri) -> Result<TokenKey, Failure> {
        let found = self.find(uri)?;
        let named = self.attributes(found.handle, &[AttributeType::Label, AttributeType::Id])?;
        let (mut label, mut id) = (String::new(), Vec::new());
        for attribute in named {
            match attribute {
                Attribute::Label(bytes) => label = String::from_utf8_lossy(&bytes).into_owned(),
                Attribute::Id(bytes) => id = bytes,
                _ => {}
            }
        }
        self.described(found.handle, &label, &id)
    }

    /// Destroys both halves of a key.
    pub(super) fn destroy_key(&mut self, uri: &Pkcs11Uri) -> Result<(), Failure> {
        let found = self.find(uri)?;
        let public = self.public_half(found.handle)?;
        self.keys.clear();
        for handle in [Some(found.handle), public].into_iter().flatten() {
            self.session
                .destroy_object(handle)
                .map_err(|error| Failure::module("C_DestroyObject", error))?;
        }
        Ok(())
    }

    /// The one private key that a URI names.
    pub(super) fn find(&mut self, uri: &Pkcs11Uri) -> Result<Found, Failure> {
        let name = uri.to_string();
        if let Some(found) = self.keys.get(&name) {
            return Ok(found.clone());
        }
        if !uri.names_token(&self.facts) {
            return Err(Failure::fault(
                FaultKind::NoKey,
                format!("{name} is not in the token that is configured (hsm.token)"),
            ));
        }
        if uri.kind().is_some_and(|kind| kind != ObjectType::Private) {
            return Err(Failure::fault(
                FaultKind::Refused,
                format!("{name} names no private key"),
            ));
        }
        let mut wanted = vec![Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Token(true)];
        wanted.extend(
            uri.object()
                .map(|label| Attribute::Label(label.as_bytes().to_vec())),
        );
        wanted.extend(uri.id().map(|id| Attribute::Id(id.to_vec())));
        let handles = self
            .session
            .find_objects(&wanted)
            .map_err(|error| Failure::module("C_FindObjects", error))?;
        let [handle] = handles.as_slice() else {
            let (kind, what) = if handles.is_empty() {
                (FaultKind::NoKey, format!("no private key in the token is {name}"))
            } else {
                let many = handles.len();
                let what = format!("{many} private keys in the token are {name}: name one by its id");
                (FaultKind::Refused, what)
            };
            return Err(Failure::fault(kind, what));
        };
        let asked = self.attributes(*handle, &[AttributeType::AlwaysAuthenticate])?;
        let found = Found {
            handle: *handle,
            public: self.public_key(*handle)?,
            always_authenticate: asked.contains(&Attribute::AlwaysAuthenticate(true)),
            proved: false,
        };
        if self.keys.len() >= MAX_REMEMBERED {
            self.keys.clear();
        }
        self.keys.insert(name, found.clone());
        Ok(found)
    }

    fn described(&self, handle: ObjectHandle, label: &str, id: &[u8]) -> Result<TokenKey, Failure> {
        let asked = [
            AttributeType::Sensitive,
            AttributeType::AlwaysSensitive,
            AttributeType::Extractable,
            AttributeType::NeverExtractable,
            AttributeType::Local,
            AttributeType::Modifiable,
            AttributeType::Sign,
            AttributeType::Decrypt,
            AttributeType::Unwrap,
            AttributeType::Derive,
            AttributeType::AlwaysAuthenticate,
        ];
        let mut attributes = TokenAttributes::default();
        for attribute in self.attributes(handle, &asked)? {
            match attribute {
                Attribute::Sensitive(value) => attributes.sensitive = Some(value),
                Attribute::AlwaysSensitive(value) => attributes.always_sensitive = Some(value),
                Attribute::Extractable(value) => attributes.extractable = Some(value),
                Attribute::NeverExtractable(value) => attributes.never_extractable = Some(value),
                Attribute::Local(value) => attributes.local = Some(value),
                Attribute::Modifiable(value) => attributes.modifiable = Some(value),
                Attribute::Sign(value) => attributes.sign = Some(value),
                Attribute::Decrypt(value) => attributes.decrypt = Some(value),
                Attribute::Unwrap(value) => attributes.unwrap = Some(value),
                Attribute::Derive(value) => attributes.derive = Some(value),
                Attribute::AlwaysAuthenticate(value) => attributes.always_authenticate = Some(value),
                _ => {}
            }
        }
        Ok(TokenKey {
            uri: Pkcs11Uri::of_key(&self.facts, label, id).to_string(),
            spki: ByteBuf::from(self.public_key(handle)?.spki()),
            attributes,
        })
    }

    pub(super) fn attributes(
        &self,
        handle: ObjectHandle,
        asked: &[AttributeType],
    ) -> Result<Vec<Attribute>, Failure> {
        self.session
            .get_attributes(handle, asked)
            .map_err(|error| Failure::module("C_GetAttributeValue", error))
    }

    /// The public key that goes with a private one, by its id.
    fn public_half(&self, private: ObjectHandle) -> Result<Option<ObjectHandle>, Failure> {
        let named = self.attributes(private, &[AttributeType::Id])?;
        let id = named.into_iter().find_map(|attribute| match attribute {
            Attribute::Id(id) if !id.is_empty() => Some(id),
            _ => None,
        });
        let Some(id) = id else { return Ok(None) };
        let wanted = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Id(id)];
        let handles = self
            .session
            .find_objects(&wanted)
            .map_err(|error| Failure::module("C_FindObjects", error))?;
        Ok(match handles.as_slice() {
            [handle] => Some(*handle),
            _ => None,
        })
    }

    /// The public key of a private one: as its public half has it, or where there is none as the private one says itself.
    fn public_key(&self, private: ObjectHandle) -> Result<PublicKey, Failure> {
        let asked = [
            AttributeType::KeyType,
            AttributeType::EcParams,
            AttributeType::EcPoint,
        ];
        let mut attributes = self.attributes(private, &asked)?;
        if let Some(public) = self.public_half(private)? {
            attributes.extend(self.attributes(public, &asked)?);
        }
        let unusable =
            |what: &str| Failure::fault(FaultKind::Refused, format!("the key cannot be used: {what}"));
        if attributes
            .iter()
            .any(|attribute| matches!(attribute, Attribute::KeyType(kind) if *kind != KeyType::EC))
        {
            return Err(unusable("it is not on an elliptic curve"));
        }
        let curve = attributes.iter().find_map(|attribute| match attribute {
            Attribute::EcParams(curve) if !curve.is_empty() => Some(curve.as_slice()),
            _ => None,
        });
        let kind = match curve {
            Some(P256) => KeyKind::P256,
            Some(P384) => KeyKind::P384,
            _ => return Err(unusable("its curve is not P-256 or P-384")),
        };
        let point = attributes.iter().find_map(|attribute| match attribute {
            Attribute::EcPoint(point) if !point.is_empty() => Some(point.as_slice()),
            _ => None,
        });
        let point = point.ok_or_else(|| unusable("the token has no public key beside it"))?;
        // In an OCTET STRING, as the text says, or bare, as some tokens have it.
        let bare = der::contents(0x04, point).unwrap_or(point);
        PublicKey::from_ec_point(kind, bare).map_err(|error| unusable(&error.to_string()))
    }
}
