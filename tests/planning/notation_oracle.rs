//! benchdnn's notation, held to an oracle of its own: benchdnn's rule over the eighteen numbers of
//! three axes, written from the description of its `str2desc`, with nothing of the crate's reader
//! in it. Where benchdnn refuses a part of an axis, the oracle is this crate's documented rule:
//! what is missing is the other axis's.

use proptest::prelude::*;
use std::collections::BTreeMap;
use warpconv::problem::notation::{self, Problem};
use warpconv::problem::{NotationReason, PoolKind};
use warpconv::{Error, problem};

/// Numbers by key; absent is not zero.
type Fields = BTreeMap<String, i64>;

/// An axis, all of it known: input, output, kernel, stride, padding before, dilation (0 is dense).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    i: i64,
    o: i64,
    k: i64,
    s: i64,
    p: i64,
    d: i64,
}

/// The numbers of a text without words; the last of a key that comes twice.
fn fields(text: &str) -> Fields {
    let mut found = Fields::new();
    let mut rest = text;
    while !rest.is_empty() && !rest.starts_with(['n', '+']) {
        rest = rest.trim_start_matches('_');
        let letters = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (key, tail) = rest.split_at(letters);
        let digits = tail
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(tail.len());
        if letters == 0 || digits == 0 {
            break;
        }
        found.insert(key.to_owned(), tail[..digits].parse().expect("a number"));
        rest = &tail[digits..];
    }
    found
}

/// Treatment of one axis by benchdnn before the other axes: `Ok(None)` if nothing was said of it,
/// an error if it refuses.
fn benchdnn_axis(fields: &Fields, axis: char, pool: bool) -> Result<Option<Axis>, ()> {
    let get = |quantity: char, missing: i64| {
        *fields.get(&format!("{quantity}{axis}")).unwrap_or(&missing)
    };
    let mut all = Axis {
        i: get('i', 0),
        o: get('o', 0),
        k: get('k', 0),
        s: get('s', 1),
        p: get('p', -1),
        d: get('d', 0),
    };
    let said = all.i | all.o | all.k | if pool { 0 } else { all.d };
    if said == 0 && all.s == 1 && all.p < 1 {
        return Ok(None);
    }
    if all.i == 0 || all.k == 0 || all.s == 0 {
        return Err(());
    }
    let span = (all.k - 1) * (all.d + 1) + 1;
    if all.o == 0 {
        all.p = all.p.max(0);
        // Rust's division truncates as C's does.
        all.o = (all.i - span + 2 * all.p) / all.s + 1;
        if all.o <= 0 {
            return Err(());
        }
    } else if all.p < 0 {
        all.p = ((all.o - 1) * all.s - all.i + span) / 2;
    }
    Ok(Some(all))
}

/// Rows and columns as benchdnn has them; an error where it refuses.
fn benchdnn(fields: &Fields, pool: bool) -> Result<[Axis; 2], ()> {
    let flat = Axis {
        i: 1,
        o: 1,
        k: 1,
        s: 1,
        p: 0,
        d: 0,
    };
    let rows = benchdnn_axis(fields, 'h', pool)?;
    let columns = benchdnn_axis(fields, 'w', pool)?;
    match (rows, columns) {
        (Some(rows), Some(columns)) => Ok([rows, columns]),
        (Some(rows), None) => Ok([rows, rows]),
        (None, Some(columns)) => Ok([flat, columns]),
        (None, None) => Err(()),
    }
}

/// Fields of a problem of the crate.
fn axes(problem: &Problem) -> [Axis; 2] {
    let axis = |i, o, k, s, p, d: usize| {
        let [i, o, k, s, p, d] = [i, o, k, s, p, d - 1].map(|n: usize| n as i64);
        Axis { i, o, k, s, p, d }
    };
    match problem {
        Problem::Conv(c) => {
            let ([sh, sw], [dh, dw], pad) =
                (c.window().stride, c.window().dilation, c.window().padding);
            [
                axis(c.input().h(), c.output().h(), c.filter().r, sh, pad.top, dh),
                axis(
                    c.input().w(),
                    c.output().w(),
                    c.filter().s,
                    sw,
                    pad.left,
                    dw,
                ),
            ]
        }
        Problem::Pool(c) => {
            assert!(matches!(c.kind(), PoolKind::Max { .. }));
            let ([sh, sw], [dh, dw], pad) =
                (c.window().stride, c.window().dilation, c.window().padding);
            [
                axis(
                    c.input().h(),
                    c.output().h(),
                    c.window().kernel[0],
                    sh,
                    pad.top,
                    dh,
                ),
                axis(
                    c.input().w(),
                    c.output().w(),
                    c.window().kernel[1],
                    sw,
                    pad.left,
                    dw,
                ),
            ]
        }
    }
}

/// Compares a text's problem with benchdnn's; false if benchdnn refuses the text.
fn held_to_benchdnn(text: &str) -> bool {
    let fields = fields(text);
    let pool = !fields.contains_key("oc");
    let Ok(expected) = benchdnn(&fields, pool) else {
        return false;
    };
    let expected = expected.map(|axis| Axis {
        p: axis.p.max(0),
        ..axis
    });
    match notation::parse(text) {
        Ok(named) => {
            assert_eq!(axes(&named.problem), expected, "{text}");
            round_trip(&named.problem);
        }
        Err(error) => {
            // What no padding makes is refused, not guessed: benchdnn leaves that to the library it
            // tests.
            let known = matches!(
                error,
                Error::Notation {
                    reason: NotationReason::OutputSize { .. },
                    ..
                } | Error::WindowTooLarge { .. }
            );
            assert!(known, "{text}: {error}");
        }
    }
    true
}

fn round_trip(problem: &Problem) {
    let text = problem.to_string();
    for key in ["ih", "iw", "oh", "ow", "kh", "kw", "ph", "pw"] {
        assert!(text.contains(key), "{text} lacks {key}");
    }
    let again = notation::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(&again.problem, problem, "{text}");
}

#[test]
fn every_shape_file_reads_as_benchdnn_reads_it() {
    let (mut held, mut deep) = (0, 0);
    for folder in ["conv", "pool"] {
        let folder = warpconv_testing::paths::data().join("shapes").join(folder);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let file = std::fs::read_to_string(&path).unwrap();
            for (line, text) in notation::lines(&file) {
                match notation::parse(text) {
                    Ok(_) => {
                        assert!(held_to_benchdnn(text), "{}:{line}: {text}", path.display());
                        held += 1;
                    }
                    Err(Error::Notation {
                        reason: NotationReason::ThreeDimensional,
                        ..
                    }) => deep += 1,
                    Err(error) => panic!("{}:{line}: {error}", path.display()),
                }
            }
        }
    }
    assert_eq!((held, deep), (310, 31));
}

/// Texts of benchdnn's own test inputs whose columns have fewer fields than the rows, and yet are
/// whole.
#[test]
fn whole_columns_have_benchdnn_s_defaults() {
    for text in [
        "mb2ic16ih109iw13oc80oh55ow13kh1kw1sh2",
        "g16mb1ic16oc16_ih14oh3kh5sh5ph1_iw10ow10kw3",
        "mb1ic16oc16_ih1kh1ph1_iw1kw1",
        "mb1ic16ih1iw1oc16oh2ow1kh3kw1dh1ph1",
        "ic16oc64iw10ih10ow8oh8kh3kw3ph0",
        "mb33ic96ih10iw12oc64oh4ow9kh4kw5sh2pw1",
        "mb1ic16oc1_ih2oh1kh2sh1dh0ph0_iw100kw6sw1dw30pw128",
    ] {
        assert!(held_to_benchdnn(text), "{text}");
        notation::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn a_part_of_an_axis_takes_the_rest_from_the_other() {
    for (text, expected) in [
        (
            "mb1ic4ih8iw9oc4kh3ph1",
            "mb1_ic4ih8iw9_oc4oh8ow9_kh3kw3_ph1pw1",
        ),
        (
            "mb1ic4ih8iw8oc4kh3ph1sh2",
            "mb1_ic4ih8iw8_oc4oh4ow4_kh3kw3_sh2sw2_ph1pw1",
        ),
        (
            "mb1ic32ih32iw3kh2sh2",
            "mb1_ic32ih32iw3_oh16ow1_kh2kw2_sh2sw2_ph0pw0",
        ),
        (
            "mb1ic8ih5oh5kh3ph2_dh1dw1",
            "mb1_ic8ih5iw5_oh5ow5_kh3kw3_ph2pw2_dh1dw1",
        ),
        (
            "mb1ic8ih9kh3ph2_dh1dw0",
            "mb1_ic8ih9iw9_oh9ow11_kh3kw3_ph2pw2_dh1dw0",
        ),
        (
            "mb1ic4iw8ih9oc4kw3pw1sw2",
            "mb1_ic4ih9iw8_oc4oh5ow4_kh3kw3_sh2sw2_ph1pw1",
        ),
        (
            "mb1ic4ih8iw9oc4kh3ph1pw0",
            "mb1_ic4ih8iw9_oc4oh8ow7_kh3kw3_ph1pw0",
        ),
        (
            "mb1ic4ih8oc4kh3kw5ph1",
            "mb1_ic4ih8iw8_oc4oh8ow6_kh3kw5_ph1pw1",
        ),
        (
            "mb1ic4ih8iw6oh4+adaptive_avg",
            "mb1_ic4ih8iw6_oh4ow4+adaptive_avg",
        ),
        (
            "mb1ic4id1od1kd1ih8oc4kh3",
            "mb1_ic4ih8iw8_oc4oh6ow6_kh3kw3_ph0pw0",
        ),
        (
            "mb1ic4id1od1kd1oc4",
            "mb1_ic4ih1iw1_oc4oh1ow1_kh1kw1_ph0pw0",
        ),
    ] {
        let named = notation::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(named.problem.to_string(), expected, "{text}");
        assert_eq!(named.warnings, [], "{text}");
        assert_eq!(
            notation::parse(expected).unwrap().problem,
            named.problem,
            "{text}"
        );
    }
}

#[test]
fn the_last_of_a_repeated_field_counts_and_is_warned_of() {
    let named = notation::parse("ic3ic4oc1ih3kh3_sh2sw1_sh1").unwrap();
    assert_eq!(
        named.problem,
        notation::parse("ic4oc1ih3iw3kh3kw3").unwrap().problem
    );
    let repeated = |field, ignored, used, offset| problem::NotationWarning::Repeated {
        field,
        ignored,
        used,
        offset,
    };
    assert_eq!(
        named.warnings,
        [repeated("ic", 3, 4, 3), repeated("sh", 2, 1, 23)]
    );
    assert_eq!(
        named.warnings[0].to_string(),
        "`ic` is given again at byte 3: 4 counts, 3 is ignored"
    );
    assert_eq!(
        notation::parse("g4g1mb1mb3ic4oc4ih3kh3")
            .unwrap()
            .warnings
            .len(),
        2
    );
}

#[test]
fn an_unknown_word_lists_the_words_there_are() {
    for (text, word) in [
        ("ic1oc1ih3kh3+fp16", "fp16"),
        ("ic1oc1ih3kh3+NHWC+bias", "NHWC"),
        ("ic1oc1ih3kh3+", ""),
        ("ic1oc1ih3kh3+\u{fc}\u{fc}", "\u{fc}\u{fc}"),
    ] {
        let error = notation::parse(text).unwrap_err();
        let reason = NotationReason::UnknownWord {
            word: word.to_owned(),
        };
        assert!(
            matches!(&error, Error::Notation { reason: found, .. } if *found == reason),
            "{error}"
        );
        let shown = error.to_string();
        for word in [
            "+f16",
            "+bf16",
            "+nhwc",
            "+alignN",
            "+inN:N",
            "+residual",
            "+adaptive_avg",
        ] {
            assert!(shown.contains(word), "{shown} lacks {word}");
        }
    }
    let long = format!("ic1oc1ih3kh3+{}", "x".repeat(100_000));
    assert!(notation::parse(&long).unwrap_err().to_string().len() < 101_000);
}

/// Fields of both axes, each given or not, in any order.
fn any_text() -> impl Strategy<Value = String> {
    let number = |key: &'static str, least: i64, most: i64| {
        proptest::option::weighted(0.6, least..=most)
            .prop_map(move |number| number.map(|number| format!("{key}{number}")))
    };
    let axis = |keys: [&'static str; 6]| {
        (
            proptest::option::weighted(0.8, 1i64..20)
                .prop_map(move |i| i.map(|i| format!("{}{i}", keys[0]))),
            number(keys[1], 0, 9),
            proptest::option::weighted(0.8, 1i64..5)
                .prop_map(move |k| k.map(|k| format!("{}{k}", keys[2]))),
            number(keys[3], 1, 3),
            number(keys[4], 0, 3),
            number(keys[5], 0, 2),
        )
            .prop_map(|(i, o, k, s, p, d)| [i, o, k, s, p, d])
    };
    let rows = axis(["ih", "oh", "kh", "sh", "ph", "dh"]);
    let columns = axis(["iw", "ow", "kw", "sw", "pw", "dw"]);
    (any::<(bool, bool, bool)>(), rows, columns).prop_flat_map(
        |((pool, no_rows, no_columns), rows, columns)| {
            let mut all = vec!["ic2".to_owned()];
            all.extend((!pool).then(|| "oc3".to_owned()));
            // A quarter with one axis only.
            all.extend(
                rows.into_iter()
                    .flatten()
                    .filter(|_| !no_rows || no_columns),
            );
            all.extend(
                columns
                    .into_iter()
                    .flatten()
                    .filter(|_| !no_columns || no_rows),
            );
            Just(all).prop_shuffle().prop_map(|all| all.concat())
        },
    )
}

/// The crate's rule for what benchdnn refuses: an axis without input or kernel takes what it lacks
/// from the other one.
fn completed(fields: &Fields) -> Fields {
    let whole = |axis: char| {
        ['i', 'k'].iter().all(|quantity| {
            fields
                .get(&format!("{quantity}{axis}"))
                .is_some_and(|&n| n > 0)
        })
    };
    let mut all = fields.clone();
    for (axis, other) in [('h', 'w'), ('w', 'h')] {
        for quantity in "ioksdp".chars().filter(|_| !whole(axis)) {
            let (key, from) = (format!("{quantity}{axis}"), format!("{quantity}{other}"));
            let lacks = fields
                .get(&key)
                .is_none_or(|&n| n == 0 && "iok".contains(quantity));
            if let Some(&number) = fields.get(&from).filter(|_| lacks) {
                all.insert(key, number);
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4000, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn generated_texts_read_as_the_rules_say(text in any_text()) {
        let given = fields(&text);
        // An explicit `sw1`, `pw0` or `dw0` is absent for benchdnn, and given here: see the
        // notation's documentation.
        let trivial = |axis: char| {
            let key = |quantity: char| given.get(&format!("{quantity}{axis}"));
            let lacks = ['i', 'k'].iter().any(|&quantity| key(quantity).is_none_or(|&n| n == 0));
            lacks && ['s', 'p', 'd'].iter().any(|&quantity| key(quantity).is_some())
        };
        if trivial('w') || !held_to_benchdnn(&text) {
            let all = completed(&given);
            let pool = !all.contains_key("oc");
            let whole: String = all.iter().map(|(key, number)| format!("{key}{number}")).collect();
            let expected = benchdnn(&all, pool);
            match notation::parse(&text) {
                Ok(named) => {
                    let [rows, columns] = expected.unwrap_or_else(|()| panic!("{text} was read, \
                        {whole} is refused"));
                    let expected = [rows, columns].map(|axis| Axis { p: axis.p.max(0), ..axis });
                    prop_assert_eq!(axes(&named.problem), expected, "{}", text);
                    round_trip(&named.problem);
                }
                // Whatever is refused is refused as well if it is spelled in whole.
                Err(_) => prop_assert!(notation::parse(&whole).is_err(), "{}: {}", text, whole),
            }
        }
    }
}
