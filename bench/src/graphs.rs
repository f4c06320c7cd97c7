//! Benchmarks of graphs: forms of a module, beside cuDNN's launches of the same layers.

use std::cell::{Cell, OnceCell};

use criterion::Throughput;
use half::{bf16, f16};
use warpconv::graph::Graph;
use warpconv::plan::Tuning;
use warpconv::{DType, Error, Layout};
use warpconv_testing::{GraphOnDevice, Stored};

use super::exclude;
use super::graph_cudnn::{CudnnChain, ONE};
use super::measure::{RANDOM_REALS, bound};
use super::options::Kind;
use super::point::{Point, Sampled, Subject};
use super::record::{CudnnRecord, Row};
use super::session::{Criterion, Group, Session, group};
use super::targets::Family;
use super::timed_graph::text;

/// Limit of the reference's multiplications for a graph; beyond it, only some images of the batch
/// are compared.
const REFERENCE_MACS: u64 = 10_000_000_000;

/// The same with `--quick`.
const QUICK_REFERENCE_MACS: u64 = 2_000_000_000;

/// Limit of a graph's multiplications on the emulator without `--max-macs`: enough for every graph
/// at one image.
const EMULATED_GRAPH_MACS: u64 = 400_000_000;

/// One batch, type and layout of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Number of images.
    pub batch: usize,
    /// The storage type and math mode.
    pub kind: Kind,
    /// The layout of activations.
    pub layout: Layout,
}

/// Graphs that compute the same, by the names of their benchmarks, and cuDNN's counterpart.
#[derive(Clone)]
pub struct Forms {
    /// The graphs, each with the name of its benchmark.
    pub ours: Vec<(&'static str, Graph)>,
    /// The name of cuDNN's benchmark, and the graph whose launches it runs.
    pub cudnn: (&'static str, Graph),
}

/// Benchmarks a group over batches, types and layouts. `forms` builds the graphs of one point.
pub fn benchmark(
    session: &mut Session,
    criterion: &mut Criterion,
    name: &str,
    family: &'static Family,
    forms: impl Fn(&Session, Config) -> Result<Vec<Forms>, Error>,
) {
    if !session.has_group(name) {
        return;
    }
    let mut group = group(criterion, name);
    for config in session.configs(name, || configs(session)) {
        let point = config.name();
        let forms = match forms(session, config) {
            Ok(forms) => forms,
            Err(why) => {
                session.take(&format!("{name}/{point}"), Err(why.to_string()));
                continue;
            }
        };
        for forms in &forms {
            let id = format!("{name}/{}/{point}", forms.ours[0].0);
            if !session.takes(&id, forms.cudnn.1.macs(), EMULATED_GRAPH_MACS) {
                continue;
            }
            let forms = &left(session, name, &point, forms);
            if forms.ours.is_empty() {
                continue;
            }
            let rows = match config.kind.dtype() {
                DType::F32 => compare::<f32>(session, &mut group, config, forms),
                DType::F16 => compare::<f16>(session, &mut group, config, forms),
                DType::Bf16 => compare::<bf16>(session, &mut group, config, forms),
            };
            for (form, row) in rows {
                let id = format!("{name}/{form}/{point}");
                let row = row.map(|row| row.map(|row| config.named(row, &id, family)));
                session.take(&id, row);
            }
        }
    }
    group.finish();
}

/// The forms for which kernels are left; the others are reported as skipped.
fn left(session: &mut Session, name: &str, point: &str, forms: &Forms) -> Forms {
    let mut left = forms.clone();
    left.ours
        .retain(|(form, graph)| match instead_of(session, graph) {
            Ok(_) => true,
            Err(why) => {
                session.skip(&format!("{name}/{form}/{point}"), &why);
                false
            }
        });
    left
}

/// The excluded kernels that a graph would be planned with otherwise. The error names those of a
/// launch for which none is left.
fn instead_of(session: &Session, graph: &Graph) -> Result<String, String> {
    let mut names: Vec<String> = Vec::new();
    for node in graph.nodes() {
        let device = session.gpu.capability();
        let instead_of = exclude::instead_of(&node.step, device, &session.limits)
            .map_err(|why| format!("{}: {why}", node.name))?;
        names.extend(instead_of.filter(|name| !names.contains(name)));
    }
    Ok(names.join(", "))
}

/// The points of a group: chosen by `WARPCONV_BENCH`, else by the device.
fn configs(session: &Session) -> Vec<Config> {
    const BATCHES: &[usize] = &[1, 32, 128];
    let few = session.is_emulated() || session.options.quick;
    let batches = if session.is_emulated() {
        &BATCHES[..1]
    } else {
        BATCHES
    };
    let kinds = if few {
        session.options.kinds(&[Kind::F32, Kind::Bf16])
    } else {
        session.options.kinds(Kind::ALL)
    };
    let mut configs = Vec::new();
    for batch in session.options.batches(batches, BATCHES) {
        for &kind in &kinds {
            for layout in layouts(session, kind) {
                configs.push(Config {
                    batch,
                    kind,
                    layout,
                });
            }
        }
    }
    configs
}

/// The layouts of the options, all with `--full`; else the one that suits the type.
fn layouts(session: &Session, kind: Kind) -> Vec<Layout> {
    match (&session.options.layout[..], kind) {
        ([], _) if session.options.full => Layout::ALL.to_vec(),
        ([], Kind::F32) => vec![Layout::Nchw],
        ([], _) => vec![Layout::Nhwc],
        (named, _) => named.to_vec(),
    }
}

impl Config {
    /// The point's name: batch, type and layout.
    pub fn name(self) -> String {
        format!(
            "n{}/{}/{}",
            self.batch,
            self.kind.name(),
            self.layout.name()
        )
    }

    fn named(self, row: Row, id: &str, family: &Family) -> Row {
        Row {
            id: id.to_owned(),
            family: family.name.to_owned(),
            batch: self.batch as u64,
            kind: self.kind.name().to_owned(),
            layout: self.layout.name().to_owned(),
            ..row
        }
    }
}

/// Benchmarks the forms at one point.
fn compare<T: Stored>(
    session: &Session,
    group: &mut Group<'_>,
    config: Config,
    forms: &Forms,
) -> Vec<(&'static str, Result<Option<Row>, String>)> {
    let chain: OnceCell<CudnnChain<T>> = OnceCell::new();
    let name = config.name();
    let mut point = Point::new(session, group, &name);
    let mut ours = Vec::new();
    for (form, graph) in &forms.ours {
        let launches = Cell::new(0);
        let index = point.ours(form, work(graph), || {
            let (subject, count) = prepare::<T>(session, graph)?;
            launches.set(count);
            Ok(subject)
        });
        ours.push((*form, graph, index, launches));
    }
    let (form, graph) = &forms.cudnn;
    let record = point.cudnn(form, work(graph), || {
        let new = CudnnChain::<T>::new(&session.stream, graph)?;
        chain.get_or_init(|| new).chain(&session.cudnn)
    });
    let row_of = |graph, index: Option<usize>, launches: &Cell<usize>| {
        let sampled = point.sampled(index?);
        Some(row(
            session,
            config.kind,
            graph,
            sampled,
            launches.get(),
            &record,
        ))
    };
    ours.into_iter()
        .map(|(form, graph, index, launches)| {
            (form, index.map(|index| row_of(graph, index, &launches)))
        })
        .collect()
}

fn work(graph: &Graph) -> Throughput {
    Throughput::ElementsAndBytes {
        elements: 2 * graph.macs(),
        bytes: graph.min_bytes(),
    }
}

/// Launches a graph once and checks it; returns the number of its launches too.
fn prepare<'a, T: Stored>(
    session: &Session,
    graph: &Graph,
) -> Result<(Subject<'a>, usize), String> {
    let tuning = Tuning::new(session.gpu.card());
    let mut loaded = GraphOnDevice::<T>::within(
        &session.gpu,
        &session.stream,
        graph,
        &tuning,
        &session.limits,
    )
    .map_err(text)?;
    let launches = loaded.launches();
    session.gpu.reset_counters();
    loaded.launch().map_err(text)?;
    session.gpu.synchronize().map_err(text)?;
    let counted = session.gpu.counters();
    let most_macs = if session.options.quick {
        QUICK_REFERENCE_MACS
    } else {
        REFERENCE_MACS
    };
    let check_result = loaded.check(most_macs).map_err(text)?;
    if let Some(failure) = check_result.failure {
        return Err(failure.to_string());
    }
    let counted = counted.map(|counters| counters.instructions().thread);
    let launch = Box::new(move |_| loaded.launch().map_err(text));
    Ok((Subject::new(session, ONE, launch, counted)?, launches))
}

fn row(
    session: &Session,
    kind: Kind,
    graph: &Graph,
    sampled: &Sampled<'_>,
    launches: usize,
    cudnn: &CudnnRecord,
) -> Row {
    let roofline = graph.roofline(&session.card.peak_rates(kind.dtype(), kind.math()));
    let times = sampled.times();
    Row {
        kernel: match launches {
            1 => String::from("1 launch"),
            launches => format!("{launches} launches"),
        },
        macs: graph.macs(),
        bytes: graph.min_bytes(),
        floor_us: roofline.floor_us,
        bound: bound(roofline.bound()),
        instructions: sampled.instructions(),
        us: times.map(|times| times.median),
        spread: times.map(|times| times.spread),
        sm_mhz: session.sm_mhz(),
        cudnn: cudnn.clone(),
        instead_of: instead_of(session, graph).unwrap_or_default(),
        operands: String::from(RANDOM_REALS),
        ..Row::default()
    }
}
