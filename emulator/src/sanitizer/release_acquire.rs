//! Synchronisation through fences and flags in shared memory.
//!
//! A fence stores its warp's vector clock. A strong write attaches the clock of its warp's latest
//! fence to the flag (an atomic merges it with the attached one). A strong read merges the flag's
//! clock into a pending clock of its warp, which the warp's next fence acquires. A fence counts for
//! the whole warp of the lanes that execute it.
use crate::sanitizer::vector_clock::Order;
use std::collections::HashMap;

/// State of fences and flags.
pub(crate) struct Flags {
    columns: usize,
    /// Vector clock of each warp at its latest fence.
    fenced: Vec<u32>,
    /// Clocks that each warp has read from flags and not yet acquired by a fence.
    observed: Vec<u32>,
    /// Clock attached to a flag, by its unit and block.
    released: HashMap<usize, Vec<u32>>,
}

impl Flags {
    /// State for `warps` warps with clocks of `columns` columns.
    pub fn new(warps: usize, columns: usize) -> Flags {
        Flags {
            columns,
            fenced: vec![0; warps * columns],
            observed: vec![0; warps * columns],
            released: HashMap::new(),
        }
    }

    pub fn clear(&mut self) {
        self.fenced.fill(0);
        self.observed.fill(0);
        self.released.clear();
    }

    fn row(&self, warp: u32) -> std::ops::Range<usize> {
        let start = warp as usize * self.columns;
        start..start + self.columns
    }
}

impl Order {
    /// Records a fence of a warp.
    pub fn fence(&mut self, warp: u32) {
        let Some(mut flags) = self.flags.take() else {
            return;
        };
        let row = flags.row(warp);
        self.learn(warp as usize, &flags.observed[row.clone()]);
        let time = self.arrive();
        let mut note = Vec::new();
        self.gather(&mut note, warp as usize, time);
        flags.fenced[row].copy_from_slice(&note);
        self.flags = Some(flags);
    }

    /// Adds a warp's clock at its latest fence to the clock that a barrier releases.
    pub fn gather_fenced(&self, together: &mut Vec<u32>, warp: u32) {
        if let Some(flags) = &self.flags {
            let row = &flags.fenced[flags.row(warp)];
            together.resize(together.len().max(row.len()), 0);
            raise(together, row);
        }
    }

    /// Records a strong read of a unit by a warp.
    pub fn read_flag(&mut self, unit: usize, warp: u32) {
        let unit = unit | self.block << 32;
        let Some(flags) = &mut self.flags else {
            return;
        };
        let row = flags.row(warp);
        if let Some(beside) = flags.released.get(&unit) {
            raise(&mut flags.observed[row], beside);
        }
    }

    /// Records a write of a unit by a warp. An atomic keeps the attached clock, a strong write
    /// replaces it, a plain one drops it.
    pub fn write_flag(&mut self, unit: usize, warp: u32, strong: bool, atomic: bool) {
        let unit = unit | self.block << 32;
        let Some(flags) = &mut self.flags else {
            return;
        };
        if !strong {
            flags.released.remove(&unit);
            return;
        }
        let row = flags.row(warp);
        let columns = flags.columns;
        let new = || vec![0; columns];
        let beside = flags.released.entry(unit).or_insert_with(new);
        if !atomic {
            beside.fill(0);
        }
        raise(beside, &flags.fenced[row]);
    }
}

/// Raises each time to the maximum of both.
fn raise(times: &mut [u32], others: &[u32]) {
    for (time, &other) in times.iter_mut().zip(others) {
        *time = (*time).max(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether the first access of warp 0 is ordered before warp 2's current one, after the
    /// given steps.
    fn ordered(steps: &[&dyn Fn(&mut Order)]) -> bool {
        let mut order = Order::new(3, 1, true);
        order.watch_flags();
        order.begin_block();
        let time = order.now;
        for step in steps {
            step(&mut order);
        }
        order.is_before(2, 0, time)
    }

    #[test]
    fn a_flag_orders_what_lies_between_two_fences() {
        let fence = |warp| move |order: &mut Order| order.fence(warp);
        let set = |warp| move |order: &mut Order| order.write_flag(5, warp, true, false);
        let add = |warp| move |order: &mut Order| order.write_flag(5, warp, true, true);
        let get = |warp| move |order: &mut Order| order.read_flag(5, warp);
        let plain = |order: &mut Order| order.write_flag(5, 1, false, false);
        assert!(ordered(&[&fence(0), &set(0), &get(2), &fence(2)]));
        assert!(ordered(&[&fence(0), &add(0), &get(2), &fence(2)]));
        assert!(!ordered(&[&set(0), &get(2), &fence(2)]));
        assert!(!ordered(&[&set(0), &fence(0), &get(2), &fence(2)]));
        assert!(!ordered(&[&fence(0), &set(0), &get(2)]));
        assert!(!ordered(&[&fence(0), &set(0), &fence(2), &get(2)]));
        // Another warp's atomic keeps the clock of the flag, its write does not.
        assert!(ordered(&[&fence(0), &set(0), &add(1), &get(2), &fence(2)]));
        assert!(!ordered(&[&fence(0), &set(0), &set(1), &get(2), &fence(2)]));
        assert!(!ordered(&[&fence(0), &set(0), &plain, &get(2), &fence(2)]));
        // By way of a third warp.
        assert!(ordered(&[
            &fence(0),
            &set(0),
            &get(1),
            &fence(1),
            &set(1),
            &get(2),
            &fence(2)
        ]));
    }
}
