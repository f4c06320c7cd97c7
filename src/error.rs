//! The one error type of the crate: every variant carries the numbers that it complains about.

use crate::problem::NotationReason;

/// What can go wrong, from describing a problem to launching it.
///
/// Nothing in this crate panics on what a user passes in; it comes back as one of these.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An extent, stride, dilation, group count or filter count is zero. Only the batch may be.
    #[error("{what} is 0; it must be at least 1")]
    Zero {
        /// The quantity, in words.
        what: &'static str,
    },

    /// The channels or the filters do not divide into the groups.
    #[error("{count} {what} do not divide into {groups} groups")]
    Groups {
        /// `channels` or `filters`.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many groups were asked for.
        groups: usize,
    },

    /// The window, dilation included, is larger than the input with its padding.
    #[error(
        "padded input {}x{}, effective kernel {}x{}: no output",
        padded[0], padded[1], effective[0], effective[1]
    )]
    WindowTooLarge {
        /// Rows and columns of the input, padding included.
        padded: [u128; 2],
        /// Rows and columns that the window spans: `(size - 1) * dilation + 1`.
        effective: [u128; 2],
    },

    /// A number is beyond what the kernels' 31-bit arithmetic can address.
    #[error("{what} is {value}, beyond the limit of {limit}")]
    TooLarge {
        /// The quantity, in words.
        what: &'static str,
        /// Its value, saturated at `u128::MAX`.
        value: u128,
        /// The largest value allowed.
        limit: u64,
    },

    /// A slice of channels does not lie inside the tensor that it is part of.
    #[error("{what}: channels {offset}..{} do not lie in a tensor of {pitch} channels", *offset as u128 + *channels as u128)]
    Slice {
        /// `input`, `output` or `residual`.
        what: &'static str,
        /// Channels of the slice.
        channels: usize,
        /// Channels of the whole tensor.
        pitch: usize,
        /// First channel of the slice.
        offset: usize,
    },

    /// Two shapes that must agree do not.
    #[error("{what}: expected {expected:?}, got {got:?}")]
    Shape {
        /// What was compared.
        what: &'static str,
        /// The extents that the problem asks for.
        expected: Vec<usize>,
        /// The extents that were given.
        got: Vec<usize>,
    },

    /// A buffer or slice has the wrong number of elements.
    #[error("{what}: expected {expected} elements, got {got}")]
    Length {
        /// The buffer.
        what: &'static str,
        /// Elements that the problem asks for.
        expected: usize,
        /// Elements that were given.
        got: usize,
    },

    /// The index of a maximum is one byte, and the window has more positions than that can name.
    #[error("a {}x{} window has {} positions; one-byte indices name at most {}", window[0], window[1],
        window[0] as u128 * window[1] as u128, crate::problem::MAX_INDEXED_WINDOW)]
    IndexRange {
        /// Rows and columns of the window.
        window: [usize; 2],
    },

    /// The divisor of an average pooling was overridden by 0.
    #[error("the divisor of an average pooling is overridden by 0")]
    ZeroDivisor,

    /// An option that does not go with the kind of problem.
    #[error("{what} does not go with {with}")]
    Incompatible {
        /// The option.
        what: &'static str,
        /// What it was combined with.
        with: &'static str,
    },

    /// A problem in benchdnn notation could not be read.
    #[error("`{text}`, at byte {offset}: {reason}")]
    Notation {
        /// The text as it was given.
        text: String,
        /// Where the trouble starts, in bytes.
        offset: usize,
        /// What the trouble is.
        reason: NotationReason,
    },
}
