//! Key templates. Primaries come out the same each time they are made from them.

use touchmark_crypto::sha256;
use tss_esapi::{
    Error,
    abstraction::ek::create_ek_public_from_default_template_2,
    abstraction::{AsymmetricAlgorithmSelection, DefaultKey},
    attributes::ObjectAttributesBuilder,
    interface_types::{
        algorithm::{HashingAlgorithm, PublicAlgorithm},
        ecc::EccCurve,
        key_bits::RsaKeyBits,
    },
    structures::{
        Digest, EccParameter, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, Public,
        PublicBuilder, PublicEccParametersBuilder, SymmetricDefinitionObject,
    },
};

/// TCG EK Credential Profile, template L-1.
pub(crate) fn endorsement_rsa() -> Result<Public, Error> {
    create_ek_public_from_default_template_2(
        AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048),
        DefaultKey,
    )
}

/// TCG EK Credential Profile, template L-2.
pub(crate) fn endorsement_p256() -> Result<Public, Error> {
    create_ek_public_from_default_template_2(
        AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256),
        DefaultKey,
    )
}

/// The attestation key of a trust domain: a restricted signing primary of the endorsement hierarchy. The trust domain
/// is its unique value, so that it has the same Name after any loss, and another in each trust domain.
pub(crate) fn attestation(trust_domain: &str) -> Result<Public, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_sign_encrypt(true)
        .build()?;
    let unique = sha256(&[b"touchmark attestation key\0", trust_domain.as_bytes()]);
    ecc(
        attributes,
        Digest::default(),
        PublicEccParametersBuilder::new()
            .with_restricted(true)
            .with_is_signing_key(true)
            .with_curve(EccCurve::NistP256)
            .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)))
            .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null),
        EccPoint::new(
            EccParameter::try_from(unique.as_slice())?,
            EccParameter::default(),
        ),
    )
}

/// The storage primary that TSS2 PRIVATE KEY files with an owner parent presuppose: TCG P-256, empty unique value.
pub(crate) fn storage() -> Result<Public, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_decrypt(true)
        .build()?;
    ecc(
        attributes,
        Digest::default(),
        PublicEccParametersBuilder::new_restricted_decryption_key(
            SymmetricDefinitionObject::AES_128_CFB,
            EccCurve::NistP256,
        ),
        EccPoint::default(),
    )
}

/// A signing key. With a policy only the policy admits to its use; without, whoever reaches the TPM can use it.
pub(crate) fn signing(policy: Option<&[u8]>) -> Result<Public, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(policy.is_none())
        .with_no_da(true)
        .with_sign_encrypt(true)
        .build()?;
    ecc(
        attributes,
        policy.map(Digest::try_from).transpose()?.unwrap_or_default(),
        PublicEccParametersBuilder::new_unrestricted_signing_key(
            EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)),
            EccCurve::NistP256,
        ),
        EccPoint::default(),
    )
}

fn ecc(
    attributes: tss_esapi::attributes::ObjectAttributes,
    policy: Digest,
    parameters: PublicEccParametersBuilder,
    unique: EccPoint,
) -> Result<Public, Error> {
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(policy)
        .with_ecc_parameters(parameters.build()?)
        .with_ecc_unique_identifier(unique)
        .build()
}
