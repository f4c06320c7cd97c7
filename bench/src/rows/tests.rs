use std::collections::HashSet;

use clap::Parser;
use warpconv::kernels::{Algorithm, KernelId, Math, kernels};
use warpconv::plan::{Capability, Limits, Operation, Plan};
use warpconv::{DType, Layout};

use super::*;
use crate::peak_rates::Card;
use crate::{exclude, measure, problems, targets};
use warpconv::graph::Step;

fn options(words: &[&str]) -> Options {
    Options::try_parse_from(words).unwrap()
}

#[test]
fn names_of_rows_are_taken_apart() {
    let row: RowName = "layers/googlenet/conv2/n128/tf32x3/nchw".parse().unwrap();
    assert_eq!(row.group, "layers/googlenet/conv2");
    let Config {
        batch,
        kind,
        layout,
    } = row.config;
    assert_eq!((batch, kind, layout), (128, Kind::Tf32x3, Layout::Nchw));
    let wrong = [
        "",
        "layers",
        "n1/f32/nchw",
        "/n1/f32/nchw",
        "pool/a/1/f32/nchw",
        "pool/a/n0/f32/nchw",
        "pool/a/n1/f64/nchw",
        "pool/a/n1/f32/chwn",
        "pool/a/n1/f32/",
    ];
    for text in wrong {
        let why = text.parse::<RowName>().unwrap_err();
        assert!(why.contains(&format!("`{text}` names no row")), "{why}");
    }
}

#[test]
fn a_file_of_rows_names_the_line_of_a_mistake() {
    let rows = parse("# a comment\n\n pool \t pool/a/n1/f32/nchw # another\n").unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].0, &rows[0].1.group[..]), ("pool", "pool/a"));
    assert!(parse("\npool").unwrap_err().starts_with("line 2: `pool`"));
    assert!(parse("pool pool/a").unwrap_err().starts_with("line 1: "));
}

#[test]
fn chosen_rows_replace_the_points_and_missing_ones_are_known() {
    let none = Chosen::of("pool", &options(&[])).unwrap();
    assert!(!none.any() && none.missing().is_empty());
    let words = [
        "--row",
        "pool/a/n1/f32/nchw,pool/a/n32/bf16/nhwc,pool/b/n1/f32/nchw",
    ];
    let chosen = Chosen::of("pool", &options(&words)).unwrap();
    assert!(chosen.any() && chosen.has("pool/a") && !chosen.has("pool"));
    let batches: Vec<usize> = chosen.configs("pool/a").iter().map(|c| c.batch).collect();
    assert_eq!(batches, [1, 32]);
    assert_eq!(chosen.missing(), ["pool/b/n1/f32/nchw"]);
    let why = Chosen::of("pool", &options(&["--row", "pool"])).unwrap_err();
    assert!(why.contains("`pool` names no row"), "{why}");
    let why = Chosen::of("pool", &options(&["--rows", "/nowhere/rows.txt"])).unwrap_err();
    assert!(why.contains("/nowhere/rows.txt cannot be read"), "{why}");
}

/// Family of a record, and the algorithm that an H200 takes, of a layer or pooling.
fn of_point(row: &RowName) -> (&'static targets::Family, Option<Algorithm>) {
    let device = Capability::h200();
    let Config {
        batch,
        kind,
        layout,
    } = row.config;
    let known = problems::layers().unwrap();
    let layer = known
        .iter()
        .find(|(name, _)| row.group == format!("layers/{name}"));
    if let Some((_, problem)) = layer {
        let problem = problem.with_batch(batch).unwrap();
        let problem = problem.to_builder().layout(layout).build().unwrap();
        let problem = measure::of_kind(&problem, kind).unwrap();
        let rates = Card::H200.peak_rates(kind.dtype(), kind.math());
        let bound = rates.bound(problem.macs(), problem.min_bytes()).bound();
        let plan = Plan::new(&problem, &device).unwrap();
        let family = targets::of_conv(&problem, kind.math(), bound);
        return (family, Some(plan.kernel().algorithm));
    }
    let pools = problems::pools().unwrap();
    let pool = pools
        .iter()
        .find(|(name, _)| row.group == format!("pool/{name}"));
    if let Some((_, problem)) = pool {
        assert_eq!(kind.math(), Math::Strict, "{row:?}");
        let problem = problem.with_batch(batch).unwrap();
        let problem = problem.to_builder().layout(layout).build().unwrap();
        let problem = problem.to_builder().dtype(kind.dtype()).build().unwrap();
        let plan = Plan::new(&problem, &device).unwrap();
        return (targets::of_pool(&problem), Some(plan.kernel().algorithm));
    }
    let bottlenecks = problems::BOTTLENECKS.iter();
    let mut bottlenecks = bottlenecks.map(|(channels, _)| format!("bottleneck/{channels}"));
    if bottlenecks.any(|name| name == row.group) {
        return (&targets::BOTTLENECK, None);
    }
    let inceptions = problems::INCEPTIONS.iter();
    let mut inceptions = inceptions.map(|(name, _)| format!("inception/{name}"));
    assert!(
        inceptions.any(|name| name == row.group),
        "{row:?} is no row"
    );
    (&targets::INCEPTION, None)
}

/// Each row of the first run names an existing point of its program; together they have every
/// family of records and every algorithm that plans for an H200 take for layers and poolings.
#[test]
fn the_first_run_has_every_family() {
    let rows = parse(FIRST_RUN).unwrap();
    assert!((20..=30).contains(&rows.len()), "{} rows", rows.len());
    let (mut families, mut algorithms) = (HashSet::new(), HashSet::new());
    let mut names = HashSet::new();
    for (program, row) in &rows {
        assert_eq!(row.group.split('/').next(), Some(*program), "{row:?}");
        assert!(names.insert(format!("{row:?}")), "{row:?} is there twice");
        let (family, algorithm) = of_point(row);
        families.insert(family.name);
        algorithms.extend(algorithm);
    }
    for family in targets::FAMILIES {
        let has = families.contains(family.name);
        assert!(
            has || *family == targets::UNKNOWN,
            "no row of {}",
            family.name
        );
    }
    let needed = [
        Algorithm::Direct,
        Algorithm::Pointwise,
        Algorithm::Depthwise,
        Algorithm::MmaSmallGroups,
        Algorithm::Mma,
        Algorithm::Wgmma,
        Algorithm::WgmmaGather,
        Algorithm::MaxPool,
        Algorithm::GlobalPool,
    ];
    for algorithm in needed {
        assert!(algorithms.contains(&algorithm), "no row of {algorithm:?}");
    }
    assert!(
        rows.iter()
            .any(|(_, row)| row.config.kind.dtype() == DType::F16)
    );
}

/// The kernel that an excluded one is replaced by, and the refusal where none is left.
#[test]
fn excluded_kernels_are_not_planned() {
    let device = Capability::h200();
    let problem: warpconv::problem::Conv2d = "mb8ic64ih28oc64kh3ph1+bf16+nhwc".parse().unwrap();
    let usual = Plan::new(&problem, &device).unwrap();
    let first = usual.kernel().name();
    let limits = exclude::limits(std::slice::from_ref(&first)).unwrap();
    let other = Plan::within(&problem, &device, &limits).unwrap();
    assert_ne!(other.kernel().name(), first);
    let second = usual.accepted().nth(1).unwrap();
    assert_eq!(other.kernel_id(), second.id);
    let step = Step::Conv(problem.clone());
    let instead_of = |limits: &Limits| exclude::instead_of(&step, &device, limits);
    assert_eq!(instead_of(&limits), Ok(Some(first)));
    assert_eq!(instead_of(&Limits::default()), Ok(None));
    // Of a kernel that ranks lower nothing changes.
    let lower = exclude::limits(&[second.id.kernel().name()]).unwrap();
    assert_eq!(instead_of(&lower), Ok(None));
    let all: Vec<String> = (0..kernels().len())
        .map(|i| KernelId(i).kernel().name())
        .collect();
    let none = exclude::limits(&all).unwrap();
    let why = instead_of(&none).unwrap_err();
    assert!(why.contains("every kernel for it is excluded"), "{why}");
    assert!(Plan::within(&problem, &device, &none).is_err());
    let why = exclude::limits(&[String::from("no_such_kernel")]).unwrap_err();
    assert!(
        why.contains("no kernel is called `no_such_kernel`"),
        "{why}"
    );
}
