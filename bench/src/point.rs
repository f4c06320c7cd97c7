//! The benchmarks of one point of a criterion group: one batch, type and layout.
//!
//! criterion samples one benchmark after another. Clocks change meanwhile, so cuDNN's benchmark
//! samples its chain in turn with this crate's chains of the same point; records take both medians
//! from those rounds.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use criterion::{BenchmarkId, Throughput};

use super::record::CudnnRecord;
use super::session::{Group, Session};
use super::timed_graph::{Chain, Launch, Length, Times};

/// A launch that was checked, ready to be sampled.
pub enum Subject<'a> {
    /// A chain on a GPU, sampled in device time.
    Timed(Chain<'a>),
    /// Instructions per launch on the emulator. They do not vary, so one launch is enough.
    Counted(u64),
}

impl<'a> Subject<'a> {
    /// A chain of the launch, or its instruction count on the emulator.
    pub fn new(
        session: &Session,
        length: Length,
        launch: Box<Launch<'a>>,
        counted: Option<u64>,
    ) -> Result<Subject<'a>, String> {
        match counted {
            Some(counted) => Ok(Subject::Counted(counted)),
            None => Ok(Subject::Timed(Chain::new(&session.stream, length, launch)?)),
        }
    }
}

/// A subject and its samples.
pub struct Sampled<'a> {
    subject: Subject<'a>,
    samples: Vec<f64>,
}

impl Sampled<'_> {
    /// Takes one sample: nanoseconds or instructions, per launch.
    fn sample(&mut self) -> f64 {
        let Subject::Timed(chain) = &mut self.subject else {
            return self.instructions().unwrap_or(0) as f64;
        };
        let us = chain.sample().unwrap_or_else(|why| leave(why));
        self.samples.push(us);
        us * 1e3
    }

    /// The median and the spread of the samples; `None` on the emulator.
    pub fn times(&self) -> Option<Times> {
        (!self.samples.is_empty()).then(|| Times::of(self.samples.clone()))
    }

    /// Instructions per launch, on the emulator.
    pub fn instructions(&self) -> Option<u64> {
        match self.subject {
            Subject::Counted(count) => Some(count),
            Subject::Timed(_) => None,
        }
    }
}

/// Panic payload that leaves a benchmark, with the reason.
struct Left(String);

/// Leaves the benchmark in progress. criterion offers no way to do so; this unwinds through it
/// without a panic message, and [`Point::bench`] stops the unwinding.
fn leave(why: String) -> ! {
    resume_unwind(Box::new(Left(why)))
}

/// One point of a group.
pub struct Point<'g, 'c, 'a> {
    session: &'a Session,
    group: &'g mut Group<'c>,
    name: &'g str,
    ours: Vec<Sampled<'a>>,
}

impl<'g, 'c, 'a> Point<'g, 'c, 'a> {
    /// A point, named by batch, type and layout.
    pub fn new(session: &'a Session, group: &'g mut Group<'c>, name: &'g str) -> Self {
        Point {
            session,
            group,
            name,
            ours: Vec::new(),
        }
    }

    /// Benchmarks a subject, which is prepared only if criterion selects it. Returns its index, or
    /// `None` if it is not selected.
    pub fn ours(
        &mut self,
        benchmark: &str,
        work: Throughput,
        prepare: impl FnOnce() -> Result<Subject<'a>, String>,
    ) -> Result<Option<usize>, String> {
        self.group.throughput(work);
        let Some(sampled) = self.bench(benchmark, prepare, &mut [])? else {
            return Ok(None);
        };
        self.ours.push(sampled);
        Ok(Some(self.ours.len() - 1))
    }

    /// Benchmarks cuDNN in turn with the earlier subjects. The record holds its time, or the reason
    /// why there is none.
    pub fn cudnn(
        &mut self,
        benchmark: &str,
        work: Throughput,
        prepare: impl FnOnce() -> Result<(CudnnRecord, Chain<'a>), String>,
    ) -> CudnnRecord {
        let note = |note: String| CudnnRecord {
            note,
            ..CudnnRecord::default()
        };
        if !self.session.cudnn.is_there() {
            return note(self.session.cudnn.short().to_owned());
        }
        self.group.throughput(work);
        let mut ours = std::mem::take(&mut self.ours);
        let mut record = CudnnRecord::default();
        let prepare = || {
            let (best, chain) = prepare()?;
            record = best;
            Ok(Subject::Timed(chain))
        };
        let sampled = self.bench(benchmark, prepare, &mut ours);
        self.ours = ours;
        match sampled {
            Ok(Some(sampled)) => CudnnRecord {
                us: sampled.times().map(|times| times.median),
                ..record
            },
            Ok(None) => note(String::from("the filter leaves cuDNN out")),
            Err(why) => {
                println!("{benchmark}/{}: skipped: {why}", self.name);
                note(why)
            }
        }
    }

    /// The samples of a subject.
    pub fn sampled(&self, index: usize) -> &Sampled<'a> {
        &self.ours[index]
    }

    /// Runs a benchmark: one iteration is a chain; its value is the mean per launch. `others` are
    /// sampled in turn.
    fn bench(
        &mut self,
        benchmark: &str,
        prepare: impl FnOnce() -> Result<Subject<'a>, String>,
        others: &mut [Sampled<'a>],
    ) -> Result<Option<Sampled<'a>>, String> {
        let id = BenchmarkId::new(benchmark, self.session.point(self.name));
        let mut prepare = Some(prepare);
        let mut sampled: Option<Sampled<'a>> = None;
        let run = || {
            self.group.bench_function(id, |bencher| {
                if let Some(prepare) = prepare.take() {
                    let subject = prepare().unwrap_or_else(|why| leave(why));
                    let samples = Vec::new();
                    sampled = Some(Sampled { subject, samples });
                    others.iter_mut().for_each(|other| other.samples.clear());
                }
                let Some(own) = &mut sampled else {
                    leave(String::from("it was not prepared"))
                };
                bencher.iter_custom(|iterations| match own.instructions() {
                    Some(count) => count as f64 * iterations as f64,
                    None => in_turn(own, others, iterations),
                });
            });
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(()) => Ok(sampled),
            Err(payload) => match payload.downcast::<Left>() {
                Ok(left) => Err(left.0),
                Err(panic) => resume_unwind(panic),
            },
        }
    }
}

fn in_turn(own: &mut Sampled<'_>, others: &mut [Sampled<'_>], iterations: u64) -> f64 {
    let mut sum = 0.0;
    for _ in 0..iterations {
        sum += own.sample();
        for other in others.iter_mut() {
            other.sample();
        }
    }
    sum
}
