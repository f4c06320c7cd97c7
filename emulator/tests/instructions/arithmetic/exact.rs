//! Exact results and their rounding, for references.

/// PTX's rounding of arithmetic: nearest even, towards zero, down, up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Rn,
    Rz,
    Rm,
    Rp,
}

impl Round {
    pub const ALL: [(Round, &'static str); 4] = [
        (Round::Rn, "rn"),
        (Round::Rz, "rz"),
        (Round::Rm, "rm"),
        (Round::Rp, "rp"),
    ];
}

/// A sum as its f64 and what that leaves out.
pub fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    if !sum.is_finite() {
        return (sum, 0.0);
    }
    let b_part = sum - a;
    (sum, (a - (sum - b_part)) + (b - b_part))
}

/// The f64 nearest to `sum + rest` that a second rounding to few bits treats as it would the exact
/// value: the last bit is set where something is left out.
pub fn sticky(sum: f64, rest: f64) -> f64 {
    if rest == 0.0 || !sum.is_finite() || sum.to_bits() & 1 == 1 {
        return sum;
    }
    if (rest > 0.0) == (sum >= 0.0) {
        f64::from_bits(sum.to_bits() + 1)
    } else {
        f64::from_bits(sum.to_bits() - 1)
    }
}

/// An f32 that a rounding to fewer bits treats as it would the f64: cut off, the last bit set where
/// that left something out.
pub fn sticky_f32(value: f64) -> f32 {
    let cut = round_f32(value, 0.0, Round::Rz);
    if value.is_nan() || f64::from(cut) == value {
        cut
    } else {
        f32::from_bits(cut.to_bits() | 1)
    }
}

/// `sum + rest`, exact, rounded to f32.
pub fn round_f32(sum: f64, rest: f64, mode: Round) -> f32 {
    let exact = sticky(sum, rest);
    let nearest = exact as f32;
    if exact.is_nan() || exact.is_infinite() || f64::from(nearest) == exact {
        return nearest;
    }
    let down = match mode {
        Round::Rn => return nearest,
        Round::Rm => true,
        Round::Rp => false,
        Round::Rz => exact > 0.0,
    };
    let too_high = f64::from(nearest) > exact;
    match (down, too_high) {
        (true, true) => nearest.next_down(),
        (false, false) => nearest.next_up(),
        _ => nearest,
    }
}

/// `a * b + c` in f32, rounded once.
pub fn fma_f32(a: f32, b: f32, c: f32, mode: Round) -> f32 {
    let product = f64::from(a) * f64::from(b);
    let (sum, rest) = two_sum(product, f64::from(c));
    if sum == 0.0 && rest == 0.0 {
        // Zeros: like signs keep theirs, else it is +0, or -0 when rounding down.
        let (p, q) = (product.is_sign_negative(), c.is_sign_negative());
        let negative = if p == q { p } else { mode == Round::Rm };
        return if negative { -0.0 } else { 0.0 };
    }
    round_f32(sum, rest, mode)
}

/// Denormal numbers as zeros of their sign.
pub fn flush(value: f32) -> f32 {
    if value.is_subnormal() {
        0.0f32.copysign(value)
    } else {
        value
    }
}

/// `.sat`: into 0..1, NaN to 0.
pub fn saturate(value: f32) -> f32 {
    if value >= 1.0 {
        1.0
    } else if value > 0.0 {
        value
    } else {
        0.0
    }
}
