//! Conversion specifications of a `printf` format.
//!
//! As in CUDA, a format has up to 32 arguments, and `*` for a width. The output per specification
//! is bounded, for any width and precision.

/// Maximum number of arguments; further specifications are printed verbatim.
const MOST_ARGUMENTS: u32 = 32;
/// Maximum of widths and precisions; larger ones are reduced to it.
const WIDEST: usize = 4096;

/// Source of the arguments.
pub(crate) trait Arguments {
    /// The next argument, of `bytes` bytes.
    fn next(&mut self, bytes: u64) -> u64;
    /// The string at the address in the next argument.
    fn text(&mut self) -> String;
}

/// One conversion specification of a format.
#[derive(Default)]
struct Place<'a> {
    /// Its text after the percent sign.
    spec: &'a str,
    flags: &'a str,
    /// True if the width is an argument.
    starred: bool,
    width: usize,
    precision: Option<usize>,
    long: bool,
    kind: char,
}

/// Expands a format; returns the text and the number of arguments.
pub(crate) fn expand(format: &str, arguments: &mut impl Arguments) -> (String, u32) {
    let mut text = String::new();
    let mut count = 0;
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        let place = Place::parse(&rest[at + 1..]);
        rest = &rest[at + 1 + place.spec.len()..];
        let taken = place.arguments();
        if taken == 0 || count + taken > MOST_ARGUMENTS {
            text.push('%');
            // `%%`, an invalid specification, or one beyond the last argument.
            text.push_str(if place.kind == '%' { "" } else { place.spec });
            continue;
        }
        count += taken;
        text.push_str(&place.show(arguments));
    }
    text.push_str(rest);
    (text, count)
}

/// Parses a number of a format, up to the maximum.
fn number(digits: &str) -> usize {
    if digits.is_empty() {
        return 0;
    }
    // Digits only: a number that does not parse is too large.
    digits.parse().unwrap_or(WIDEST).min(WIDEST)
}

/// Splits off the prefix of characters that satisfy `is`.
fn split(text: &str, is: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !is(c)).unwrap_or(text.len());
    text.split_at(end)
}

impl<'a> Place<'a> {
    /// Parses the specification at the start of `text`.
    fn parse(text: &'a str) -> Place<'a> {
        let last = |c: char| c == '%' || c.is_ascii_alphabetic() && !"hlLjzt".contains(c);
        let (spec, kind) = match text.char_indices().find(|&(_, c)| last(c)) {
            Some((at, kind)) => (&text[..=at], kind),
            None => (text, '\0'),
        };
        let (flags, rest) = split(spec, |c| "-+ #0".contains(c));
        let (star, rest) = split(rest, |c| c == '*');
        let (width, rest) = split(rest, |c| c.is_ascii_digit());
        let precision = rest
            .strip_prefix('.')
            .map(|rest| number(split(rest, |c| c.is_ascii_digit()).0));
        Place {
            spec,
            flags,
            starred: !star.is_empty(),
            width: number(width),
            precision,
            long: spec.contains(['l', 'z', 'j']),
            kind,
        }
    }

    /// Number of arguments that it consumes.
    fn arguments(&self) -> u32 {
        if "diuxXocpsfFeEgGaA".contains(self.kind) {
            1 + u32::from(self.starred)
        } else {
            0
        }
    }

    fn show(&self, arguments: &mut impl Arguments) -> String {
        let (mut width, mut left) = (self.width, self.flags.contains('-'));
        if self.starred {
            let given = arguments.next(4) as u32 as i32;
            left |= given < 0;
            width = (given.unsigned_abs() as usize).min(WIDEST);
        }
        let mut body = self.body(arguments);
        if "FEGA".contains(self.kind) {
            body.make_ascii_uppercase();
        }
        let signed = "dieEfFgG".contains(self.kind);
        let body = if self.flags.contains('+') && !body.starts_with('-') && signed {
            format!("+{body}")
        } else {
            body
        };
        match () {
            () if left => format!("{body:<width$}"),
            () if self.flags.contains('0') && body.starts_with('-') => {
                format!("-{:0>1$}", &body[1..], width.max(1) - 1)
            }
            () if self.flags.contains('0') => format!("{body:0>width$}"),
            () => format!("{body:>width$}"),
        }
    }

    fn body(&self, arguments: &mut impl Arguments) -> String {
        let long = self.long;
        let digits = self.precision.unwrap_or(6);
        let mut integer = || arguments.next(if long { 8 } else { 4 });
        match self.kind {
            'd' | 'i' if long => (integer() as i64).to_string(),
            'd' | 'i' => (integer() as u32 as i32).to_string(),
            'u' => integer().to_string(),
            'x' => format!("{:x}", integer()),
            'X' => format!("{:X}", integer()),
            'o' => format!("{:o}", integer()),
            'c' => char::from(arguments.next(4) as u8).to_string(),
            'p' => format!("{:#x}", arguments.next(8)),
            's' => arguments.text(),
            'f' | 'F' => float(arguments, |x| format!("{x:.digits$}")),
            'e' | 'E' => float(arguments, |x| exponent(x, digits)),
            'g' | 'G' => float(arguments, |x| general(x, digits)),
            _ => float(arguments, |x| x.to_string()),
        }
    }
}

fn float(arguments: &mut impl Arguments, show: impl Fn(f64) -> String) -> String {
    let x = f64::from_bits(arguments.next(8));
    match () {
        () if x.is_nan() => "nan".into(),
        () if x.is_infinite() => {
            if x > 0.0 {
                "inf".into()
            } else {
                "-inf".into()
            }
        }
        () => show(x),
    }
}

/// Exponential notation as in C: a sign and at least two digits of exponent.
fn exponent(x: f64, precision: usize) -> String {
    let text = format!("{x:.precision$e}");
    match text.split_once('e') {
        Some((digits, power)) => {
            let power: i32 = power.parse().unwrap_or(0);
            format!(
                "{digits}e{}{:02}",
                if power < 0 { '-' } else { '+' },
                power.abs()
            )
        }
        None => text,
    }
}

/// `%g` as in C: `precision` significant digits, exponential notation where that is shorter, no
/// trailing zeros.
fn general(x: f64, precision: usize) -> String {
    let precision = precision.max(1);
    let text = exponent(x, precision - 1);
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i64 = power.parse().unwrap_or(0);
    let (digits, tail) = if (-4..precision as i64).contains(&power) {
        let behind = (precision as i64 - 1 - power) as usize;
        (format!("{x:.behind$}"), "")
    } else {
        (digits.to_owned(), &text[digits.len()..])
    };
    match digits.contains('.') {
        true => {
            digits
                .trim_end_matches('0')
                .trim_end_matches('.')
                .to_owned()
                + tail
        }
        false => digits + tail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Given(Vec<u64>);

    impl Arguments for Given {
        fn next(&mut self, _bytes: u64) -> u64 {
            if self.0.is_empty() {
                0
            } else {
                self.0.remove(0)
            }
        }

        fn text(&mut self) -> String {
            format!("text {}", self.next(8))
        }
    }

    fn shown(format: &str, given: &[u64]) -> String {
        expand(format, &mut Given(given.to_vec())).0
    }

    #[test]
    fn places_are_filled_as_c_does() {
        assert_eq!(
            shown("%5d|%-4u|%04x|%+d", &[7, 8, 255, 3]),
            "    7|8   |00ff|+3"
        );
        assert_eq!(shown("100%% %s%", &[4]), "100% text 4%");
        assert_eq!(
            shown(
                "%05d %.2f %e",
                &[-7i64 as u64, 1.5f64.to_bits(), 1.5e-7f64.to_bits()]
            ),
            "-0007 1.50 1.500000e-07"
        );
        assert_eq!(
            shown("%*d|%*d|", &[4, 7, -4i32 as u32 as u64, 7]),
            "   7|7   |"
        );
        assert_eq!(shown("%n %y %", &[1]), "%n %y %");
    }

    /// Tests every kind of specification against the output of glibc's `printf`.
    #[test]
    fn kinds_are_shown_as_c_does() {
        let real = f64::to_bits;
        for (format, given, want) in [
            ("%i|%d", &[-3i64 as u64, 4][..], "-3|4"),
            ("%d", &[0xffff_ffff_0000_0005], "5"),
            ("%ld|%lli", &[-5i64 as u64, 1 << 40], "-5|1099511627776"),
            (
                "%zu|%ju",
                &[1 << 40, u64::MAX],
                "1099511627776|18446744073709551615",
            ),
            ("%u", &[u32::MAX.into()], "4294967295"),
            ("%x|%X|%o", &[255, 255, 255], "ff|FF|377"),
            (
                "%lx|%lX",
                &[0xab_1234_5678, 0xab_1234_5678],
                "ab12345678|AB12345678",
            ),
            ("%c%c", &[65, 98], "Ab"),
            ("%p", &[0x1f00], "0x1f00"),
            ("%f|%F", &[real(1.5), real(-0.25)], "1.500000|-0.250000"),
            ("%.0f|%.3f", &[real(2.5), real(2.0)], "2|2.000"),
            (
                "%e|%E",
                &[real(12345.0), real(0.5)],
                "1.234500e+04|5.000000E-01",
            ),
            ("%.1e|%.0E", &[real(-1e100), real(1.0)], "-1.0e+100|1E+00"),
            (
                "%g|%g|%g",
                &[real(1.5), real(0.0), real(100000.0)],
                "1.5|0|100000",
            ),
            (
                "%g|%g",
                &[real(1e6), real(123456789.0)],
                "1e+06|1.23457e+08",
            ),
            ("%g|%g", &[real(0.0001), real(0.00001)], "0.0001|1e-05"),
            ("%g|%G", &[real(999999.5), real(1e-7)], "1e+06|1E-07"),
            (
                "%.3g|%.0g|%.10g",
                &[real(1234.5), real(25.0), real(0.1)],
                "1.23e+03|2e+01|0.1",
            ),
            ("%f|%e|%g", &[real(f64::NAN); 3], "nan|nan|nan"),
            (
                "%f|%F",
                &[real(f64::INFINITY), real(f64::NEG_INFINITY)],
                "inf|-INF",
            ),
            // Widths, signs and zeros.
            ("%+d|%+d|%+u", &[3, -3i64 as u64, 3], "+3|-3|3"),
            (
                "%+f|%+e|%+g",
                &[real(1.0), real(-1.0), real(2.0)],
                "+1.000000|-1.000000e+00|+2",
            ),
            (
                "%5d|%5d|%5d",
                &[1, -1i64 as u64, 1234567],
                "    1|   -1|1234567",
            ),
            ("%-5d|%-5d|", &[1, -1i64 as u64], "1    |-1   |"),
            (
                "%05d|%05d|%05x",
                &[1, -1i64 as u64, 255],
                "00001|-0001|000ff",
            ),
            ("%-05d|%1d", &[1, -12i64 as u64], "1    |-12"),
            (
                "%08.3f|%-8.2f|",
                &[real(-1.5), real(1.5)],
                "-001.500|1.50    |",
            ),
            ("%*d|%-*d|", &[3, 7, 3, 7], "  7|7  |"),
        ] {
            assert_eq!(shown(format, given), want, "{format}");
        }
        // Specifications before text longer than them.
        assert_eq!(
            shown("%3s|%9s|%-9s|", &[1, 2, 3]),
            "text 1|   text 2|text 3   |"
        );
        assert_eq!(expand("%d %*d %% %s", &mut Given(vec![1, 2, 3, 4])).1, 4);
    }

    /// Records the sizes of the requested arguments.
    struct Sizes(Vec<u64>);

    impl Arguments for Sizes {
        fn next(&mut self, bytes: u64) -> u64 {
            self.0.push(bytes);
            0
        }

        fn text(&mut self) -> String {
            self.next(8);
            String::new()
        }
    }

    #[test]
    fn arguments_have_the_sizes_of_their_kinds() {
        let mut sizes = Sizes(Vec::new());
        expand("%d %ld %hd %llu %zx %c %p %s %f %e %g %*d %o", &mut sizes);
        assert_eq!(sizes.0, [4, 8, 4, 8, 8, 4, 8, 8, 8, 8, 8, 4, 4, 4]);
    }

    /// With 31 arguments used, a specification with `*` needs one more than remains.
    #[test]
    fn a_place_that_takes_two_arguments_counts_twice() {
        let format = "%d".repeat(31) + "|%*d";
        let (text, count) = expand(&format, &mut Given(vec![1; 40]));
        assert_eq!((text.as_str(), count), (&*("1".repeat(31) + "|%*d"), 31));
        let format = "%d".repeat(30) + "|%*d";
        let (text, count) = expand(&format, &mut Given(vec![1; 40]));
        assert_eq!((text.as_str(), count), (&*("1".repeat(30) + "|1"), 32));
    }

    #[test]
    fn no_width_precision_or_count_is_too_much() {
        let huge = 1_000_000_000u64;
        for format in [
            "%1000000000d",
            "%-1000000000d",
            "%01000000000d",
            "%*d",
            "%99999999999999999999d",
        ] {
            let text = shown(format, &[huge, 5]);
            assert_eq!(text.len(), WIDEST, "{format}");
        }
        for format in ["%.1000000000f", "%.1000000000e", "%1000000000.1000000000f"] {
            let text = shown(format, &[1f64.to_bits()]);
            assert!(
                (WIDEST..WIDEST + 16).contains(&text.len()),
                "{format}: {}",
                text.len()
            );
        }
        let many = "%d ".repeat(40);
        let (text, count) = expand(&many, &mut Given(vec![1; 40]));
        assert_eq!(count, 32);
        assert_eq!(text, "1 ".repeat(32) + &"%d ".repeat(8));
    }
}
