//! One row: launch, check, time, and the peer in turn with it.

use warpconv::Error;
use warpconv::plan::{Bound, ConvPlan, PoolPlan};
use warpconv::problem::{Conv2d, FilterLayout, Pool2d};
use warpconv_testing::Stored;

use super::conv::{self, Conv};
use super::cudnn_baseline::Best;
use super::options::Kind;
use super::pool::{self, Pool};
use super::record::{CudnnRecord, Row};
use super::session::Session;
use super::targets;
use super::timed_graph::{Chain, Launch, Length, Times, in_turn, text};

/// Operands whose result can be judged.
pub trait Judged {
    /// Puts NaN into the first copy's output.
    fn poison(&self) -> Result<(), String>;

    /// Checks whether what the peer left there can be the result.
    fn judge_peer(&self) -> Result<(), String>;
}

/// Measures a convolution stored as `T`.
pub fn convolution<T: Stored>(
    session: &mut Session,
    id: &str,
    kind: Kind,
    problem: &Conv2d,
) -> Result<Row, String> {
    let plan = conv::plan(&session.gpu, problem)?;
    let expected = session.references.of(problem)?;
    let length = session.length(conv::bytes(problem));
    let operands = Conv::<T>::new(&session.stream, problem, &plan, expected, length.copies)?;
    let mut launch = operands.launcher(&session.gpu, &plan)?;
    let peak_rates = session.card.peak_rates(problem.dtype(), problem.math());
    let roofline = peak_rates.bound(problem.macs(), problem.min_bytes());
    let mut row = Row {
        id: id.to_owned(),
        problem: problem.to_string(),
        family: targets::of_conv(problem, problem.math(), roofline.bound())
            .name
            .to_owned(),
        batch: problem.n() as u64,
        kind: kind.name().to_owned(),
        layout: problem.layout().name().to_owned(),
        kernel: kernel(&plan),
        macs: problem.macs(),
        bytes: problem.min_bytes(),
        floor_us: roofline.floor_us,
        bound: bound(roofline.bound()),
        blocks_per_sm: plan.score().blocks_per_sm,
        ..Row::default()
    };
    row.instructions = checked(session, &mut *launch, || operands.compare(0.0))?;
    if session.is_emulated() {
        row.cudnn.note = session.cudnn.words.clone();
        return Ok(row);
    }
    let at = |i| operands.pointers(i);
    let best = session.cudnn.conv(problem, Box::new(at), length);
    times(session, &mut row, launch, length, best, &operands)?;
    Ok(row)
}

/// The kernel of a plan, with what the plan adds to it.
fn kernel(plan: &ConvPlan) -> String {
    let mut words = plan.kernel().name();
    if plan.split_k() > 1 {
        words.push_str(&format!(" in {} splits", plan.split_k()));
    }
    if plan.problem().filter_layout() == FilterLayout::Packed {
        words.push_str(" (filters packed once)");
    }
    words
}

/// Measures a pooling stored as `T`.
pub fn pooling<T: Stored>(
    session: &mut Session,
    id: &str,
    problem: &Pool2d,
) -> Result<Row, String> {
    let plan = PoolPlan::new(problem, session.gpu.capability()).map_err(text)?;
    let length = session.length(pool::bytes(problem));
    let operands = Pool::<T>::new(&session.stream, problem, length.copies)?;
    let mut launch = operands.launcher(&session.gpu, &plan)?;
    let macs = (problem.output().elements() * problem.r() * problem.s()) as u64;
    let peak_rates = session
        .card
        .peak_rates(warpconv::DType::F32, warpconv::kernels::Math::Strict);
    let roofline = peak_rates.bound(0, problem.min_bytes());
    let mut row = Row {
        id: id.to_owned(),
        problem: problem.to_string(),
        family: targets::of_pool(problem).name.to_owned(),
        batch: problem.n() as u64,
        kind: problem.dtype().name().to_owned(),
        layout: problem.layout().name().to_owned(),
        kernel: plan.kernel().name(),
        macs,
        bytes: problem.min_bytes(),
        floor_us: roofline.floor_us,
        bound: bound(Bound::Memory),
        blocks_per_sm: plan.score().blocks_per_sm,
        ..Row::default()
    };
    row.instructions = checked(session, &mut *launch, || operands.compare())?;
    if session.is_emulated() {
        row.cudnn.note = session.cudnn.words.clone();
        return Ok(row);
    }
    let at = |i| operands.pointers(i);
    let best = session.cudnn.pool(problem, Box::new(at));
    times(session, &mut row, launch, length, best, &operands)?;
    Ok(row)
}

/// Launches once and compares; the instructions of all threads where the emulator counted them.
pub fn checked(
    session: &Session,
    launch: &mut Launch<'_>,
    compare: impl Fn() -> Result<(), String>,
) -> Result<Option<u64>, String> {
    session.gpu.reset_counters();
    launch(0)?;
    session.gpu.synchronize().map_err(text)?;
    let counted = session.gpu.counters();
    compare()?;
    Ok(counted.map(|counters| counters.instructions().thread))
}

/// Times ours and the peer's in turn and fills the row. A peer that has nothing, or computes
/// something else, is a note.
pub fn times<'a>(
    session: &Session,
    row: &mut Row,
    launch: Box<Launch<'a>>,
    length: Length,
    best: Result<Best<'a>, String>,
    operands: &dyn Judged,
) -> Result<(), String> {
    let samples = session.options.samples();
    let mut ours = Chain::new(&session.stream, length, launch)?;
    let cudnn = best.and_then(|best| {
        operands.poison()?;
        let chain = Chain::new(&session.stream, length, best.launch)?;
        session.gpu.synchronize().map_err(text)?;
        operands
            .judge_peer()
            .map_err(|off| format!("its result is not what it should be: {off}"))?;
        Ok((best.row, chain))
    });
    let times = match cudnn {
        Ok((cudnn, mut theirs)) => {
            let [ours, theirs] = in_turn([&mut ours, &mut theirs], samples)?;
            row.cudnn = CudnnRecord {
                us: Some(theirs.median),
                ..cudnn
            };
            ours
        }
        Err(why) => {
            row.cudnn.note = why;
            let [ours] = in_turn([&mut ours], samples)?;
            ours
        }
    };
    fill(session, row, times);
    Ok(())
}

fn fill(session: &Session, row: &mut Row, times: Times) {
    row.us = Some(times.median);
    row.spread = Some(times.spread);
    row.sm_mhz = session.sm_mhz();
}

/// The problem in a type's storage and mode of products, with bias and ReLU; `None` where that is
/// the same as another.
pub fn of_kind(problem: &Conv2d, kind: Kind) -> Result<Conv2d, Error> {
    problem
        .to_builder()
        .dtype(kind.dtype())
        .math(kind.math())
        .build()
}

/// Names the bound of a record.
pub fn bound(bound: Bound) -> String {
    bound.to_string()
}
