//! Data handed over in shared memory with fences and flags.
//!
//! A fence notes what its warp knows and did. A strong write puts the note of its warp's latest
//! fence beside the flag (an atomic adds it to what stands there); a strong read takes what stands
//! beside the flag along, and the reader's next fence makes it known. A fence counts for the whole
//! warp of the lanes that execute it.
use crate::sanitizer::vector_clock::Order;
use std::collections::HashMap;

/// Accesses that fences have recorded.
pub(crate) struct Flags {
    columns: usize,
    /// State of each warp at its latest fence.
    fenced: Vec<u32>,
    /// Reads of each warp beside flags that are not fenced yet.
    observed: Vec<u32>,
    /// Neighbours of a flag, by its unit and block.
    released: HashMap<usize, Vec<u32>>,
}

impl Flags {
    /// For so many warps with clocks of so many columns.
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
    /// A warp executes a fence.
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

    /// Adds to what a barrier hands on what a warp knew and did at its latest fence.
    pub fn gather_fenced(&self, together: &mut Vec<u32>, warp: u32) {
        if let Some(flags) = &self.flags {
            let row = &flags.fenced[flags.row(warp)];
            together.resize(together.len().max(row.len()), 0);
            raise(together, row);
        }
    }

    /// A warp reads a unit strongly.
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

    /// A warp writes a unit. An atomic leaves what stood beside it, a strong write replaces it, a
    /// plain one drops it.
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

/// Raises each time to the other one.
fn raise(times: &mut [u32], others: &[u32]) {
    for (time, &other) in times.iter_mut().zip(others) {
        *time = (*time).max(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether warp 2 may rely on what warp 0 did first, after the given steps.
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
        // Another warp's atomic keeps what stands beside the flag, its write does not.
        assert!(ordered(&[&fence(0), &set(0), &add(1), &get(2), &fence(2)]));
        assert!(!ordered(&[&fence(0), &set(0), &set(1), &get(2), &fence(2)]));
        assert!(!ordered(&[&fence(0), &set(0), &plain, &get(2), &fence(2)]));
        // Through a third warp.
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
