//! Resolution and execution of fills.

use crate::driver::journal::gone;
use crate::driver::state::transfer::kind_of;
use crate::driver::state::{Fill, driver};
use crate::driver::status::{CUresult, Result};
use crate::driver::types::check;

impl Fill {
    /// Resolves the memory. Each row must lie inside one allocation.
    pub fn resolve(mut self) -> Result<Fill> {
        if self.row_bytes() == 0 {
            return Ok(self);
        }
        for y in 0..self.height {
            let row = self.address.wrapping_add((y * self.pitch) as u64);
            let (device, base, allocation) = driver()?.find(row).ok_or(CUresult::INVALID_VALUE)?;
            check(allocation.bytes - (row - base) >= self.row_bytes() as u64)?;
            (self.target).get_or_insert((device, kind_of(allocation.kind)));
        }
        Ok(self)
    }

    /// Performs the fill.
    pub fn run(&self) -> Result {
        let Some((device, _)) = &self.target else {
            return Ok(());
        };
        for y in 0..self.height {
            let row = self.address.wrapping_add((y * self.pitch) as u64);
            let value = &self.value[..self.value_bytes];
            (device.backend.fill(row, value, self.width as u64))
                .map_err(|_| gone("memset", row, self.row_bytes()))?;
        }
        Ok(())
    }
}
