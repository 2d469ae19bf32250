//! Claims by their types. A value that is there and of another type is an error, never absent.

use serde_json::{Map, Value};

use crate::TokenError;

/// A NumericDate in whole seconds; fractions, text, negative and huge numbers are refused.
pub(crate) fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, TokenError> {
    /// The last second of year 9999.
    const LATEST: u64 = 253_402_300_799;
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value
            .as_u64()
            .filter(|time| *time <= LATEST)
            .map(Some)
            .ok_or(TokenError::ClaimInvalid(name)),
    }
}

/// Text; `None` where the claim is absent.
pub(crate) fn text<'a>(
    claims: &'a Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'a str>, TokenError> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(TokenError::ClaimInvalid(name)),
    }
}
