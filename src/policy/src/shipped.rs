//! Policies that are shipped for common cases: to be read, copied and changed. `reference-values` is what decides where nobody applied any.

/// A policy that is shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shipped {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! policies {
    ($($name:literal,)*) => {
        const SHIPPED: &[Shipped] = &[$(Shipped {
            name: $name,
            text: include_str!(concat!("../policies/", $name, ".cedar")),
        },)*];
    };
}

policies! {
    "reference-values",
    "secure-boot-known-keys",
    "exact-release",
    "physical-tpm-only",
    "ima-known-packages",
    "known-events-only",
    "firmware-denied",
    "endorsements-revoked",
}

/// What decides where no policy was applied: the whole boot matches a set of reference values.
pub const DEFAULT: &str = include_str!("../policies/reference-values.cedar");

/// The policies that are shipped.
pub fn shipped() -> &'static [Shipped] {
    SHIPPED
}
