//! benchdnn's notation: its own shape files, its defaults, and a round trip of every problem.

use proptest::prelude::*;
use warpconv::kernels::Math;
use warpconv::problem::notation::{self, Named, NotationReason, Problem};
use warpconv::problem::{Conv2d, FilterLayout, Padding, Pool2d, PoolKind};
use warpconv::{DType, Error, Layout};

fn conv(text: &str) -> Conv2d {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn pool(text: &str) -> Pool2d {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn reason(text: &str) -> NotationReason {
    match notation::parse(text) {
        Err(Error::Notation { reason, .. }) => reason,
        other => panic!("{text}: {other:?}"),
    }
}

/// Every line of the shape files: how many are problems, and how many of them are
/// three-dimensional.
fn shape_files(folder: &str) -> (usize, usize) {
    let folder = warpconv_testing::paths::data().join("shapes").join(folder);
    let (mut problems, mut deep) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for (line, text) in notation::lines(&text) {
            problems += 1;
            match notation::parse(text) {
                Ok(named) => round_trip(&named.problem),
                Err(Error::Notation {
                    reason: NotationReason::ThreeDimensional,
                    ..
                }) => deep += 1,
                Err(error) => panic!("{}:{line}: {error}", path.display()),
            }
        }
    }
    (problems, deep)
}

fn round_trip(problem: &Problem) {
    let text = problem.to_string();
    let again = notation::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(&again.problem, problem, "{text}");
}

#[test]
fn the_shape_files_parse() {
    assert_eq!(shape_files("conv"), (295, 31));
    assert_eq!(shape_files("pool"), (46, 0));
}

#[test]
fn defaults_are_benchdnn_s() {
    let alexnet = conv("g2mb256ic96ih27oc256oh27kh5ph2n\"alexnet:conv2\"");
    assert_eq!(
        (
            alexnet.input().n(),
            alexnet.groups(),
            alexnet.input().w(),
            alexnet.filter().s
        ),
        (256, 2, 27, 5)
    );
    assert_eq!(alexnet.window().padding, Padding::same(2));
    // Batch 2, stride 1, dense.
    let plain = conv("ic32oc13_ih13oh12kh3ph0");
    assert_eq!(
        (
            plain.input().n(),
            plain.window().stride,
            plain.window().dilation
        ),
        (2, [1, 1], [1, 1])
    );
    // 12 outputs of 13 rows with a 3x3 kernel ask for one row of padding, and none above.
    assert_eq!(
        plain.window().padding,
        Padding {
            top: 0,
            bottom: 1,
            left: 0,
            right: 1
        }
    );
    // Dilation counts what is left out.
    assert_eq!(conv("ic1oc1ih9kh3dh2").window().dilation, [3, 3]);
    // Padding follows from the output's size: ((56 - 1) * 2 - 112 + 3) / 2 = 0 before, 1 after.
    let resnet = pool("mb50ic64_ih112oh56_kh3sh2n\"resnet_50:max_pool1\"");
    assert_eq!(
        resnet.window().padding,
        Padding {
            top: 0,
            bottom: 1,
            left: 0,
            right: 1
        }
    );
    assert_eq!(conv("ic1oc1ih5oh5kh3").window().padding, Padding::same(1));
    // Only columns: one-dimensional.
    let line = conv("ic3oc16_iw5ow5kw3pw1");
    assert_eq!(
        (
            line.input().h(),
            line.input().w(),
            line.filter().r,
            line.filter().s,
            line.output().h()
        ),
        (1, 5, 1, 3, 1)
    );
    // Trivial depth is no depth.
    assert_eq!(
        conv("mb1_ic16oc16_kd1kh3kw1_id1ih3iw1_od1oh1ow1_sd1sh1sw1_pd0ph1pw0_dd0dh1dw0")
            .output()
            .h(),
        1
    );
}

#[test]
fn an_input_that_is_not_all_read() {
    // "Negative padding" on the right: one column of the input is left over.
    let left_over = pool("ic32_iw33ih19_ow14oh17_pw0ph1_kw6kh4_sw2sh1");
    assert_eq!(
        (left_over.output().w(), left_over.window().padding.right),
        (14, 0)
    );
    let cropped = pool("ic1_ih32oh6kh6sh6ph2_iw2ow1kw1sw1pw0");
    assert_eq!(
        (
            cropped.input().w(),
            cropped.output().w(),
            cropped.output().h()
        ),
        (2, 1, 6)
    );
}

#[test]
fn names_and_comments() {
    let file = "# comment\n\nmb1ic1oc1ih3kh3 # tail\n--reset --dir=FWD_B \
        mb2ic2oc2ih3kh3n\"net:conv2_1*3\"\n";
    let lines: Vec<_> = notation::lines(file).collect();
    assert_eq!(lines[0], (3, "mb1ic1oc1ih3kh3"));
    assert_eq!(lines.len(), 2);
    let named: Named<Problem> = notation::parse(lines[1].1).unwrap();
    assert_eq!(named.name.as_deref(), Some("net:conv2_1*3"));
    assert_eq!(
        notation::parse("ic1oc1ih3kh3nplain")
            .unwrap()
            .name
            .as_deref(),
        Some("plain")
    );
    assert_eq!(
        notation::parse("ic1oc1ih3kh3n\"x\"+f16").unwrap().problem,
        notation::parse("ic1oc1ih3kh3+f16").unwrap().problem
    );
    assert_eq!(notation::parse("ic1oc1ih3kh3").unwrap().name, None);
}

#[test]
fn words_that_repeat_or_contradict_are_refused() {
    for (words, word, earlier) in [
        ("+in4:1+in8:2", "in", "in"),
        ("+max+avg_p", "avg_p", "max"),
        ("+global_avg+adaptive_avg", "adaptive_avg", "global_avg"),
        ("+avg_np+nhwc+avg_np", "avg_np", "avg_np"),
        ("+f16+bf16", "bf16", "f16"),
        ("+nhwc+ceil+nchw", "nchw", "nhwc"),
        ("+kcrs+krsc", "krsc", "kcrs"),
        ("+packed+krsc", "krsc", "packed"),
        ("+tf32+tf32x3", "tf32x3", "tf32"),
        ("+align4+align4", "align", "align"),
        ("+pb1+pb2", "pb", "pb"),
        ("+residual+residual9:1", "residual", "residual"),
    ] {
        let text = format!("ic2ih5kh3{words}");
        assert_eq!(
            reason(&text),
            NotationReason::Contradiction { word, earlier },
            "{text}"
        );
        let shown = notation::parse(&text).unwrap_err().to_string();
        assert!(shown.contains(&format!("`+{word}`")), "{shown}");
    }
    assert!(notation::parse("ic2ih5kh3+max+indices+f16+nhwc+in4:1+out4:1+pb1+pr1").is_ok());
}

#[test]
fn what_cannot_be_read_is_named() {
    assert_eq!(reason("ic1oc1ih3kh3xx1"), NotationReason::Unknown);
    assert_eq!(
        reason("ic1oc1ih3kh3+tf16"),
        NotationReason::UnknownWord {
            word: "tf16".into()
        }
    );
    assert_eq!(
        reason("ic1oc1ih3kh3+align"),
        NotationReason::Number { field: "align" }
    );
    assert_eq!(
        reason("ic1ih3kh3+packed"),
        NotationReason::Misplaced {
            field: "packed",
            problem: "pooling"
        }
    );
    assert_eq!(reason("ic1oc1ih3kh3ü"), NotationReason::Unknown);
    assert_eq!(
        reason("icoc1ih3kh3"),
        NotationReason::Number { field: "ic" }
    );
    assert_eq!(
        reason("ic-1oc1ih3kh3"),
        NotationReason::Number { field: "ic" }
    );
    assert_eq!(
        reason("ic99999999999999999999oc1ih3kh3"),
        NotationReason::Number { field: "ic" }
    );
    assert_eq!(reason("oc1ih3kh3"), NotationReason::Missing { field: "ic" });
    assert_eq!(reason("ic1oc1ih3"), NotationReason::Missing { field: "kh" });
    assert_eq!(reason(""), NotationReason::Missing { field: "ic" });
    assert_eq!(
        reason("ic1ih3kh3+bias"),
        NotationReason::Misplaced {
            field: "bias",
            problem: "pooling"
        }
    );
    assert_eq!(
        reason("ic1oc1ih3kh3+ceil"),
        NotationReason::Misplaced {
            field: "ceil",
            problem: "convolution"
        }
    );
    assert_eq!(
        reason("ic3oc16_id5od5kd3pd1"),
        NotationReason::ThreeDimensional
    );
    assert_eq!(
        reason("ic1oc1ih5oh9kh3ph1+pb0+pr0"),
        NotationReason::OutputSize {
            field: "oh",
            given: 9,
            computed: 4
        }
    );
    let error = notation::parse("ic1oc1ih3khx").unwrap_err();
    assert_eq!(
        error.to_string(),
        "`ic1oc1ih3khx`, at byte 11: `kh` needs a number between 0 and 2^64 - 1"
    );
}

#[test]
fn storage_beyond_type_and_layout_is_read_and_printed() {
    let text = "mb1_ic63ih5iw5_oc8oh5ow5_kh3kw3_ph1pw1+nhwc+packed+tf32x3+align4+bias";
    let problem = conv(text);
    assert_eq!(
        (problem.filter().layout, problem.math(), problem.alignment()),
        (FilterLayout::Packed, Math::Tf32x3, 4)
    );
    assert_eq!(problem.to_string(), text);
    assert_eq!(conv("ic1oc1ih3kh3+tf32").math(), Math::Tf32);
    let plain = conv("ic1oc1ih3kh3+kcrs+align16");
    assert_eq!(plain, conv("ic1oc1ih3kh3"));
    assert_eq!((plain.math(), plain.alignment()), (Math::Strict, 16));
    // What the builder refuses is refused here too, with the values.
    let refused = |text: &str| text.parse::<Conv2d>().unwrap_err();
    assert_eq!(
        refused("ic1oc1ih3kh3+bf16+tf32"),
        Error::MathMode {
            math: Math::Tf32,
            dtype: DType::Bf16
        }
    );
    assert_eq!(
        refused("ic1oc1ih3kh3+align2"),
        Error::Alignment {
            bytes: 2,
            element: 4,
            most: 256
        }
    );
}

#[test]
fn numbers_out_of_range_are_errors() {
    for text in [
        "ic1oc1ih3kh3ph4611686018427387904",
        "ic1oc1ih3kh4294967296",
        "ic1oc1ih3kh3dh18446744073709551615",
        "ic1oc1ih3oh18446744073709551615kh3",
        "ic1oc1ih3kh3sh0",
        "g0ic1oc1ih3kh3",
        "ic0oc1ih3kh3",
        "mb18446744073709551615ic1oc1ih3kh3",
        "ic1ih3kh3+avg_p+div0",
        "ic1ih3kh3+avg_p+div99999999999",
        "ic1oc1ih3kh3+in9223372036854775808:1",
    ] {
        assert!(notation::parse(text).is_err(), "{text}");
    }
    assert!(notation::parse("mb0ic1oc1ih3kh3").is_ok());
}

fn slices() -> impl Strategy<Value = Option<(usize, usize)>> {
    proptest::option::of((0usize..4, 0usize..4))
}

prop_compose! {
    fn any_padding()(
        top in 0usize..5, bottom in 0usize..5, left in 0usize..5, right in 0usize..5
    ) -> Padding {
        Padding { top, bottom, left, right }
    }
}

prop_compose! {
    fn any_conv()(
        (n, h, w) in (0usize..4, 1usize..9, 1usize..9),
        (groups, c, k) in (1usize..4, 1usize..4, 1usize..4),
        (r, s) in (1usize..5, 1usize..5),
        stride in (1usize..4, 1usize..4),
        dilation in (1usize..3, 1usize..3),
        padding in any_padding(),
        (bias, relu, residual) in any::<(bool, bool, bool)>(),
        (dtype, layout, filter) in (0usize..3, 0usize..2, 0usize..3),
        (math, alignment) in (0usize..3, 1u32..9),
        slices in (slices(), slices(), slices()),
    ) -> Option<Conv2d> {
        let mut builder = Conv2d::builder()
            .input(n, groups * c, h, w)
            .filters(groups * k)
            .groups(groups)
            .kernel(r, s)
            .stride(stride.0, stride.1)
            .dilation(dilation.0, dilation.1)
            .padding(padding)
            .bias(bias)
            .relu(relu)
            .residual(residual)
            .dtype(DType::ALL[dtype])
            .layout(Layout::ALL[layout])
            .filter_layout(FilterLayout::ALL[filter])
            .alignment(DType::ALL[dtype].size().max(1 << alignment));
        if DType::ALL[dtype] == DType::F32 {
            builder = builder.math(Math::ALL[math]);
        }
        if let Some((before, after)) = slices.0 {
            builder = builder.input_slice(before + groups * c + after, before);
        }
        if let Some((before, after)) = slices.1 {
            builder = builder.output_slice(before + groups * k + after, before);
        }
        if let Some((before, after)) = slices.2 {
            builder = builder.residual_slice(before + groups * k + after, before);
        }
        builder.build().ok()
    }
}

prop_compose! {
    fn any_pool()(
        (n, c, h, w) in (0usize..4, 1usize..5, 1usize..9, 1usize..9),
        (r, s) in (1usize..5, 1usize..5),
        stride in (1usize..4, 1usize..4),
        dilation in (1usize..3, 1usize..3),
        padding in any_padding(),
        kind in 0usize..7,
        (ceil, include) in any::<(bool, bool)>(),
        divisor in proptest::option::of(prop_oneof![-9i32..0, 1i32..9]),
        crop in (0usize..2, 0usize..2),
        (dtype, layout) in (0usize..3, 0usize..2),
        slices in (slices(), slices()),
    ) -> Option<Pool2d> {
        let kind = match kind {
            0 | 1 => PoolKind::Max { indices: kind == 1 },
            2 | 3 => PoolKind::Average { count_include_pad: include, divisor_override: divisor },
            4 => PoolKind::GlobalMax,
            5 => PoolKind::GlobalAverage,
            _ => PoolKind::AdaptiveAverage { p: r, q: s },
        };
        let mut builder = Pool2d::builder()
            .input(n, c, h, w)
            .kind(kind)
            .dtype(DType::ALL[dtype])
            .layout(Layout::ALL[layout]);
        if matches!(kind, PoolKind::Max { .. } | PoolKind::Average { .. }) {
            builder = builder
                .kernel(r, s)
                .stride(stride.0, stride.1)
                .dilation(dilation.0, dilation.1)
                .padding(padding)
                .ceil_mode(ceil);
            let whole = builder.clone().build().ok()?;
            if whole.output().h() > crop.0 && whole.output().w() > crop.1 {
                let (p, q) = (whole.output().h(), whole.output().w());
                builder = builder.output_size(p - crop.0, q - crop.1);
            }
        }
        if let Some((before, after)) = slices.0 {
            builder = builder.input_slice(before + c + after, before);
        }
        if let Some((before, after)) = slices.1 {
            builder = builder.output_slice(before + c + after, before);
        }
        builder.build().ok()
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn convolutions_come_back(conv in any_conv()) {
        if let Some(conv) = conv {
            round_trip(&Problem::Conv(conv));
        }
    }

    #[test]
    fn poolings_come_back(pool in any_pool()) {
        if let Some(pool) = pool {
            round_trip(&Problem::Pool(pool));
        }
    }

    #[test]
    fn no_text_panics(
        text in "(mb|g|ic|oc|ih|iw|oh|ow|kh|kw|sh|sw|ph|pw|dh|dw|id|kd|_|\\+[a-z_0-9:]{0,6}\
            |[0-9]{1,21}|n|\\PC){0,20}"
    ) {
        let _ = notation::parse(&text);
    }
}
