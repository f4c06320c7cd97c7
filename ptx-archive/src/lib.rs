//! Archives of PTX modules.
//!
//! nvcc unrolls loops, so that most lines of a module repeat an earlier line with other register
//! numbers. [`pack`] separates the two: a line without its numbers is a *template*, and each number
//! is stored as its difference to the number at the same place of the template's last use. In an
//! unrolled loop these differences repeat too. Both then go through DEFLATE. The result is a third
//! of what DEFLATE makes of the text, and [`unpack`] inflates a fraction of the bytes.
//!
//! An [`Archive`] holds packed modules with an index: hashes, and the shared memory that a module
//! declares, which a planner needs without unpacking. [`Cubins`] holds machine code in the same
//! manner.

#![deny(missing_docs)]

mod archive;
mod cubins;
mod pack;
mod shared;
mod unpack;

pub use archive::{Archive, ArchiveError, Entry, Hasher};
pub use cubins::{Cubin, CubinEntry, Cubins, CubinsError};
pub use pack::{PackError, pack};
pub use shared::shared_bytes;
pub use unpack::unpack;

/// Stands in a template where a number was.
const PLACE: u8 = 1;

/// Most bytes of a module's text.
const TEXT_LIMIT: usize = 64 << 20;

/// Bytes before the compressed part: lengths of text, templates and uses.
const HEADER: usize = 12;
