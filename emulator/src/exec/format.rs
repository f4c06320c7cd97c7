//! The places of a `printf` format.
//!
//! As CUDA has it: up to 32 arguments, and `*` for a width. What a place may take is bounded, whatever its width and
//! precision say.

/// Arguments that a format may have; the places of more are printed as they stand.
const MOST_ARGUMENTS: u32 = 32;
/// Widths and precisions above this are taken for it.
const WIDEST: usize = 4096;

/// Where the arguments come from.
pub(crate) trait Arguments {
    /// The next argument, of so many bytes.
    fn next(&mut self, bytes: u64) -> u64;
    /// The string that the next argument is the address of.
    fn text(&mut self) -> String;
}

/// One place of a format.
#[derive(Default)]
struct Place<'a> {
    /// All of it, behind the percent sign.
    spec: &'a str,
    flags: &'a str,
    /// Whether the width is an argument.
    starred: bool,
    width: usize,
    precision: Option<usize>,
    long: bool,
    kind: char,
}

/// Fills the places of a format; gives the text and how many arguments it took.
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
            // A doubled sign, or what is no place, or one too many.
            text.push_str(if place.kind == '%' { "" } else { place.spec });
            continue;
        }
        count += taken;
        text.push_str(&place.show(arguments));
    }
    text.push_str(rest);
    (text, count)
}

/// A number of a format, as much as matters.
fn number(digits: &str) -> usize {
    if digits.is_empty() {
        return 0;
    }
    // Digits only: what does not parse is too large.
    digits.parse().unwrap_or(WIDEST).min(WIDEST)
}

/// Splits what `is` holds of off the beginning.
fn split(text: &str, is: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !is(c)).unwrap_or(text.len());
    text.split_at(end)
}

impl<'a> Place<'a> {
    /// The place that `text` begins with.
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

    /// How many arguments it takes.
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
        let body = self.body(arguments);
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

/// As C writes it: two digits of exponent with a sign.
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
