//! Tests of the benchmarks' shared code without a GPU: samples and copies, records and their lines,
//! families and their targets, the report and its chart, and the search for cuDNN where there is
//! none.

use approx::assert_abs_diff_eq;
use std::cell::Cell;
use std::rc::Rc;

use crate::options::{Kind, Options};
use crate::record::{Ceiling, CudnnRecord, Line, Row, Run, Skipped, parse};
use crate::report::file::{self, Contents};
use crate::report::{modules, summaries, svg, text};
use crate::targets;
use crate::timed_graph::{self, Chain, Length, Times};
use crate::{date, peak_rates::Card};
use clap::Parser;
use serde_json::Value;
use warpconv::device::{DeviceChoice, Gpu};
use warpconv::kernels::Math;
use warpconv::plan::{Bound, Capability, Operation, PeakRates};
use warpconv::problem::Conv2d;
use warpconv::{DType, Layout};

/// A record with a time.
fn row(id: &str, family: &targets::Family, us: f64, floor_us: f64, cudnn_us: Option<f64>) -> Row {
    Row {
        id: id.to_owned(),
        family: family.name.to_owned(),
        batch: 128,
        kind: String::from("bf16"),
        layout: String::from("nhwc"),
        kernel: String::from("a_kernel"),
        macs: 1000,
        bytes: 10,
        floor_us,
        bound: String::from("memory"),
        blocks_per_sm: 2,
        us: Some(us),
        spread: Some(0.01),
        cudnn: CudnnRecord {
            us: cudnn_us,
            plan: String::from("engine 7 k2=6"),
            parts: vec![(String::from("conv alone"), 1.5)],
            timed: 12,
            ..CudnnRecord::default()
        },
        ..Row::default()
    }
}

#[test]
fn dates_are_utc() {
    assert_eq!(date::utc(0), "1970-01-01 00:00");
    // 2024 and 2000 are leap years, 2100 is none.
    assert_eq!(date::utc(951_782_400), "2000-02-29 00:00");
    assert_eq!(date::utc(1_709_251_199), "2024-02-29 23:59");
    assert_eq!(date::utc(4_107_542_400), "2100-03-01 00:00");
}

#[test]
fn medians_and_quartiles() {
    let times = Times::of(vec![4.0, 1.0, 3.0, 2.0, 5.0]);
    assert_eq!((times.median, times.spread), (3.0, 2.0 / 3.0));
    let times = Times::of(vec![2.0, 4.0]);
    assert_eq!((times.median, times.spread), (3.0, 1.0 / 3.0));
    assert!(Times::of(Vec::new()).median.is_nan());
}

#[test]
fn copies_add_up_to_twice_the_cache() {
    let l2 = 50 << 20;
    assert_eq!(timed_graph::copies(200 << 20, l2, 1 << 40), 1);
    assert_eq!(timed_graph::copies(10 << 20, l2, 1 << 40), 10);
    // With less memory: as many copies as fit, but at least one.
    assert_eq!(timed_graph::copies(10 << 20, l2, 35 << 20), 3);
    assert_eq!(timed_graph::copies(10 << 20, l2, 0), 1);
    assert!(timed_graph::copies(1, l2, 1 << 40) <= 512);
    assert!(timed_graph::copies(0, 0, 0) == 1);
}

/// Tests what a chain launches, and how often; the emulator's time is meaningless and is not
/// tested.
#[test]
fn a_chain_launches_what_it_says() {
    let gpu = Gpu::open(&DeviceChoice::Emulator { sm: 80 }).unwrap();
    // SAFETY: there is only one stream.
    unsafe { gpu.context().disable_event_tracking() };
    let stream = gpu.context().new_stream().unwrap();
    let buffer = stream.alloc_zeros::<u32>(1024).unwrap();
    let launched = Rc::new(Cell::new(0usize));
    let highest = Rc::new(Cell::new(0usize));
    let length = Length {
        copies: 3,
        target_us: 1.0,
    };
    let (count, most) = (launched.clone(), highest.clone());
    let (target, queue) = (&buffer, stream.clone());
    let launch = Box::new(move |i: usize| {
        use cudarc::driver::DevicePtr;
        count.set(count.get() + 1);
        most.set(most.get().max(i));
        let (address, _) = target.device_ptr(&queue);
        // SAFETY: the buffer is 4 KiB long and outlives the launch.
        unsafe { cudarc::driver::result::memset_d8_async(address, 7, 4096, queue.cu_stream()) }
            .map_err(timed_graph::text)
    });
    let mut chain = Chain::new(&stream, length, launch).unwrap();
    let before = launched.get();
    let us = chain.median(3).unwrap();
    assert!(us.is_finite() && us >= 0.0, "{us}");
    if chain.launches() > 1 {
        assert!(chain.launches() >= 3, "{}", chain.launches());
        assert!(highest.get() >= 2, "the copies are taken in turn");
    }
    if chain.is_captured() {
        assert_eq!(launched.get(), before, "a graph needs no host");
    } else {
        assert_eq!(launched.get(), before + 3 * chain.launches());
    }
    drop(chain);
    assert!(
        stream
            .clone_dtoh(&buffer)
            .unwrap()
            .iter()
            .all(|&v| v == 0x0707_0707)
    );
}

#[test]
fn a_launch_that_fails_is_an_error() {
    let gpu = Gpu::open(&DeviceChoice::Emulator { sm: 80 }).unwrap();
    let stream = gpu.context().new_stream().unwrap();
    let length = Length {
        copies: 1,
        target_us: 1.0,
    };
    let failing = Chain::new(&stream, length, Box::new(|_| Err(String::from("refused"))));
    assert_eq!(failing.err().as_deref(), Some("refused"));
}

#[test]
fn lines_are_read_as_they_were_written() {
    let mut written = row("a/b/n128/bf16/nhwc", &targets::WIDE, 10.0, 9.0, Some(12.0));
    written.instructions = Some(1 << 60);
    written.sm_mhz = Some(1980);
    written.cudnn.direct_us = Some(13.5);
    written.cudnn.fused = true;
    let line = written.to_json().to_string();
    assert_eq!(parse(&line), Some(Line::Row(Box::new(written))));
    let run = Run {
        bench: String::from("layers"),
        device: String::from("a \"card\""),
        emulated: true,
        driver: 12_080,
        capability: Some(Capability::sm80()),
        build: String::from("0.1.0+0123456789abcdef"),
        ..Run::default()
    };
    let line = run.to_json().to_string();
    assert_eq!(parse(&line), Some(Line::Run(run.clone())));
    // Records of earlier versions name neither the build nor the capability.
    let mut earlier = run.to_json();
    earlier["capability"] = Value::Null;
    earlier["build"] = Value::Null;
    let unnamed = Run {
        capability: None,
        build: String::new(),
        ..run
    };
    assert_eq!(
        parse(&earlier.to_string()),
        Some(Line::Run(unnamed.clone()))
    );
    // A figure is missing.
    assert!(line.contains("\"sm_count\":108"), "{line}");
    let renamed = line.replace("\"sm_count\"", "\"sms\"");
    let Some(Line::Run(cut)) = parse(&renamed) else {
        panic!("no run: {renamed}")
    };
    assert_eq!(cut.capability, None);
}

#[test]
fn other_lines_are_counted_and_times_that_are_none_left_out() {
    let good = row("a", &targets::WIDE, 10.0, 9.0, None);
    let mut zero = row("b", &targets::WIDE, 0.0, 9.0, None);
    zero.cudnn.us = Some(-1.0);
    let later = row("a", &targets::WIDE, 11.0, 9.0, None);
    let foreign = good
        .to_json()
        .to_string()
        .replace("\"format\":1", "\"format\":99");
    let text = format!(
        "{}\n\nnonsense\n{{\"kind\":\"row\",\"format\":1}}\n{foreign}\n{}\n{}\n",
        good.to_json(),
        zero.to_json(),
        later.to_json()
    );
    let contents = file::contents(&text);
    assert_eq!(contents.unread, 3);
    let ids: Vec<&str> = contents.rows.iter().map(|row| &row.id[..]).collect();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(contents.rows[0].us, Some(11.0), "of two the later");
    assert_eq!(
        (contents.rows[1].us, contents.rows[1].cudnn.us),
        (None, None)
    );
    assert_eq!(contents.rows[1].ratio(), None);
}

#[test]
fn convolutions_find_their_family() {
    let of = |text: &str, math| {
        let conv: Conv2d = text.parse().unwrap();
        let peak_rates = Card::H200.peak_rates(conv.input().dtype(), math);
        let bound = peak_rates.bound(conv.macs(), conv.min_bytes()).bound();
        targets::of_conv(&conv, math, bound).name
    };
    let strict = Math::Strict;
    let cases = [
        ("mb128ic256ih13oc384kh3ph1+bf16", strict, &targets::WIDE),
        ("mb128ic64ih56oc64kh3ph1+f16", strict, &targets::FEW),
        ("mb128ic96ih28oc128kh3ph1+bf16", strict, &targets::BETWEEN),
        (
            "mb128ic64ih56oc256kh1ph0+bf16",
            strict,
            &targets::POINTWISE_MEMORY,
        ),
        (
            "mb128ic2048ih28oc2048kh1ph0+bf16",
            strict,
            &targets::POINTWISE_ARITHMETIC,
        ),
        ("mb128ic252ih56oc63kh1ph0+bf16", strict, &targets::ODD),
        ("mb128ic3ih224oc64kh7sh2ph3+bf16", strict, &targets::ODD),
        ("mb128ic256ih13oc384kh3ph1", strict, &targets::STRICT),
        ("mb128ic256ih13oc384kh3ph1", Math::Tf32, &targets::TF32),
        ("mb128g2ic96ih27oc256kh5ph2", strict, &targets::GROUPED_WIDE),
        (
            "mb128g32ic512ih14oc512kh3ph1+bf16",
            strict,
            &targets::SMALL_GROUPS,
        ),
        (
            "mb128g32ic32ih112oc32kh3ph1+bf16",
            strict,
            &targets::DEPTHWISE,
        ),
        ("mb1ic256ih13oc384kh3ph1+bf16", strict, &targets::SINGLE),
    ];
    for (text, math, family) in cases {
        assert_eq!(of(text, math), family.name, "{text}");
    }
    for family in targets::FAMILIES {
        assert!(
            std::ptr::eq(targets::named(family.name), family),
            "{}",
            family.name
        );
    }
}

#[test]
fn targets_are_held_to() {
    let wide = &targets::WIDE;
    assert_eq!(wide.meets_floor(10.0, 8.5), Some(true));
    assert_eq!(wide.meets_floor(10.0, 8.4), Some(false));
    assert_eq!(wide.meets_floor(f64::NAN, 8.4), Some(false));
    assert_eq!(wide.meets_cudnn(10.0, Some(10.0)), Some(true));
    assert_eq!(wide.meets_cudnn(10.0, Some(9.9)), Some(false));
    assert_eq!(wide.meets_cudnn(10.0, None), None);
    // One image: twice the roofline's time or 4 us, whichever is more.
    assert_eq!(targets::SINGLE.meets_floor(4.0, 0.1), Some(true));
    assert_eq!(targets::SINGLE.meets_floor(4.1, 0.1), Some(false));
    assert_eq!(targets::SINGLE.meets_floor(19.0, 10.0), Some(true));
    assert_eq!(targets::TF32.meets_floor(1e9, 1.0), None);
}

#[test]
fn misses_are_named_with_what_bounds_them() {
    let rows = [
        row("met/n128/bf16/nhwc", &targets::WIDE, 10.0, 9.0, Some(12.0)),
        row("slow/n128/bf16/nhwc", &targets::WIDE, 30.0, 9.0, Some(12.0)),
        row("alone/n128/bf16/nhwc", &targets::MAX_POOL, 10.0, 9.5, None),
    ];
    let summed = summaries(&rows);
    assert_eq!(summed.len(), 2);
    let missed: Vec<&str> = summed[0]
        .missed
        .iter()
        .map(|miss| &miss.row.id[..])
        .collect();
    assert_eq!(missed, ["slow/n128/bf16/nhwc"]);
    let share = summed[0].share.unwrap();
    assert_abs_diff_eq!(share, (0.9f64 * 0.3).sqrt(), epsilon = 1e-12);
    let lines = text::family_lines(&rows, false).join("\n");
    assert!(
        lines.contains("misses roofline and cuDNN: slow/"),
        "{lines}"
    );
    assert!(
        lines.contains("bound by memory (the floor is 9.0 us), 2 waves"),
        "{lines}"
    );
    assert!(lines.contains("met, without cuDNN"), "{lines}");
    assert!(
        !lines.contains("misses roofline and cuDNN: met/"),
        "{lines}"
    );
    assert!(text::family_lines(&rows, true).is_empty());
}

#[test]
fn modules_are_held_to_their_targets() {
    let module = |id: &str, us| row(id, &targets::BOTTLENECK, us, 94.0, None);
    let rows = [
        module("bottleneck/252/naive/n128/bf16/nhwc", 700.0),
        module("bottleneck/252/separate/n128/bf16/nhwc", 300.0),
        module("bottleneck/252/fused/n128/bf16/nhwc", 139.0),
    ];
    let lines = modules::lines(&rows).join("\n");
    assert!(lines.contains("139.0 us, target <= 140 us: met"), "{lines}");
    assert!(
        lines.contains("5.04 x as fast as bottleneck/252/naive, target >= 5.0: met"),
        "{lines}"
    );
    assert!(
        lines.contains("2.16 x as fast as bottleneck/252/separate, target >= 2.5: MISSED"),
        "{lines}"
    );
    assert!(
        modules::lines(&rows[..2]).is_empty(),
        "nothing is fused there"
    );
}

#[test]
fn emulated_rows_show_no_times() {
    let mut counted = row("a/n1/f32/nhwc", &targets::SINGLE, 1.0, 1.0, None);
    counted.us = None;
    counted.instructions = Some(2500);
    let line = text::line(&counted, true);
    assert!(line.contains("2500") && line.contains("2.500"), "{line}");
    let contents = Contents {
        runs: vec![Run {
            emulated: true,
            ..Run::default()
        }],
        rows: vec![counted],
        ..Contents::default()
    };
    let drawn = svg::draw(&contents, &[]).unwrap();
    assert!(drawn.contains("no times"), "{drawn}");
    assert!(!drawn.contains(" us"), "{drawn}");
}

#[test]
fn the_chart_has_a_bar_for_each_and_escapes_names() {
    let rows = vec![
        row("a<b/n128/bf16/nhwc", &targets::WIDE, 10.0, 9.0, Some(12.0)),
        row(
            "other/n128/bf16/nchw",
            &targets::WIDE,
            10.0,
            9.0,
            Some(12.0),
        ),
    ];
    let contents = Contents {
        runs: vec![Run::default()],
        rows,
        ..Contents::default()
    };
    let drawn = svg::draw(&contents, &[]).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.trim_end().ends_with("</svg>"));
    assert!(
        drawn.contains("a&lt;b/n128/bf16/nhwc") && !drawn.contains("a<b"),
        "{drawn}"
    );
    assert!(!drawn.contains("other/"), "only what is asked for: {drawn}");
    assert!(drawn.contains("90%, 10.0 us, 1.20 x cuDNN"), "{drawn}");
    let other = svg::draw(&contents, &[String::from("nchw")]).unwrap();
    assert!(other.contains("other/") && !other.contains("a&lt;b"));
}

#[test]
fn options_choose_problems() {
    let parse = |words: &str| Options::try_parse_from(words.split_whitespace());
    let options = parse("").unwrap();
    assert_eq!(options.batches(&[1, 128], &[1, 32, 128]), [1, 128]);
    assert_eq!(options.layouts(), [Layout::Nhwc, Layout::Nchw]);
    let quick = parse("--quick --type tf32,bf16 --layout nchw").unwrap();
    assert_eq!(quick.batches(&[1, 128], &[1, 32, 128]), [128]);
    assert_eq!(quick.kinds(&[Kind::F32]), [Kind::Tf32, Kind::Bf16]);
    assert_eq!(quick.layouts(), [Layout::Nchw]);
    let full = parse("--full").unwrap();
    assert_eq!(full.batches(&[1], &[1, 32, 128]), [1, 32, 128]);
    assert_eq!(full.kinds(&[Kind::F32]).len(), 5);
    assert!(parse("--layout chwn").is_err());
    assert!(parse("--quick --full").is_err());
    assert!(parse("--row pool/a/n1/f32/nchw --type f32").is_err());
}

#[test]
fn times_and_counts_are_formatted_with_their_work() {
    use crate::measurement::{InstructionFormatter, TimeFormatter};
    use criterion::Throughput;
    use criterion::measurement::ValueFormatter;
    let (flop, bytes) = (Throughput::Elements(2_000_000), Throughput::Bytes(4_000));
    let time = |value| TimeFormatter.format_value(value);
    assert_eq!(time(94_000.0).trim(), "94.000 us");
    assert_eq!(time(6.8e6).trim(), "6.8000 ms");
    // 2 MFLOP in 1 us are 2 TFLOP/s, 4 kB in 1 us are 4 GB/s.
    assert_eq!(
        TimeFormatter.format_throughput(&flop, 1e3).trim(),
        "2.0000 TFLOP/s"
    );
    assert_eq!(
        TimeFormatter.format_throughput(&bytes, 1e3).trim(),
        "4.0000 GB/s"
    );
    let count = InstructionFormatter.format_value(2_500_000.0);
    assert_eq!(count.trim(), "2.5000 M instr");
    let work = InstructionFormatter.format_throughput(&flop, 500_000.0);
    assert_eq!(work.trim(), "4.0000 FLOP/instr");
}

#[test]
fn ceilings_follow_type_and_mode() {
    let flops = |dtype, math| Card::H200.peak_rates(dtype, math).flops;
    assert_eq!(flops(DType::F32, Math::Strict), 67e12);
    assert_eq!(flops(DType::Bf16, Math::Strict), 790e12);
    // The planner's table and the benchmarks' are one.
    for (dtype, math) in [
        (DType::F32, Math::Strict),
        (DType::F32, Math::Tf32),
        (DType::F32, Math::Tf32x3),
        (DType::F16, Math::Strict),
    ] {
        let planner = PeakRates::of_products(dtype, math);
        assert_eq!(Card::H200.peak_rates(dtype, math), planner);
    }
    assert_eq!(flops(DType::F32, Math::Tf32), 417e12);
    assert!(flops(DType::F32, Math::Tf32x3) > 67e12);
    let bound = Card::H200
        .peak_rates(DType::F32, Math::Strict)
        .bound(1, 1 << 30);
    assert_eq!(bound.bound(), Bound::Memory);
}

/// Without the library, or with another file in its place, the result is an error message; never an
/// abort.
#[cfg(feature = "cudnn")]
#[test]
fn without_cudnn_that_is_said() {
    use crate::cudnn_baseline::CudnnBaseline;
    let gpu = Gpu::open(&DeviceChoice::Emulator { sm: 80 }).unwrap();
    let options = Options::parse_from([""; 0]);
    let cudnn = CudnnBaseline::open(&gpu, gpu.stream(), &options);
    assert!(!cudnn.is_there());
    assert!(cudnn.words.contains("emulator"), "{}", cudnn.words);
    match crate::cudnn::find() {
        Ok(found) => assert!((90_000..100_000).contains(&found.version), "{found}"),
        Err(why) => assert!(why.contains("cuDNN"), "{why}"),
    }
}

#[test]
fn runs_that_differ_in_their_date_alone_are_one() {
    let run = |bench: &str, date: &str| Run {
        bench: bench.to_owned(),
        date: date.to_owned(),
        ..Run::default()
    };
    let contents = Contents {
        runs: vec![run("pool", "a"), run("layers", "a"), run("pool", "b")],
        ..Contents::default()
    };
    let distinct: Vec<&Run> = contents.distinct_runs().collect();
    assert_eq!(distinct, [&contents.runs[0], &contents.runs[1]]);
}

#[test]
fn skipped_rows_and_ceilings_are_read_as_they_were_written() {
    let skipped = |id: &str| Skipped {
        id: id.to_owned(),
        why: String::from("every kernel for it is excluded: a, b"),
    };
    let ceiling = |value| Ceiling {
        name: String::from("copy"),
        value,
        unit: String::from("B/s"),
        note: String::from("measured"),
    };
    let measured = row("a", &targets::WIDE, 10.0, 9.0, None);
    let lines = [
        skipped("a").to_json(),
        skipped("b").to_json(),
        ceiling(3e12).to_json(),
        ceiling(4e12).to_json(),
        ceiling(0.0).to_json(),
        measured.to_json(),
    ];
    let lines = lines.map(|line| line.to_string());
    assert_eq!(parse(&lines[1]), Some(Line::Skipped(skipped("b"))));
    assert_eq!(parse(&lines[2]), Some(Line::Ceiling(ceiling(3e12))));
    let contents = file::contents(&lines.join("\n"));
    assert_eq!(contents.skipped, [skipped("b")], "a was measured later");
    assert_eq!(contents.ceilings, [ceiling(4e12)], "of two the later");
    assert_eq!(contents.unread, 1, "a rate of 0 is none");
    let text = text::notes(&contents).join("\n");
    assert!(text.contains("copy: 4.000 TB/s (measured)"), "{text}");
    assert!(text.contains("b: skipped: every kernel for it"), "{text}");
}
