//! The bytes that an operation accesses.

/// Bytes of an allocation, as offsets from its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// The bytes in these ranges, which ascend and neither touch nor overlap.
    Exact(Vec<(u64, u64)>),
    /// At least one unknown byte.
    Somewhere,
}

impl Default for Bytes {
    fn default() -> Bytes {
        Bytes::Exact(Vec::new())
    }
}

impl Bytes {
    /// The bytes `first..end`.
    pub fn range(first: u64, end: u64) -> Bytes {
        Bytes::Exact(if first < end {
            vec![(first, end)]
        } else {
            Vec::new()
        })
    }

    /// Rows of `width` bytes, `pitch` bytes apart, in `depth` planes that are `plane` bytes apart.
    pub fn rows(first: u64, [width, height, depth]: [u64; 3], [pitch, plane]: [u64; 2]) -> Bytes {
        let starts = (0..depth)
            .flat_map(|z| (0..height).map(move |y| first.saturating_add(y * pitch + z * plane)));
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for start in starts.filter(|_| width > 0) {
            let end = start.saturating_add(width);
            match ranges.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => ranges.push((start, end)),
            }
        }
        if ranges.windows(2).all(|pair| pair[0].1 < pair[1].0) {
            return Bytes::Exact(ranges);
        }
        // If pitches are smaller than rows or planes, the ranges are unordered or overlap.
        ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match merged.last_mut() {
                Some(last) if last.1 >= start => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        Bytes::Exact(merged)
    }

    /// Adds the bytes `base + i` for each bit `i` of the mask. All existing bytes must precede
    /// them.
    pub fn push_mask(&mut self, base: u64, mask: u32) {
        let Bytes::Exact(ranges) = self else {
            return;
        };
        let mut left = u64::from(mask);
        let mut at = base;
        while left != 0 {
            let skip = left.trailing_zeros();
            left >>= skip;
            let count = left.trailing_ones();
            left >>= count;
            let start = at + u64::from(skip);
            at = start + u64::from(count);
            match ranges.last_mut() {
                Some(last) if last.1 == start => last.1 = at,
                _ => ranges.push((start, at)),
            }
        }
    }

    /// Returns whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        matches!(self, Bytes::Exact(ranges) if ranges.is_empty())
    }

    /// Returns whether they certainly include all bytes of an allocation.
    fn is_all(&self, bytes: u64) -> bool {
        matches!(self, Bytes::Exact(ranges) if ranges[..] == [(0, bytes)])
    }

    /// The first range of bytes that are certainly in both, for an allocation of `bytes` bytes.
    pub fn common(&self, other: &Bytes, bytes: u64) -> Option<(u64, u64)> {
        let (a, b) = match (self, other) {
            (Bytes::Exact(a), Bytes::Exact(b)) => (a, b),
            (all, Bytes::Somewhere) | (Bytes::Somewhere, all) => {
                return all.is_all(bytes).then_some((0, bytes));
            }
        };
        let (mut i, mut j) = (0, 0);
        while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
            let (first, end) = (x.0.max(y.0), x.1.min(y.1));
            if first < end {
                return Some((first, end));
            }
            if x.1 <= y.1 {
                i += 1;
            } else {
                j += 1;
            }
        }
        None
    }

    /// Returns whether any bytes that certainly overlap `other` certainly overlap these.
    pub fn covers(&self, other: &Bytes, bytes: u64) -> bool {
        let (a, b) = match (self, other) {
            (_, Bytes::Exact(nothing)) if nothing.is_empty() => return true,
            // Only an access to all bytes certainly overlaps an unknown byte.
            (_, Bytes::Somewhere) => return !self.is_empty(),
            (Bytes::Somewhere, Bytes::Exact(_)) => return false,
            (Bytes::Exact(a), Bytes::Exact(b)) => (a, b),
        };
        if self.is_all(bytes) {
            return true;
        }
        let mut i = 0;
        b.iter().all(|y| {
            while a.get(i).is_some_and(|x| x.1 < y.1) {
                i += 1;
            }
            a.get(i).is_some_and(|x| x.0 <= y.0 && y.1 <= x.1)
        })
    }
}

/// Access of an operation to an allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes that it reads.
    pub read: Bytes,
    /// Bytes that it writes.
    pub write: Bytes,
    /// Bytes that it modifies by atomic operations or strong writes (`.volatile`, `.relaxed`).
    pub atomic: Bytes,
}

/// Kind of an operation's access to a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Read,
    Write,
    Atomic,
}

impl Footprint {
    /// A footprint of reads only.
    pub fn reads(read: Bytes) -> Footprint {
        Footprint {
            read,
            ..Footprint::default()
        }
    }

    /// A footprint of writes only.
    pub fn writes(write: Bytes) -> Footprint {
        Footprint {
            write,
            ..Footprint::default()
        }
    }

    fn of(&self, way: Way) -> &Bytes {
        match way {
            Way::Read => &self.read,
            Way::Write => &self.write,
            Way::Atomic => &self.atomic,
        }
    }

    /// The first bytes that two operations must not both access concurrently, and the kind of each
    /// access.
    ///
    /// Two reads do not conflict, nor do two atomic operations: by PTX's memory model,
    /// "Data-Races", two overlapping operations of which one writes conflict, and conflicts that
    /// are morally strong (atomics and other strong operations whose scopes include both threads)
    /// are no data race.
    pub fn conflict(&self, other: &Footprint, bytes: u64) -> Option<((u64, u64), Way, Way)> {
        use Way::*;
        let pairs = [
            (Write, Write),
            (Write, Read),
            (Read, Write),
            (Write, Atomic),
            (Atomic, Write),
            (Read, Atomic),
            (Atomic, Read),
        ];
        let found = pairs.into_iter().filter_map(|(mine, theirs)| {
            let common = self.of(mine).common(other.of(theirs), bytes)?;
            Some((common, mine, theirs))
        });
        found.min_by_key(|&((first, _), ..)| first)
    }

    /// Returns whether every operation that conflicts with `other` conflicts with this one.
    pub fn stands_for(&self, other: &Footprint, bytes: u64) -> bool {
        let reads = self.read.covers(&other.read, bytes) || self.write.covers(&other.read, bytes);
        let atomics =
            self.atomic.covers(&other.atomic, bytes) || self.write.covers(&other.atomic, bytes);
        reads && atomics && self.write.covers(&other.write, bytes)
    }

    /// Returns whether there is no access.
    pub fn is_empty(&self) -> bool {
        self.read.is_empty() && self.write.is_empty() && self.atomic.is_empty()
    }
}

#[cfg(test)]
mod tests;
