//! Resolution of the memory of copies.

use crate::driver::state::copy::{Copy, Place, Side};
use crate::driver::state::driver;
use crate::driver::state::transfer::{self, Kind, Transfer, kind_of};
use crate::driver::status::Result;
use crate::driver::types::check;
use crate::driver::work::transfer::pinned_range;

/// Resolved memory and its kind.
type Found = (transfer::Place, Kind);

/// Resolves `bytes` bytes of memory. Device memory must lie inside one allocation.
fn find(place: Place, bytes: usize) -> Result<Found> {
    let (address, unknown_is_host) = match place {
        Place::Host(address) => return host(address, bytes),
        Place::Device(address) => (address, false),
        Place::Either(address) => (address, true),
    };
    if let Some((device, base, allocation)) = driver()?.find(address) {
        check(allocation.bytes - (address - base) >= bytes as u64)?;
        let place = transfer::Place::Device(device, address);
        return Ok((place, kind_of(allocation.kind)));
    }
    let (place, kind) = host(address as usize, bytes)?;
    check(kind == Kind::Pinned || unknown_is_host)?;
    Ok((place, kind))
}

/// Resolves host memory, the driver's or the caller's.
fn host(address: usize, bytes: usize) -> Result<Found> {
    check(address != 0)?;
    Ok(match pinned_range(address, bytes)? {
        Some(number) => (transfer::Place::Pinned(address, number), Kind::Pinned),
        None => (transfer::Place::Host(address), Kind::Pageable),
    })
}

impl Copy {
    /// Resolves the memory of both sides, every row of it.
    pub fn resolve(&self) -> Result<Transfer> {
        Ok(Transfer {
            from: self.side(&self.from)?,
            to: self.side(&self.to)?,
            width: self.width,
            height: self.height,
            depth: self.depth,
        })
    }

    fn side(&self, side: &Side) -> Result<transfer::Side> {
        let nothing = (transfer::Place::Host(0), Kind::Pageable);
        let (mut place, mut kind) = nothing;
        for (y, z) in (0..self.depth).flat_map(|z| (0..self.height).map(move |y| (y, z))) {
            if self.width == 0 {
                break;
            }
            let row = find(side.row(y, z)?, self.width)?;
            if (y, z) == (0, 0) {
                (place, kind) = row;
            } else if row.1 == Kind::Pageable {
                // One pageable row makes the whole side pageable.
                kind = Kind::Pageable;
            }
        }
        if kind == Kind::Pageable
            && let transfer::Place::Pinned(address, _) = place
        {
            place = transfer::Place::Host(address);
        }
        Ok(transfer::Side {
            place,
            kind,
            pitch: side.pitch,
            plane: side.plane,
        })
    }
}
