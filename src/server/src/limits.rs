//! What peers may take of this service: rates, connections, memory, rows.

mod gate;
mod notes;
mod rates;

pub(crate) use gate::{Admitted, Gate, party};
pub(crate) use notes::Notes;
pub(crate) use rates::Rates;
