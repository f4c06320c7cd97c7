//! Asynchronous copies of a warp that are in flight.

/// Group number of a copy or a product that is not committed yet.
pub(crate) const OPEN: u32 = u32::MAX;

/// Maximum number of groups of a warp's lanes that are distinguished.
pub(crate) const GROUPS: usize = 4096;

/// A copy from shared memory.
pub(crate) struct Store {
    pub lane: u32,
    /// The lane's group number, or [`OPEN`].
    pub group: u32,
    /// Time at which the copy started.
    pub time: u32,
}

/// The copies of a warp from shared memory.
#[derive(Default)]
pub(crate) struct Stores {
    pub list: Vec<Store>,
    /// Number of groups that each lane has committed.
    pub committed: [u32; 32],
    /// The time of the latest copy.
    pub latest: u32,
}

impl Stores {
    pub fn clear(&mut self) {
        self.list.clear();
        self.committed = [0; 32];
        self.latest = 0;
    }

    /// Starts a copy of a lane. Uncommitted copies of a lane complete together, so the first
    /// represents all.
    pub fn begin(&mut self, lane: u32, time: u32) {
        self.latest = time;
        let open = |store: &Store| store.lane == lane && store.group == OPEN;
        if !self.list.iter().any(open) {
            let group = OPEN;
            self.list.push(Store { lane, group, time });
        }
    }

    /// Joins the two oldest groups of a lane, if there are more than [`GROUPS`] groups: neither
    /// completes before both do.
    pub fn join_oldest(&mut self, lane: u32) {
        let of_lane = |store: &Store| store.lane == lane;
        if self.list.len() <= GROUPS || self.list.iter().filter(|s| of_lane(s)).count() < 2 {
            return;
        }
        // The list is in the order of the groups, as the copies were started and committed.
        if let Some(first) = self.list.iter().position(of_lane) {
            let time = self.list.remove(first).time;
            if let Some(next) = self.list.iter_mut().find(|store| of_lane(store)) {
                next.time = next.time.min(time);
            }
        }
    }

    /// A lane whose copies may still be reading.
    pub fn unfinished(&self) -> Option<u32> {
        self.list.first().map(|store| store.lane)
    }
}

/// Copies of one instruction.
#[derive(Clone)]
pub(crate) struct Copy {
    /// Lanes whose copies are in flight.
    pub mask: u32,
    /// The lanes' group number, or [`OPEN`].
    pub group: u32,
    pub bytes: u32,
    pub target: [u32; 32],
}

/// The copies of a warp that are in flight.
#[derive(Default)]
pub(crate) struct Copies {
    pub list: Vec<Copy>,
    /// Number of groups that each lane has committed.
    pub committed: [u32; 32],
}

impl Copies {
    pub fn clear(&mut self) {
        self.list.clear();
        self.committed = [0; 32];
    }
}
