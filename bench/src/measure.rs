//! The benchmarks of one convolution or pooling: launch, check, samples, and cuDNN sampled in turn.

use std::cell::OnceCell;

use criterion::Throughput;
use warpconv::Error;
use warpconv::plan::{Bound, Operation, Plan};
use warpconv::problem::{Conv2d, FilterLayout, Pool2d};
use warpconv_testing::Stored;

use super::conv::{self, Conv};
use super::cudnn_baseline::Best;
use super::options::Kind;
use super::point::{Point, Sampled, Subject};
use super::pool::{self, Pool};
use super::record::{CudnnRecord, Row};
use super::session::{Group, Session};
use super::targets;
use super::timed_graph::{Chain, Launch, Length, text};

/// Operands whose result can be checked.
pub trait Judged {
    /// Puts NaN into the first copy's output.
    fn poison(&self) -> Result<(), String>;

    /// Checks cuDNN's result in the first copy's output.
    fn judge_peer(&self) -> Result<(), String>;

    /// Fills every copy with the small integers of the check.
    fn fill_integers(&self) -> Result<(), String>;

    /// Fills every copy with the random reals that launches are timed with.
    fn fill_reals(&self) -> Result<(), String>;
}

/// Operands of a record that was timed.
pub const RANDOM_REALS: &str = "random reals";

/// Operands of a record that was counted: counts do not depend on the numbers.
pub const SMALL_INTEGERS: &str = "small integers";

/// A problem's operands on the device, its plan and the length of its samples.
struct Held<O, P> {
    operands: O,
    plan: P,
    length: Length,
}

/// Returns the value of a cell, initialising it on first use: criterion may select only one of a
/// point's benchmarks.
fn hold<V>(cell: &OnceCell<V>, make: impl FnOnce() -> Result<V, String>) -> Result<&V, String> {
    match cell.get() {
        Some(held) => Ok(held),
        None => {
            let made = make()?;
            Ok(cell.get_or_init(|| made))
        }
    }
}

/// Benchmarks a convolution stored as `T` in a group, at the point `name`.
pub fn convolution<T: Stored>(
    session: &Session,
    group: &mut Group<'_>,
    name: &str,
    kind: Kind,
    problem: &Conv2d,
) -> Result<Option<Row>, String> {
    let cell = OnceCell::new();
    let held = || {
        hold(&cell, || {
            let plan = conv::plan(&session.gpu, problem, &session.limits)?;
            let expected = session.references.of(problem)?;
            let length = session.length(conv::bytes(problem));
            let stream = &session.stream;
            Ok(Held {
                operands: Conv::<T>::new(stream, problem, &plan, expected, length.copies)?,
                plan,
                length,
            })
        })
    };
    let work = Throughput::ElementsAndBytes {
        elements: 2 * problem.macs(),
        bytes: problem.min_bytes(),
    };
    let mut point = Point::new(session, group, name);
    let ours = point.ours("warpconv", work.clone(), || {
        let Held {
            operands,
            plan,
            length,
        } = held()?;
        let mut launch = operands.launcher(&session.gpu, plan)?;
        let compare = || operands.compare(0.0);
        let counted = checked(session, &mut *launch, operands, compare)?;
        Subject::new(session, *length, launch, counted)
    })?;
    let cudnn = point.cudnn("cudnn", work, || {
        let Held {
            operands, length, ..
        } = held()?;
        let at = Box::new(|i| operands.pointers(i));
        operands.fill_reals()?;
        let best = session.cudnn.conv(problem, at, *length)?;
        baseline(session, *length, best, operands)
    });
    let (Some(index), Some(Held { plan, .. })) = (ours, cell.get()) else {
        return Ok(None);
    };
    let peak_rates = session
        .card
        .peak_rates(problem.input().dtype(), problem.math());
    let roofline = peak_rates.bound(problem.macs(), problem.min_bytes());
    let family = targets::of_conv(problem, problem.math(), roofline.bound());
    let row = Row {
        problem: problem.to_string(),
        family: family.name.to_owned(),
        batch: problem.input().n() as u64,
        kind: kind.name().to_owned(),
        layout: problem.input().layout().name().to_owned(),
        kernel: kernel(plan),
        macs: problem.macs(),
        bytes: problem.min_bytes(),
        floor_us: roofline.floor_us,
        bound: bound(roofline.bound()),
        blocks_per_sm: plan.score().blocks_per_sm,
        cudnn,
        ..Row::default()
    };
    Ok(Some(fill(session, row, point.sampled(index))))
}

/// Name of a plan's kernel, with the plan's settings.
fn kernel(plan: &Plan<Conv2d>) -> String {
    let mut words = plan.kernel().name();
    if plan.score().split_k > 1 {
        words.push_str(&format!(" in {} splits", plan.score().split_k));
    }
    if plan.problem().filter().layout == FilterLayout::Packed {
        words.push_str(" (filters packed once)");
    }
    words
}

/// Benchmarks a pooling stored as `T` in a group, at the point `name`.
pub fn pooling<T: Stored>(
    session: &Session,
    group: &mut Group<'_>,
    name: &str,
    problem: &Pool2d,
) -> Result<Option<Row>, String> {
    let cell = OnceCell::new();
    let held = || {
        hold(&cell, || {
            let length = session.length(pool::bytes(problem));
            Ok(Held {
                operands: Pool::<T>::new(&session.stream, problem, length.copies)?,
                plan: Plan::within(problem, session.gpu.capability(), &session.limits)
                    .map_err(text)?,
                length,
            })
        })
    };
    let work = Throughput::BytesDecimal(problem.min_bytes());
    let mut point = Point::new(session, group, name);
    let ours = point.ours("warpconv", work.clone(), || {
        let Held {
            operands,
            plan,
            length,
        } = held()?;
        let mut launch = operands.launcher(&session.gpu, plan)?;
        let counted = checked(session, &mut *launch, operands, || operands.compare())?;
        Subject::new(session, *length, launch, counted)
    })?;
    let cudnn = point.cudnn("cudnn", work, || {
        let Held {
            operands, length, ..
        } = held()?;
        let at = Box::new(|i| operands.pointers(i));
        let best = session.cudnn.pool(problem, at)?;
        baseline(session, *length, best, operands)
    });
    let (Some(index), Some(Held { plan, .. })) = (ours, cell.get()) else {
        return Ok(None);
    };
    let peak_rates = session
        .card
        .peak_rates(warpconv::DType::F32, warpconv::kernels::Math::Strict);
    let row = Row {
        problem: problem.to_string(),
        family: targets::of_pool(problem).name.to_owned(),
        batch: problem.input().n() as u64,
        kind: problem.input().dtype().name().to_owned(),
        layout: problem.input().layout().name().to_owned(),
        kernel: plan.kernel().name(),
        macs: (problem.output().elements()
            * problem.window().kernel[0]
            * problem.window().kernel[1]) as u64,
        bytes: problem.min_bytes(),
        floor_us: peak_rates.bound(0, problem.min_bytes()).floor_us,
        bound: bound(Bound::Memory),
        blocks_per_sm: plan.score().blocks_per_sm,
        cudnn,
        ..Row::default()
    };
    Ok(Some(fill(session, row, point.sampled(index))))
}

/// Launches once on small integers and compares, then puts the random reals of the timing in their
/// place; returns the instructions of all threads where the emulator counted them.
fn checked(
    session: &Session,
    launch: &mut Launch<'_>,
    operands: &dyn Judged,
    compare: impl Fn() -> Result<(), String>,
) -> Result<Option<u64>, String> {
    session.gpu.reset_counters();
    launch(0)?;
    session.gpu.synchronize().map_err(text)?;
    let counted = session.gpu.counters();
    compare()?;
    if !session.is_emulated() {
        operands.fill_reals()?;
    }
    Ok(counted.map(|counters| counters.instructions().thread))
}

/// cuDNN's chain, after checking its result on small integers; it is left with the random reals of
/// the timing.
fn baseline<'a>(
    session: &Session,
    length: Length,
    best: Best<'a>,
    operands: &dyn Judged,
) -> Result<(CudnnRecord, Chain<'a>), String> {
    operands.fill_integers()?;
    operands.poison()?;
    let chain = Chain::new(&session.stream, length, best.launch)?;
    session.gpu.synchronize().map_err(text)?;
    operands
        .judge_peer()
        .map_err(|off| format!("its result is not what it should be: {off}"))?;
    operands.fill_reals()?;
    Ok((best.row, chain))
}

fn fill(session: &Session, row: Row, sampled: &Sampled<'_>) -> Row {
    let times = sampled.times();
    Row {
        us: times.map(|times| times.median),
        spread: times.map(|times| times.spread),
        instructions: sampled.instructions(),
        sm_mhz: session.sm_mhz(),
        operands: String::from(match times {
            Some(_) => RANDOM_REALS,
            None => SMALL_INTEGERS,
        }),
        ..row
    }
}

/// The problem with a kind's storage type and math mode. Returns an error if they do not go
/// together.
pub fn of_kind(problem: &Conv2d, kind: Kind) -> Result<Conv2d, Error> {
    problem
        .to_builder()
        .dtype(kind.dtype())
        .math(kind.math())
        .build()
}

/// Name of the bound that a record shows.
pub fn bound(bound: Bound) -> String {
    bound.to_string()
}
