//! Text to fields: no meaning yet.

use super::{NotationReason, NotationWarning};
use crate::error::Error;

/// The keys of fields with no axis.
const PLAIN: [&str; 4] = ["mb", "ic", "oc", "g"];
/// The quantities of an axis, and the axes; a key is one of each.
const QUANTITIES: [&str; 6] = ["i", "o", "k", "s", "p", "d"];
/// All eighteen of them, in the order of [`QUANTITIES`] for depth, then rows, then columns.
const AXIS_KEYS: [&str; 18] = [
    "id", "od", "kd", "sd", "pd", "dd", "ih", "oh", "kh", "sh", "ph", "dh", "iw", "ow", "kw", "sw",
    "pw", "dw",
];
/// The words behind a `+`, with how many numbers follow. No word is the beginning of a later one.
const WORDS: [(&str, usize); 26] = [
    ("f32", 0),
    ("f16", 0),
    ("bf16", 0),
    ("nchw", 0),
    ("nhwc", 0),
    ("kcrs", 0),
    ("krsc", 0),
    ("packed", 0),
    ("tf32x3", 0),
    ("tf32", 0),
    ("align", 1),
    ("bias", 0),
    ("relu", 0),
    ("indices", 0),
    ("max", 0),
    ("avg_p", 0),
    ("avg_np", 0),
    ("global_max", 0),
    ("global_avg", 0),
    ("adaptive_avg", 0),
    ("ceil", 0),
    ("div", 1),
    ("pb", 1),
    ("pr", 1),
    ("in", 2),
    ("out", 2),
];

/// Characters of an unknown word that its error shows.
const LONGEST_SHOWN: usize = 24;

/// All words, each behind its `+`, with the numbers that follow.
pub(super) fn vocabulary() -> String {
    let numbers = |count: usize| ["", "N", "N:N"][count.min(2)];
    let words = WORDS.iter().chain(&[("residual", 0)]);
    let words = words.map(|(word, count)| format!("+{word}{}", numbers(*count)));
    words.collect::<Vec<_>>().join(" ")
}

/// Words of which a text has one at most; any other goes with all but itself.
const CHOICES: [&[&str]; 5] = [
    &["f32", "f16", "bf16"],
    &["nchw", "nhwc"],
    &["kcrs", "krsc", "packed"],
    &["tf32", "tf32x3"],
    &[
        "max",
        "avg_p",
        "avg_np",
        "global_max",
        "global_avg",
        "adaptive_avg",
    ],
];

/// One axis as it was written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawAxis {
    pub input: Option<u64>,
    pub output: Option<u64>,
    pub kernel: Option<u64>,
    pub stride: Option<u64>,
    pub padding: Option<u64>,
    pub dilation: Option<u64>,
}

impl RawAxis {
    /// Returns whether the axis has what no rule can infer but from the other axis: its input and
    /// its kernel. Zero is no size.
    pub fn is_whole(&self) -> bool {
        self.input.unwrap_or(0) != 0 && self.kernel.unwrap_or(0) != 0
    }

    /// This axis, with what was not said about it taken from `other`. Zero is no size.
    pub fn or(self, other: RawAxis) -> RawAxis {
        let sized =
            |size: Option<u64>, other: Option<u64>| size.filter(|&size| size != 0).or(other);
        RawAxis {
            input: sized(self.input, other.input),
            output: sized(self.output, other.output),
            kernel: sized(self.kernel, other.kernel),
            stride: self.stride.or(other.stride),
            padding: self.padding.or(other.padding),
            dilation: self.dilation.or(other.dilation),
        }
    }

    /// Returns whether nothing was said about the axis, by benchdnn's rule: zeros and a stride of 1
    /// say nothing, and a pooling's dilation alone does not either.
    pub fn is_absent(&self, pooling: bool) -> bool {
        let nothing = |field: Option<u64>| field.unwrap_or(0) == 0;
        nothing(self.input)
            && nothing(self.output)
            && nothing(self.kernel)
            && (pooling || nothing(self.dilation))
            && nothing(self.padding)
            && self.stride.unwrap_or(1) == 1
    }

    fn slot(&mut self, quantity: usize) -> &mut Option<u64> {
        match quantity {
            0 => &mut self.input,
            1 => &mut self.output,
            2 => &mut self.kernel,
            3 => &mut self.stride,
            4 => &mut self.padding,
            _ => &mut self.dilation,
        }
    }
}

/// A word behind a `+`, its numbers and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub word: &'static str,
    /// The numbers; a sign before the first is allowed.
    pub numbers: Vec<i64>,
    pub offset: usize,
}

/// All that a text says.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub text: String,
    pub images: Option<u64>,
    pub channels: Option<u64>,
    pub filters: Option<u64>,
    pub groups: Option<u64>,
    /// Depth, rows, columns.
    pub axes: [RawAxis; 3],
    pub words: Vec<Word>,
    pub name: Option<String>,
    pub warnings: Vec<NotationWarning>,
}

impl Fields {
    pub fn is_convolution(&self) -> bool {
        self.filters.is_some()
    }

    /// The error at `offset` of this text.
    pub fn error(&self, offset: usize, reason: NotationReason) -> Error {
        Error::Notation {
            text: self.text.clone(),
            offset,
            reason,
        }
    }

    /// A missing field: the trouble is at the end of the text.
    pub fn missing(&self, field: &'static str) -> Error {
        self.error(self.text.len(), NotationReason::Missing { field })
    }
}

/// Takes the text apart.
pub(super) fn scan(text: &str) -> Result<Fields, Error> {
    let text = text.trim();
    let mut fields = Fields {
        text: text.to_owned(),
        ..Fields::default()
    };
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if let Some(tail) = rest.strip_prefix('_') {
            at = text.len() - tail.len();
        } else if let Some(tail) = rest.strip_prefix('+') {
            at = word(&mut fields, text.len() - tail.len())?;
        } else if let Some(name) = rest.strip_prefix('n') {
            let quoted = name.strip_prefix('"').and_then(|name| name.split_once('"'));
            let (name, tail) = quoted.unwrap_or((name, ""));
            fields.name = Some(name.to_owned()).filter(|name| !name.is_empty());
            at = text.len() - tail.len();
        } else {
            at = field(&mut fields, at)?;
        }
    }
    Ok(fields)
}

/// Reads a field at `at`; returns where it ends.
fn field(fields: &mut Fields, at: usize) -> Result<usize, Error> {
    let rest = &fields.text[at..];
    // Two-letter keys first: `g` is the only one of one letter.
    let key = AXIS_KEYS
        .iter()
        .chain(&PLAIN)
        .find(|key| rest.starts_with(**key))
        .copied();
    let Some(key) = key else {
        return Err(fields.error(at, NotationReason::Unknown));
    };
    let digits = at + key.len();
    let (value, end) = number(&fields.text, digits)
        .ok_or_else(|| fields.error(digits, NotationReason::Number { field: key }))?;
    let slot = match key {
        "mb" => &mut fields.images,
        "ic" => &mut fields.channels,
        "oc" => &mut fields.filters,
        "g" => &mut fields.groups,
        _ => {
            let place = AXIS_KEYS
                .iter()
                .position(|candidate| *candidate == key)
                .unwrap_or(0);
            fields.axes[place / QUANTITIES.len()].slot(place % QUANTITIES.len())
        }
    };
    if let Some(ignored) = slot.replace(value) {
        fields.warnings.push(NotationWarning::Repeated {
            field: key,
            ignored,
            used: value,
            offset: at,
        });
    }
    Ok(end)
}

/// Reads a word at `at`, behind the `+`; returns where it ends.
fn word(fields: &mut Fields, at: usize) -> Result<usize, Error> {
    let rest = &fields.text[at..];
    // "residual" takes numbers or none, so it stands outside the table.
    let known = WORDS
        .iter()
        .find(|(word, _)| rest.starts_with(*word))
        .copied();
    let (word, count) = match known {
        Some(known) => known,
        None if rest.starts_with("residual") => {
            let sliced = rest["residual".len()..].starts_with(|c: char| c.is_ascii_digit());
            ("residual", if sliced { 2 } else { 0 })
        }
        None => {
            let word = rest.split('+').next().unwrap_or_default();
            let word = word.chars().take(LONGEST_SHOWN).collect();
            return Err(fields.error(at, NotationReason::UnknownWord { word }));
        }
    };
    let contradicts = |earlier: &str| {
        let both = |choice: &&[&str]| choice.contains(&earlier) && choice.contains(&word);
        earlier == word || CHOICES.iter().any(both)
    };
    if let Some(earlier) = fields.words.iter().find(|word| contradicts(word.word)) {
        let earlier = earlier.word;
        return Err(fields.error(at, NotationReason::Contradiction { word, earlier }));
    }
    let (numbers, end) = numbers(fields, word, count, at + word.len())?;
    fields.words.push(Word {
        word,
        numbers,
        offset: at,
    });
    Ok(end)
}

/// Reads the `count` numbers of a word, which begin at `end`; returns them and where they end.
fn numbers(
    fields: &Fields,
    word: &'static str,
    count: usize,
    mut end: usize,
) -> Result<(Vec<i64>, usize), Error> {
    let mut numbers = Vec::new();
    for index in 0..count {
        let bad = || fields.error(end, NotationReason::Number { field: word });
        let tail = &fields.text[end..];
        let unsigned = if index > 0 {
            end + tail.strip_prefix(':').map(|_| 1).ok_or_else(bad)?
        } else {
            end + usize::from(word == "div" && tail.starts_with('-'))
        };
        let negative = index == 0 && unsigned > end;
        let (value, next) = number(&fields.text, unsigned).ok_or_else(bad)?;
        let value = i64::try_from(value).map_err(|_| bad())?;
        numbers.push(if negative { -value } else { value });
        end = next;
    }
    Ok((numbers, end))
}

/// The number at `at` and where it ends.
fn number(text: &str, at: usize) -> Option<(u64, usize)> {
    let digits = text[at..].bytes().take_while(u8::is_ascii_digit).count();
    Some((text[at..at + digits].parse().ok()?, at + digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_keys_are_quantity_and_axis() {
        for (place, key) in AXIS_KEYS.iter().enumerate() {
            let (axis, quantity) = (place / QUANTITIES.len(), place % QUANTITIES.len());
            assert_eq!(
                *key,
                format!("{}{}", QUANTITIES[quantity], ["d", "h", "w"][axis])
            );
        }
    }

    #[test]
    fn choices_are_words() {
        for choice in CHOICES.iter().copied().flatten() {
            assert!(WORDS.contains(&(choice, 0)), "{choice}");
        }
    }

    #[test]
    fn no_word_hides_another() {
        for (place, (word, _)) in WORDS.iter().enumerate() {
            for (later, _) in &WORDS[place + 1..] {
                assert!(!later.starts_with(word), "{word} hides {later}");
            }
        }
    }
}
