//! State of the barrier of a cluster.
use crate::exec::machine::warp::Warp;

/// The barrier of a cluster.
#[derive(Default)]
pub(crate) struct ClusterBarrier {
    /// Lanes of each warp that have arrived in this phase.
    pub arrived: Vec<u32>,
    /// Lanes of each warp that may pass their wait: the phase of their arrival is complete.
    pub passed: Vec<u32>,
    /// Time of each warp's last arrival, in this phase and in the latest complete one.
    pub times: [Vec<u32>; 2],
    /// Vector clocks of the arrivals in this phase, and those that a wait for the latest complete
    /// one acquires.
    pub gathered: Vec<u32>,
    pub released: Vec<u32>,
}

impl ClusterBarrier {
    /// A barrier for `warps` warps.
    pub fn new(warps: usize) -> ClusterBarrier {
        ClusterBarrier {
            arrived: vec![0; warps],
            passed: vec![0; warps],
            times: [vec![0; warps], vec![0; warps]],
            ..ClusterBarrier::default()
        }
    }

    pub fn clear(&mut self) {
        self.arrived.fill(0);
        self.passed.fill(0);
        self.times.iter_mut().for_each(|times| times.fill(0));
        self.gathered.clear();
        self.released.clear();
    }

    /// Returns whether a lane has arrived in this phase.
    pub fn is_open(&self) -> bool {
        self.arrived.iter().any(|&lanes| lanes != 0)
    }

    /// Number of threads missing in the phase.
    pub fn lacks(&self, warps: &[Warp]) -> u32 {
        let missing = |(w, arrived): (&Warp, &u32)| (w.alive & !arrived).count_ones();
        warps.iter().zip(&self.arrived).map(missing).sum()
    }
}
