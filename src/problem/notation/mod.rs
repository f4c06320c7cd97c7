//! Problems as text, in the notation of oneDNN's benchdnn, whose shape files run unchanged.
//!
//! A problem is a run of fields, each a key and a number, in any order, with `_` ignored between
//! them, and a name at the end: `g2mb256_ic96ih27_oc256oh27_kh5ph2n"alexnet:conv2"`.
//!
//! | field | meaning | if missing |
//! |---|---|---|
//! | `mb` | images | 2 |
//! | `g` | groups | 1 |
//! | `ic`, `oc` | channels, filters (a problem without `oc` is a pooling) | |
//! | `ih`, `iw` | rows, columns of the input | |
//! | `oh`, `ow` | rows, columns of the output | computed, with the same padding on both sides |
//! | `kh`, `kw` | rows, columns of the filter or window | |
//! | `sh`, `sw` | stride | 1 |
//! | `ph`, `pw` | padding at the top, at the left | half of what the output needs, rounded down |
//! | `dh`, `dw` | dilation, **0 is dense** | 0 |
//! | `n` | a name; the rest of the text, quoted or not | none |
//!
//! An axis with both its input and its kernel (`iw` and `kw`) is whole: what else is not given has
//! the value of the table. An axis without takes everything that it lacks (input, output, kernel,
//! stride, padding, dilation) from the other axis: `ih8kh3ph1` is square, and `ih8iw9kh3ph1sh2` has
//! `kw3pw1sw2`. benchdnn does so if no field of the columns is given, and refuses a part of an
//! axis; what is given is never replaced. If none of the rows is given, the problem is
//! one-dimensional: one row, a kernel of one row. Text printed by this crate names both axes.
//!
//! The padding at the bottom and at the right is that at the top and at the left if this gives the
//! output's size, else just as much as the output's size asks for. A pooling may ask for fewer
//! outputs than fit; the rest of its input is not read. Depth (`id`, `od`, `kd`, `sd`, `pd`, `dd`)
//! may be given if it is trivial.
//!
//! Words behind a `+` stand for options of benchdnn's driver:
//!
//! | word | meaning |
//! |---|---|
//! | `+f32` `+f16` `+bf16` | how tensors are stored; f32 if none is given |
//! | `+nchw` `+nhwc` | the layout of activations; NCHW if none is given |
//! | `+kcrs` `+krsc` `+packed` | the layout of filters; KCRS if none is given |
//! | `+tf32` `+tf32x3` | the products of f32 ([`Math`](crate::problem::Math)); else strict |
//! | `+align2` | the bytes that every buffer is aligned to; 16 if none is given |
//! | `+bias` `+residual` `+relu` | the epilogue |
//! | `+in256:3` `+out256:3` `+residual256:3` | a slice of 256 channels, from channel 3 on |
//! | `+pb2` `+pr2` | padding at the bottom, at the right, where the rule above does not give it |
//! | `+max` `+avg_p` `+avg_np` | maximum (the default); mean counting padding or not |
//! | `+indices` `+div5` `+ceil` | indices of the maxima; divisor override; output size rounded up |
//! | `+global_max` `+global_avg` `+adaptive_avg` | no window; the last one takes `oh` and `ow` |
//!
//! Words that say the same thing twice, or contradict each other (`+max+avg_p`), are an error. Of a
//! field that is given twice (`ic3ic4`) the last one counts, as in benchdnn, and
//! [`Named::warnings`] says so.
//!
//! ```
//! use warpconv::problem::Conv2d;
//! let conv: Conv2d = "mb8ic96ih27oc256kh5ph2g2+bf16+nhwc+bias+relu".parse()?;
//! let text = "g2mb8_ic96ih27iw27_oc256oh27ow27_kh5kw5_ph2pw2+bf16+nhwc+bias+relu";
//! assert_eq!(conv.to_string(), text);
//! # Ok::<(), warpconv::Error>(())
//! ```

mod build;
mod print;
mod scan;

use crate::error::Error;
use crate::problem::{Conv2d, Pool2d};
use std::fmt;
use std::str::FromStr;

/// Reason why a problem in benchdnn notation could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotationReason {
    /// Neither a field nor a word nor a name begins here.
    #[error("no field, `+word` or name begins here")]
    Unknown,
    /// A word behind a `+` that the notation does not have.
    #[error("there is no word `+{word}`; the words are {}", scan::vocabulary())]
    UnknownWord {
        /// The word, cut where it is long.
        word: String,
    },
    /// A field without a number, or with one that 64 bits do not hold.
    #[error("`{field}` needs a number between 0 and 2^64 - 1")]
    Number {
        /// The field's key.
        field: &'static str,
    },
    /// A field that the problem needs is missing.
    #[error("`{field}` is missing")]
    Missing {
        /// The field's key.
        field: &'static str,
    },
    /// A field or word that this kind of problem does not have.
    #[error("`{field}` does not belong to a {problem}")]
    Misplaced {
        /// The field's key or the word.
        field: &'static str,
        /// `convolution` or `pooling`.
        problem: &'static str,
    },
    /// A word that says again, or otherwise, what an earlier one has said.
    #[error("`+{word}` comes after `+{earlier}`: only one of them may be given, and once")]
    Contradiction {
        /// The later word.
        word: &'static str,
        /// The earlier word.
        earlier: &'static str,
    },
    /// The problem has depth, and this crate computes in two dimensions.
    #[error("the problem is three-dimensional")]
    ThreeDimensional,
    /// The output's size that is given is not the one that input, kernel, stride, dilation and
    /// padding make.
    #[error(
        "`{field}` is {given}, but input, kernel, stride, dilation and padding make {computed}"
    )]
    OutputSize {
        /// `oh` or `ow`.
        field: &'static str,
        /// The size given.
        given: u64,
        /// The size computed.
        computed: u64,
    },
}

/// Doubtful parts of a text that was read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotationWarning {
    /// A field was given before; the last one counts.
    #[error("`{field}` is given again at byte {offset}: {used} counts, {ignored} is ignored")]
    Repeated {
        /// The field's key.
        field: &'static str,
        /// The earlier number.
        ignored: u64,
        /// The number that counts.
        used: u64,
        /// Position of the repeated field, in bytes.
        offset: usize,
    },
}

/// A problem with its name in a shape file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<T> {
    /// The problem.
    pub problem: T,
    /// Its name without quotes, if it has one: `resnet_50:res2b_branch2a*2`.
    pub name: Option<String>,
    /// Doubtful parts of the text. Parsing by [`FromStr`] drops it.
    pub warnings: Vec<NotationWarning>,
}

/// A problem of either kind that the notation knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// With `oc`: a convolution.
    Conv(Conv2d),
    /// Without: a pooling.
    Pool(Pool2d),
}

/// Reads a problem, its name included: a convolution if it has `oc`, else a pooling.
///
/// # Errors
/// [`Error::Notation`] if the text cannot be read, and what the problem's builder refuses.
pub fn parse(text: &str) -> Result<Named<Problem>, Error> {
    let fields = scan::scan(text)?;
    let problem = match fields.is_convolution() {
        true => Problem::Conv(build::conv(&fields)?),
        false => Problem::Pool(build::pool(&fields)?),
    };
    Ok(Named {
        problem,
        name: fields.name,
        warnings: fields.warnings,
    })
}

/// The problems of a shape file: pairs of a line's number, from 1 on, and the text of a problem.
/// Comments (from `#` on), empty lines and the driver's options (`--dir=FWD_B`) are left out.
pub fn lines(file: &str) -> impl Iterator<Item = (usize, &str)> {
    file.lines().enumerate().flat_map(|(index, line)| {
        let content = line.split_once('#').map_or(line, |(content, _)| content);
        let problems = content
            .split_whitespace()
            .filter(|word| !word.starts_with("--"));
        problems.map(move |problem| (index + 1, problem))
    })
}

impl FromStr for Conv2d {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        build::conv(&scan::scan(text)?)
    }
}

impl FromStr for Pool2d {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        build::pool(&scan::scan(text)?)
    }
}

impl FromStr for Problem {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map(|named| named.problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Conv(conv) => conv.fmt(f),
            Problem::Pool(pool) => pool.fmt(f),
        }
    }
}
