//! Evidence for the renewal of a credential: the key's certification is on record, and its holder shows that it still has
//! it. The same for every platform.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Media type of a [`Possession`].
pub const MEDIA_TYPE: &str = "application/vnd.touchmark.possession.v1+cbor";

/// The key's signature over [`crate::pop_message`], `r ‖ s`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Possession(pub ByteBuf);
