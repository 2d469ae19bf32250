//! What peers may take of this service: rates, connections, memory, rows.

mod gate;
mod notes;
mod rates;
mod sessions;

pub(crate) use gate::{Admitted, Gate, party};
pub(crate) use notes::Notes;
pub(crate) use rates::Rates;
pub(crate) use sessions::Sessions;
