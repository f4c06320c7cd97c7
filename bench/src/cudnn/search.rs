//! Search for cuDNN's fastest plan for a convolution.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use cudarc::cudnn::sys::{cudnnBackendHeurMode_t as Mode, cudnnConvolutionFwdAlgo_t as Algorithm};
use warpconv::launch::ConvPointers;
use warpconv::problem::Conv2d;

use super::super::cudnn_baseline::{At, Best};
use super::super::record::CudnnRecord;
use super::super::timed_graph::{Chain, Launch, Length, text};
use super::Cudnn;
use super::graph::{Descriptor, Graph, Plan, is_exact_enough, transforms};
use super::legacy::{ALGORITHMS, LegacyConv, Transpose};

/// Number of samples to compare candidates; the best is then measured with as many samples as this
/// crate's kernel.
const SAMPLES: usize = 3;

/// Length of a candidate's sample, in microseconds.
const SAMPLE_US: f64 = 200.0;

/// Implementation of a candidate.
enum How {
    Older { algorithm: Algorithm, bytes: u64 },
    Graph(Plan),
}

/// A candidate: its implementation and its name.
struct Candidate {
    how: How,
    name: String,
    transforms: Option<&'static str>,
    fused: bool,
}

/// The operands of a copy, shared by all launch closures.
type Operands<'a> = Rc<dyn Fn(usize) -> ConvPointers + 'a>;

/// The best candidate so far.
struct Leader {
    candidate: Rc<Candidate>,
    us: f64,
}

/// A search through the candidates.
struct Search<'a> {
    cudnn: &'a Cudnn,
    legacy: Option<Rc<LegacyConv>>,
    at: Operands<'a>,
    length: Length,
    deadline: Instant,
    /// Microseconds of bias and ReLU as separate kernels; `None` where cuDNN has none for the type:
    /// then only fused candidates count.
    epilogue_us: Option<f64>,
    best: Option<Leader>,
    /// Microseconds of the best candidate without a transform.
    direct: Option<f64>,
    /// Microseconds of the best candidate without bias and ReLU.
    alone: Option<f64>,
    seen: HashSet<String>,
    timed: u64,
    too_large: u64,
    late: bool,
}

impl Cudnn {
    /// cuDNN's fastest plan for a convolution with its bias and ReLU.
    pub fn best_conv<'a>(
        &'a self,
        conv: &Conv2d,
        at: At<'a, ConvPointers>,
        length: Length,
    ) -> Result<Best<'a>, String> {
        if !conv.input().is_dense() || !conv.output().is_dense() || conv.residual().is_some() {
            return Err(String::from(
                "cuDNN is only given dense tensors without a residual",
            ));
        }
        self.stream.context().bind_to_thread().map_err(text)?;
        self.reserve()?;
        let mut search = Search {
            cudnn: self,
            legacy: LegacyConv::new(conv).ok().map(Rc::new),
            at: Rc::from(at),
            length,
            deadline: Instant::now() + Duration::from_secs_f64(self.seconds),
            epilogue_us: None,
            best: None,
            direct: None,
            alone: None,
            seen: HashSet::new(),
            timed: 0,
            too_large: 0,
            late: false,
        };
        search.time_epilogue(conv);
        search.older();
        search.graphs(conv);
        search.finish(conv)
    }
}

impl<'a> Search<'a> {
    fn time_epilogue(&mut self, conv: &Conv2d) {
        self.epilogue_us = if conv.bias() || conv.relu() {
            let launch = epilogue(self.cudnn, self.legacy.clone(), self.at.clone());
            self.time(launch).ok()
        } else {
            Some(0.0)
        };
    }

    fn time(&self, launch: Box<Launch<'a>>) -> Result<f64, String> {
        let length = Length {
            target_us: SAMPLE_US,
            ..self.length
        };
        Chain::new(&self.cudnn.stream, length, launch)?.median(SAMPLES)
    }

    /// Tries the older interface's algorithms, each alone and fused.
    fn older(&mut self) {
        let Some(legacy) = self.legacy.clone() else {
            return;
        };
        for (algorithm, name, transforms) in ALGORITHMS {
            let Ok(bytes) = legacy.workspace(self.cudnn, algorithm) else {
                continue;
            };
            for fused in [true, false] {
                if fused && !legacy.can_fuse() {
                    continue;
                }
                self.consider(
                    bytes,
                    Candidate {
                        how: How::Older { algorithm, bytes },
                        name: name.to_owned(),
                        transforms: transforms.then_some(name),
                        fused,
                    },
                );
            }
        }
    }

    /// Tries the graph interface: the heuristics' configurations, then every engine.
    fn graphs(&mut self, conv: &Conv2d) {
        let kinds: &[bool] = if conv.bias() && conv.relu() {
            &[true, false]
        } else {
            &[false]
        };
        let graphs: Vec<Graph> = kinds
            .iter()
            .filter_map(|&fused| Graph::new(self.cudnn, conv, fused).ok())
            .collect();
        let modes = [
            Mode::CUDNN_HEUR_MODE_A,
            Mode::CUDNN_HEUR_MODE_B,
            Mode::CUDNN_HEUR_MODE_FALLBACK,
        ];
        for mode in modes {
            for graph in &graphs {
                for configuration in graph.heuristic(mode).unwrap_or_default() {
                    self.plan(conv, graph, &configuration);
                }
            }
        }
        for graph in &graphs {
            for index in 0..graph.engines().unwrap_or(0) {
                if self.is_late() {
                    return;
                }
                if let Ok(configuration) = graph.engine(index) {
                    self.plan(conv, graph, &configuration);
                }
            }
        }
    }

    fn plan(&mut self, conv: &Conv2d, graph: &Graph, configuration: &Descriptor) {
        if self.is_late() {
            return;
        }
        let Ok(plan) = Plan::new(self.cudnn, graph, configuration) else {
            return;
        };
        let fused = graph.is_fused();
        let fresh = self.seen.insert(format!("{} {fused}", plan.name));
        if !fresh || !is_exact_enough(&plan.notes, conv) {
            return;
        }
        let (bytes, name, transforms) =
            (plan.workspace, plan.name.clone(), transforms(&plan.notes));
        self.consider(
            bytes,
            Candidate {
                how: How::Graph(plan),
                name,
                transforms,
                fused,
            },
        );
    }

    fn is_late(&mut self) -> bool {
        self.late |= Instant::now() >= self.deadline;
        self.late
    }

    /// Times a candidate; one that fails is ignored.
    fn consider(&mut self, bytes: u64, candidate: Candidate) {
        if bytes > self.cudnn.most_workspace {
            self.too_large += 1;
            return;
        }
        let candidate = Rc::new(candidate);
        let launched = self.launcher(&candidate);
        let Ok(us) = launched.and_then(|launch| self.time(launch)) else {
            return;
        };
        self.timed += 1;
        let whole = if candidate.fused {
            us
        } else {
            keep_least(&mut self.alone, us);
            match self.epilogue_us {
                Some(epilogue) => us + epilogue,
                None => return,
            }
        };
        if candidate.transforms.is_none() {
            keep_least(&mut self.direct, whole);
        }
        if self.best.as_ref().is_none_or(|best| whole < best.us) {
            self.best = Some(Leader {
                candidate,
                us: whole,
            });
        }
    }

    /// Returns a closure that launches a candidate, without bias and ReLU unless its kernel
    /// includes them.
    fn launcher(&self, candidate: &Rc<Candidate>) -> Result<Box<Launch<'a>>, String> {
        let (cudnn, at) = (self.cudnn, self.at.clone());
        let workspace = cudnn.reserve()?;
        let candidate = candidate.clone();
        match &candidate.how {
            How::Older { algorithm, bytes } => {
                let (algorithm, bytes) = (*algorithm, *bytes);
                let legacy = self.legacy.clone();
                Ok(Box::new(move |i| {
                    let legacy = legacy.as_ref().ok_or("no older descriptors")?;
                    let at = at(i);
                    // SAFETY: the benchmark keeps the operands alive, as long as the problem
                    // requires; the workspace is at least as large as any permitted one, and plans
                    // use it one after another.
                    let launched = unsafe {
                        if candidate.fused {
                            legacy.fused(cudnn, algorithm, &at, workspace, bytes)
                        } else {
                            legacy.forward(cudnn, algorithm, &at, workspace, bytes)
                        }
                    };
                    launched.map_err(text)
                }))
            }
            How::Graph(plan) => {
                let packs: Result<Vec<_>, _> = (0..self.length.copies.max(1))
                    .map(|copy| plan.pack(&at(copy), workspace))
                    .collect();
                let packs = packs.map_err(text)?;
                let plan_of = candidate.clone();
                Ok(Box::new(move |i| match &plan_of.how {
                    // SAFETY: as above; the packs hold the addresses of the operands and of that
                    // workspace.
                    How::Graph(plan) => {
                        unsafe { plan.execute(cudnn, &packs[i % packs.len()]) }.map_err(text)
                    }
                    How::Older { .. } => Err(String::from("not a plan")),
                }))
            }
        }
    }

    fn finish(self, conv: &Conv2d) -> Result<Best<'a>, String> {
        let parts = self.parts(conv);
        let Some(best) = &self.best else {
            return Err(String::from("cuDNN has no plan for the problem"));
        };
        let candidate = &best.candidate;
        let mut launch = self.launcher(candidate)?;
        if !candidate.fused && (conv.bias() || conv.relu()) {
            let mut convolve = launch;
            let mut behind = epilogue(self.cudnn, self.legacy.clone(), self.at.clone());
            launch = Box::new(move |i| {
                convolve(i)?;
                behind(i)
            });
        }
        let mut notes = Vec::new();
        if self.late {
            notes.push(String::from("the search ended by its time"));
        }
        if self.too_large > 0 {
            notes.push(format!("{} plans want more workspace", self.too_large));
        }
        let kind = candidate.transforms.map(|kind| format!(" ({kind})"));
        let row = CudnnRecord {
            us: None,
            plan: format!("{}{}", candidate.name, kind.unwrap_or_default()),
            fused: candidate.fused,
            direct_us: self.direct.filter(|_| candidate.transforms.is_some()),
            parts,
            timed: self.timed,
            note: notes.join("; "),
        };
        Ok(Best { row, launch })
    }

    /// Times of single kernels, listed separately: the cost of what cuDNN does not fuse.
    fn parts(&self, conv: &Conv2d) -> Vec<(String, f64)> {
        let mut parts = Vec::new();
        let mut add = |name: &str, us: f64| parts.push((name.to_owned(), us));
        if let Some(us) = self.alone {
            add("conv alone", us);
        }
        if let Some(us) = self.epilogue_us.filter(|&us| us > 0.0) {
            add("bias and ReLU", us);
        }
        let mut transposes = 0.0;
        for (desc, back) in [(conv.input(), false), (conv.output(), true)] {
            let Some(us) = self.transpose(desc, back) else {
                return parts;
            };
            transposes += us;
        }
        add("transposes of x and y", transposes);
        parts
    }

    /// Time of a transposition between layouts, to or from the workspace; `None` where cuDNN has
    /// none for the type.
    fn transpose(&self, desc: &warpconv::problem::TensorDesc, back: bool) -> Option<f64> {
        let cudnn = self.cudnn;
        let change = Transpose::of(desc, back).ok()?;
        if change.bytes > cudnn.most_workspace {
            return None;
        }
        let scratch = cudnn.reserve().ok()? as u64;
        let at = self.at.clone();
        let launch: Box<Launch<'a>> = Box::new(move |i| {
            let at = at(i);
            let (from, to) = if back {
                (scratch, at.y)
            } else {
                (at.x, scratch)
            };
            // SAFETY: both buffers are as long as the tensor: an operand, and the workspace, whose
            // size was compared above.
            unsafe { change.run(cudnn, from, to) }.map_err(text)
        });
        self.time(launch).ok()
    }
}

/// Returns a closure that launches bias and ReLU as separate kernels.
fn epilogue<'a>(
    cudnn: &'a Cudnn,
    legacy: Option<Rc<LegacyConv>>,
    at: Operands<'a>,
) -> Box<Launch<'a>> {
    Box::new(move |i| {
        let legacy = legacy
            .as_ref()
            .ok_or("bias and ReLU need the older interface")?;
        // SAFETY: the benchmark keeps the operands alive, as long as the problem requires.
        unsafe { legacy.epilogue(cudnn, &at(i)) }.map_err(text)
    })
}

fn keep_least(least: &mut Option<f64>, us: f64) {
    if least.is_none_or(|least| us < least) {
        *least = Some(us);
    }
}
